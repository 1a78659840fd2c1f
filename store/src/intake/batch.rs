//! One commit: the reports that waited, taken in together.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use patchtide_model::{ClientId, LineId, SiteName, client::ClientState};
use tokio::sync::oneshot;

use super::{
    DetectedUpdate, DetectionReport, IntakeAck, IntakeBody, IntakeMessage, IntakeReport,
    apply::{self, Apply, Located},
    cache::{Cache, ClientEntry, SiteCache},
    counts::Deltas,
    dirty::{DeploymentChange, Dirty},
    history::Chapter,
    load,
    sequence::{Verdict, judge},
    write,
};
use crate::{
    OpenOptions, Result, StoreError,
    core::{Core, Signal},
    writer::Tx,
};

/// A report that waits for its answer.
pub(crate) struct Submitted {
    pub(crate) site: SiteName,
    pub(crate) report: IntakeReport,
    pub(crate) reply: Reply,
}

/// Where its answer goes.
pub(crate) type Reply = oneshot::Sender<Result<IntakeAck>>;

/// Takes reports in, commits, answers.
pub(crate) async fn commit(core: &Arc<Core>, submitted: Vec<Submitted>) {
    let mut sites: BTreeMap<SiteName, (Vec<IntakeReport>, Vec<Reply>)> = BTreeMap::new();
    for one in submitted {
        let (reports, replies) = sites.entry(one.site).or_default();
        reports.push(one.report);
        replies.push(one.reply);
    }
    let (sites, replies): (Vec<_>, Vec<_>) =
        sites.into_iter().map(|(site, (reports, replies))| ((site, reports), replies)).unzip();
    match take_in(core, sites).await {
        Ok(answers) => {
            for (reply, answer) in replies.into_iter().flatten().zip(answers.into_iter().flatten()) {
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
    sites: Vec<(SiteName, Vec<IntakeReport>)>,
) -> Result<Vec<Vec<Result<IntakeAck>>>> {
    let mut tx = core.begin("state messages").await?;
    tx.cache().trim();
    // Out of the transaction while it is worked on; a failure leaves the empty one.
    let mut cache = std::mem::take(tx.cache());
    let mut answers = Vec::with_capacity(sites.len());
    for (site, reports) in sites {
        answers.push(one_site(&mut tx, &core.options, &site, &mut cache, reports).await?);
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
    cache: &mut Cache,
    mut reports: Vec<IntakeReport>,
) -> Result<Vec<Result<IntakeAck>>> {
    for report in &mut reports {
        super::prepare(report);
    }
    load::segments(tx, &mut cache.segments).await?;
    let known = cache.sites.entry(site.clone()).or_default();
    load::clients(tx, site, known, reports.iter().map(|report| report.client)).await?;
    let staged = staged(known, &reports);
    let bodies = reports.iter().flat_map(|report| report.messages.iter().map(|message| &message.body));
    let mut located: Vec<Located<'_>> = bodies.chain(&staged).map(|body| Located::new(body, known)).collect();
    let (updates, sets) = apply::names(&located, known);
    load::updates(tx, site, known, &updates).await?;
    load::leaf_sets(tx, site, known, sets).await?;
    for one in &mut located {
        one.again(known);
    }

    let mut dirty = Dirty::default();
    let mut counts = Deltas::default();
    let mut chapter = Chapter::default();
    let mut answers = Vec::with_capacity(reports.len());
    let mut now = Timestamp::UNIX_EPOCH;
    let mut left = &located[..];
    for (n, report) in reports.iter().enumerate() {
        now = now.max(report.received_at);
        let (messages, rest) = left.split_at_checked(report.messages.len()).unwrap_or_default();
        left = rest;
        let Some(mut entry) = known.clients.remove(&report.client) else {
            answers.push(Err(StoreError::UnknownClient(report.client)));
            continue;
        };
        let mut apply = Apply {
            entry: &mut entry,
            lines: &mut known.lines,
            leaf_sets: &known.leaf_sets,
            segments: &mut cache.segments,
            counts: &mut counts,
            dirty: &mut dirty,
            received_at: report.received_at,
            parked_limit: options.parked_per_client,
        };
        let taken = one_report(options, &mut apply, report, messages);
        if let Ok((_, Some(after))) = &taken
            && options.history
        {
            chapter.add(entry.id, report, messages, *after, known)?;
        }
        answers.push(taken.map(|(ack, _)| ack));
        known.clients.insert(report.client, entry);
        // Others want to run too while thousands are worked on.
        if n % 64 == 63 {
            tokio::task::yield_now().await;
        }
    }
    let clients = reports.iter().map(|report| report.client).collect();
    finish(tx, known, &clients, dirty, counts, now).await?;
    chapter.write(tx, site, known, now).await?;
    Ok(answers)
}

/// Writes what was changed about `clients` and hands the counts to the transaction.
pub(crate) async fn finish(
    tx: &mut Tx,
    cache: &mut SiteCache,
    clients: &BTreeSet<ClientId>,
    dirty: Dirty,
    counts: Deltas,
    now: Timestamp,
) -> Result<()> {
    let entries: HashMap<i64, &ClientEntry> =
        clients.iter().filter_map(|id| cache.clients.get(id)).map(|entry| (entry.id, entry)).collect();
    let changed: BTreeMap<i64, Vec<i64>> = dirty
        .clients
        .iter()
        .map(|(client, dirty)| (*client, dirty.segments.keys().copied().collect()))
        .collect();
    write::write(tx, dirty, &entries, now).await?;
    tx.counts.merge(counts);
    for id in clients {
        let Some(entry) = cache.clients.get_mut(id) else { continue };
        // What form each segment has in the database now.
        for segment in changed.get(&entry.id).into_iter().flatten() {
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

/// Parts of scans that came before this batch and may be completed by it: what they name has to be loaded too.
fn staged(cache: &SiteCache, reports: &[IntakeReport]) -> Vec<IntakeBody> {
    let mut bodies = Vec::new();
    for report in reports {
        let Some(entry) = cache.clients.get(&report.client).filter(|entry| !entry.parts.is_empty()) else {
            continue;
        };
        for message in &report.messages {
            let IntakeBody::Detection(detection) = &message.body else { continue };
            let Some(parts) = entry.parts.get(detection.line.as_str()).filter(|_| detection.last) else {
                continue;
            };
            for part in parts.body.split(|byte| *byte == b'\n').filter(|part| !part.is_empty()) {
                if let Ok((states, needs)) = serde_json::from_slice::<(Vec<DetectedUpdate>, _)>(part) {
                    bodies.push(detected(detection.line.clone(), states, needs));
                }
            }
        }
    }
    bodies
}

fn detected(
    line: LineId,
    states: Vec<DetectedUpdate>,
    needs: Vec<patchtide_model::catalogue::LeafRef>,
) -> IntakeBody {
    IntakeBody::Detection(DetectionReport { line, catalogue_version: 0, part: 0, last: false, states, needs })
}

/// Takes one report in. The second value: its messages above this number were new.
fn one_report(
    options: &OpenOptions,
    apply: &mut Apply<'_>,
    report: &IntakeReport,
    messages: &[Located<'_>],
) -> Result<(IntakeAck, Option<u64>)> {
    let client = report.client;
    match apply.entry.state {
        ClientState::Active => {}
        ClientState::Quarantined => return Ok((quarantined(apply.entry), None)),
        state => return Err(StoreError::NotActive { client, state }),
    }
    match judge(apply.entry.session.as_ref(), apply.entry.sequence, report, options.gap_age) {
        Verdict::Late => {
            let acknowledged = apply.entry.sequence;
            Ok((IntakeAck { acknowledged, resync: false, quarantined: false }, None))
        }
        Verdict::Quarantine(reason) => {
            tracing::error!(%client, reason, incarnation = %report.incarnation, boot = %report.boot, "client quarantined");
            apply.set_state(ClientState::Quarantined);
            Ok((quarantined(apply.entry), None))
        }
        Verdict::Take { session, after, sequence, resync, reinstalled } => {
            if reinstalled {
                apply.forget();
            }
            let before = apply.entry.session.replace(session);
            apply.entry.sequence = sequence;
            for (message, located) in report.messages.iter().zip(messages) {
                if message.seq > after {
                    one_message(apply, message, &located.places);
                }
            }
            let skew = report.sent_at.as_microsecond() - report.received_at.as_microsecond();
            let changed = apply.entry.session != before;
            let dirty = apply.dirty.client(apply.entry.id);
            dirty.report = Some((report.received_at, skew));
            dirty.session |= changed;
            Ok((IntakeAck { acknowledged: sequence, resync, quarantined: false }, Some(after)))
        }
    }
}

fn one_message(apply: &mut Apply<'_>, message: &IntakeMessage, places: &[u32]) {
    match &message.body {
        IntakeBody::Facts(facts) => apply.facts(facts),
        IntakeBody::Scan { state, error } => {
            if let Some(session) = &mut apply.entry.session {
                session.scan = *state;
                session.scan_error.clone_from(error);
            }
        }
        IntakeBody::Detection(report) => apply.detection(report, places, message.at),
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

fn quarantined(entry: &ClientEntry) -> IntakeAck {
    IntakeAck { acknowledged: entry.sequence, resync: false, quarantined: true }
}
