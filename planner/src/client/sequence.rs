//! Updates whose installers run one by one (domain.md 4.3): Windows, custom updates. The shortest goes first, each is
//! checked again before it starts, and one restart comes after the last that fits.
//!
//! A window is reckoned as Configuration Manager does: each update takes of it what is reserved for it, its maximum run
//! time and what a restart takes, whether it needed that or not. What fits is then known before the window opens, and
//! stays true however fast the installers are: of four updates of 20 minutes three go in two hours (120 / 35).

use jiff::{SignedDuration, Timestamp};

use super::{
    batch::{self, Fit},
    context::{Context, Item, Set},
};

/// Whether the installers of `set` run one by one: one member that does is enough.
pub(super) fn is_one(context: &Context<'_>, set: &Set) -> bool {
    batch::members(context, set).any(|item| !item.policy.installer.is_apt())
}

/// What is left of the opening that ends at `until` for the next one: until its end, less what those that ran in it did
/// not use of what was reserved for them.
pub(super) fn room(context: &Context<'_>, until: Timestamp) -> SignedDuration {
    let real = until.duration_since(context.now);
    let Some(opening) = context.installs.openings(context.now).next() else { return real };
    let ran: Vec<(&Item<'_>, Timestamp)> = context
        .items
        .iter()
        .filter(|item| !item.policy.installer.is_apt())
        .filter_map(|item| Some((item, item.record?.at)))
        .filter(|(_, at)| *at > opening.start && *at <= context.now)
        .collect();
    let Some((first, ended)) = ran.iter().min_by_key(|(_, at)| *at) else { return real };
    let run_time = Context::run_time(std::iter::once(*first));
    let began = ended.checked_sub(run_time).unwrap_or(*ended).max(opening.start);
    let reserved = ran.iter().fold(SignedDuration::ZERO, |sum, (item, _)| {
        let one = Context::run_time(std::iter::once(*item));
        sum.saturating_add(one).saturating_add(context.restart_allowance(std::iter::once(*item), context.now))
    });
    let reckoned = until.duration_since(began).saturating_sub(reserved);
    real.min(reckoned)
}

/// The order in which they go: shortest first, then by name.
fn order(context: &Context<'_>, mut units: Vec<Set>) -> Vec<Set> {
    units.sort_by_cached_key(|unit| (Context::run_time(batch::members(context, unit)), unit.clone()));
    units
}

/// The next one, when one fits.
pub(super) fn next(context: &Context<'_>, units: Vec<Set>) -> Option<Set> {
    order(context, units).into_iter().find(|unit| batch::fit(context, unit, context.now).is_now())
}

/// Whether an update that goes one by one fits behind all that go before it; `waiting` are the units that could go now,
/// its own among them.
pub(super) fn fit_in_turn(context: &Context<'_>, unit: &Set, waiting: Vec<Set>) -> Fit {
    let alone = batch::fit(context, unit, context.now);
    let Fit::Now { until: Some(until) } = alone else { return alone };
    let mut left = room(context, until);
    for before in order(context, waiting) {
        let need = batch::need(context, &before, context.now);
        if before == *unit {
            return if need <= left { alone } else { batch::fit_after(context, unit, until) };
        }
        if !batch::is_free(context, &before, context.now) {
            left = left.saturating_sub(need);
        }
    }
    alone
}
