//! The decision itself: facts in order, then scans, restart, batch, downloads; then the verdicts.

use std::collections::BTreeSet;

use jiff::{Timestamp, tz::TimeZone};
use patchtide_model::{Digest, policy::Policy};

use super::{
    batch::{self, Stock},
    content::Content,
    context::{Context, Set},
    decision::{Action, Decision, Fetch},
    gate::{Event, Gate, GateKind, Holder, Opens},
    limits, notices,
    outcome::Outcome,
    prepared::Prepared,
    restarts::{Restart, restart},
    scans::{self, Scans, scans},
    sequence, verdict,
    view::{ClientView, Recovery},
    woken,
    words::{Words, say},
};

/// Everything that was found out about the machine as a whole.
pub(super) struct Machine<'a> {
    pub scans: Scans,
    pub restart: Option<Restart<'a>>,
    pub stock: Stock<'a>,
    /// What keeps every transaction from starting; none: nothing.
    pub hold: Option<Gate>,
    /// The batch that starts now or as soon as its scan is done.
    pub chosen: Set,
    /// Updates that could go if there were time.
    pub candidates: Set,
    /// When the scan before the next batch is due.
    pub lead: Option<Timestamp>,
}

/// What the client does next, and why everything else waits. `zone` is the machine's own time zone; `now` is fixed
/// for the whole decision.
pub fn decide(policy: &Policy, view: &ClientView, now: Timestamp, zone: &TimeZone) -> Decision {
    let prepared = Prepared::new(policy, zone);
    outcome(policy, &prepared, view, now, Words::ALL).into_decision(policy, view.running.install.as_ref())
}

/// The decision itself, from a policy that was made ready, with its reasons in words or without.
pub(crate) fn outcome(
    policy: &Policy,
    prepared: &Prepared,
    view: &ClientView,
    now: Timestamp,
    words: Words,
) -> Outcome {
    let context = Context::new(policy, prepared, view, now, words);
    let stock = Stock::new(&context);
    let mut scans = scans(&context);
    let mut restart = restart(&context);
    let mut hold = machine_hold(&context, &scans);
    let candidates = batch::candidates(&context, &stock);
    let mut chosen = Set::new();
    let fetching = woken::fetching(&context, &stock);
    let mut idle = hold.is_none() && !fetching && scans.request.is_none();
    if hold.is_none() {
        chosen = batch::choose(&context, &stock, &candidates);
        idle &= chosen.is_empty();
        if let Some(restart) = restart.as_mut().filter(|restart| restart.comes_first()) {
            // One restart for all whose installers run one by one: it waits while another one fits before it.
            if sequence::is_one(&context, &chosen)
                && view.running.restart_at.is_none()
                && view.people.restart_asked(now).is_none()
            {
                restart.put_off(&context, chosen.len());
            } else {
                chosen.clear();
            }
        }
        if !chosen.is_empty()
            && let Some(late) = batch::under_way(&context, &stock)
        {
            let reason = say!(context, "the content of {} is on its way: one batch for all", late.id);
            hold = Some(held(Event::Download, reason).held_by(Holder::Update { update: late.id.clone() }));
        }
    }

    if idle {
        woken::then(&context, &mut restart);
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
            scans.ask(&context, request);
        }
        hold = Some(match scans.retry_at {
            Some(again) => {
                let reason =
                    "the scan before the batch failed: it is tried again, and nothing starts without it";
                held_until(again, say!(context, "{reason}"))
            }
            None => held(Event::Scan, say!(context, "scanned once more right before the batch")),
        })
        .map(|gate| gate.held_by(Holder::Detection));
    }
    let coming = batch::coming(&context, &stock);
    let lead = coming.and_then(|start| start.checked_sub(limits::SCAN_LEAD).ok());
    if hold.is_none()
        && chosen.is_empty()
        && scans.request.is_none()
        && let Some(start) = coming.filter(|_| lead.is_some_and(|lead| lead <= now))
        && let Some(request) = scans::before_install(&context, start)
    {
        // One that failed is tried again in time, when that is before the batch.
        scans.ask(&context, request);
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
        actions.push(Action::Install(batch::batch(&context, &stock, &chosen)));
    }
    if let Some(action) = restart.as_ref().and_then(|restart| restart.action.clone()) {
        actions.push(action);
    }

    let due = || context.required().any(|item| item.due.is_some());
    let keep_awake = view.running.install.is_some()
        || view.running.recovery
        || restart.as_ref().is_some_and(Restart::comes_first)
        || !chosen.is_empty()
        || fetching
        || (due() && (view.running.scan.is_some() || scans.request.is_some()));
    let machine = Machine { scans, restart, stock, hold, chosen, candidates, lead };
    let mut outcome = verdict::outcome(&context, &machine, actions, wanted);
    outcome.keep_awake = keep_awake;
    notices::people(&context, &machine, &mut outcome);
    outcome
}

fn held(event: Event, reason: String) -> Gate {
    Gate::waiting(GateKind::Hold, event, reason)
}

fn held_until(at: Timestamp, reason: String) -> Gate {
    Gate::closed(GateKind::Hold, Opens::At(at), reason)
}

/// When a failed recovery is tried again.
pub(super) fn recovery_retry(recovery: &Recovery) -> Option<Timestamp> {
    recovery.last?.checked_add(limits::recovery_retry(recovery.failures)).ok()
}

/// What keeps every transaction from starting, whatever is due.
fn machine_hold(context: &Context<'_>, scans: &Scans) -> Option<Gate> {
    let (view, now) = (context.view, context.now);
    if let Some((doubt, until)) = batch::clock_doubt(context) {
        let reason = say!(context, "CLOCK-UNTRUSTED: {doubt}");
        let gate = match until {
            Some(at) => held_until(at, reason),
            None => held(Event::Contact, reason),
        };
        return Some(gate.held_by(Holder::Clock));
    }
    if let Some(run) = &view.running.install {
        let updates = run.batch.updates.len();
        let reason = say!(context, "a batch of {updates} runs since {}; dpkg is never killed", run.since);
        let holder = Holder::Transaction { since: run.since, updates };
        return Some(held(Event::TransactionEnds, reason).held_by(holder));
    }
    let since = view.recovery.as_ref().map_or(now, |recovery| recovery.since);
    if view.running.recovery {
        let reason = say!(context, "an interrupted dpkg is being recovered");
        let gate = held(Event::TransactionEnds, reason);
        return Some(gate.held_by(Holder::Recovery { since }));
    }
    if let Some(recovery) = &view.recovery {
        let reason = say!(
            context,
            "dpkg was interrupted and has to be recovered first; run dpkg --configure -a to see what is wrong"
        );
        let gate = match recovery_retry(recovery).filter(|again| *again > now) {
            Some(again) => held_until(again, reason),
            None => held(Event::TransactionEnds, reason),
        };
        return Some(gate.held_by(Holder::Recovery { since }));
    }
    if let Some(lock) = &view.lock {
        let again = lock.at.checked_add(limits::LOCK_RETRY).unwrap_or(Timestamp::MAX);
        if again > now {
            let holder = Holder::Lock { holder: lock.holder.clone(), since: lock.at };
            return Some(
                held_until(again, say!(context, "{} holds dpkg's lock", lock.holder)).held_by(holder),
            );
        }
    }
    if scans.doubtful {
        let reason = say!(context, "detection is being repeated");
        let gate = match scans.retry_at {
            None => held(Event::Scan, reason),
            Some(again) => held_until(again, reason),
        };
        return Some(gate.held_by(Holder::Detection));
    }
    None
}

/// Files to start downloading now, smallest first, and all that may be on their way.
fn downloads<'a>(context: &Context<'a>, stock: &Stock<'a>) -> (Vec<Fetch>, BTreeSet<Digest>) {
    let mut files: Vec<Fetch> = Vec::new();
    let mut wanted = BTreeSet::new();
    // What a wanted update needs from another one is wanted with it.
    let mut needed = Set::new();
    for item in context.items.iter().filter(|item| context.is_wanted(item)) {
        needed.extend(stock.closure(item).iter());
    }
    for item in batch::members(context, &needed) {
        if !context.is_available(item) {
            continue;
        }
        wanted.extend(stock.parts(context, item).files.iter().map(|file| file.sha256));
        if let Some(Content::Missing(missing)) = stock.content(item.index) {
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
