//! The GitSource controller: repository -> verdict per file and object -> server-side apply and prune.
//!
//! A revision with a broken file still brings the rest into force; what is broken keeps its last good version, and
//! nothing is pruned from such a revision.

mod apply;
mod dereference;
mod folders;
mod plan;
mod settle;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::ResourceExt as _;
use patchtide_crds::{
    GitSource, GitSourceStatus,
    conditions::{self, reason},
};
use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
};

use self::dereference::{Introduced, Reading, Unread};
use crate::{
    cache::Cache,
    context::Context,
    driver::{self, Reconciler},
    error::{Failure, Outcome},
    git::schema::Schemas,
};

/// How long one run waits for a fetch, and with it those of the other sources; a longer fetch goes on, and its end wakes
/// the source.
const WAIT: Duration = Duration::from_secs(10);
/// How long a later run waits for it.
const WAIT_AGAIN: Duration = Duration::from_secs(1);
/// Longest wait after a failed connection, unless the interval is longer.
const LONGEST_RETRY: Duration = Duration::from_mins(15);

/// Runs all Git sources of the site.
pub async fn run(ctx: Arc<Context>) {
    driver::run(ctx, GitSources::default()).await;
}

/// The reconciler. Schemas are read once; the rest is kept by the source's UID.
#[derive(Default)]
pub struct GitSources {
    schemas: Arc<Schemas>,
    /// Fetches that outlast a run, with the generation that they are of.
    reading: Mutex<BTreeMap<String, (i64, Task)>>,
    /// Since when deployments stand in the repository, as found last.
    introduced: Mutex<BTreeMap<String, Arc<Introduced>>>,
    /// Fetches in a row that the connection failed.
    tries: Mutex<BTreeMap<String, u32>>,
}

type Task = JoinHandle<Result<Reading, Unread>>;

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
            settle::suspended(object, status);
            return Ok(Outcome::Suspended {
                message: "suspended by spec.suspend; what is applied stays".into(),
            });
        }
        let started = ctx.clock.now();
        let interval = jittered(&object.spec.interval, object);
        let uid = object.uid().unwrap_or_default();
        let reading = match self.read(ctx, object, &uid).await {
            Ok(Some(reading)) => reading,
            // What is said of this generation stays true; of another nothing is said yet.
            Ok(None) if status.observed_generation == object.metadata.generation => {
                return Ok(Outcome::Unchanged);
            }
            Ok(None) => {
                return Ok(Outcome::Progressing { message: "fetching the repository".into(), again: None });
            }
            Err(Unread { failure, of_connection }) => {
                if failure.reason == reason::VERIFICATION_ERROR {
                    settle::fetched(ctx, object, status, None);
                    settle::verified(ctx, object, status, Err(&failure.message));
                } else {
                    settle::fetched(ctx, object, status, Some(&failure));
                }
                let tries = if of_connection { self.failed(&uid) } else { 0 };
                return Err(failure.again(retry_after(object, interval, tries)));
            }
        };
        lock(&self.tries).remove(&uid);
        lock(&self.introduced).insert(uid, Arc::clone(&reading.introduced));
        let live = dereference::live(ctx).await?;
        if !dereference::is_present(object, &live) {
            // Suspended, changed or deleted while it was fetched: that has woken the source, and is what counts.
            return Ok(Outcome::Unchanged);
        }
        let before = status.clone();
        // Only with a new revision: a resync that finds nothing new must not write the status.
        if status.last_attempted_revision.as_deref() != Some(reading.revision.as_str()) {
            status.last_fetch_time = Some(ctx.clock.time());
        }
        status.last_attempted_revision = Some(reading.revision.clone());
        settle::fetched(ctx, object, status, None);
        settle::verified(ctx, object, status, Ok(reading.signer.as_deref()));
        let plan = plan::plan(object, &reading, &live, &ctx.namespace, ctx.clock.now());
        let applied = apply::apply(ctx, object, &reading, &live, plan).await;
        settle::settle(ctx, object, status, &reading, &applied, started);
        settle::tell(ctx, object, &before, &reading, &applied).await;
        match applied.failure(&reading) {
            Some(failure) => Err(failure.again(retry_after(object, interval, 0))),
            None => Ok(Outcome::Ready {
                reason: reason::RECONCILIATION_SUCCEEDED,
                message: format!("applied revision {}", reading.revision),
                again: Some(interval),
            }),
        }
    }

    async fn sweep(&self, ctx: &Context, names: &BTreeSet<String>) -> Result<(), Failure> {
        let here: BTreeSet<String> =
            names.iter().filter_map(|name| ctx.caches.git_sources.get(name)?.uid()).collect();
        lock(&self.reading).retain(|uid, _| here.contains(uid));
        lock(&self.introduced).retain(|uid, _| here.contains(uid));
        lock(&self.tries).retain(|uid, _| here.contains(uid));
        folders::forget(ctx, here).await
    }
}

impl GitSources {
    /// The revision as read, or none while the fetch goes on.
    async fn read(&self, ctx: &Context, object: &GitSource, uid: &str) -> Result<Option<Reading>, Unread> {
        let generation = object.metadata.generation.unwrap_or_default();
        // A fetch for another spec is not the answer; it ends by itself.
        let known = lock(&self.reading).remove(uid).filter(|(of, _)| *of == generation);
        let (mut task, wait) = if let Some((_, task)) = known {
            (task, WAIT_AGAIN)
        } else {
            let introduced = lock(&self.introduced).get(uid).cloned().unwrap_or_default();
            (dereference::start(ctx, object, Arc::clone(&self.schemas), introduced).await?, WAIT)
        };
        let Ok(result) = tokio::time::timeout(wait, &mut task).await else {
            let (cache, name) = (Arc::clone(Self::cache(ctx)), object.name_any());
            let goes_on = tokio::spawn(async move {
                let result = ended(task.await);
                cache.touch(&name);
                result
            });
            lock(&self.reading).insert(uid.to_owned(), (generation, goes_on));
            return Ok(None);
        };
        ended(result).map(Some)
    }

    /// Counts a failed connection; returns how many failed before it.
    fn failed(&self, uid: &str) -> u32 {
        let mut tries = lock(&self.tries);
        let count = tries.entry(uid.to_owned()).or_default();
        let before = *count;
        *count = before.saturating_add(1);
        before
    }
}

/// What a task of reading came to.
fn ended(result: Result<Result<Reading, Unread>, JoinError>) -> Result<Reading, Unread> {
    result.unwrap_or_else(|error| {
        let message = format!("reading the repository was broken off: {error}");
        Err(Failure::retry(reason::GIT_OPERATION_FAILED, message).into())
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When to try again: as the spec says; else after the interval, and while the connection fails twice as long from try
/// to try, at most 15 minutes (or the interval, where that is longer).
fn retry_after(object: &GitSource, interval: Duration, tries: u32) -> Duration {
    match &object.spec.retry_interval {
        Some(text) => seconds(text, 60),
        None => interval.saturating_mul(1 << tries.min(10)).min(LONGEST_RETRY).max(interval),
    }
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
fn put(
    ctx: &Context,
    object: &GitSource,
    status: &mut GitSourceStatus,
    kind: &str,
    value: bool,
    reason: &str,
    message: &str,
) {
    let generation = object.metadata.generation.unwrap_or_default();
    let value = if value { "True" } else { "False" };
    conditions::put(status, kind, value, generation, &ctx.clock.time(), reason, message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_input_38_a_failing_connection_is_left_alone_longer_from_try_to_try() {
        let source = |more: &str| -> GitSource {
            let yaml = format!(
                "apiVersion: patchtide.dev/v1alpha1\nkind: GitSource\nmetadata: {{name: a}}\nspec: {{url: 'https://h/r', prune: true{more}}}\n"
            );
            serde_saphyr::from_str(&yaml).unwrap()
        };
        let minute = Duration::from_mins(1);
        let waits =
            |source: &GitSource, base| [0, 1, 3, 4, 40].map(|n| retry_after(source, base, n).as_secs());
        assert_eq!(waits(&source(""), minute), [60, 120, 480, 900, 900]);
        assert_eq!(waits(&source(""), Duration::from_hours(1)), [3600; 5]);
        assert_eq!(waits(&source(", retryInterval: 30s"), minute), [30; 5]);
    }
}
