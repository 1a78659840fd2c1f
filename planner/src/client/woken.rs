//! What a machine that was woken does when all is done (R-SCHED-08, R-RST-10), and while it is not (R-SCHED-07).

use jiff::{SignedDuration, Timestamp};
use patchtide_model::deployment::AfterWake;

use super::{
    batch::Stock,
    content::Content,
    context::{Context, Item, Reach},
    decision::Action,
    restarts::{Restart, because_woken},
};

/// The machine came back at most so long before the instant at which its site calls it: clocks differ.
const BEFORE: SignedDuration = SignedDuration::from_mins(5);
/// Or so long after: the site calls for a quarter of an hour, and a machine takes a while to boot.
const AFTER: SignedDuration = SignedDuration::from_mins(30);
/// What a window or a person does not allow within this time after the installation does not come later.
const LAPSES: SignedDuration = SignedDuration::from_hours(1);

/// Content of what is due is on its way.
pub(super) fn fetching<'a>(context: &Context<'a>, stock: &Stock<'a>) -> bool {
    context.required().filter(|item| item.due.is_some() && context.is_wanted(item)).any(|item| {
        matches!(stock.content(item.index), Some(Content::Missing(missing)) if missing.running > 0 || !missing.fetch.is_empty())
    })
}

/// A woken machine restarts or shuts down where its deployments say so; `restart` is the one that is needed anyway. To be
/// asked when nothing is left to do.
pub(super) fn then<'a>(context: &Context<'a>, restart: &mut Option<Restart<'a>>) {
    let Some((after, items)) = afterwards(context) else { return };
    let off = after == AfterWake::ShutDown;
    match restart {
        // One for both: switching it off and on completes updates as well. What a person asked for is a restart.
        Some(Restart { action: Some(Action::Restart { power_off, .. }), .. }) => {
            *power_off = off && context.view.people.restart_asked(context.now).is_none();
        }
        // What keeps the restart keeps this too.
        Some(_) => {}
        None => *restart = because_woken(context, &items, off),
    }
}

/// What is to be done, and the updates that were installed since the machine is awake.
fn afterwards<'b, 'a>(context: &'b Context<'a>) -> Option<(AfterWake, Vec<&'b Item<'a>>)> {
    let view = context.view;
    let woke = view.awoke?;
    let since =
        |item: &&Item<'a>| item.record.is_some_and(|record| record.boot == view.boot && record.at >= woke);
    let items: Vec<&Item<'a>> = context.items.iter().filter(since).collect();
    let waking = || {
        let reaches = items.iter().flat_map(|item| context.active(item));
        reaches.filter(|reach| reach.policy.settings.wake_on_lan && reach.is_due(context.now))
    };
    if !waking().any(|reach| called(context, reach, woke)) {
        return None;
    }
    let after = waking().map(|reach| reach.policy.settings.after_wake).min()?;
    let ended = items.iter().filter_map(|item| item.record).map(|record| record.at).max()?;
    let lapsed = ended.checked_add(LAPSES).is_ok_and(|end| end < context.now);
    (after != AfterWake::Sleep && (view.running.restart_at.is_some() || !lapsed)).then_some((after, items))
}

/// Whether the machine came back when its site called it: at the deadline, or when a window opened after it.
fn called(context: &Context<'_>, reach: &Reach<'_>, woke: Timestamp) -> bool {
    let Some(start) = reach.start else { return false };
    let near = |occasion: Timestamp| {
        let from = occasion.checked_sub(BEFORE).unwrap_or(Timestamp::MIN);
        let to = occasion.checked_add(AFTER).unwrap_or(Timestamp::MAX);
        from <= woke && woke <= to
    };
    near(start)
        || context.installs.opening_at(woke).is_some_and(|span| span.start >= start && near(span.start))
}
