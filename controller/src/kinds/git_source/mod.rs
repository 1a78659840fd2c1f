//! The GitSource controller: repository -> verdict per file and object -> server-side apply and prune.
//!
//! A revision with a broken file still brings the rest into force; what is broken keeps its last good version, and
//! nothing is pruned from such a revision.

mod apply;
mod dereference;
mod plan;
mod settle;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::ResourceExt as _;
use patchtide_crds::{
    GitSource, GitSourceStatus,
    conditions::{self, reason},
};
use tokio::{sync::watch, task::JoinHandle};

use self::dereference::Reading;
use crate::{
    cache::Cache,
    context::Context,
    driver::{self, Reconciler},
    error::{Failure, Outcome},
    git::schema::Schemas,
};

/// How long one run waits for a fetch; a longer fetch goes on and a later run takes its result.
const WAIT: Duration = Duration::from_secs(60);
/// How soon a run looks again at a fetch that goes on.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Runs all Git sources of the site.
pub async fn run(ctx: Arc<Context>) {
    driver::run(ctx, GitSources::default()).await;
}

/// The reconciler. Schemas are read once; fetches that outlast a run are kept by the source's UID.
#[derive(Default)]
pub struct GitSources {
    schemas: Arc<Schemas>,
    reading: Mutex<BTreeMap<String, JoinHandle<Result<Reading, Failure>>>>,
}

impl Reconciler for GitSources {
    type Object = GitSource;

    fn cache(ctx: &Context) -> &Arc<Cache<GitSource>> {
        &ctx.caches.git_sources
    }

    fn wakes(&self, ctx: &Context) -> Vec<watch::Receiver<u64>> {
        vec![ctx.caches.secrets.subscribe()]
    }

    async fn reconcile(
        &self,
        ctx: &Context,
        object: &GitSource,
        status: &mut GitSourceStatus,
    ) -> Result<Outcome, Failure> {
        if object.spec.suspend {
            return Ok(Outcome::Suspended { message: "suspended by spec.suspend; what is applied stays".into() });
        }
        let started = ctx.clock.now();
        let interval = jittered(&object.spec.interval, object);
        let again = |failure: Failure| failure.again(retry_interval(object).unwrap_or(interval));
        let reading = match self.read(ctx, object).await {
            Ok(Some(reading)) => reading,
            Ok(None) => {
                return Ok(Outcome::Progressing { message: "fetching the repository".into(), again: Some(LOOK_AGAIN) });
            }
            Err(failure) => {
                if failure.reason == reason::VERIFICATION_ERROR {
                    settle::verified(ctx, object, status, Err(&failure.message));
                }
                return Err(again(failure));
            }
        };
        // Only with a new revision: a resync that finds nothing new must not write the status.
        if status.last_attempted_revision.as_deref() != Some(reading.revision.as_str()) {
            status.last_fetch_time = Some(ctx.clock.time());
        }
        status.last_attempted_revision = Some(reading.revision.clone());
        settle::verified(ctx, object, status, Ok(reading.signer.as_deref()));
        let live = dereference::live(ctx).await?;
        let plan = plan::plan(object, &reading, &live, &ctx.namespace);
        let applied = apply::apply(ctx, object, plan).await;
        settle::settle(ctx, object, status, &reading, &applied, started);
        match applied.failure(&reading) {
            Some(failure) => Err(again(failure)),
            None => Ok(Outcome::Ready {
                reason: reason::RECONCILIATION_SUCCEEDED,
                message: format!("applied revision {}", reading.revision),
                again: Some(interval),
            }),
        }
    }
}

impl GitSources {
    /// The revision as read, or none while the fetch goes on.
    async fn read(&self, ctx: &Context, object: &GitSource) -> Result<Option<Reading>, Failure> {
        let uid = object.uid().unwrap_or_default();
        let key = format!("{uid}/{}", object.metadata.generation.unwrap_or_default());
        let known = self.lock().remove(&key);
        let mut task = match known {
            Some(task) => task,
            None => dereference::start(ctx, object, Arc::clone(&self.schemas)).await?,
        };
        match tokio::time::timeout(WAIT, &mut task).await {
            Ok(Ok(result)) => result.map(Some),
            Ok(Err(error)) => Err(Failure::retry(
                reason::GIT_OPERATION_FAILED,
                format!("reading the repository was broken off: {error}"),
            )),
            Err(_) => {
                self.lock().insert(key, task);
                Ok(None)
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, JoinHandle<Result<Reading, Failure>>>> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn retry_interval(object: &GitSource) -> Option<Duration> {
    object.spec.retry_interval.as_ref().map(|text| seconds(text, 60))
}

/// The interval, up to 5 percent longer or shorter by the object's UID, so that sources spread.
fn jittered(interval: &patchtide_crds::DurationText, object: &GitSource) -> Duration {
    let base = seconds(interval, 60);
    let byte = object.uid().and_then(|uid| uid.bytes().last()).unwrap_or(0);
    let percent = 95 + u32::from(byte) % 11;
    base * percent / 100
}

fn seconds(text: &patchtide_crds::DurationText, default: u64) -> Duration {
    let length = text.seconds().ok().and_then(|length| u64::try_from(length).ok());
    Duration::from_secs(length.unwrap_or(default).max(1))
}

/// Conditions of the common contract are the driver's; these are the source's own.
fn put(ctx: &Context, object: &GitSource, status: &mut GitSourceStatus, kind: &str, value: bool, reason: &str, message: &str) {
    let generation = object.metadata.generation.unwrap_or_default();
    let value = if value { "True" } else { "False" };
    conditions::put(status, kind, value, generation, &ctx.clock.time(), reason, message);
}
