//! The writer task: what arrived during the last commit is the next transaction.

use std::{sync::Arc, time::Duration};

use patchtide_model::SiteName;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};

use super::{DetectionReport, IntakeAck, IntakeBody, IntakeReport, batch, found};
use crate::{
    Result, StoreError,
    core::{Core, lock},
    sql::{Many, Value, sql},
};

/// After which time a client shall try again when the queue is full.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Commits whose reports wait for the disk at most.
const COMMITS: u32 = 4;

/// How often a report is looked up anew before its client is to try again later: each time the catalogue has just changed,
/// or leaves were to be read.
const ATTEMPTS: usize = 8;

/// What waits for the writer.
pub(crate) enum Waiting {
    Report(Box<batch::Submitted>),
    Close(oneshot::Sender<()>),
}

/// Starts the writer of `core`; it ends when the store is closed or no longer used.
pub(crate) fn start(core: &Arc<Core>) {
    let (sender, receiver) = mpsc::channel(core.options.queue.max(1));
    *lock(&core.queue) = Some(sender);
    // The task must not keep the store alive by itself.
    tokio::spawn(run(Arc::downgrade(core), core.options.upkeep, receiver));
}

/// Puts a prepared report into the queue and waits for its commit.
pub(crate) async fn submit<S: AsRef<str>>(
    core: &Core,
    site: &SiteName,
    report: &IntakeReport<DetectionReport<S>>,
) -> Result<IntakeAck> {
    let received = std::time::Instant::now();
    let sender = lock(&core.queue).clone().ok_or(StoreError::Closed)?;
    let shared = core.shared(site);
    for message in &report.messages {
        if let IntakeBody::Detection(detection) = &message.body {
            let line = detection.line.as_str();
            shared.read(core, site, line).await?;
            if let Some(numbered) = &detection.numbered {
                shared.read_published(core, line, numbered.catalogue).await?;
            }
        }
    }
    for _ in 0..ATTEMPTS {
        let (report, by_name) = match found::find(report, &shared) {
            Ok(found) => found,
            Err(lacking) => {
                shared.read_leaves(core, lacking).await?;
                continue;
            }
        };
        let (reply, answer) = oneshot::channel();
        let submitted = batch::Submitted { site: site.clone(), report, reply, received };
        let waiting = Waiting::Report(Box::new(submitted));
        sender.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy { retry_after: RETRY_AFTER },
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })?;
        match answer.await.map_err(|_| StoreError::Closed)?? {
            batch::Answer::Taken(ack) => return Ok(IntakeAck { by_name, ..ack }),
            batch::Answer::Again => {}
        }
    }
    Err(StoreError::Busy { retry_after: RETRY_AFTER })
}

async fn run(core: std::sync::Weak<Core>, upkeep: Duration, mut receiver: mpsc::Receiver<Waiting>) {
    let mut upkeep = tokio::time::interval(upkeep.max(Duration::from_millis(1)));
    upkeep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    upkeep.tick().await;
    let mut keeping_up = tokio::spawn(async {});
    let answering = Arc::new(Semaphore::new(COMMITS as usize));
    loop {
        let first = tokio::select! {
            biased;
            _ = upkeep.tick() => {
                let Some(core) = core.upgrade() else { return };
                // Beside this task: a checkpoint takes as long as the disk does.
                if keeping_up.is_finished() {
                    keeping_up = tokio::spawn(async move { maintain(&core).await });
                }
                continue;
            }
            waiting = receiver.recv() => waiting,
        };
        let (Some(first), Some(core)) = (first, core.upgrade()) else { return };
        let mut closing = None;
        let mut reports = Vec::new();
        let mut messages = 0;
        let started = Instant::now();
        let mut next = Some(first);
        while let Some(waiting) = next {
            match waiting {
                Waiting::Report(submitted) => {
                    messages += submitted.report.messages.len().max(1);
                    reports.push(*submitted);
                }
                Waiting::Close(done) => {
                    closing = Some(done);
                    break;
                }
            }
            if messages >= core.options.commit_messages || started.elapsed() >= core.options.commit_wait {
                break;
            }
            next = receiver.try_recv().ok();
        }
        if !reports.is_empty() {
            // While this commit's bytes go to the disk the next one is made; a slow disk holds them up in the end.
            let Ok(permit) = Arc::clone(&answering).acquire_owned().await else { return };
            let answer = batch::commit(&core, reports).await;
            tokio::spawn(async move {
                answer.await;
                drop(permit);
            });
        }
        if let Some(done) = closing {
            let _all = answering.acquire_many(COMMITS).await;
            let _ = keeping_up.await;
            maintain(&core).await;
            let _ = done.send(());
            return;
        }
    }
}

async fn maintain(core: &Arc<Core>) {
    if core.is_durable().is_err() {
        return;
    }
    if let Err(error) = flush_counts(core).await {
        tracing::warn!(%error, "the counts are not flushed; they stay in memory and in count_delta");
    }
    if let crate::sql::Pool::Sqlite(_) = core.pool {
        // Beside the writer, on a connection of its own: a checkpoint on the writer would delay acknowledgements.
        if let Err(error) = core.rows("the write-ahead log", sql("PRAGMA wal_checkpoint(PASSIVE)")).await {
            if let StoreError::Read { source, .. } = &error {
                core.note(source);
            }
            tracing::warn!(%error, "the write-ahead log is not checkpointed");
        }
    }
}

const PUT_TOTALS: Many = Many {
    head: "INSERT INTO count_total (scope, state, n) VALUES ",
    columns: 3,
    tail: " ON CONFLICT (scope, state) DO UPDATE SET n = excluded.n",
};

/// Writes the totals that changed and removes the deltas they contain.
pub(crate) async fn flush_counts(core: &Arc<Core>) -> Result<()> {
    core.catch_up_counts().await?;
    if lock(&core.counts).unflushed().1.is_empty() {
        return Ok(());
    }
    let began = std::time::Instant::now();
    let mut tx = core.begin("the counts").await?;
    let folded = match tx.row(sql("SELECT folded FROM writer WHERE id = 1")).await? {
        Some(row) => row.int(0)?,
        None => 0,
    };
    let (seen, totals) = lock(&core.counts).unflushed();
    if folded > seen {
        // Another process flushed more than this one has seen.
        return Ok(());
    }
    let values: Vec<Value> = totals
        .iter()
        .flat_map(|((scope, state), n)| [(*scope).into(), (*state).into(), (*n).into()])
        .collect();
    tx.execute_many(PUT_TOTALS, values).await?;
    tx.execute(sql("DELETE FROM count_total WHERE n = 0")).await?;
    tx.execute(sql("DELETE FROM count_delta WHERE id <= $1").bind(seen)).await?;
    tx.execute(sql("UPDATE writer SET folded = $1 WHERE id = 1").bind(seen)).await?;
    tx.commit().await?;
    lock(&core.counts).flushed(seen);
    core.metrics.flushed(began);
    Ok(())
}
