//! One commit: the reports that waited, taken in together.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use jiff::Timestamp;
use patchtide_model::{ClientId, SiteName, catalogue::LeafRef, client::ClientState};
use tokio::sync::oneshot;

use super::{
    IntakeAck, IntakeBody, IntakeMessage, IntakeReport, Sender,
    apply::Apply,
    cache::{ClientEntry, Detail, LineEntry, Segments, SiteCache},
    counts::Deltas,
    dirty::{DeploymentChange, Dirty},
    found::Found,
    history::Chapter,
    load,
    names::set_key,
    scan::Union,
    sequence::{Verdict, judge},
    write,
};
use crate::{
    OpenOptions, Result, StoreError,
    answers::leaves,
    core::{Core, Signal},
    writer::Tx,
};

/// A report that waits for its answer.
pub(crate) struct Submitted {
    pub(crate) site: SiteName,
    pub(crate) report: IntakeReport<Found>,
    pub(crate) reply: Reply,
    pub(crate) received: Instant,
}

/// What comes of a report.
#[derive(Debug)]
pub(crate) enum Answer {
    Taken(IntakeAck),
    /// It was looked up in a catalogue that is no longer the line's, or its leaf sets may be gone: nothing of it was kept.
    Again,
}

/// Where its answer goes.
pub(crate) type Reply = oneshot::Sender<Result<Answer>>;

/// Takes reports in and commits them. The second value answers when the commit is durable.
pub(crate) async fn commit(
    core: &Arc<Core>,
    submitted: Vec<Submitted>,
) -> impl Future<Output = ()> + Send + use<> {
    let received: Vec<Instant> = submitted.iter().map(|one| one.received).collect();
    let messages = submitted.iter().map(|one| one.report.messages.len()).sum();
    let began = Instant::now();
    let held = core.metrics.begins(received.first().copied().unwrap_or(began));
    let mut sites: BTreeMap<SiteName, (Vec<IntakeReport<Found>>, Vec<Reply>)> = BTreeMap::new();
    for one in submitted {
        let (reports, replies) = sites.entry(one.site).or_default();
        reports.push(one.report);
        replies.push(one.reply);
    }
    let (sites, replies): (Vec<_>, Vec<_>) =
        sites.into_iter().map(|(site, (reports, replies))| ((site, reports), replies)).unzip();
    let taken = take_in(core, sites).await;
    if taken.is_ok() {
        core.metrics.committed(began, &received, messages);
    }
    let core = Arc::clone(core);
    async move {
        let taken = match taken {
            Ok(answers) => core.durable().await.map(|()| answers),
            Err(error) => Err(error),
        };
        if taken.is_ok() {
            core.metrics.durable(&received);
        }
        drop(held);
        answer(&core, taken, replies);
    }
}

/// Answers the reports of a commit.
fn answer(core: &Core, taken: Result<Vec<Vec<Result<Answer>>>>, replies: Vec<Vec<Reply>>) {
    match taken {
        Ok(answers) => {
            for (reply, answer) in replies.into_iter().flatten().zip(answers.into_iter().flatten()) {
                if let Ok(Answer::Taken(ack)) = &answer {
                    core.metrics.answered(ack.resync, ack.sender == Sender::Quarantined);
                }
                // Who no longer waits sends again and gets the same answer.
                let _ = reply.send(answer);
            }
        }
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "state messages are not kept; clients send again"
            );
            let error = Arc::new(error);
            for reply in replies.into_iter().flatten() {
                let _ = reply.send(Err(StoreError::Intake(Arc::clone(&error))));
            }
        }
    }
}

async fn take_in(
    core: &Arc<Core>,
    sites: Vec<(SiteName, Vec<IntakeReport<Found>>)>,
) -> Result<Vec<Vec<Result<Answer>>>> {
    let mut tx = core.begin_early("state messages").await?;
    tx.cache().settle();
    // Out of the transaction while it is worked on; a failure leaves the empty one.
    let mut cache = std::mem::take(tx.cache());
    let mut answers = Vec::with_capacity(sites.len());
    for (site, reports) in sites {
        let known = SiteCache::of(&mut cache.sites, &site, &core.shared(&site));
        answers.push(one_site(&mut tx, &core.options, &site, known, &mut cache.segments, reports).await?);
        tx.raise(&site, Signal::Site);
    }
    *tx.cache() = cache;
    tx.commit().await?;
    Ok(answers)
}

async fn one_site(
    tx: &mut Tx,
    options: &OpenOptions,
    site: &SiteName,
    known: &mut SiteCache,
    segments: &mut Segments,
    mut reports: Vec<IntakeReport<Found>>,
) -> Result<Vec<Result<Answer>>> {
    load::segments(tx, segments).await?;
    load::clients(tx, site, known, reports.iter().map(|report| report.client)).await?;
    load::lines(tx, site, known, reports.iter().flat_map(lines).collect()).await?;
    let stale: Vec<bool> =
        reports.iter().map(|report| is_stale(report, &known.lines, tx.set_epoch())).collect();
    let new_sets =
        reports.iter().zip(&stale).filter(|(_, stale)| !**stale).flat_map(|(report, _)| found(report));
    load::leaf_sets(tx, site, known, new_sets.flat_map(|found| &found.new_sets).map(Vec::as_slice).collect())
        .await?;
    settle(&mut reports, known);

    let mut dirty = Dirty::default();
    let mut counts = Deltas::default();
    let mut chapter = Chapter::default();
    let mut unions = Vec::new();
    let mut answers = Vec::with_capacity(reports.len());
    let mut now = Timestamp::UNIX_EPOCH;
    for (n, (report, stale)) in reports.iter().zip(stale).enumerate() {
        now = now.max(report.received_at);
        if stale {
            answers.push(Ok(Answer::Again));
            continue;
        }
        let Some(entry) = known.clients.get_mut(&report.client) else {
            answers.push(Err(StoreError::UnknownClient(report.client)));
            continue;
        };
        let mut apply = Apply {
            client: report.client,
            entry,
            lines: &mut known.lines,
            sets: &known.sets,
            segments,
            counts: &mut counts,
            dirty: &mut dirty,
            unions: &mut unions,
            dropped_facts: 0,
            received_at: report.received_at,
            parked_limit: options.parked_per_client,
        };
        // A client that may not report is refused; whatever else goes wrong gives the transaction up.
        let taken = match one_report(options, &mut apply, report) {
            Err(error @ StoreError::NotActive { .. }) => Err(error),
            taken => Ok(taken?),
        };
        if let Ok((_, Some(after))) = &taken
            && options.history
        {
            chapter.add(entry.id, report, *after)?;
        }
        answers.push(taken.map(|(ack, _)| Answer::Taken(ack)));
        // Others want to run too while thousands are worked on.
        if n % 64 == 63 {
            tokio::task::yield_now().await;
        }
    }
    unite(tx, site, known, unions).await?;
    let clients = reports.iter().map(|report| report.client).collect();
    finish(tx, known, segments, &clients, dirty, counts, now).await?;
    chapter.write(tx, site, known, now).await?;
    Ok(answers)
}

fn found(report: &IntakeReport<Found>) -> impl Iterator<Item = &Found> {
    report.messages.iter().filter_map(|message| match &message.body {
        IntakeBody::Detection(found) => Some(found),
        _ => None,
    })
}

/// Lines that a report names.
fn lines(report: &IntakeReport<Found>) -> impl Iterator<Item = &str> {
    report.messages.iter().filter_map(|message| match &message.body {
        IntakeBody::Detection(found) => Some(found.line.as_str()),
        IntakeBody::Update { update, .. } => Some(update.line.as_str()),
        _ => None,
    })
}

/// Whether anything of a report was looked up in another catalogue than the line has now, or before leaf sets were collected.
fn is_stale(report: &IntakeReport<Found>, lines: &HashMap<String, LineEntry>, set_epoch: i64) -> bool {
    found(report).any(|found| {
        let used = found.names.as_ref().map(|names| names.edition());
        let now = lines.get(found.line.as_str()).map(|line| line.names.edition());
        found.set_epoch != set_epoch || used != now
    })
}

/// Every leaf set has an id now.
fn settle(reports: &mut [IntakeReport<Found>], known: &SiteCache) {
    let mut key = Vec::new();
    for message in reports.iter_mut().flat_map(|report| &mut report.messages) {
        if let IntakeBody::Detection(found) = &mut message.body {
            found.settle(|leaves| {
                set_key(leaves, &mut key);
                known.sets.get(&key).unwrap_or(0)
            });
        }
    }
}

/// Makes one leaf set of the needs that came in several parts of a scan.
async fn unite(tx: &mut Tx, site: &SiteName, known: &mut SiteCache, unions: Vec<Union>) -> Result<()> {
    for (client, line, ids) in unions {
        let rows = tx.rows_many(leaves::SETS, ids.into_iter().map(Into::into).collect()).await?;
        let sets =
            rows.iter().map(|row| row.json::<Vec<LeafRef>>(1, "leaf set")).collect::<Result<Vec<_>>>()?;
        let all: Vec<LeafRef> = sets.into_iter().flatten().collect::<BTreeSet<_>>().into_iter().collect();
        load::leaf_sets(tx, site, known, BTreeSet::from([all.as_slice()])).await?;
        let mut key = Vec::new();
        set_key(&all, &mut key);
        let id = known.sets.get(&key);
        if let Some(mark) = known.clients.get_mut(&client).and_then(|entry| entry.lines.get_mut(&line)) {
            mark.needs = id;
        }
    }
    Ok(())
}

/// Writes what was changed about `clients` and hands the counts to the transaction.
pub(crate) async fn finish(
    tx: &mut Tx,
    cache: &mut SiteCache,
    segments: &Segments,
    clients: &BTreeSet<ClientId>,
    dirty: Dirty,
    counts: Deltas,
    now: Timestamp,
) -> Result<()> {
    let entries: HashMap<i64, &ClientEntry> =
        clients.iter().filter_map(|id| cache.clients.get(id)).map(|entry| (entry.id, entry)).collect();
    let changed: HashMap<i64, (Vec<i64>, Vec<i64>)> = dirty
        .clients
        .iter()
        .map(|(client, dirty)| {
            let details = dirty.details.iter().copied().collect();
            (*client, (dirty.segments.keys().copied().collect(), details))
        })
        .collect();
    write::write(tx, dirty, &entries, segments, now).await?;
    tx.counts.merge(counts);
    for id in clients {
        let Some(entry) = cache.clients.get_mut(id) else { continue };
        let Some((segments, details)) = changed.get(&entry.id) else { continue };
        // What form each segment and detail has in the database now.
        for slot in details {
            if entry.details.get(slot).is_some_and(Detail::is_row) {
                entry.detail_rows.insert(*slot);
            } else {
                entry.detail_rows.remove(slot);
            }
        }
        for segment in segments {
            let states = entry.segments.get(segment).map_or(&[][..], Vec::as_slice);
            if write::is_sparse(states) {
                entry.dense.remove(segment);
            } else {
                entry.dense.insert(*segment);
            }
            if states.is_empty() {
                entry.segments.remove(segment);
            }
        }
    }
    Ok(())
}

/// Takes one report in. The second value: its messages above this number were new.
fn one_report(
    options: &OpenOptions,
    apply: &mut Apply<'_>,
    report: &IntakeReport<Found>,
) -> Result<(IntakeAck, Option<u64>)> {
    let client = report.client;
    match apply.entry.state {
        ClientState::Active => {}
        ClientState::Quarantined => return Ok((quarantined(apply.entry), None)),
        state => return Err(StoreError::NotActive { client, state }),
    }
    match judge(apply.entry.session.as_ref(), apply.entry.sequence, report, options.gap_age) {
        Verdict::Late => Ok((IntakeAck { sender: Sender::Superseded, ..kept(apply.entry.sequence) }, None)),
        Verdict::Quarantine(reason) => {
            // Both are named: the one that was known, and the one that came.
            let known = apply.entry.session.as_ref();
            tracing::error!(%client, reason, incarnation = %report.incarnation, boot = %report.boot,
                known_incarnation = ?known.map(|known| known.incarnation.to_string()),
                known_boot = ?known.map(|known| known.boot.to_string()), "client quarantined");
            apply.set_state(ClientState::Quarantined);
            Ok((quarantined(apply.entry), None))
        }
        Verdict::Take { session, after, sequence, resync, reinstalled } => {
            if reinstalled {
                tracing::warn!(%client, incarnation = %report.incarnation,
                    "the client begins anew: it was installed again, or its state was restored from a copy");
                apply.forget();
            }
            let before = apply.entry.session.replace(session);
            apply.entry.sequence = sequence;
            for message in report.messages.iter().filter(|message| message.seq > after) {
                one_message(apply, message)?;
            }
            let skew = report.sent_at.as_microsecond() - report.received_at.as_microsecond();
            let changed = apply.entry.session != before;
            let dirty = apply.dirty.client(apply.entry.id);
            dirty.report = Some((report.received_at, skew));
            dirty.session |= changed;
            let ack = IntakeAck { resync, dropped_facts: apply.dropped_facts, ..kept(sequence) };
            Ok((ack, Some(after)))
        }
    }
}

fn one_message(apply: &mut Apply<'_>, message: &IntakeMessage<Found>) -> Result<()> {
    match &message.body {
        IntakeBody::Facts(facts) => apply.facts(facts),
        IntakeBody::Scan { state, error } => {
            if let Some(session) = &mut apply.entry.session {
                session.scan = *state;
                session.scan_error.clone_from(error);
            }
        }
        IntakeBody::Detection(found) => apply.detection(found, message.at)?,
        IntakeBody::Update { update, state, error } => {
            apply.enforcement(update, *state, error.as_ref(), message.at);
        }
        IntakeBody::Enforcement { deployment, state, until, error } => {
            let error = error.as_ref().and_then(|error| serde_json::to_string(error).ok());
            change(apply, deployment, |change| {
                change.enforcement = Some((i64::from(state.id()), *until, error));
            });
        }
        IntakeBody::Evaluation { deployment, state } => {
            change(apply, deployment, |change| change.evaluation = Some(i64::from(state.id())));
        }
        IntakeBody::Compliance { deployment, state } => {
            change(apply, deployment, |change| change.compliance = Some(i64::from(state.id())));
        }
        IntakeBody::Heartbeat => {}
    }
    Ok(())
}

fn change(apply: &mut Apply<'_>, uid: &str, set: impl FnOnce(&mut DeploymentChange)) {
    if !apply.deployment(uid) {
        tracing::warn!(client = apply.entry.id, "a state of a deployment beyond the bounds is left out");
        return;
    }
    let change = apply.dirty.deployments.entry((uid.to_owned(), apply.entry.id)).or_default();
    change.at = apply.received_at;
    set(change);
}

/// Everything up to `acknowledged` is kept, and there is nothing else to say.
const fn kept(acknowledged: u64) -> IntakeAck {
    IntakeAck { acknowledged, resync: false, sender: Sender::Known, dropped_facts: 0, by_name: false }
}

const fn quarantined(entry: &ClientEntry) -> IntakeAck {
    IntakeAck { sender: Sender::Quarantined, ..kept(entry.sequence) }
}
