//! The engine: keeps the machine's facts, decides after every event, and remembers before it acts.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, Digest, LineId, SiteName,
    policy::{LinePolicy, Policy},
};
use patchtide_planner::client::{self, ClientView, Decision, Recovery, StaleReason};
use patchtide_protocol::{location::Locations, state::StateBody};
use tokio::{sync::mpsc, task::AbortHandle, time::Instant};
use uuid::Uuid;

use super::{RunError, events::Event, until};
use crate::{
    catalogue::Catalogues,
    clock,
    download::{Sources, locality},
    facts,
    install::{LastFailure, Site, error::reported, lock},
    report::{self, Outbox},
    restart,
    scan::{self, Machine},
    transport::{Transport, error::chain, retry::Backoff},
    updaters,
};

pub(super) const VIEW: &str = "view.json";
pub(super) const CACHED: &str = "cached-lines.json";
/// The last 4 KiB of output of the last failed operation, for `status`.
pub(super) const FAILURE: &str = "last-failure.json";
/// How often the machine is looked at for what nobody tells: packages changed by hand, reasons to restart.
const LOOK: Duration = Duration::from_secs(20);
/// How often slow things are looked at: facts, other updaters, the cache.
const SLOW: Duration = Duration::from_mins(10);
/// How often a lock that another process holds is tried.
const LOCKED: Duration = Duration::from_secs(3);
/// Nothing new for so long: say that this client is still there.
const HEARTBEAT: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// What an engine is made of.
pub(super) struct Parts {
    pub(super) site: Site,
    pub(super) catalogues: Catalogues,
    pub(super) outbox: Outbox,
    pub(super) transport: Transport,
    pub(super) client: ClientId,
    pub(super) site_name: SiteName,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) boot: Uuid,
    pub(super) new_boot: bool,
    pub(super) policy: Option<Policy>,
}

/// State of dpkg's database file: what changes when packages change.
type Stamp = (u64, u64, i64, i64);

pub(super) struct Engine {
    pub(super) site: Site,
    pub(super) catalogues: Catalogues,
    pub(super) outbox: Outbox,
    pub(super) transport: Transport,
    pub(super) client: ClientId,
    pub(super) site_name: SiteName,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) view: ClientView,
    saved: Option<ClientView>,
    pub(super) policy: Option<Policy>,
    pub(super) decision: Decision,
    pub(super) locations: Locations,
    pub(super) located: Option<Instant>,
    pub(super) cached: BTreeMap<LineId, LinePolicy>,
    pub(super) sources: Sources,
    pub(super) downloads: BTreeMap<Digest, AbortHandle>,
    pub(super) contact: Contact,
    pub(super) sending: Sending,
    pub(super) restart_asked: Option<Instant>,
    /// Set to keep a batch that is still being checked from starting.
    pub(super) withdraw: Option<Arc<AtomicBool>>,
    stamp: Option<Stamp>,
    looked: Option<Instant>,
    looked_slowly: Option<Instant>,
}

/// Last contact with the site.
#[derive(Debug, Default)]
pub(super) struct Contact {
    pub(super) last: Option<Timestamp>,
    pub(super) error: Option<String>,
}

/// Where reports stand.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) running: bool,
    pub(super) urgent: bool,
    pub(super) last: Instant,
    pub(super) last_at: Timestamp,
    pub(super) not_before: Instant,
    pub(super) backoff: Backoff,
    /// Messages in the next report, at most: halved when the site refuses one.
    pub(super) limit: usize,
    pub(super) sent: usize,
}

impl Engine {
    pub(super) fn new(parts: Parts) -> Result<Self, RunError> {
        let now = clock::now();
        let state = &parts.site.state;
        let workstation =
            facts::collect(&parts.site.root, None).get("role").is_some_and(|r| r == "workstation");
        let mut view = state
            .load_or_default::<Option<ClientView>>(VIEW)?
            .unwrap_or_else(|| ClientView::new(parts.boot, workstation));
        view.workstation = workstation;
        view.running = client::Running::default();
        view.lock = None;
        view.present = parts.site.cache.present()?;
        let cached: BTreeMap<LineId, LinePolicy> = state
            .load_or_default::<BTreeMap<LineId, LinePolicy>>(CACHED)?
            .into_iter()
            .filter(|(_, line)| parts.catalogues.has(line))
            .collect();
        view.scan.cached = cached.iter().map(|(id, line)| (id.clone(), line.catalogue_version)).collect();
        let mut engine = Self {
            site: parts.site,
            catalogues: parts.catalogues,
            outbox: parts.outbox,
            transport: parts.transport,
            client: parts.client,
            site_name: parts.site_name,
            events: parts.events,
            view,
            saved: None,
            policy: parts.policy,
            decision: Decision::default(),
            locations: Locations::default(),
            located: None,
            cached,
            sources: Sources::default(),
            downloads: BTreeMap::new(),
            contact: Contact::default(),
            sending: Sending {
                running: false,
                urgent: true,
                last: Instant::now(),
                last_at: now,
                not_before: Instant::now(),
                backoff: Backoff::new(Duration::from_secs(1), Duration::from_mins(5)),
                limit: patchtide_protocol::limits::STATE_ITEMS,
                sent: 0,
            },
            restart_asked: None,
            withdraw: None,
            stamp: None,
            looked: None,
            looked_slowly: None,
        };
        // What ended before a restart belongs to the boot in which it ran.
        engine.find_operation(now)?;
        if parts.new_boot || engine.view.boot != parts.boot {
            tracing::info!(boot = %parts.boot, "a new boot");
            engine.view.booted(parts.boot);
        }
        Ok(engine)
    }

    /// Epoch and number of the policy in force.
    pub(super) fn policy_number(&self) -> Option<(u64, u64)> {
        self.policy.as_ref().map(|policy| (policy.epoch, policy.number))
    }

    /// Lives until the process ends.
    pub(super) async fn live(mut self, mut inbox: mpsc::Receiver<Event>) -> Result<(), RunError> {
        loop {
            let now = clock::now();
            self.turn(now)?;
            let wake = self.next_wake(now);
            let first = tokio::select! {
                event = inbox.recv() => event,
                () = tokio::time::sleep(wake) => None,
            };
            let now = clock::now();
            if let Some(event) = first {
                self.handle(event, now)?;
            }
            while let Ok(event) = inbox.try_recv() {
                self.handle(event, now)?;
            }
        }
    }

    /// Looks, decides, does, remembers, reports.
    fn turn(&mut self, now: Timestamp) -> Result<(), RunError> {
        self.look(now)?;
        if let Some(policy) = &self.policy {
            let zone = clock::zone(&self.site.root);
            self.decision = client::decide(policy, &self.view, now, &zone);
            let states = report::of_decision(&self.decision);
            let lines = &policy.body.lines;
            self.outbox.forget(|key| match key.split_once('/') {
                None => true,
                Some(("detection", line)) => lines.iter().any(|known| known.line.as_str() == line),
                Some(_) => states.contains_key(key),
            })?;
            if self.outbox.enter(states, now)? {
                self.sending.urgent = true;
            }
            self.carry_out(now);
        }
        if self.saved.as_ref() != Some(&self.view) {
            self.site.state.save(VIEW, &self.view)?;
            self.saved = Some(self.view.clone());
        }
        self.send_report(now);
        Ok(())
    }

    fn next_wake(&self, now: Timestamp) -> Duration {
        let mut wake = LOOK;
        if self.view.lock.is_some() {
            wake = wake.min(LOCKED);
        }
        for at in [self.decision.next_wake, self.view.running.restart_at].into_iter().flatten() {
            // A moment later: at the instant itself nothing has changed yet by a clock of whole milliseconds.
            wake = wake.min(until(at, now) + Duration::from_millis(5));
        }
        if self.outbox.waiting() > 0 && !self.sending.running {
            wake = wake.min(
                self.sending
                    .not_before
                    .saturating_duration_since(Instant::now())
                    .max(Duration::from_millis(50)),
            );
        }
        wake
    }

    /// Looks at the machine for what nobody tells.
    fn look(&mut self, now: Timestamp) -> Result<(), RunError> {
        if self.view.lock.is_some() && lock::holder(&self.site.root)?.is_none() {
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
            if self.view.recovery.is_none() && lock::holder(&self.site.root)?.is_none() {
                self.note_interruption(&machine, false, now);
            }
            if slow {
                self.looked_slowly = Some(Instant::now());
                self.look_slowly(&machine, now)?;
            }
        }
        Ok(())
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
        let mut facts = facts::collect(&self.site.root, Some(machine.native()));
        self.view.workstation = facts.get("role").is_some_and(|role| role == "workstation");
        let joined = |names: Vec<String>| names.join(",").chars().take(256).collect::<String>();
        let others = updaters::active(&self.site.root, machine);
        facts.insert(updaters::FACT.to_owned(), joined(others.into_iter().map(str::to_owned).collect()));
        facts.insert("held".to_owned(), joined(machine.held().map(|entry| entry.package.clone()).collect()));
        facts.retain(|_, value| !value.is_empty());
        self.outbox.enter([("facts".to_owned(), StateBody::Facts { facts })], now)?;
        if now.duration_since(self.sending.last_at) > HEARTBEAT && self.outbox.waiting() == 0 {
            self.outbox.heartbeat(now)?;
        }
        Ok(())
    }

    fn handle(&mut self, event: Event, now: Timestamp) -> Result<(), RunError> {
        match event {
            Event::Policy(policy) => {
                tracing::info!(
                    epoch = policy.epoch,
                    number = policy.number,
                    deployments = policy.body.deployments.len(),
                    updates = policy.body.updates.len(),
                    "new policy"
                );
                self.contact = Contact { last: Some(now), error: None };
                self.policy = Some(*policy);
                // What is being checked was decided under the old one: it is decided anew.
                if let Some(withdraw) = &self.withdraw {
                    withdraw.store(true, Ordering::SeqCst);
                }
                self.looked_slowly = None;
                self.look_again();
            }
            Event::Contact(Ok(())) => self.contact = Contact { last: Some(now), error: None },
            Event::Contact(Err(error)) => self.contact.error = Some(error),
            Event::Locations(locations) => {
                self.located = Some(Instant::now());
                self.view.distribution_points =
                    locations.distribution_points.iter().map(|point| locality(point.locality)).collect();
                self.locations = locations;
            }
            Event::Scanned(request, result) => self.scanned(&request, result, now)?,
            Event::Downloaded(digest, result) => {
                self.downloads.remove(&digest);
                match result {
                    Ok(()) => self.view.downloaded(digest),
                    Err(error) => {
                        let not_offered = matches!(
                            error,
                            crate::download::DownloadError::NotOffered(_)
                                | crate::download::DownloadError::NoSource
                        );
                        let (symbol, code) = error.code();
                        let words = reported(symbol, code, &chain(&error));
                        self.view.download_failed(digest, not_offered, words, now);
                        self.located = None;
                    }
                }
            }
            Event::Prepared(result) => self.prepared(result, now)?,
            Event::Ended(standing) => self.ended(standing, now)?,
            Event::Reported(result) => self.reported(result, now)?,
            Event::Asked(question, reply) => {
                let answer = self.answer(&question, now);
                // The one who asked may have gone.
                let _ = reply.send(answer);
            }
        }
        Ok(())
    }

    /// The last failed transaction's output.
    pub(super) fn last_failure(&self) -> LastFailure {
        self.site.state.load_or_default(FAILURE).unwrap_or_default()
    }
}

fn stamp(site: &Site) -> Option<Stamp> {
    let found = fs::metadata(site.root.path(scan::STATUS)).ok()?;
    Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}
