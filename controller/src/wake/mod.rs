//! Wake on LAN (R-SCHED-06): who sleeps through the start of something that it lacks is called with magic packets. Who and
//! when is the planner's; here packets go out, and what was sent is kept, so that another process does not begin anew.

pub mod send;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt as _;
use patchtide_model::{
    ClientId,
    wake::{self, Called},
};
use patchtide_planner::site::wake::{AWAKE, Round, calling, round};
use patchtide_store::{SiteStore, StoreError};
use tokio::time::{sleep, timeout};

use self::send::{Sender, Sent};
use crate::{compile::Compiled, context::Context, error::chain};

/// Somebody may have fallen silent: looked for this often once a deadline has come.
const LOOK: Duration = Duration::from_mins(1);
/// The shortest pause: many changes are looked at together.
const LEAST: Duration = Duration::from_secs(2);
/// Deployments named in an event of their own per round.
const EVENTS: usize = 10;

/// Runs until the task is dropped.
pub async fn run(ctx: Arc<Context>) {
    let mut compiled = ctx.compiled_version.subscribe();
    loop {
        compiled.mark_unchanged();
        let plan = ctx.compiled.borrow().clone();
        let now = ctx.clock.now();
        let pause = match look(&ctx.store, &plan, now).await {
            Ok((woken, pause)) => {
                call(&ctx, &plan, &woken).await;
                pause
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "who sleeps is not known; looked again");
                Some(LOOK)
            }
        };
        sleep(LEAST).await;
        match pause {
            Some(pause) => drop(timeout(pause.saturating_sub(LEAST), compiled.changed()).await),
            // Nobody is to be woken before something changes.
            None => drop(compiled.changed().await),
        }
    }
}

/// Who is to be called now, kept in the database as called, and how long nothing else has to be done.
pub async fn look(
    store: &SiteStore,
    compiled: &Compiled,
    now: Timestamp,
) -> Result<(Round, Option<Duration>), StoreError> {
    let (Some(plan), Some(input)) = (&compiled.plan, compiled.input()) else {
        return Ok((Round::default(), Some(LOOK)));
    };
    let (uids, next) = calling(input, now);
    let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
    if uids.is_empty() {
        return Ok((Round::default(), next.map(until)));
    }
    let since = now.checked_sub(AWAKE).unwrap_or(Timestamp::MIN);
    let mut sleepers = BTreeMap::new();
    for uid in uids {
        let found = store.sleeping(&uid, since).await?;
        sleepers.insert(uid, found);
    }
    let round = round(plan, &compiled.clients, &sleepers, now);
    let calls: Vec<(String, ClientId, Called)> = round
        .wake
        .iter()
        .flat_map(|(id, calls)| calls.iter().map(|(uid, called)| (uid.clone(), *id, *called)))
        .collect();
    if !calls.is_empty() {
        store.put_wake_calls(&calls).await?;
    }
    let next = [round.next, next].into_iter().flatten().min().map_or(LOOK, until);
    Ok((round, Some(next.min(LOOK))))
}

/// Sends what a round asks for, and tells of it.
async fn call(ctx: &Context, compiled: &Compiled, round: &Round) {
    if round.wake.is_empty() {
        return;
    }
    let sender = match Sender::open(wake::PORT).await {
        Ok(sender) => sender,
        Err(error) => {
            tracing::warn!(%error, "magic packets cannot be sent: no socket; tried again at the next call");
            return;
        }
    };
    let clients = round.wake.keys().filter_map(|id| compiled.client(*id));
    let sent = sender.send(clients).await;
    ctx.metrics.woken(round.wake.len(), sent.packets, sent.failed);
    let Sent { packets, failed, error } = sent;
    tracing::info!(clients = round.wake.len(), packets, failed, "magic packets sent");
    if let Some(error) = error {
        tracing::warn!(%error, failed, "magic packets were not sent: check routes and rights of this process");
    }
    tell(ctx, round).await;
}

/// One event for each deployment.
async fn tell(ctx: &Context, round: &Round) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (uid, _) in round.wake.values().flatten() {
        *counts.entry(uid).or_default() += 1;
    }
    let deployments = ctx.caches.update_deployments.all();
    let named = deployments.iter().filter_map(|one| Some((one, *counts.get(one.uid()?.as_str())?)));
    for (deployment, clients) in named.take(EVENTS) {
        let note = format!("magic packets sent to {clients} clients that sleep past their deadline");
        ctx.events.publish(&**deployment, false, "WakeOnLan", "Wake", &note).await;
    }
}
