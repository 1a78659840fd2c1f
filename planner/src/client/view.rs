//! What a client knows about itself: the facts that a decision is made from. The agent keeps this and persists it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::{
    Digest, LineId, UpdateId,
    catalogue::{LeafRef, RestartRule},
    policy::Policy,
    state::{Detection, Failure, StateError},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    decision::{InstallBatch, ScanKind, ScanPurpose, ScanRequest},
    people::People,
};

/// The facts of one client. Everything survives a restart of the agent except [`ClientView::running`], which the
/// agent clears when it starts (an interrupted dpkg becomes [`ClientView::recovery`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientView {
    /// Random id of this boot. Installed records of another boot need no restart any more.
    pub boot: Uuid,
    /// Fact `role` is `workstation`: which of the two restart suppressions counts.
    pub workstation: bool,
    /// Scans.
    #[serde(default)]
    pub scan: ScanFacts,
    /// What the last complete scan found: every update of the scanned lines that is required or installed, and every
    /// update of the policy of that time, also one that the catalogue no longer holds (compare its leaves in the policy
    /// with dpkg). An update of the policy that is absent is *unknown*: it is scanned for at once.
    #[serde(default)]
    pub detected: BTreeMap<UpdateId, Detected>,
    /// Files in the cache, each verified against its digest.
    #[serde(default)]
    pub present: BTreeSet<Digest>,
    /// Files whose last download failed.
    #[serde(default)]
    pub content_problems: BTreeMap<Digest, ContentProblem>,
    /// How the distribution points of the last location answer are reached; empty: none known.
    #[serde(default)]
    pub distribution_points: BTreeSet<Locality>,
    /// What this client installed.
    #[serde(default)]
    pub installed: BTreeMap<UpdateId, InstalledRecord>,
    /// Last failed attempts; gone when the update is installed.
    #[serde(default)]
    pub failed: BTreeMap<UpdateId, Attempt>,
    /// Installed updates after which a service that ran before does not run, with what it is.
    #[serde(default)]
    pub unwell: BTreeMap<UpdateId, StateError>,
    /// Why the system itself says that a restart is needed; empty: it does not.
    #[serde(default)]
    pub restart_reasons: BTreeSet<RestartReason>,
    /// Another process holds the package system's lock.
    #[serde(default)]
    pub lock: Option<LockFact>,
    /// dpkg was interrupted (agent killed, power lost): it is recovered before anything else.
    #[serde(default)]
    pub recovery: Option<Recovery>,
    /// Updates that a person at the machine asked to install now, before their deadline.
    #[serde(default)]
    pub requested: BTreeSet<UpdateId>,
    /// A person asked for a scan.
    #[serde(default)]
    pub scan_requested: Option<Timestamp>,
    /// A person asked for an evaluation of all deployments.
    #[serde(default)]
    pub evaluation_requested: Option<Timestamp>,
    /// What people at the machine were told and asked for otherwise.
    #[serde(default)]
    pub people: People,
    /// Why the time by which is decided is not believed; none: it is. Nothing is installed or restarted by such a time.
    #[serde(default)]
    pub clock_doubt: Option<String>,
    /// What runs right now.
    #[serde(default)]
    pub running: Running,
}

/// Scans so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanFacts {
    /// End of the last scan of any kind that covered what it set out to.
    pub last: Option<Timestamp>,
    /// End of the last forced online scan: what the time to live counts from.
    pub last_online: Option<Timestamp>,
    /// End of the last scan of the scan cycle or at a person's word.
    pub last_cycle: Option<Timestamp>,
    /// End of the last full evaluation of deployments.
    pub last_evaluation: Option<Timestamp>,
    /// Catalogue version covered by the last complete scan, per line: the watermark.
    pub covered: BTreeMap<LineId, u64>,
    /// Catalogue versions that are on this machine, verified: an offline scan can use them.
    pub cached: BTreeMap<LineId, u64>,
    /// When a scan last found other needs than the one before: the site may still be approving them.
    #[serde(default)]
    pub changed: Option<Timestamp>,
    /// What happened since the last scan that makes its result doubtful.
    pub stale: Option<StaleReason>,
    /// Set by a failed scan, cleared by the next good one.
    pub failure: Option<ScanFailure>,
}

/// Why detection has to be repeated before anything is reported or installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StaleReason {
    /// The package database changed by another hand.
    PackagesChanged,
    /// A batch ended.
    Installed,
    /// The machine booted.
    Booted,
    /// An interrupted dpkg was recovered.
    Recovered,
    /// The machine's time was put back, or it was found to be a copy of an earlier state.
    TimeMoved,
}

/// A failed scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanFailure {
    /// When.
    pub at: Timestamp,
    /// Failures in a row.
    pub count: u32,
    /// Why.
    pub error: StateError,
}

/// What a scan found for one update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detected {
    /// State.
    pub state: Detection,
    /// For *required*: the leaves this machine needs (those whose installed package is older).
    pub leaves: BTreeSet<LeafRef>,
    /// For *required*: packages that would newly be needed, or needed newer, as this machine resolves them.
    pub needs: BTreeSet<LeafRef>,
}

impl Detected {
    /// Nothing of it is installed here.
    pub const fn not_required() -> Self {
        Self { state: Detection::NotRequired, leaves: BTreeSet::new(), needs: BTreeSet::new() }
    }
}

/// A file that could not be downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentProblem {
    /// Last try.
    pub at: Timestamp,
    /// Failures in a row.
    pub count: u32,
    /// No reachable distribution point has it yet: waiting, not failed.
    pub not_offered: bool,
    /// Why.
    pub error: StateError,
}

/// How a client reaches a distribution point (R-DEPL-17, R-DEPL-18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Locality {
    /// Inside a fast boundary of it.
    Fast,
    /// Inside a slow or unreliable boundary of it.
    Slow,
    /// In none of its boundaries; it is not protected.
    Fallback,
}

/// An update that this client installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledRecord {
    /// End of its batch.
    pub at: Timestamp,
    /// Boot in which it was installed.
    pub boot: Uuid,
    /// Its restart rule when it was installed.
    pub restart: RestartRule,
    /// What was installed ([`InstallBatch::basis`]): another offer may be installed at once.
    #[serde(default)]
    pub basis: Option<Digest>,
    /// A scan found it required again, first then: the re-evaluation heals it.
    #[serde(default)]
    pub missing_since: Option<Timestamp>,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// End of the last one.
    pub at: Timestamp,
    /// Failures in a row.
    pub count: u32,
    /// What was tried ([`InstallBatch::basis`]): something else may be tried at once.
    pub basis: Digest,
    /// Why.
    pub error: StateError,
}

/// Why the system says that it needs a restart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RestartReason {
    /// `/run/reboot-required` exists.
    RequiredFile,
    /// The running kernel is older than the newest installed one of its flavour.
    Kernel {
        /// Running release.
        running: String,
        /// Installed release.
        installed: String,
    },
    /// Process 1 maps files that were deleted.
    InitOutdated,
}

/// Who holds the package system's lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockFact {
    /// Seen at.
    pub at: Timestamp,
    /// Process, as far as it can be told.
    pub holder: String,
}

/// An interrupted dpkg.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Found at.
    pub since: Timestamp,
    /// Failed tries.
    pub failures: u32,
    /// Last failed try.
    pub last: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<StateError>,
}

/// What runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// A scan.
    pub scan: Option<ScanRequest>,
    /// Files being downloaded.
    pub download: BTreeSet<Digest>,
    /// A transaction. Never killed.
    pub install: Option<RunningInstall>,
    /// The transaction is still being checked: dpkg was not started, and may not be.
    #[serde(default)]
    pub checking: bool,
    /// A recovery of dpkg.
    pub recovery: bool,
    /// A restart was announced for this instant.
    pub restart_at: Option<Timestamp>,
}

/// A running transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningInstall {
    /// What was started.
    pub batch: InstallBatch,
    /// Since when.
    pub since: Timestamp,
}

impl ClientView {
    /// A client that knows nothing yet.
    pub fn new(boot: Uuid, workstation: bool) -> Self {
        Self {
            boot,
            workstation,
            scan: ScanFacts::default(),
            detected: BTreeMap::new(),
            present: BTreeSet::new(),
            content_problems: BTreeMap::new(),
            distribution_points: BTreeSet::new(),
            installed: BTreeMap::new(),
            failed: BTreeMap::new(),
            unwell: BTreeMap::new(),
            restart_reasons: BTreeSet::new(),
            lock: None,
            recovery: None,
            requested: BTreeSet::new(),
            scan_requested: None,
            evaluation_requested: None,
            people: People::default(),
            clock_doubt: None,
            running: Running::default(),
        }
    }

    /// A scan under `policy` ended well: `detected` replaces what was known, `covered` is the watermark it reached.
    /// Updates of the policy that `detected` does not name are *not required*.
    pub fn scan_completed(
        &mut self,
        policy: &Policy,
        request: &ScanRequest,
        mut detected: BTreeMap<UpdateId, Detected>,
        covered: BTreeMap<LineId, u64>,
        at: Timestamp,
    ) {
        for id in policy.body.updates.keys() {
            detected.entry(id.clone()).or_insert_with(Detected::not_required);
        }
        let installed =
            |id: &UpdateId| detected.get(id).is_some_and(|found| found.state == Detection::Installed);
        self.failed.retain(|id, _| !installed(id));
        self.requested.retain(|id| !installed(id));
        let needs = |found: &BTreeMap<UpdateId, Detected>| -> BTreeSet<LeafRef> {
            found.values().flat_map(|found| found.leaves.iter().chain(&found.needs)).cloned().collect()
        };
        if !needs(&detected).is_subset(&needs(&self.detected)) {
            self.scan.changed = Some(at);
        }
        self.note_missing(&detected, at);
        let scan = &mut self.scan;
        scan.last = Some(at);
        scan.stale = None;
        scan.failure = None;
        scan.cached.extend(covered.iter().map(|(line, version)| (line.clone(), *version)));
        scan.covered = covered;
        if request.kind == ScanKind::ForcedOnline {
            scan.last_online = Some(at);
        }
        match request.purpose {
            ScanPurpose::First | ScanPurpose::Cycle | ScanPurpose::ScanRequested => {
                scan.last_cycle = Some(at);
                self.scan_requested = None;
            }
            ScanPurpose::Evaluation | ScanPurpose::EvaluationRequested => {
                scan.last_evaluation = Some(at);
                self.evaluation_requested = None;
            }
            ScanPurpose::PolicyChanged | ScanPurpose::BeforeInstall | ScanPurpose::Validation => {}
        }
        if scan.last_evaluation.is_none() {
            scan.last_evaluation = Some(at);
        }
        self.detected = detected;
        self.forget_told();
        self.running.scan = None;
    }

    /// What this client installed and a scan finds required: right after the installation that has failed, whatever the
    /// installer said (0x87D00668); later it fell below again.
    fn note_missing(&mut self, detected: &BTreeMap<UpdateId, Detected>, at: Timestamp) {
        let before = self.scan.last;
        let mut undone = Vec::new();
        // What fell below and was healed by another hand was not installed by this client.
        self.installed.retain(|id, record| {
            record.missing_since.is_none()
                || detected.get(id).is_none_or(|found| found.state == Detection::Required)
        });
        for (id, record) in &mut self.installed {
            if detected.get(id).is_none_or(|found| found.state != Detection::Required) {
                record.missing_since = None;
            } else if before.is_none_or(|before| record.at > before)
                && self.scan.stale == Some(StaleReason::Installed)
            {
                undone.push(id.clone());
            } else {
                record.missing_since.get_or_insert(at);
            }
        }
        for id in undone {
            let Some(record) = self.installed.remove(&id) else { continue };
            let count = self.failed.get(&id).map_or(0, |attempt| attempt.count).saturating_add(1);
            let error = Failure::StillRequired
                .error("the installer ended well, and the update is still required: look at its log");
            let basis = record.basis.unwrap_or(Digest::from_bytes([0; 32]));
            self.failed.insert(id, Attempt { at: record.at, count, basis, error });
        }
    }

    /// A scan failed; what was known before stays known within its time to live.
    pub fn scan_failed(&mut self, error: StateError, at: Timestamp) {
        let count = self.scan.failure.as_ref().map_or(0, |failure| failure.count).saturating_add(1);
        self.scan.failure = Some(ScanFailure { at, count, error });
        self.running.scan = None;
    }

    /// A file arrived and was verified.
    pub fn downloaded(&mut self, digest: Digest) {
        self.content_problems.remove(&digest);
        self.running.download.remove(&digest);
        self.present.insert(digest);
    }

    /// A download failed, or (`not_offered`) no reachable distribution point has the file yet.
    pub fn download_failed(&mut self, digest: Digest, not_offered: bool, error: StateError, at: Timestamp) {
        let count = self.content_problems.get(&digest).map_or(0, |problem| problem.count).saturating_add(1);
        self.content_problems.insert(digest, ContentProblem { at, count, not_offered, error });
        self.running.download.remove(&digest);
    }

    /// A batch ended: `failed` names the updates that the error is about; when it is about none in particular, all of
    /// the batch. What really is installed the next scan says.
    pub fn install_finished(
        &mut self,
        batch: &InstallBatch,
        failed: &BTreeMap<UpdateId, StateError>,
        at: Timestamp,
    ) {
        for (id, restart) in &batch.updates {
            if let Some(error) = failed.get(id) {
                let count = self.failed.get(id).map_or(0, |attempt| attempt.count).saturating_add(1);
                let basis = batch.basis.get(id).copied().unwrap_or(Digest::from_bytes([0; 32]));
                self.failed.insert(id.clone(), Attempt { at, count, basis, error: error.clone() });
            } else {
                // A failure before it is forgotten by the scan that finds it installed.
                let record = InstalledRecord {
                    at,
                    boot: self.boot,
                    restart: *restart,
                    basis: batch.basis.get(id).copied(),
                    missing_since: None,
                };
                self.installed.insert(id.clone(), record);
            }
        }
        self.running.install = None;
        self.running.checking = false;
        self.scan.stale = Some(StaleReason::Installed);
    }

    /// The agent started in a new boot.
    pub fn booted(&mut self, boot: Uuid) {
        self.boot = boot;
        self.running = Running::default();
        self.restart_reasons.clear();
        self.people.restart = None;
        self.people.restart_requested = None;
        self.lock = None;
        self.scan.stale = Some(StaleReason::Booted);
    }

    /// The time was put back to `now`: what seemed to be later was not. Nothing is put off by it, and what was detected
    /// is detected again.
    pub fn put_back(&mut self, now: Timestamp) {
        let earlier = |at: &mut Timestamp| *at = (*at).min(now);
        let scan = &mut self.scan;
        [
            &mut scan.last,
            &mut scan.last_online,
            &mut scan.last_cycle,
            &mut scan.last_evaluation,
            &mut scan.changed,
            &mut self.scan_requested,
            &mut self.evaluation_requested,
            &mut self.people.reminded,
            &mut self.people.scheduled,
        ]
        .into_iter()
        .flatten()
        .for_each(earlier);
        scan.failure.iter_mut().for_each(|failure| earlier(&mut failure.at));
        self.content_problems.values_mut().for_each(|problem| earlier(&mut problem.at));
        self.installed.values_mut().for_each(|record| {
            earlier(&mut record.at);
            record.missing_since.iter_mut().for_each(earlier);
        });
        self.failed.values_mut().for_each(|attempt| earlier(&mut attempt.at));
        self.lock.iter_mut().for_each(|lock| earlier(&mut lock.at));
        if let Some(recovery) = &mut self.recovery {
            earlier(&mut recovery.since);
            recovery.last.iter_mut().for_each(earlier);
        }
        self.running.install.iter_mut().for_each(|run| earlier(&mut run.since));
        if self.scan.last.is_some() {
            self.scan.stale.get_or_insert(StaleReason::TimeMoved);
        }
    }

    /// An interrupted dpkg was put right, or that failed.
    pub fn recovery_finished(&mut self, result: Result<(), StateError>, at: Timestamp) {
        self.running.recovery = false;
        match result {
            Ok(()) => {
                self.recovery = None;
                self.scan.stale = Some(StaleReason::Recovered);
            }
            Err(error) => {
                let recovery =
                    self.recovery.get_or_insert(Recovery { since: at, failures: 0, last: None, error: None });
                recovery.failures = recovery.failures.saturating_add(1);
                recovery.last = Some(at);
                recovery.error = Some(error);
            }
        }
    }
}
