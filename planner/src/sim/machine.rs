//! A machine with a pretended package system.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use patchtide_model::{
    Digest, UpdateId,
    catalogue::Update,
    policy::Policy,
    state::{Detection, StateError},
};
use uuid::Uuid;

use super::after;
use crate::client::{
    Action, ClientView, Decision, Detected, InstallBatch, RestartReason, RunningInstall, ScanRequest,
};

/// How a machine behaves.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// How long a scan takes.
    pub scan: SignedDuration,
    /// How long a download takes.
    pub download: SignedDuration,
    /// How long a transaction takes.
    pub install: SignedDuration,
    /// How long it is away when it restarts.
    pub restart: SignedDuration,
    /// Packages whose installation fails so many times.
    pub install_failures: BTreeMap<String, u32>,
    /// So many downloads fail before they work.
    pub download_failures: u32,
    /// So many scans fail before they work.
    pub scan_failures: u32,
    /// Packages after which the system itself says that it needs a restart.
    pub restart_packages: BTreeSet<String>,
}

/// A machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Host name.
    pub name: String,
    /// What it knows.
    pub view: ClientView,
    /// Its own zone.
    pub zone: TimeZone,
    /// Installed packages with their versions.
    pub packages: BTreeMap<String, u64>,
    /// How it behaves.
    pub behaviour: Behaviour,
    /// Restarts so far.
    pub restarts: Vec<Timestamp>,
    events: Vec<(Timestamp, Event)>,
}

#[derive(Debug, Clone)]
enum Event {
    Scanned(ScanRequest),
    Downloaded(Digest),
    Installed(InstallBatch),
    GoesDown,
    Booted,
}

fn failure(symbol: &str) -> StateError {
    StateError { code: 0x8007_0643, symbol: symbol.to_owned(), message: format!("{symbol}: made to fail") }
}

impl Machine {
    /// A machine that was just enrolled.
    pub fn new(name: &str, workstation: bool, zone: TimeZone, packages: BTreeMap<String, u64>) -> Self {
        Self {
            name: name.to_owned(),
            view: ClientView::new(Uuid::from_u128(1), workstation),
            zone,
            packages,
            behaviour: Behaviour::default(),
            restarts: Vec::new(),
            events: Vec::new(),
        }
    }

    /// When the next thing that runs here ends.
    pub fn next_event(&self) -> Option<Timestamp> {
        self.events.iter().map(|(at, _)| *at).min()
    }

    /// Starts an action; false when it is already under way.
    pub(super) fn start(&mut self, action: &Action, now: Timestamp) -> bool {
        match action {
            Action::Recover => {
                self.view.recovery_finished(Ok(()), now);
                true
            }
            Action::Scan(request) => {
                if self.view.running.scan.is_some() {
                    return false;
                }
                self.view.running.scan = Some(request.clone());
                self.events.push((after(now, self.behaviour.scan), Event::Scanned(request.clone())));
                true
            }
            Action::Download { files } => {
                let mut started = false;
                for file in files {
                    if self.view.running.download.insert(file.file.sha256) {
                        started = true;
                        let end = after(now, self.behaviour.download);
                        self.events.push((end, Event::Downloaded(file.file.sha256)));
                    }
                }
                started
            }
            Action::Install(batch) => {
                if self.view.running.install.is_some() {
                    return false;
                }
                self.view.running.install = Some(RunningInstall { batch: batch.clone(), since: now });
                self.events.push((after(now, self.behaviour.install), Event::Installed(batch.clone())));
                true
            }
            Action::Restart { at, .. } => {
                if self.view.running.restart_at.is_some() {
                    return false;
                }
                self.view.running.restart_at = Some(*at);
                self.events.push((*at, Event::GoesDown));
                true
            }
        }
    }

    /// What is no longer wanted is stopped.
    pub(super) fn give_up(&mut self, decision: &Decision) {
        self.view.running.download.retain(|digest| decision.wanted.contains(digest));
        if self.view.running.restart_at.is_some()
            && !decision.actions.iter().any(|action| matches!(action, Action::Restart { .. }))
            && !self.is_down()
        {
            self.view.running.restart_at = None;
            self.events.retain(|(_, event)| !matches!(event, Event::GoesDown));
        }
        let running = &self.view.running.download;
        self.events.retain(|(_, event)| match event {
            Event::Downloaded(digest) => running.contains(digest),
            _ => true,
        });
    }

    pub(super) fn is_down(&self) -> bool {
        self.events.iter().any(|(_, event)| matches!(event, Event::Booted))
    }

    /// What ended by `now`; true when something did.
    pub(super) fn catch_up(
        &mut self,
        policy: &Policy,
        catalogue: &BTreeMap<UpdateId, Update>,
        now: Timestamp,
    ) -> bool {
        let (ended, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.events).into_iter().partition(|(at, _)| *at <= now);
        self.events = left;
        let any = !ended.is_empty();
        for (_, event) in ended {
            self.end(event, policy, catalogue, now);
        }
        any
    }

    fn end(&mut self, event: Event, policy: &Policy, catalogue: &BTreeMap<UpdateId, Update>, now: Timestamp) {
        match event {
            Event::Scanned(_) if self.behaviour.scan_failures > 0 => {
                self.behaviour.scan_failures -= 1;
                self.view.scan_failed(failure("SCAN"), now);
            }
            Event::Scanned(request) => {
                let detected =
                    catalogue.iter().map(|(id, update)| (id.clone(), self.detect(update))).collect();
                let covered = policy
                    .body
                    .lines
                    .iter()
                    .map(|line| (line.line.clone(), line.catalogue_version))
                    .collect();
                self.view.scan_completed(policy, &request, detected, covered, now);
            }
            Event::Downloaded(digest) => {
                if self.behaviour.download_failures > 0 {
                    self.behaviour.download_failures -= 1;
                    self.view.download_failed(digest, false, failure("DOWNLOAD"), now);
                } else {
                    self.view.downloaded(digest);
                }
            }
            Event::Installed(batch) => self.installed(&batch, now),
            Event::GoesDown => {
                self.restarts.push(now);
                self.events.clear();
                self.events.push((after(now, self.behaviour.restart), Event::Booted));
            }
            Event::Booted => {
                let boot = Uuid::from_u128(self.view.boot.as_u128().wrapping_add(1));
                self.view.booted(boot);
            }
        }
    }

    fn detect(&self, update: &Update) -> Detected {
        let version = |text: &str| text.parse::<u64>().unwrap_or(0);
        let mut leaves = BTreeSet::new();
        let mut any = false;
        for leaf in &update.leaves {
            let Some(installed) = self.packages.get(&leaf.package) else { continue };
            any = true;
            if *installed < version(&leaf.version) {
                leaves.insert(leaf.reference());
            }
        }
        let state = if !any {
            Detection::NotRequired
        } else if leaves.is_empty() {
            Detection::Installed
        } else {
            Detection::Required
        };
        Detected { state, leaves, needs: BTreeSet::new() }
    }

    fn installed(&mut self, batch: &InstallBatch, now: Timestamp) {
        let mut failed = BTreeMap::new();
        for leaf in &batch.leaves {
            if let Some(left) =
                self.behaviour.install_failures.get_mut(&leaf.package).filter(|left| **left > 0)
            {
                *left -= 1;
                // A package is called like its source here.
                let owner = batch.updates.keys().find(|id| leaf.package.starts_with(&id.source));
                failed.extend(owner.map(|id| (id.clone(), failure("INSTALL-SCRIPT"))));
                continue;
            }
            self.packages.insert(leaf.package.clone(), leaf.version.parse().unwrap_or(0));
            if self.behaviour.restart_packages.contains(&leaf.package) {
                self.view.restart_reasons.insert(RestartReason::RequiredFile);
            }
        }
        self.view.install_finished(batch, &failed, now);
    }
}
