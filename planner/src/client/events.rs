//! What happened to a machine, entered into its facts: the agent and the simulator keep the same books.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::{
    Digest, LineId, UpdateId,
    catalogue::LeafRef,
    policy::Policy,
    state::{Detection, Failure, StateError},
};
use uuid::Uuid;

use super::{
    decision::{InstallBatch, ScanKind, ScanPurpose, ScanRequest},
    people::People,
    view::{
        Attempt, ClientView, ContentProblem, Detected, InstalledRecord, Recovery, Running, ScanFacts,
        ScanFailure, StaleReason,
    },
};

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
            awoke: None,
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

    /// The machine came back from sleep, or was switched on by another hand than this client's.
    pub fn woke(&mut self, at: Timestamp) {
        self.awoke = Some(at);
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
            &mut self.awoke,
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
