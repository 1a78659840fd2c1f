//! Carrying out what was decided: nothing here decides.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use patchtide_model::{
    Digest,
    policy::LinePolicy,
    state::{SCAN_PATIENCE, Scan as ScanState},
};
use patchtide_planner::client::{Action, Decision, Fetch, InstallBatch, RunningInstall, ScanRequest};
use patchtide_protocol::state::StateBody;
use tokio::time::Instant;

use super::{
    RunError,
    engine::Engine,
    events::{Event, ScanFailed, Scanned},
    site::locate,
};
use crate::{
    clock,
    download::{self, Cache, locality},
    install::{self, InstallError, Prepared, operation, outcome, recover},
    restart,
    scan::{Machine, scan},
    transport::error::chain,
};

/// init was asked for a restart and is still there: it is not asked again sooner.
const PATIENCE: Duration = Duration::from_mins(10);
/// Locations older than that are asked for again before a download or an online scan.
const LOCATIONS: Duration = Duration::from_mins(5);

/// Before a batch is said to start: whether files that it needs are gone from the cache by another hand. They are not
/// present then, and come again.
pub(super) fn lost_content(decision: &Decision, cache: &Cache, present: &mut BTreeSet<Digest>) -> bool {
    let before = present.len();
    for action in &decision.actions {
        if let Action::Install(batch) = action {
            for file in batch.files.iter().filter(|file| !cache.path(file).is_file()) {
                tracing::warn!(%file, "a file is gone from the cache: it is fetched again");
                present.remove(file);
            }
        }
    }
    present.len() != before
}

impl Engine {
    pub(super) fn carry_out(&mut self, now: Timestamp) -> Result<(), RunError> {
        let actions = std::mem::take(&mut self.decision.actions);
        self.stop_unwanted_downloads();
        let restart = actions.iter().any(|action| matches!(action, Action::Restart { .. }));
        if !restart && self.view.running.restart_at.take().is_some() {
            tracing::info!("the announced restart is called off");
        }
        for action in &actions {
            match action {
                Action::Recover => self.recover(now),
                Action::Scan(request) => self.scan(request, now)?,
                Action::Download { files } => self.download(files),
                Action::Install(batch) => self.install(batch, now),
                Action::Restart { at, because, power_off } => self.restart(*at, because, *power_off, now),
            }
        }
        self.decision.actions = actions;
        Ok(())
    }

    fn stop_unwanted_downloads(&mut self) {
        let wanted = &self.decision.wanted;
        self.downloads.retain(|digest, task| {
            let keep = wanted.contains(digest);
            if !keep {
                tracing::info!(%digest, "download stopped");
                task.abort();
                self.view.running.download.remove(digest);
            }
            keep
        });
    }

    fn scan(&mut self, request: &ScanRequest, now: Timestamp) -> Result<(), RunError> {
        let Some(policy) = self.policy.clone() else { return Ok(()) };
        if self.view.running.scan.is_some() {
            return Ok(());
        }
        let running = StateBody::Scan { state: ScanState::Running, error: None };
        self.outbox.enter([("scan".to_owned(), running)], now)?;
        self.view.running.scan = Some(request.clone());
        let online = request.kind.needs_software_update_point();
        let lines: Vec<LinePolicy> = if online {
            policy.body.lines.to_vec()
        } else {
            let of_policy = |line: &&LinePolicy| policy.body.lines.iter().any(|p| p.line == line.line);
            self.cached.values().filter(of_policy).cloned().collect()
        };
        let (catalogues, transport, root) =
            (self.catalogues.clone(), self.transport.clone(), self.site.root.clone());
        let known = self.fresh_locations().then(|| self.locations.clone());
        let (events, request) = (self.events.clone(), request.clone());
        tokio::spawn(async move {
            let work = async {
                if online && lines.iter().any(|line| !catalogues.has(line)) {
                    let locations = match known {
                        Some(locations) => locations,
                        None => locate(&transport).await.unwrap_or_default(),
                    };
                    for line in &lines {
                        catalogues.fetch(&transport, line, &locations.software_update_points).await?;
                    }
                    let _ = events.send(Event::Locations(locations)).await;
                }
                tokio::task::spawn_blocking(move || {
                    let machine = Machine::read(&root).map_err(crate::scan::ScanError::from)?;
                    let found = scan(&machine, &catalogues, &lines, &policy.body)?;
                    let lines = lines.into_iter().map(|line| (line.line.clone(), line)).collect();
                    Ok(Box::new(Scanned { policy, found, lines }))
                })
                .await
                .map_err(|_| ScanFailed::Broken)?
            };
            let patience = Duration::try_from(SCAN_PATIENCE).unwrap_or(Duration::from_hours(1));
            let result =
                tokio::time::timeout(patience, work).await.unwrap_or(Err(ScanFailed::Timeout(SCAN_PATIENCE)));
            let _ = events.send(Event::Scanned(request, result)).await;
        });
        Ok(())
    }

    fn fresh_locations(&self) -> bool {
        self.located.is_some_and(|at| at.elapsed() < LOCATIONS)
    }

    fn download(&mut self, files: &[Fetch]) {
        if !self.fresh_locations() {
            // The files are named again once the answer is there.
            self.located = Some(Instant::now());
            let (transport, events) = (self.transport.clone(), self.events.clone());
            tokio::spawn(async move {
                match locate(&transport).await {
                    Ok(locations) => drop(events.send(Event::Locations(locations)).await),
                    Err(error) => tracing::warn!(error = %chain(&error), "no locations"),
                }
            });
            if self.locations.distribution_points.is_empty() {
                return;
            }
        }
        for fetch in files {
            let digest = fetch.file.sha256;
            if self.downloads.contains_key(&digest) {
                continue;
            }
            let bases: Vec<String> = self
                .locations
                .distribution_points
                .iter()
                .filter(|point| fetch.localities.contains(&locality(point.locality)))
                .map(|point| point.url.clone())
                .collect();
            let (transport, cache, sources) =
                (self.transport.clone(), self.site.cache.clone(), self.sources.clone());
            let (events, file, room) = (self.events.clone(), fetch.file.clone(), Arc::clone(&self.room));
            let task = tokio::spawn(async move {
                let _turn = room.acquire().await;
                let result = download::fetch(&transport, &cache, &sources, &file, &bases).await;
                let _ = events.send(Event::Downloaded(digest, result)).await;
            });
            self.downloads.insert(digest, task.abort_handle());
            self.view.running.download.insert(digest);
        }
    }

    fn install(&mut self, batch: &InstallBatch, now: Timestamp) {
        let Some(policy) = self.policy.clone() else { return };
        if self.view.running.install.is_some() || self.view.running.recovery {
            return;
        }
        tracing::info!(updates = batch.updates.len(), leaves = batch.leaves.len(), "installing");
        self.view.running.install = Some(RunningInstall { batch: batch.clone(), since: now });
        self.view.running.checking = true;
        let leaves_of = install::leaves_of(batch, &self.view);
        let (site, batch, events) = (self.site.clone(), batch.clone(), self.events.clone());
        let time = self.clock.running();
        let withdrawn = Arc::new(AtomicBool::new(false));
        self.withdraw = Some(Arc::clone(&withdrawn));
        tokio::task::spawn_blocking(move || {
            let fits = || {
                batch.window_end.is_none_or(|end| {
                    time.at(clock::read()).checked_add(batch.expected).is_ok_and(|ends| ends <= end)
                })
            };
            let allowed = || !withdrawn.load(Ordering::SeqCst) && fits();
            let latest = batch.window_end.and_then(|end| end.checked_sub(batch.expected).ok());
            let not_after = latest.map(|at| time.when(at));
            let result = install::prepare(&site, &policy.body, &batch, leaves_of, now, &allowed, not_after);
            let _ = events.blocking_send(Event::Prepared(result));
        });
    }

    fn recover(&mut self, now: Timestamp) {
        if self.view.running.install.is_some() || self.view.running.recovery {
            return;
        }
        self.view.running.recovery = true;
        let (site, events, policy) = (self.site.clone(), self.events.clone(), self.policy.clone());
        tokio::task::spawn_blocking(move || {
            let result = recover::start(&site, policy.as_ref().map(|policy| &policy.body), now);
            let _ = events.blocking_send(Event::Prepared(result));
        });
    }

    pub(super) fn prepared(
        &mut self,
        result: Result<Prepared, InstallError>,
        now: Timestamp,
    ) -> Result<(), RunError> {
        let install = self.view.running.install.clone();
        self.view.running.checking = false;
        let withdrawn = self.withdraw.take().is_some_and(|withdraw| withdraw.load(Ordering::SeqCst));
        match result {
            Ok(Prepared::Started) => {
                self.view.install_started(now);
                self.watch_operation();
            }
            Err(error) if withdrawn => {
                // What failed under a policy that is gone says nothing about the one in force.
                tracing::info!(error = %chain(&error), "the batch was withdrawn while it was checked");
                self.view.running.install = None;
            }
            Ok(Prepared::Withdrawn) => {
                tracing::info!("the batch was withdrawn before it started");
                self.view.running.install = None;
            }
            Ok(Prepared::Locked(lock)) => {
                tracing::info!(holder = %lock.holder, "waiting for another installation");
                self.view.running.install = None;
                self.view.running.recovery = false;
                self.view.lock = Some(lock);
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "the transaction does not start");
                if let InstallError::Changed { digest, .. } = &error {
                    self.site.cache.discard(digest)?;
                    self.view.present.remove(digest);
                }
                if let Some(install) = install {
                    let leaves_of = install::leaves_of(&install.batch, &self.view);
                    let failed = outcome::refused(&error, &leaves_of);
                    // The others were not tried: they are neither installed nor failed.
                    let mut batch = install.batch;
                    batch.updates.retain(|id, _| failed.contains_key(id));
                    self.view.install_finished(&batch, &failed, now);
                } else {
                    let words = install::error::reported(error.failure(), &chain(&error));
                    self.view.recovery_finished(Err(words), now);
                }
            }
        }
        Ok(())
    }

    /// Tells the engine when the operation that runs has ended, whoever started it.
    pub(super) fn watch_operation(&self) {
        let (site, events) = (self.site.clone(), self.events.clone());
        tokio::task::spawn_blocking(move || {
            loop {
                match operation::look(&site) {
                    Ok(Some(operation::Standing::Running(_))) => {
                        std::thread::sleep(Duration::from_millis(200));
                    }
                    Ok(Some(ended)) => return drop(events.blocking_send(Event::Ended(ended))),
                    Ok(None) => return,
                    Err(error) => {
                        tracing::error!(error = %chain(&error), "the operation cannot be looked at");
                        std::thread::sleep(Duration::from_secs(5));
                    }
                }
                if events.is_closed() {
                    return;
                }
            }
        });
    }

    fn restart(&mut self, at: Timestamp, because: &[String], power_off: bool, now: Timestamp) {
        self.view.running.power_off = power_off;
        if self.view.running.restart_at.is_none() {
            tracing::info!(%at, ?because, power_off, "a restart is announced");
            self.view.running.restart_at = Some(at);
            return;
        }
        self.view.running.restart_at = Some(at);
        if now < at || self.restart_asked.is_some_and(|asked| asked.elapsed() < PATIENCE) {
            return;
        }
        // Only when everything is said: the site should know that the restart is under way.
        if self.sending.running && self.restart_asked.is_none() {
            return;
        }
        self.restart_asked = Some(Instant::now());
        tracing::info!(?because, power_off, "restarting");
        let root = self.site.root.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = restart::restart(&root, power_off) {
                tracing::error!(error = %chain(&error), "no restart");
            }
        });
    }
}
