//! `SoftwareUpdatePoint`: synchronises its sources by its schedule. A synchronisation is a task of its own; the
//! reconcile starts it, shows how far it is and writes what came of it.

pub mod active;
pub mod cleanup;
pub mod dereference;
pub mod memory;
pub mod plan;
pub mod publish;
pub mod rules;
pub mod status;
pub mod sync;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::ResourceExt;
use patchtide_catalog::progress::Progress;
use patchtide_crds::{
    SoftwareUpdatePoint, SoftwareUpdatePointStatus, annotations,
    conditions::reason,
    software_update_point::{SupRole, SyncKind},
};
use tokio::{sync::watch, task::JoinHandle};

use self::memory::Memory;
use crate::{
    cache::Cache,
    context::Context,
    driver::Reconciler,
    error::{Failure, Outcome},
    kinds::{duration, supported},
};

/// While a synchronisation runs its progress is looked at this often.
const LOOK: Duration = Duration::from_secs(1);

/// A synchronisation under way.
struct Job {
    kind: SyncKind,
    generation: i64,
    started: jiff::Timestamp,
    progress: Vec<(String, Progress)>,
    task: JoinHandle<()>,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The kind. Jobs by the object's UID; they outlive the reconcile that starts them, hence the context.
pub struct SoftwareUpdatePoints {
    ctx: Arc<Context>,
    jobs: Mutex<BTreeMap<String, Job>>,
}

impl SoftwareUpdatePoints {
    /// Without a job yet.
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx, jobs: Mutex::default() }
    }

    fn jobs(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a job out that has ended. Returns whether one still runs.
    fn running(&self, uid: &str) -> bool {
        let mut jobs = self.jobs();
        if jobs.get(uid).is_some_and(|job| job.task.is_finished()) {
            jobs.remove(uid);
        }
        jobs.contains_key(uid)
    }
}

impl Reconciler for SoftwareUpdatePoints {
    type Object = SoftwareUpdatePoint;

    fn cache(ctx: &Context) -> &Arc<Cache<SoftwareUpdatePoint>> {
        &ctx.caches.software_update_points
    }

    fn wakes(&self, ctx: &Context) -> Vec<watch::Receiver<u64>> {
        // Keyrings may lie in Secrets and ConfigMaps.
        vec![
            ctx.caches.secrets.subscribe(),
            ctx.caches.config_maps.subscribe(),
            // Of several active points one is in force.
            ctx.caches.software_update_points.version(),
            ctx.sync_progress.subscribe(),
        ]
    }

    /// What runs for an object that is gone is broken off.
    async fn sweep(&self, ctx: &Context, _: &BTreeSet<String>) -> Result<(), Failure> {
        let there: BTreeSet<String> =
            ctx.caches.software_update_points.all().iter().filter_map(|object| object.uid()).collect();
        self.jobs().retain(|uid, _| there.contains(uid));
        Ok(())
    }

    async fn reconcile(
        &self,
        ctx: &Context,
        object: &SoftwareUpdatePoint,
        status: &mut SoftwareUpdatePointStatus,
    ) -> Result<Outcome, Failure> {
        let uid = object.uid().unwrap_or_default();
        let generation = object.metadata.generation.unwrap_or_default();
        supported(status, generation, &ctx.clock.time(), &rules::without_effect(&object.spec));
        if let Some(older) = active::displaced_by(&ctx.caches.software_update_points.all(), object) {
            self.jobs().remove(&uid);
            status.progress = None;
            return Err(Failure::stalled(
                reason::MORE_THAN_ONE_ACTIVE_POINT,
                format!(
                    "role: {older} is older and already active for these clients: set role: Spare here, or there, or move its sources here and delete it"
                ),
            ));
        }
        if object.spec.suspend {
            self.jobs().remove(&uid);
            status.progress = None;
            return Ok(Outcome::Suspended {
                message: "suspended by spec.suspend; the catalogue stays".to_owned(),
            });
        }
        let memory = Memory::load(ctx, &uid).await?;
        let inputs = dereference::dereference(ctx, object, &memory).await?;
        let now = ctx.clock.now();
        let request = annotations::requested_at(Some(object.annotations())).map(str::to_owned);
        let full_asked = object.annotations().get(annotations::SYNC).is_some_and(|kind| kind == "full");
        let next = plan::next(&object.spec, &memory, generation, request.as_deref(), full_asked, now)?;
        let mut running = self.running(&uid);
        // A new generation ends a run of the old one: it may have other sources.
        if running && self.jobs().get(&uid).is_some_and(|job| job.generation != generation) {
            self.jobs().remove(&uid);
            running = false;
        }
        if !running && next.at <= now {
            let progress: Vec<(String, Progress)> =
                inputs.sources.iter().map(|(name, _)| (name.clone(), Progress::default())).collect();
            let run = sync::Run {
                uid: uid.clone(),
                generation,
                name: object.name_any(),
                kind: next.kind,
                expires: object.spec.role == SupRole::Active,
                request,
                inputs,
                progress: progress.iter().map(|(_, progress)| progress.clone()).collect(),
            };
            let task = tokio::spawn(sync::run(Arc::clone(&self.ctx), run));
            let job = Job { kind: next.kind, generation, started: now, progress, task };
            self.jobs().insert(uid.clone(), job);
            running = true;
        }
        status::fill(ctx, status, object, &memory).await?;
        status.progress = self.jobs().get(&uid).map(|job| {
            let sources: Vec<_> =
                job.progress.iter().map(|(name, progress)| (name.as_str(), progress.snapshot())).collect();
            status::progress(job.kind, job.started, &sources)
        });
        if running {
            status.next_sync_time = None;
            status.next_sync_kind = None;
            let kind = if next.kind == SyncKind::Full { "full" } else { "delta" };
            // The first catalogue is still to come; later ones replace one that is in force.
            if memory.generation != Some(generation) {
                return Ok(Outcome::Progressing {
                    message: format!("{kind} synchronisation"),
                    again: Some(LOOK),
                });
            }
        } else {
            status.next_sync_time = Some(crate::kinds::time(next.at));
            status.next_sync_kind = Some(next.kind);
        }
        let wait = Duration::try_from(next.at.duration_since(now)).unwrap_or_default();
        let again = if running { LOOK } else { wait.max(Duration::from_secs(1)) };
        if let Some(error) = &memory.last_error {
            let retry = duration("retryInterval", &object.spec.retry_interval)?;
            let message =
                format!("{error}; the rest is in force, tried again every {}", object.spec.retry_interval);
            let again = again.min(Duration::try_from(retry).unwrap_or(again)).max(LOOK);
            return Err(Failure::retry(reason::SYNC_FAILED, message).again(again));
        }
        let current = status.updates.map_or(0, |counts| counts.current);
        Ok(Outcome::ready(format!("{current} current updates")).again(again))
    }
}
