//! Taking the ends of things into the books: scans, transactions, recoveries, and what an agent before this one left.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::{
    UpdateId,
    state::{Failure, Scan as ScanState, StateError},
};
use patchtide_planner::client::{LockFact, RunningInstall, ScanRequest, StaleReason, limits};
use patchtide_protocol::state::StateBody;

use super::{
    RunError,
    engine::{CACHED, Engine, FAILURE, VIEW, WATCHED},
    events::{Event, ScanFailed, Scanned},
};
use crate::{
    install::{
        self, LastFailure,
        error::reported,
        lock,
        operation::{self, Kind, Record, Standing},
        outcome,
    },
    report,
    scan::{self, Machine},
    services::{self, Settling},
    state::remove,
    transport::error::chain,
};

/// The operation that was cut off, until a scan has told what it did.
const LOST: &str = "lost-operation.json";

impl Engine {
    pub(super) fn scanned(
        &mut self,
        request: &ScanRequest,
        result: Result<Box<Scanned>, ScanFailed>,
        now: Timestamp,
    ) -> Result<(), RunError> {
        let state = match result {
            Ok(scanned) => {
                let Scanned { policy: under, found, lines } = *scanned;
                tracing::info!(kind = ?request.kind, purpose = ?request.purpose, lines = found.covered.len(),
                    updates = found.detected.len(), "scan completed");
                self.cached.extend(lines);
                if let Some(policy) = &self.policy {
                    let lines = &policy.body.lines;
                    self.cached.retain(|id, _| lines.iter().any(|line| line.line == *id));
                }
                self.site.state.save(CACHED, &self.cached)?;
                self.catalogues.keep(&self.cached.values().cloned().collect::<Vec<_>>())?;
                let detections = report::detections(&found);
                self.view.scan_completed(&under, request, found.detected, found.covered, now);
                self.view.scan.cached =
                    self.cached.iter().map(|(id, line)| (id.clone(), line.catalogue_version)).collect();
                self.outbox.enter_scan(detections, now)?;
                self.settle_lost(now)?;
                let error = found.errors.first().map(|first| {
                    let words = format!(
                        "{} stanzas of dpkg's status cannot be read; first: {first}",
                        found.errors.len()
                    );
                    reported(Failure::ScanPartial, &words)
                });
                let state =
                    if error.is_some() { ScanState::CompletedWithErrors } else { ScanState::Completed };
                StateBody::Scan { state, error }
            }
            Err(error) => {
                let failure = error.failure();
                let words = chain(&error);
                tracing::error!(error = %words, "scan failed");
                let error = reported(failure, &words);
                self.view.scan_failed(error.clone(), now);
                self.located = None;
                let again = self.view.scan.failure.as_ref().map_or(0, |failure| failure.count);
                let state = if failure == Failure::ScanSource {
                    ScanState::WaitingForCatalogue
                } else if again < limits::SCAN_FAILED_AFTER {
                    ScanState::PendingRetry
                } else {
                    ScanState::Failed
                };
                StateBody::Scan { state, error: Some(error) }
            }
        };
        self.outbox.enter_always([("scan".to_owned(), state)], now)?;
        self.sending.urgent = true;
        Ok(())
    }

    /// Takes up the operation that an agent before this one left.
    pub(super) fn find_operation(&mut self, now: Timestamp) -> Result<(), RunError> {
        match operation::look(&self.site)? {
            None => {}
            Some(Standing::Running(record)) => {
                tracing::info!(kind = ?record.kind, since = %record.started, "an operation still runs: waiting for it");
                self.runs(&record);
                self.watch_operation();
            }
            Some(ended) => {
                tracing::info!("an operation ended while no agent was there");
                self.witness(&ended)?;
                self.ended(ended, now)?;
            }
        }
        Ok(())
    }

    /// What ended unseen was begun, and that is told.
    fn witness(&mut self, standing: &Standing) -> Result<(), RunError> {
        let (Standing::Ended(record, _) | Standing::Lost(record)) = standing else { return Ok(()) };
        let Some(batch) = record.batch.as_ref().filter(|_| record.kind == Kind::Install) else {
            return Ok(());
        };
        let deployments = self.policy.iter().flat_map(|policy| &policy.body.deployments);
        let holding: BTreeSet<&str> = deployments
            .filter(|deployment| deployment.updates.iter().any(|id| batch.updates.contains_key(id)))
            .map(|deployment| deployment.uid.as_str())
            .collect();
        let said = self.states.witness_installation(
            batch.updates.keys(),
            |uid| holding.contains(uid),
            record.started,
        );
        self.outbox.enter_always(said.iter().map(report::of_said), record.started)?;
        self.keep_states()
    }

    fn runs(&mut self, record: &Record) {
        match (record.kind, &record.batch) {
            (Kind::Install, Some(batch)) => {
                self.view.running.install =
                    Some(RunningInstall { batch: batch.clone(), since: record.started });
            }
            _ => self.view.running.recovery = true,
        }
    }

    pub(super) fn ended(&mut self, standing: Standing, now: Timestamp) -> Result<(), RunError> {
        self.look_again();
        let (record, ended) = match standing {
            Standing::Running(record) => {
                self.runs(&record);
                return Ok(());
            }
            Standing::Lost(record) => {
                tracing::warn!(started = %record.started, "an operation was cut off");
                if record.kind == Kind::Install {
                    self.site.state.save(LOST, &Some(&record))?;
                }
                let machine = Machine::read(&self.site.root).map_err(install::InstallError::from)?;
                self.view.running.install = None;
                self.view.running.recovery = false;
                self.note_interruption(&machine, true, now);
                self.view.scan.stale = Some(StaleReason::Recovered);
                self.site.state.save(VIEW, &self.view)?;
                operation::close(&self.site)?;
                return Ok(());
            }
            Standing::Ended(record, ended) => (record, ended),
        };
        let machine = Machine::read(&self.site.root).map_err(install::InstallError::from)?;
        let output = operation::output(&self.site);
        if let (Kind::Install, Some(batch)) = (record.kind, &record.batch) {
            match outcome::judge(&machine, &record.leaves_of, &ended, &output) {
                outcome::Verdict::Locked => {
                    self.view.running.install = None;
                    let holder =
                        lock::holder(&self.site.root)?.unwrap_or_else(|| "another process".to_owned());
                    self.view.lock = Some(LockFact { at: now, holder });
                }
                outcome::Verdict::Withdrawn => {
                    tracing::info!(status = %ended.status, "the batch was withdrawn at the last moment");
                    self.view.running.install = None;
                }
                outcome::Verdict::Done(failed) => {
                    tracing::info!(updates = batch.updates.len(), failed = failed.len(), status = %ended.status,
                        "transaction ended");
                    if !failed.is_empty() {
                        let kept = LastFailure { at: Some(now), output: outcome::tail(&output) };
                        self.site.state.save(FAILURE, &kept)?;
                    }
                    self.view.install_finished(batch, &failed, now);
                    self.note_interruption(&machine, false, now);
                    self.watch_services(&record, &failed)?;
                }
            }
        } else {
            let result = match scan::interrupted(&self.site.root, &machine, false) {
                None => Ok(()),
                Some(what) => {
                    let said = outcome::tail(&output);
                    let words = format!(
                        "dpkg could not be put right ({what}; {}): run `dpkg --audit`. Output:\n{said}",
                        ended.status
                    );
                    let hangs = !ended.overran.is_empty();
                    Err(reported(if hangs { Failure::DpkgHangs } else { Failure::DpkgBroken }, &words))
                }
            };
            tracing::info!(ok = result.is_ok(), "recovery ended");
            self.view.recovery_finished(result, now);
        }
        // The books before the record: after a kill in between the end is looked at twice, never not at all.
        self.site.state.save(VIEW, &self.view)?;
        operation::close(&self.site)?;
        Ok(())
    }

    /// What ran before a transaction is to run after it.
    fn watch_services(
        &mut self,
        record: &Record,
        failed: &BTreeMap<UpdateId, StateError>,
    ) -> Result<(), RunError> {
        let installed = record.leaves_of.iter().filter(|(id, _)| !failed.contains_key(*id));
        self.watched.updates.extend(installed.map(|(id, leaves)| (id.clone(), leaves.clone())));
        self.watched.services.extend(record.services.iter().cloned());
        self.site.state.save(WATCHED, &self.watched)?;
        self.look_at_services();
        Ok(())
    }

    /// Looks at the services that are watched, beside everything else.
    pub(super) fn look_at_services(&mut self) {
        if self.watching || self.watched.services.is_empty() || self.view.running.install.is_some() {
            return;
        }
        self.watching = true;
        let (root, watched, events) = (self.site.root.clone(), self.watched.clone(), self.events.clone());
        tokio::task::spawn_blocking(move || {
            let dead = services::dead(&root, &watched.services, Settling::default());
            let errors = services::errors(&root, &watched, &dead);
            let _ = events.blocking_send(Event::Services(dead, errors));
        });
    }

    /// Those that are dead are looked at again until they run.
    pub(super) fn services_settled(
        &mut self,
        dead: BTreeMap<String, String>,
        errors: BTreeMap<UpdateId, StateError>,
    ) -> Result<(), RunError> {
        self.watching = false;
        if self.view.running.install.is_some() {
            // Stopped for an upgrade, perhaps: looked at when it has ended.
            return Ok(());
        }
        if !dead.is_empty() && self.view.unwell != errors {
            tracing::error!(services = ?dead, "services that ran before a transaction do not run");
        }
        self.view.unwell = errors;
        self.watched.services = dead.into_keys().collect();
        if self.watched.services.is_empty() {
            self.watched.updates.clear();
        }
        Ok(self.site.state.save(WATCHED, &self.watched)?)
    }

    /// After an operation that was cut off, and a scan: what it did install counts as installed by it.
    fn settle_lost(&mut self, now: Timestamp) -> Result<(), RunError> {
        if self.view.recovery.is_some() {
            return Ok(());
        }
        let Some(record) = self.site.state.load_or_default::<Option<Record>>(LOST)? else { return Ok(()) };
        let machine = Machine::read(&self.site.root).map_err(install::InstallError::from)?;
        if let Some(mut batch) = record.batch {
            batch.updates.retain(|id, _| {
                record
                    .leaves_of
                    .get(id)
                    .is_some_and(|leaves| leaves.iter().all(|leaf| outcome::has(&machine, leaf)))
            });
            if !batch.updates.is_empty() {
                let running = self.view.running.install.take();
                self.view.install_finished(&batch, &BTreeMap::new(), now);
                self.view.running.install = running;
                // This scan already saw them.
                self.view.scan.stale = None;
            }
        }
        remove(&self.site.state.path(LOST))?;
        Ok(())
    }
}
