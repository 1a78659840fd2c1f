//! Looking at the machine for what nobody tells: packages changed by hand, reasons to restart, other updaters, facts.

use std::{fs, os::unix::fs::MetadataExt as _, time::Duration};

use jiff::Timestamp;
use patchtide_planner::client::{Recovery, StaleReason};
use patchtide_protocol::state::StateBody;
use tokio::time::Instant;

use super::{
    RunError,
    engine::{Engine, KEPT_TIME},
};
use crate::{
    facts,
    install::{Site, lock},
    restart,
    scan::{self, Machine},
    transport::error::chain,
    updaters,
};

/// How often the machine is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(20);
/// How often slow things are looked at: facts, other updaters, the cache.
const SLOW: Duration = Duration::from_mins(10);
/// Nothing new for so long: say that this client is still there.
const HEARTBEAT: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// State of dpkg's database file: what changes when packages change.
pub(super) type Stamp = (u64, u64, i64, i64);

impl Engine {
    /// Looks at the machine for what nobody tells.
    pub(super) fn look(&mut self, now: Timestamp) -> Result<(), RunError> {
        if self.view.lock.is_some() && self.lock_is_free() {
            self.view.lock = None;
        }
        let due = |last: Option<Instant>, every| last.is_none_or(|last| last.elapsed() >= every);
        if !due(self.looked, LOOK) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let busy = self.view.running.install.is_some() || self.view.running.recovery;
        let stamp = stamp(&self.site);
        let slow = due(self.looked_slowly, SLOW);
        if (stamp != self.stamp || slow) && !busy {
            let machine = match Machine::read(&self.site.root) {
                Ok(machine) => machine,
                Err(error) => {
                    tracing::error!(error = %chain(&error), "packages cannot be read");
                    return Ok(());
                }
            };
            if self.stamp.is_some() && stamp != self.stamp && self.view.scan.stale.is_none() {
                self.view.scan.stale = Some(StaleReason::PackagesChanged);
            }
            self.stamp = stamp;
            self.view.restart_reasons = restart::reasons(&self.site.root, &machine);
            if self.view.recovery.is_none() && self.lock_is_free() {
                self.note_interruption(&machine, false, now);
            }
            if slow {
                self.looked_slowly = Some(Instant::now());
                self.look_slowly(&machine, now)?;
            }
        }
        Ok(())
    }

    /// A lock that cannot be looked at (a file system gone read-only) is no reason to end: what needs it says why.
    fn lock_is_free(&self) -> bool {
        lock::holder(&self.site.root).map_or_else(
            |error| {
                tracing::error!(error = %chain(&error), "dpkg's lock");
                false
            },
            |holder| holder.is_none(),
        )
    }

    /// After something of our own changed the machine, the next look comes at once.
    pub(super) fn look_again(&mut self) {
        self.looked = None;
    }

    pub(super) fn note_interruption(&mut self, machine: &Machine, lost: bool, now: Timestamp) {
        if let Some(what) = scan::interrupted(&self.site.root, machine, lost) {
            tracing::warn!("dpkg was interrupted ({what}): it is recovered first");
            self.view.recovery = Some(Recovery { since: now, failures: 0, last: None, error: None });
        }
    }

    fn look_slowly(&mut self, machine: &Machine, now: Timestamp) -> Result<(), RunError> {
        self.sources.forgive();
        self.site.state.save(KEPT_TIME, &Some(self.clock.keep()))?;
        self.look_at_services();
        if let Some(policy) = &self.policy {
            let wanted = policy.body.settings.other_updaters;
            match updaters::follow(&self.site.root, machine, wanted) {
                Ok(true) => tracing::info!(?wanted, "other updaters switched"),
                Ok(false) => {}
                Err(error) => tracing::error!(error = %chain(&error), "other updaters"),
            }
            let leaves = policy.body.updates.values().flat_map(|update| &update.leaves);
            let keep = leaves.chain(&policy.body.dependencies).map(|leaf| leaf.file.sha256).collect();
            self.site.cache.keep(&keep)?;
            self.view.present.retain(|digest| keep.contains(digest));
        }
        self.others = updaters::active(&self.site.root, machine);
        let mut facts = facts::collect(&self.site.root, Some(machine.native()));
        self.view.workstation = facts.get("role").is_some_and(|role| role == "workstation");
        let joined = |names: Vec<String>| names.join(",").chars().take(256).collect::<String>();
        let others = self.others.iter().map(|other| (*other).to_owned()).collect();
        facts.insert(updaters::FACT.to_owned(), joined(others));
        facts.insert("held".to_owned(), joined(machine.held().map(|entry| entry.package.clone()).collect()));
        facts.retain(|_, value| !value.is_empty());
        self.outbox.enter([("facts".to_owned(), StateBody::Facts { facts })], now)?;
        if now.duration_since(self.sending.last_at) > HEARTBEAT && self.outbox.waiting() == 0 {
            self.outbox.heartbeat(now)?;
        }
        Ok(())
    }
}

fn stamp(site: &Site) -> Option<Stamp> {
    let found = fs::metadata(site.root.path(scan::STATUS)).ok()?;
    Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}
