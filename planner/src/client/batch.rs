//! What goes into the next transaction, and what everything else that is due waits for.

use std::{borrow::Cow, cell::OnceCell, collections::BTreeSet};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    state::Detection,
    window::{NextOpening, Openness, Span},
};

use super::{
    content::{Content, Parts, content, parts},
    context::{Context, Item, Set},
    decision::InstallBatch,
    largest, limits,
    merging::all_allow,
    sequence,
};

/// Whether and when a set of updates fits.
#[derive(Clone, Copy)]
pub(super) enum Fit {
    /// Not bound to windows.
    Free,
    /// Now, in an opening that ends then.
    Now { until: Option<Timestamp> },
    /// In this opening.
    At(Span),
    /// Outside windows, from the start of a deployment on that frees it before an opening is long enough.
    FreeFrom(Timestamp),
    /// In none: the longest there is, and what it needs.
    Never { longest: Option<Span>, need: SignedDuration },
}

impl Fit {
    pub(super) const fn is_now(self) -> bool {
        matches!(self, Self::Free | Self::Now { .. })
    }
}

/// How every required update stands that does not come with its successor.
pub(super) struct Stock<'a> {
    held: Vec<Option<Held<'a>>>,
}

struct Held<'a> {
    parts: Parts<'a>,
    content: Content<'a>,
    /// The update with every required update that has to come with it.
    closure: Set,
    /// What the closure needs of a window, and where it fits; both are asked for more than once.
    need: OnceCell<SignedDuration>,
    fit: OnceCell<Fit>,
}

impl<'a> Stock<'a> {
    pub(super) fn new(context: &Context<'a>) -> Self {
        let held = context.items.iter().map(|item| {
            (item.detection == Detection::Required && item.covered_by.is_none()).then(|| {
                let parts = parts(context, item);
                let files = content(context, item, &parts);
                let (need, fit) = (OnceCell::new(), OnceCell::new());
                Held { parts, content: files, closure: Set::from([item.index]), need, fit }
            })
        });
        let mut stock = Self { held: held.collect() };
        let closures: Vec<(usize, Set)> = stock
            .entries()
            .filter(|(_, held)| !held.parts.with.is_empty())
            .map(|(index, _)| (index, stock.close(index)))
            .collect();
        for (index, closure) in closures {
            if let Some(Some(held)) = stock.held.get_mut(index) {
                held.closure = closure;
            }
        }
        stock
    }

    fn close(&self, index: usize) -> Set {
        let mut set = Set::from([index]);
        let mut queue = vec![index];
        while let Some(index) = queue.pop() {
            for other in self.of(index).into_iter().flat_map(|held| &held.parts.with) {
                if set.insert(*other) {
                    queue.push(*other);
                }
            }
        }
        set
    }

    fn of(&self, index: usize) -> Option<&Held<'a>> {
        self.held.get(index)?.as_ref()
    }

    fn entries(&self) -> impl Iterator<Item = (usize, &Held<'a>)> {
        self.held.iter().enumerate().filter_map(|(index, held)| Some((index, held.as_ref()?)))
    }

    /// The content of an update; none: nothing is asked of it.
    pub(super) fn content(&self, index: usize) -> Option<&Content<'a>> {
        self.of(index).map(|held| &held.content)
    }

    /// All of it.
    pub(super) fn contents(&self) -> impl Iterator<Item = (usize, &Content<'a>)> {
        self.entries().map(|(index, held)| (index, &held.content))
    }

    /// The parts of an update, worked out once.
    pub(super) fn parts<'b>(&'b self, context: &Context<'a>, item: &Item<'a>) -> Cow<'b, Parts<'a>> {
        self.of(item.index)
            .map_or_else(|| Cow::Owned(parts(context, item)), |held| Cow::Borrowed(&held.parts))
    }

    pub(super) fn closure(&self, item: &Item<'a>) -> Cow<'_, Set> {
        let alone = || Cow::Owned(Set::from([item.index]));
        self.of(item.index).map_or_else(alone, |held| Cow::Borrowed(&held.closure))
    }

    /// What a transaction of the update and all that comes with it needs of a window now.
    pub(super) fn need(&self, context: &Context<'a>, item: &Item<'a>) -> SignedDuration {
        let reckon = || need(context, &self.closure(item), context.now);
        self.of(item.index).map_or_else(reckon, |held| *held.need.get_or_init(reckon))
    }

    /// Where that fits, from the time on at which the update is installed.
    pub(super) fn fit(&self, context: &Context<'a>, item: &Item<'a>) -> Fit {
        let reckon = || {
            let unit = self.closure(item);
            let need = |at| {
                if at == context.now { self.need(context, item) } else { need(context, &unit, at) }
            };
            fit_in(context, &unit, need, context.install_from(item), None)
        };
        self.of(item.index).map_or_else(reckon, |held| *held.fit.get_or_init(reckon))
    }

    /// Whether every file of an update is here.
    pub(super) fn is_ready(&self, index: usize) -> bool {
        self.content(index).is_some_and(Content::is_ready)
    }
}

/// Why the time cannot be believed, and when it can at the latest: the policy comes from its future, or the machine has
/// found out by itself (reliability.md #105, #106).
pub(super) fn clock_doubt<'a>(context: &Context<'a>) -> Option<(&'a str, Option<Timestamp>)> {
    if let Some(doubt) = &context.view.clock_doubt {
        return Some((doubt, None));
    }
    // From then on the difference is no more than is tolerated.
    let believed = context.policy.issued_at.checked_sub(limits::CLOCK_TOLERANCE).unwrap_or(Timestamp::MIN);
    (believed > context.now)
        .then_some(("the machine's clock is behind the policy; set the clock", Some(believed)))
}

pub(super) fn members<'b, 'a>(
    context: &'b Context<'a>,
    set: &'b Set,
) -> impl Iterator<Item = &'b Item<'a>> + Clone {
    set.iter().filter_map(|index| context.at(*index))
}

/// Time a transaction of `set` needs in a window when it begins at `at`: run time and restart allowance.
pub(super) fn need(context: &Context<'_>, set: &Set, at: Timestamp) -> SignedDuration {
    let items = members(context, set);
    Context::run_time(items.clone()).saturating_add(context.restart_allowance(items, at))
}

/// Whether and when `set` fits, from `from` on.
pub(super) fn fit(context: &Context<'_>, set: &Set, from: Timestamp) -> Fit {
    fit_in(context, set, |at| need(context, set, at), from, None)
}

/// Where `set` fits after an opening that ends at `until`.
pub(super) fn fit_after(context: &Context<'_>, set: &Set, until: Timestamp) -> Fit {
    fit_in(context, set, |at| need(context, set, at), context.now, Some(until))
}

/// Deployments that start later may free it from windows, or its restart, and others bind it again: openings are looked for
/// from one such start to the next, as will be reckoned then. `after`: in no opening before that.
fn fit_in(
    context: &Context<'_>,
    set: &Set,
    need: impl Fn(Timestamp) -> SignedDuration,
    from: Timestamp,
    mut after: Option<Timestamp>,
) -> Fit {
    let mut at = from;
    loop {
        if is_free(context, set, at) {
            return if at == from { Fit::Free } else { Fit::FreeFrom(at) };
        }
        let (need, begin) = (need(at), after.map_or(at, |after| after.max(at)));
        let (fit, start) = match context.opening(begin, need) {
            // What ran in this opening before counts with all that was reserved for it.
            NextOpening::Now { until: Some(until) }
                if begin == context.now
                    && sequence::is_one(context, set)
                    && sequence::room(context, until) < need =>
            {
                after = Some(until);
                continue;
            }
            NextOpening::Now { until } if begin == from => return Fit::Now { until },
            NextOpening::Now { until } => {
                (Fit::At(Span { start: begin, end: until.unwrap_or(Timestamp::MAX) }), begin)
            }
            NextOpening::At(span) => (Fit::At(span), span.start),
            NextOpening::Never { longest, .. } => (Fit::Never { longest, need }, Timestamp::MAX),
        };
        match next_change(context, set, at).filter(|next| *next <= start) {
            Some(next) => at = next,
            None => return fit,
        }
    }
}

/// The next start of a deployment after `at`, where it may matter to what is free of windows.
fn next_change(context: &Context<'_>, set: &Set, at: Timestamp) -> Option<Timestamp> {
    let may_matter = |item: &&Item<'_>| {
        let settings = context.active(item).map(|reach| &reach.policy.settings);
        settings.into_iter().any(|said| said.install_outside_windows || said.restart_outside_windows)
    };
    let starts = members(context, set).filter(may_matter).flat_map(|item| context.active(item));
    starts.filter_map(|reach| reach.start).filter(|start| *start > at).min()
}

/// Whether `set` is not bound to windows at `from`.
pub(super) fn is_free(context: &Context<'_>, set: &Set, from: Timestamp) -> bool {
    context.installs.is_free()
        || members(context, set).all(|item| context.outside_windows(item, from).is_allowed())
}

/// Whether an update can go now as far as it is itself concerned.
fn is_ready<'a>(context: &Context<'a>, stock: &Stock<'a>, item: &Item<'a>) -> bool {
    item.detection == Detection::Required
        && context.is_available(item)
        && stock.is_ready(item.index)
        && context.backing_off(item).is_none()
        && context.fell_below(item).is_none()
}

/// Updates that are due and could go if there were time.
pub(super) fn candidates<'a>(context: &Context<'a>, stock: &Stock<'a>) -> Set {
    context
        .items
        .iter()
        .filter(|item| item.due.is_some() && item.covered_by.is_none())
        .filter(|item| {
            let closure = stock.closure(item);
            members(context, &closure).all(|member| is_ready(context, stock, member))
        })
        .map(|item| item.index)
        .collect()
}

/// Due updates whose content is on its way: the batch waits for them, so that there is one.
pub(super) fn under_way<'b, 'a>(context: &'b Context<'a>, stock: &Stock<'a>) -> Option<&'b Item<'a>> {
    let settling =
        context.view.scan.changed.is_some_and(|at| context.now.duration_since(at) < limits::APPROVAL_GRACE);
    context
        .items
        .iter()
        .filter(|item| item.due.is_some() && context.backing_off(item).is_none())
        .filter(|item| context.fell_below(item).is_none())
        .find(|item| match stock.content(item.index) {
            Some(Content::Missing(missing)) if missing.awaited > 0 => {
                missing.is_under_way() || settling || arriving_until(context, item) > context.now
            }
            Some(Content::Missing(missing)) => missing.is_under_way(),
            Some(Content::Unapproved(_)) => settling,
            _ => false,
        })
}

/// Until when others wait for a due update whose content is still on its way to the distribution points.
pub(super) fn arriving_until(context: &Context<'_>, item: &Item<'_>) -> Timestamp {
    context.start(item).checked_add(limits::APPROVAL_GRACE).unwrap_or(Timestamp::MAX)
}

/// When the next batch starts as far as time alone decides: everything is here, and the clock has to move on.
pub(super) fn coming<'a>(context: &Context<'a>, stock: &Stock<'a>) -> Option<Timestamp> {
    context
        .items
        .iter()
        .filter(|item| item.covered_by.is_none() && context.start(item) < Timestamp::MAX)
        .filter(|item| is_ready(context, stock, item))
        .filter_map(|item| {
            let from = context.install_from(item);
            match stock.fit(context, item) {
                Fit::Free | Fit::Now { .. } => Some(from),
                Fit::At(span) => Some(span.start),
                Fit::FreeFrom(start) => Some(start),
                Fit::Never { .. } => None,
            }
        })
        .filter(|start| *start > context.now)
        .min()
}

/// Exclusive updates, and those that failed repeatedly, go in a transaction of their own.
fn goes_alone(context: &Context<'_>, set: &Set) -> bool {
    members(context, set).any(|item| {
        item.policy.exclusive || item.attempt.is_some_and(|attempt| attempt.count >= limits::ALONE_AFTER)
    })
}

/// The next batch: the largest dependency-closed set of candidates whose transaction fits the time left; then those whose
/// installers run one by one; what goes alone only when nothing else goes.
pub(super) fn choose<'a>(context: &Context<'a>, stock: &Stock<'a>, candidates: &Set) -> Set {
    let units: Vec<Set> = members(context, candidates).map(|item| stock.closure(item).into_owned()).collect();
    let (mut alone, together): (Vec<_>, Vec<_>) =
        units.into_iter().partition(|unit| goes_alone(context, unit));
    let (one_by_one, together): (Vec<_>, Vec<_>) =
        together.into_iter().partition(|unit| sequence::is_one(context, unit));
    let chosen = largest(context, &together);
    if !chosen.is_empty() {
        return chosen;
    }
    if let Some(next) = sequence::next(context, one_by_one) {
        return next;
    }
    let start = |unit: &Set| members(context, unit).map(|item| context.start(item)).min();
    alone.sort_by(|a, b| start(a).cmp(&start(b)).then_with(|| a.cmp(b)));
    alone.into_iter().find(|unit| fit(context, unit, context.now).is_now()).unwrap_or_default()
}

fn largest(context: &Context<'_>, units: &[Set]) -> Set {
    let everything: Set = units.iter().flatten().copied().collect();
    if everything.is_empty() || fit(context, &everything, context.now).is_now() {
        return everything;
    }
    // Not bound to windows: these go in any case.
    let unbound: Set = units
        .iter()
        .filter(|unit| matches!(fit(context, unit, context.now), Fit::Free))
        .flatten()
        .copied()
        .collect();
    let Openness::Open { until: Some(until) } = context.installs.is_open(context.now) else {
        return unbound;
    };
    let left = until.duration_since(context.now);
    // What has to be left for a restart depends on what goes: each amount is tried with all that it is enough for.
    let allowance = |unit: &Set| context.restart_allowance(members(context, unit), context.now);
    let mut amounts = BTreeSet::from([SignedDuration::ZERO]);
    amounts.extend(units.iter().map(allowance));
    let mut chosen = Set::new();
    for amount in amounts {
        let enough: Vec<Set> = units.iter().filter(|unit| allowance(unit) <= amount).cloned().collect();
        let room = left.saturating_sub(limits::TRANSACTION_BASE).saturating_sub(amount);
        let weight = |index: &usize| {
            let time = context.at(*index).and_then(|item| item.policy.maximum_run_time);
            time.unwrap_or(limits::UPDATE_SHARE).as_secs()
        };
        let found = largest::largest(&enough, weight, room.as_secs());
        let better = (found.len(), need(context, &chosen, context.now))
            > (chosen.len(), need(context, &found, context.now));
        if better && need(context, &found, context.now) <= left {
            chosen = found;
        }
    }
    if unbound.is_subset(&chosen) || chosen.len() > unbound.len() { chosen } else { unbound }
}

/// The batch as the agent gets it.
pub(super) fn batch<'a>(context: &Context<'a>, stock: &Stock<'a>, chosen: &Set) -> InstallBatch {
    let mut batch = InstallBatch {
        allow_remove: true,
        expected: Context::run_time(members(context, chosen)),
        window_end: match fit(context, chosen, context.now) {
            Fit::Now { until } => until,
            _ => None,
        },
        ..InstallBatch::default()
    };
    for item in members(context, chosen) {
        batch.updates.insert(item.id.clone(), item.policy.restart);
        batch.basis.insert(item.id.clone(), context.basis(item));
        batch.leaves.extend(item.found.into_iter().flat_map(|found| &found.leaves).cloned());
        batch.files.extend(stock.parts(context, item).files.iter().map(|file| file.sha256));
        // --no-remove is a flag of the whole transaction: all of it must be allowed to remove.
        batch.allow_remove &=
            all_allow(context.available(item), |settings| settings.allow_remove).is_allowed();
    }
    // What comes with its successor is part of the batch, but brings no leaves of its own.
    for item in &context.items {
        if item.covered_by.is_some_and(|by| chosen.contains(&by)) && item.due.is_some() {
            batch.updates.insert(item.id.clone(), item.policy.restart);
            batch.basis.insert(item.id.clone(), context.basis(item));
        }
    }
    batch
}
