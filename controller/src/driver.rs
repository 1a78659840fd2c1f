//! The loop of one kind: which objects are due, one reconcile each, its end into the status.
//!
//! An object is due when its watch touched it, when something its kind depends on changed, or when its own time has
//! come. A reconcile in which nothing changed writes nothing, so waking too often is cheap and waking too seldom is
//! the only fault: the loops wake generously.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, future, stream};
use kube::{Resource as _, ResourceExt as _, core::object::HasStatus as _};
use patchtide_crds::{
    StatusContract, annotations,
    conditions::{READY, reason},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    cache::Cache,
    context::Context,
    error::{Failure, Outcome, conclude},
    events::ready_event,
    pace::Pace,
    status::{self, Object},
};

/// Objects of a kind that are reconciled at the same time.
const CONCURRENCY: usize = 8;
/// A reconcile that takes longer is broken off. Long work (synchronising, fetching) runs in tasks of its own.
const LONGEST_RUN: Duration = Duration::from_mins(2);
/// Numbers in a status are written at most this often; conditions at once.
const COUNTS_PERIOD: Duration = Duration::from_secs(5);
/// What is applied together settles within this time: an object that waits for another one no longer than this is no
/// warning.
const SETTLING: Duration = Duration::from_secs(30);
/// Every object is looked at this often whatever happens.
const RESYNC: Duration = Duration::from_mins(10);

/// What makes a kind different from the others.
pub trait Reconciler: Send + Sync + 'static {
    /// The kind.
    type Object: Object;

    /// Its objects as the watch has seen them.
    fn cache(ctx: &Context) -> &Arc<Cache<Self::Object>>;

    /// What else its objects depend on: a change of any of these wakes all of them.
    fn wakes(&self, ctx: &Context) -> Vec<watch::Receiver<u64>>;

    /// Brings one object into force and fills its status; conditions are written by the caller from what is returned.
    fn reconcile(
        &self,
        ctx: &Context,
        object: &Self::Object,
        status: &mut <Self::Object as kube::core::object::HasStatus>::Status,
    ) -> impl Future<Output = Result<Outcome, Failure>> + Send;

    /// Forgets what belongs to objects that are no more. `names` are those that exist.
    fn sweep(
        &self,
        ctx: &Context,
        names: &BTreeSet<String>,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = (ctx, names);
        future::ready(Ok(()))
    }
}

/// Runs a kind until the task is dropped.
pub async fn run<R: Reconciler>(ctx: Arc<Context>, reconciler: R) {
    let cache = Arc::clone(R::cache(&ctx));
    let mut events = cache.events();
    let mut wakes = reconciler.wakes(&ctx);
    let mut queue = Queue::default();
    let mut known: Option<BTreeSet<String>> = None;
    let mut pace = Pace::new(Instant::now());
    cache.take_touched();
    queue.all(&cache.names(), Instant::now());
    loop {
        let names = cache.names();
        if known.as_ref() != Some(&names) {
            match reconciler.sweep(&ctx, &names).await {
                Ok(()) => known = Some(names),
                Err(failure) => tracing::warn!(error = %failure, "sweep failed; it is tried again"),
            }
        }
        if pace.begins(Instant::now()) {
            for wake in &mut wakes {
                wake.mark_unchanged();
            }
            queue.all(&cache.names(), Instant::now());
        }
        let due = queue.take_due(Instant::now());
        let results: Vec<_> = stream::iter(due)
            .map(|name| reconcile_one(&ctx, &reconciler, &cache, name, &queue))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        for result in results {
            queue.settle(result);
        }
        pace.ends(Instant::now());
        let resync = Instant::now() + RESYNC;
        let next = [queue.next(), pace.due()].into_iter().flatten().min().unwrap_or(resync);
        tokio::select! {
            _ = events.changed() => {
                for name in cache.take_touched() {
                    queue.at(name, Instant::now());
                }
            }
            () = any(&mut wakes), if pace.due().is_none() => pace.wake(Instant::now()),
            () = sleep_until(next) => {}
        }
    }
}

/// Waits until one of `wakes` changes; for ever when there is none.
async fn any(wakes: &mut [watch::Receiver<u64>]) {
    let mut pending: Vec<_> = wakes.iter_mut().map(|wake| Box::pin(wake.changed())).collect();
    while !pending.is_empty() {
        let (result, _, rest) = future::select_all(pending).await;
        if result.is_ok() {
            return;
        }
        // Its sender is gone; the others still count.
        pending = rest;
    }
    future::pending::<()>().await;
}

/// When each object is due, and what is remembered of its runs.
#[derive(Debug, Default)]
struct Queue {
    due: BTreeMap<String, Instant>,
    failures: BTreeMap<String, u32>,
    written: BTreeMap<String, Instant>,
    /// Objects whose wait for another one has not been told yet, with the time from which on it is.
    unsettled: BTreeMap<String, Instant>,
}

/// What a run leaves behind for the queue.
struct Run {
    name: String,
    again: Option<Instant>,
    failed: bool,
    written: bool,
    gone: bool,
    unsettled: Option<Instant>,
}

impl Queue {
    fn at(&mut self, name: String, when: Instant) {
        let due = self.due.entry(name).or_insert(when);
        *due = (*due).min(when);
    }

    fn all(&mut self, names: &BTreeSet<String>, when: Instant) {
        for name in names {
            self.at(name.clone(), when);
        }
    }

    fn take_due(&mut self, now: Instant) -> Vec<String> {
        let due: Vec<String> =
            self.due.iter().filter(|(_, when)| **when <= now).map(|(n, _)| n.clone()).collect();
        for name in &due {
            self.due.remove(name);
        }
        due
    }

    fn next(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }

    fn settle(&mut self, run: Run) {
        let Run { name, again, failed, written, gone, unsettled } = run;
        match unsettled {
            Some(until) => drop(self.unsettled.insert(name.clone(), until)),
            None => drop(self.unsettled.remove(&name)),
        }
        if gone {
            self.failures.remove(&name);
            self.written.remove(&name);
            return;
        }
        if failed {
            *self.failures.entry(name.clone()).or_default() += 1;
        } else {
            self.failures.remove(&name);
        }
        if written {
            self.written.insert(name.clone(), Instant::now());
        }
        self.at(name, again.unwrap_or_else(|| Instant::now() + RESYNC));
    }
}

async fn reconcile_one<R: Reconciler>(
    ctx: &Context,
    reconciler: &R,
    cache: &Cache<R::Object>,
    name: String,
    queue: &Queue,
) -> Run {
    let rest = |name| Run { name, again: None, failed: false, written: false, gone: false, unsettled: None };
    let Some(shared) = cache.get(&name) else {
        return Run { gone: true, ..rest(name) };
    };
    let object: &R::Object = &shared;
    let off =
        object.annotations().get(annotations::RECONCILE).is_some_and(|value| value == annotations::DISABLED);
    if off || object.meta().deletion_timestamp.is_some() {
        return rest(name);
    }
    let started = Instant::now();
    let old = object.status().cloned().unwrap_or_default();
    let mut new = old.clone();
    let result =
        timeout(LONGEST_RUN, reconciler.reconcile(ctx, object, &mut new)).await.unwrap_or_else(|_| {
            Err(Failure::retry(
                reason::RECONCILIATION_FAILED,
                "took longer than two minutes and was broken off",
            ))
        });
    let failures = queue.failures.get(&name).copied().unwrap_or_default();
    let generation = object.meta().generation.unwrap_or_default();
    let action = conclude(&mut new, generation, &ctx.clock.time(), &result, failures);
    // What is not carried out yet is not told as carried out.
    if let Some(requested) = annotations::requested_at(Some(object.annotations()))
        && !matches!(result, Ok(Outcome::Unchanged))
    {
        new.set_last_handled_reconcile_at(Some(requested.to_owned()));
    }
    let kind = <R::Object as kube::Resource>::kind(&());
    ctx.metrics.reconciled(&kind, outcome(&result), started.elapsed());
    if let Err(failure) = &result {
        tracing::debug!(%kind, name, reason = failure.reason, error = %failure, "not in force");
    }
    let waits = result.as_ref().is_err_and(|failure| failure.reason == reason::DEPENDENCY_NOT_READY);
    let news = ready_event(old.conditions(), new.conditions()).is_some();
    let was = queue.unsettled.get(&name).copied();
    let (tell, unsettled) = word(news, waits, was, Instant::now());
    let mut again = action.again.map(|after| Instant::now() + after);
    again = again.into_iter().chain(unsettled).min();
    let urgent = old.conditions() != new.conditions()
        || old.observed_generation() != new.observed_generation()
        || old.last_handled_reconcile_at() != new.last_handled_reconcile_at();
    if let (false, Some(last)) = (urgent || old == new, queue.written.get(&name)) {
        let earliest = *last + COUNTS_PERIOD;
        if earliest > Instant::now() {
            again = again.into_iter().chain([earliest]).min();
            return Run { again, failed: result.is_err(), unsettled: was, ..rest(name) };
        }
    }
    let mut written = false;
    match status::publish(&ctx.client, object, &new).await {
        Ok(there) => {
            if tell && let Some(ready) = new.condition(READY) {
                let warning = ready.status == "False";
                ctx.events.publish(object, warning, &ready.reason, "Reconcile", &ready.message).await;
            }
            if let Some(object) = there {
                written = true;
                cache.observe(object);
            }
        }
        Err(error) if error.is_gone() => return rest(name),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(%kind, name, error, "status not written; it is tried again");
            again = Some(Instant::now() + COUNTS_PERIOD);
        }
    }
    Run { again, failed: result.is_err(), written, unsettled, ..rest(name) }
}

/// Whether the event about `Ready` is published now, and from when on a wait that has not been told is. `news`: Ready
/// changed; `waits`: for an object that is not there or not ready; `was`: what was said of it the last time.
fn word(news: bool, waits: bool, was: Option<Instant>, now: Instant) -> (bool, Option<Instant>) {
    match was {
        _ if !waits => (news, None),
        Some(until) if now >= until => (true, None),
        Some(until) => (false, Some(until)),
        None if news => (false, Some(now + SETTLING)),
        None => (false, None),
    }
}

fn outcome(result: &Result<Outcome, Failure>) -> &'static str {
    match result {
        Ok(Outcome::Ready { .. }) => "ready",
        Ok(Outcome::Progressing { .. }) => "progressing",
        Ok(Outcome::Suspended { .. }) => "suspended",
        Ok(Outcome::Unchanged) => "unchanged",
        Err(failure) => match failure.disposition {
            crate::error::Disposition::Stalled => "stalled",
            crate::error::Disposition::Wait => "waiting",
            crate::error::Disposition::Retry => "error",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gone_sender_does_not_wake_the_others() {
        let (gone, first) = watch::channel(0_u64);
        let (alive, second) = watch::channel(0_u64);
        drop(gone);
        let mut wakes = vec![first, second];
        assert!(timeout(Duration::from_millis(20), any(&mut wakes)).await.is_err());
        alive.send_modify(|n| *n += 1);
        assert!(timeout(Duration::from_millis(200), any(&mut wakes)).await.is_ok());
    }

    #[test]
    fn only_a_wait_that_lasts_is_a_warning() {
        let now = Instant::now();
        let (told, since) = word(true, true, None, now);
        assert!(!told, "objects of one commit come in any order");
        let until = since.unwrap();
        // Another message, or only another look.
        assert_eq!(word(true, true, since, now + SETTLING / 2), (false, since));
        assert_eq!(word(false, true, since, until), (true, None), "told once");
        assert_eq!(word(false, true, None, until + SETTLING), (false, None));
        // What came of it is told at once, and another failure too.
        assert_eq!(word(true, false, since, now + SETTLING / 2), (true, None));
        assert_eq!(word(false, false, None, now), (false, None));
    }

    #[test]
    fn the_earlier_of_two_times_counts() {
        let mut queue = Queue::default();
        let now = Instant::now();
        queue.at("a".into(), now + Duration::from_secs(9));
        queue.at("a".into(), now);
        queue.at("b".into(), now + Duration::from_secs(5));
        assert_eq!(queue.take_due(now), ["a"]);
        assert_eq!(queue.next(), Some(now + Duration::from_secs(5)));
    }
}
