//! The decision itself: facts in order, then scans, restart, batch, downloads; then the verdicts.

use std::collections::BTreeSet;

use jiff::{Timestamp, tz::TimeZone};
use patchtide_model::{UpdateId, policy::Policy};

use super::{
    batch::{self, Stock},
    content::Content,
    context::Context,
    decision::{Action, Decision, Fetch, Gate, GateKind, GateStatus, Opens},
    limits,
    restarts::{Restart, restart},
    scans::{self, Scans, scans},
    verdict,
    view::{ClientView, Recovery},
};

/// Everything that was found out about the machine as a whole.
pub(super) struct Machine<'a> {
    pub scans: Scans,
    pub restart: Option<Restart<'a>>,
    pub stock: Stock<'a>,
    /// What keeps every transaction from starting; none: nothing.
    pub hold: Option<Gate>,
    /// The batch that starts now or as soon as its scan is done.
    pub chosen: BTreeSet<&'a UpdateId>,
    /// Updates that could go if there were time.
    pub candidates: BTreeSet<&'a UpdateId>,
    /// When the scan before the next batch is due.
    pub lead: Option<Timestamp>,
}

/// What the client does next, and why everything else waits. `zone` is the machine's own time zone; `now` is fixed
/// for the whole decision.
pub fn decide(policy: &Policy, view: &ClientView, now: Timestamp, zone: &TimeZone) -> Decision {
    let context = Context::new(policy, view, now, zone);
    let stock = Stock::new(&context);
    let mut scans = scans(&context);
    let restart = restart(&context);
    let mut hold = machine_hold(&context, &scans);
    let candidates = batch::candidates(&context, &stock);
    let mut chosen = BTreeSet::new();
    let restart_first = restart.as_ref().is_some_and(Restart::comes_first);
    if hold.is_none() && !restart_first {
        chosen = batch::choose(&context, &stock, &candidates);
        if !chosen.is_empty()
            && let Some(late) = batch::under_way(&context, &stock)
        {
            hold =
                Some(held(Opens::OnEvent, format!("the content of {late} is on its way: one batch for all")));
        }
    }

    let mut actions = Vec::new();
    if let Some(recovery) = &view.recovery
        && !view.running.recovery
        && view.running.install.is_none()
        && recovery_retry(recovery).is_none_or(|again| again <= now)
    {
        actions.push(Action::Recover);
    }
    if hold.is_none()
        && !chosen.is_empty()
        && let Some(request) = scans::before_install(&context, now)
    {
        // A scan of another purpose that is due anyway serves as well.
        if scans.request.is_none() {
            scans.retry_at = scans::retry_at(&context);
            scans.request = scans.retry_at.is_none().then_some(request);
        }
        hold = Some(match scans.retry_at {
            Some(again) => held(
                Opens::At(again),
                "the scan before the batch failed: it is tried again, and nothing starts without it"
                    .to_owned(),
            ),
            None => held(Opens::OnEvent, "scanned once more right before the batch".to_owned()),
        });
    }
    let coming = batch::coming(&context, &stock);
    let lead = coming.and_then(|start| start.checked_sub(limits::SCAN_LEAD).ok());
    if hold.is_none()
        && chosen.is_empty()
        && scans.request.is_none()
        && let Some(start) = coming.filter(|_| lead.is_some_and(|lead| lead <= now))
        && scans::retry_at(&context).is_none()
    {
        scans.request = scans::before_install(&context, start);
    }
    if let Some(request) = &scans.request
        && view.recovery.is_none()
        && view.running.install.is_none()
    {
        actions.push(Action::Scan(request.clone()));
    }
    let (files, wanted) = downloads(&context, &stock);
    if !files.is_empty() {
        actions.push(Action::Download { files });
    }
    if hold.is_none() && !chosen.is_empty() {
        actions.push(Action::Install(batch::batch(&context, &chosen)));
    }
    if let Some(action) = restart.as_ref().and_then(|restart| restart.action.clone()) {
        actions.push(action);
    }

    let machine = Machine { scans, restart, stock, hold, chosen, candidates, lead };
    verdict::decision(&context, &machine, actions, wanted)
}

fn held(opens: Opens, reason: String) -> Gate {
    Gate {
        kind: GateKind::Hold,
        status: GateStatus::Closed(opens),
        object: String::new(),
        field: String::new(),
        reason,
    }
}

/// When a failed recovery is tried again.
pub(super) fn recovery_retry(recovery: &Recovery) -> Option<Timestamp> {
    recovery.last?.checked_add(limits::recovery_retry(recovery.failures)).ok()
}

/// What keeps every transaction from starting, whatever is due.
fn machine_hold(context: &Context<'_>, scans: &Scans) -> Option<Gate> {
    let (view, now) = (context.view, context.now);
    if batch::clock_is_wrong(context) {
        return Some(held(
            Opens::At(context.policy.issued_at),
            "CLOCK-UNTRUSTED: the machine's clock is behind the policy; set the clock".to_owned(),
        ));
    }
    if let Some(run) = &view.running.install {
        return Some(held(
            Opens::OnEvent,
            format!("a batch of {} runs since {}; dpkg is never killed", run.batch.updates.len(), run.since),
        ));
    }
    if view.running.recovery {
        return Some(held(Opens::OnEvent, "an interrupted dpkg is being recovered".to_owned()));
    }
    if let Some(recovery) = &view.recovery {
        let again = recovery_retry(recovery).filter(|again| *again > now);
        return Some(held(
            again.map_or(Opens::OnEvent, Opens::At),
            "dpkg was interrupted and has to be recovered first; run dpkg --configure -a to see what is wrong"
                .to_owned(),
        ));
    }
    if let Some(lock) = &view.lock {
        let again = lock.at.checked_add(limits::LOCK_RETRY).unwrap_or(Timestamp::MAX);
        if again > now {
            return Some(held(Opens::At(again), format!("{} holds dpkg's lock", lock.holder)));
        }
    }
    if scans.doubtful {
        let opens = scans.retry_at.map_or(Opens::OnEvent, Opens::At);
        return Some(held(opens, "detection is being repeated".to_owned()));
    }
    None
}

/// Files to start downloading now, smallest first, and all that may be on their way.
fn downloads(context: &Context<'_>, stock: &Stock<'_>) -> (Vec<Fetch>, BTreeSet<patchtide_model::Digest>) {
    let mut files: Vec<Fetch> = Vec::new();
    let mut wanted = BTreeSet::new();
    // What a wanted update needs from another one is wanted with it.
    let needed: BTreeSet<&UpdateId> = context
        .items
        .values()
        .filter(|item| context.is_wanted(item))
        .flat_map(|item| stock.closure(item))
        .collect();
    for item in needed.iter().filter_map(|id| context.items.get(*id)) {
        if !context.is_available(item) {
            continue;
        }
        wanted.extend(super::content::parts(context, item).files.into_keys());
        if let Some(Content::Missing(missing)) = stock.content.get(item.id) {
            files.extend(missing.fetch.iter().cloned());
        }
    }
    files.sort_by_key(|fetch| (fetch.file.size, fetch.file.sha256));
    files.dedup_by(|later, first| {
        // The same file for two updates: every way that one of them allows.
        let same = later.file.sha256 == first.file.sha256;
        if same {
            first.localities.append(&mut later.localities);
        }
        same
    });
    (files, wanted)
}
