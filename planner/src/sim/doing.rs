//! What a machine does: actions begin, and end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{Digest, UpdateId, object::Way, state::StateError};

use super::{
    fate,
    log::{Outage, What},
    machine::{Catalogue, Compare, Doing, Given, Machine, Transaction, failure},
    post::{Outbox, Required},
};
use crate::{
    client::{Action, InstallBatch, Locality, RestartReason, RunningInstall, outcome::Outcome},
    site::SiteInput,
};

/// What a machine meets around it.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub now: Timestamp,
    pub site: &'a SiteInput,
    pub compare: Compare,
    /// Files that no distribution point has.
    pub missing: &'a BTreeSet<Digest>,
}

/// How long something takes: at least a second.
pub(super) fn after(now: Timestamp, duration: SignedDuration) -> Timestamp {
    now.checked_add(duration.max(SignedDuration::from_secs(1))).unwrap_or(Timestamp::MAX)
}

impl Machine {
    /// Begins an action; false when it is already under way, or only an announcement that stays.
    pub(super) fn start(&mut self, action: &Action, given: &Arc<Given>, around: Surroundings<'_>) -> bool {
        let now = around.now;
        match action {
            Action::Recover => {
                if self.view.running.recovery || self.view.running.install.is_some() {
                    return false;
                }
                self.view.running.recovery = true;
                self.expect(after(now, self.behaviour.recover), Doing::Recovery);
                true
            }
            Action::Scan(request) => {
                if self.view.running.scan.is_some() {
                    return false;
                }
                self.view.running.scan = Some(request.clone());
                let doing = Doing::Scan { request: request.clone(), given: Arc::clone(given) };
                self.expect(after(now, self.behaviour.scan), doing);
                true
            }
            Action::Download { files } => {
                let mut started = false;
                for file in files {
                    if self.view.running.download.insert(file.file.sha256) {
                        started = true;
                        self.expect(after(now, self.behaviour.download), Doing::Download(file.file.sha256));
                    }
                }
                started
            }
            Action::Install(batch) => {
                if self.view.running.install.is_some() || self.view.running.recovery {
                    return false;
                }
                let since = self.clock(now);
                self.view.running.install = Some(RunningInstall { batch: batch.clone(), since });
                self.view.install_started(since);
                self.transaction = Some(Transaction { batch: batch.clone(), since, ended: None });
                self.transactions.push((now, None));
                self.expect(after(now, self.behaviour.install), Doing::Transaction);
                true
            }
            Action::Restart { at, .. } => {
                let announced = self.view.running.restart_at.is_some();
                self.view.running.restart_at = Some(*at);
                !announced
            }
        }
    }

    /// Whether the restart that was decided happens now.
    pub(super) fn restarts_now(&self, outcome: &Outcome, now: Timestamp) -> bool {
        outcome.actions.iter().any(|action| match action {
            Action::Restart { at, .. } => *at <= self.clock(now),
            _ => false,
        })
    }

    /// What is no longer wanted is stopped; true when a restart was called off.
    pub(super) fn give_up(&mut self, outcome: &Outcome) -> bool {
        let running = &mut self.view.running;
        if !running.download.is_empty() {
            running.download.retain(|digest| outcome.wanted.contains(digest));
            self.ops.retain(|op| match &op.what {
                Doing::Download(digest) => running.download.contains(digest),
                _ => true,
            });
        }
        let named = outcome.actions.iter().any(|action| matches!(action, Action::Restart { .. }));
        !named && running.restart_at.take().is_some()
    }

    /// A new policy is in force: the client asks where content is.
    pub(super) fn locate(&mut self, site: &SiteInput) {
        let points = site.objects.distribution_points.values();
        self.view.distribution_points = points
            .filter_map(|point| match self.address {
                None => Some(Locality::Fast),
                Some(address) => point.way(address).map(|way| match way {
                    Way::Fast => Locality::Fast,
                    Way::Slow => Locality::Slow,
                    Way::Outside => Locality::Fallback,
                }),
            })
            .collect();
    }

    /// Something ended or happened. `tell` gets what there is to tell.
    pub(super) fn end(
        &mut self,
        doing: Doing,
        around: Surroundings<'_>,
        outbox: &mut Outbox,
        tell: &mut dyn FnMut(What),
    ) {
        let clock = self.clock(around.now);
        match doing {
            Doing::Scan { request, given } => {
                let online = request.kind.needs_software_update_point();
                let failed = if self.behaviour.scan_failures > 0 {
                    self.behaviour.scan_failures -= 1;
                    Some(failure(0x87D0_0695, "SCAN", "the scan was made to fail"))
                } else if online && !self.online {
                    let words = "no software update point can be reached: check the network";
                    Some(failure(0x87D0_0692, "SCAN-SOURCE", words))
                } else {
                    None
                };
                if let Some(error) = failed {
                    self.view.scan_failed(error.clone(), clock);
                    tell(What::Scanned { result: Err(error) });
                    return;
                }
                if online || self.cache.is_none() {
                    self.cache = Some(Arc::clone(&given.catalogue));
                }
                let catalogue = self.cache.clone().unwrap_or_default();
                let count = self.scanned(&request, &given, &catalogue, around, outbox);
                tell(What::Scanned { result: Ok(count) });
            }
            Doing::Download(digest) => self.downloaded(digest, around, tell),
            Doing::Transaction => self.transaction_ended(around.now, tell),
            Doing::Recovery => {
                let ok = self.behaviour.recovery_failures == 0;
                if ok {
                    self.interrupted = false;
                    self.view.recovery_finished(Ok(()), clock);
                } else {
                    self.behaviour.recovery_failures -= 1;
                    let error = failure(0x87D0_0654, "PRE-DPKG", "dpkg could not be put right");
                    self.view.recovery_finished(Err(error), clock);
                }
                tell(What::Recovered { ok });
            }
            Doing::Up => fate::up(self, around.now, tell),
            Doing::Agent => {
                tell(What::AgentStarted);
                fate::start_agent(self, around.now);
            }
            Doing::Happens(happening) => fate::happens(self, happening, around, tell),
        }
    }

    fn scanned(
        &mut self,
        request: &crate::client::ScanRequest,
        given: &Given,
        catalogue: &Catalogue,
        around: Surroundings<'_>,
        outbox: &mut Outbox,
    ) -> usize {
        let clock = self.clock(around.now);
        let detected = self.scan(catalogue, &given.policy.body, around.compare);
        let required: Required = detected
            .iter()
            .filter(|(_, found)| !found.leaves.is_empty())
            .map(|(id, found)| (id.clone(), found.leaves.clone()))
            .collect();
        let count = required.len();
        let covered = catalogue.versions.clone();
        self.view.scan_completed(&given.policy, request, detected, covered.clone(), clock);
        self.view.scan.cached = covered;
        outbox.detection(required);
        // What a transaction that was cut off did install counts as installed by it.
        if self.view.recovery.is_none()
            && let Some(mut batch) = self.lost.take()
        {
            let has = |id: &UpdateId| {
                self.view.detected.get(id).is_some_and(|found| found.leaves.is_disjoint(&batch.leaves))
            };
            let kept: Vec<UpdateId> = batch.updates.keys().filter(|id| has(id)).cloned().collect();
            batch.updates.retain(|id, _| kept.contains(id));
            if !batch.updates.is_empty() {
                let running = self.view.running.install.take();
                self.view.install_finished(&batch, &BTreeMap::new(), clock);
                self.view.running.install = running;
                self.view.scan.stale = None;
            }
        }
        count
    }

    fn downloaded(&mut self, digest: Digest, around: Surroundings<'_>, tell: &mut dyn FnMut(What)) {
        let clock = self.clock(around.now);
        let failed = if !self.online {
            Some((false, failure(0x87D0_0215, "DP-UNREACHABLE", "no distribution point can be reached")))
        } else if around.missing.contains(&digest) {
            Some((true, failure(0x87D0_0214, "DP-NOT-OFFERED", "no distribution point has the file yet")))
        } else if self.behaviour.download_failures > 0 {
            self.behaviour.download_failures -= 1;
            Some((false, failure(0x87D0_0215, "DOWNLOAD", "the download was made to fail")))
        } else {
            None
        };
        match failed {
            Some((not_offered, error)) => {
                self.view.download_failed(digest, not_offered, error.clone(), clock);
                tell(What::DownloadFailed(error));
            }
            None => self.view.downloaded(digest),
        }
    }

    /// The package system has done what it was told, as far as it could; the agent, when it is there, sees it at once.
    fn transaction_ended(&mut self, now: Timestamp, tell: &mut dyn FnMut(What)) {
        let Some(batch) = self.transaction.as_ref().map(|transaction| transaction.batch.clone()) else {
            return;
        };
        let failed = self.apply(&batch, batch.leaves.len());
        if let Some((_, end)) = self.transactions.last_mut() {
            *end = Some(now);
        }
        tell(What::Installed { failed: failed.keys().cloned().collect() });
        if let Some(transaction) = &mut self.transaction {
            transaction.ended = Some(failed);
        }
        if self.agent && self.power {
            self.take_up_transaction(now);
        }
    }

    /// The agent looks at the transaction, which may have ended while it was away.
    pub(super) fn take_up_transaction(&mut self, now: Timestamp) {
        let Some(transaction) = self.transaction.take() else { return };
        if let Some(failed) = &transaction.ended {
            let clock = self.clock(now);
            self.view.install_finished(&transaction.batch, failed, clock);
            self.taken_up = Some(transaction);
        } else {
            self.view.running.install =
                Some(RunningInstall { batch: transaction.batch.clone(), since: transaction.since });
            self.transaction = Some(transaction);
        }
    }

    /// Installs the first `count` leaves of a batch, but for those that are made to fail.
    pub(super) fn apply(&mut self, batch: &InstallBatch, count: usize) -> BTreeMap<UpdateId, StateError> {
        let mut failed = BTreeMap::new();
        for leaf in batch.leaves.iter().take(count) {
            let left = self.behaviour.install_failures.get_mut(&leaf.package).filter(|left| **left > 0);
            if let Some(left) = left {
                *left -= 1;
                let owner = batch
                    .updates
                    .keys()
                    .find(|id| self.view.detected.get(*id).is_some_and(|found| found.leaves.contains(leaf)));
                let words = format!("a script of {} was made to fail", leaf.package);
                failed.extend(owner.map(|id| (id.clone(), failure(0x8007_0643, "INSTALL-SCRIPT", &words))));
                continue;
            }
            self.packages.insert(leaf.package.clone(), leaf.version.clone());
            if self.behaviour.restart_packages.contains(&leaf.package) {
                self.view.restart_reasons.insert(RestartReason::RequiredFile);
            }
        }
        failed
    }

    /// The agent restarts the machine.
    pub(super) fn restart(&mut self, now: Timestamp, tell: &mut dyn FnMut(What)) {
        self.restarts.push(now);
        fate::down(self, Outage::Restart, self.behaviour.restart, now, tell);
    }
}
