//! What a decision is made from, put in order: deployments with their times, updates with what reaches them.

use std::{
    cell::RefCell,
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, btree_map},
    iter::Peekable,
};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    Digest, UpdateId,
    catalogue::{Leaf, LeafRef},
    policy::{DeploymentPolicy, Policy, PolicyBody, UpdatePolicy},
    state::Detection,
    window::{Calendar, NextOpening},
};

use super::{
    allowance, limits,
    prepared::{Place, Prepared},
    view::{Attempt, ClientView, Detected, InstalledRecord},
    words::{Due, Puller, Words},
};

/// Updates, as positions in [`Context::items`], which is the order of their names.
pub(super) type Set = BTreeSet<usize>;

/// A deployment with its times as this client reads them.
pub(super) struct Reach<'a> {
    pub policy: &'a DeploymentPolicy,
    pub available: Option<Timestamp>,
    pub deadline: Option<Timestamp>,
    /// The deadline plus this client's share of the spread and its grace period.
    pub start: Option<Timestamp>,
    /// Its updates.
    pub members: &'a [usize],
}

impl Reach<'_> {
    pub(super) fn is_available(&self, now: Timestamp) -> bool {
        self.available.is_some_and(|at| at <= now)
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.is_available(now) && self.start.is_some_and(|at| at <= now)
    }

    pub(super) fn object(&self) -> String {
        object_of(&self.policy.name)
    }
}

fn object_of(deployment: &str) -> String {
    format!("UpdateDeployment/{deployment}")
}

/// An update of the policy.
pub(super) struct Item<'a> {
    /// Its position.
    pub index: usize,
    pub id: &'a UpdateId,
    pub policy: &'a UpdatePolicy,
    pub detection: Detection,
    pub found: Option<&'a Detected>,
    /// What this client installed of it.
    pub record: Option<&'a InstalledRecord>,
    /// Its last failed attempt.
    pub attempt: Option<&'a Attempt>,
    /// What the policy says of it.
    pub place: &'a Place,
    /// Why it is due now; none: it is not.
    pub due: Option<Due<'a>>,
    /// When another deployment takes it along before its own time comes, as far as can be told now, and who does.
    pub pulled: Option<(Timestamp, Puller<'a>)>,
    /// When the schedule of the people at the machine asks for it, before its own time.
    pub scheduled: Option<Timestamp>,
    /// The newer update that is installed instead of it, when that one goes at least as early.
    pub covered_by: Option<usize>,
}

/// What another map has of the same names, asked for in their order.
struct Beside<'a, T>(Peekable<btree_map::Iter<'a, UpdateId, T>>);

impl<'a, T> Beside<'a, T> {
    fn new(map: &'a BTreeMap<UpdateId, T>) -> Self {
        Self(map.iter().peekable())
    }

    fn get(&mut self, id: &UpdateId) -> Option<&'a T> {
        loop {
            match self.0.peek()?.0.cmp(id) {
                Ordering::Less => drop(self.0.next()),
                Ordering::Equal => return self.0.next().map(|(_, found)| found),
                Ordering::Greater => return None,
            }
        }
    }
}

/// Everything a decision looks at.
pub(super) struct Context<'a> {
    pub policy: &'a Policy,
    pub body: &'a PolicyBody,
    pub view: &'a ClientView,
    pub now: Timestamp,
    pub words: Words,
    pub prepared: &'a Prepared,
    pub installs: &'a Calendar,
    pub restarts: &'a Calendar,
    pub deployments: Vec<Reach<'a>>,
    /// In the order of their names.
    pub items: Vec<Item<'a>>,
    /// Many updates ask the same question of the calendar.
    openings: RefCell<Vec<((Timestamp, SignedDuration), NextOpening)>>,
}

impl<'a> Context<'a> {
    /// `prepared` is of this policy.
    pub(super) fn new(
        policy: &'a Policy,
        prepared: &'a Prepared,
        view: &'a ClientView,
        now: Timestamp,
        words: Words,
    ) -> Self {
        let (body, common) = (&policy.body, &*prepared.common);
        let times = common.deployments.iter().zip(&prepared.shares);
        let deployments = body.deployments.iter().zip(times).map(|(policy, (times, share))| Reach {
            policy,
            available: times.available,
            deadline: times.deadline,
            start: times.deadline.and_then(|at| at.checked_add(*share).ok()),
            members: &times.members,
        });
        let items = body.updates.iter().zip(&common.places).enumerate();
        let (mut detected, mut installed, mut failed) =
            (Beside::new(&view.detected), Beside::new(&view.installed), Beside::new(&view.failed));
        let items = items.map(|(index, ((id, policy), place))| {
            let (found, record, attempt) = (detected.get(id), installed.get(id), failed.get(id));
            let detection = found.map_or(Detection::Unknown, |found| found.state);
            Item {
                index,
                id,
                policy,
                detection,
                found,
                record,
                attempt,
                place,
                due: None,
                pulled: None,
                scheduled: None,
                covered_by: None,
            }
        });
        let mut context = Self {
            policy,
            body,
            view,
            now,
            words,
            prepared,
            installs: &common.installs,
            restarts: &common.restarts,
            deployments: deployments.collect(),
            items: items.collect(),
            openings: RefCell::default(),
        };
        context.find_due();
        context.find_scheduled();
        context.find_pulled();
        context.find_covered();
        context
    }

    /// Positions of the updates that the machine needs.
    pub(super) fn required(&self) -> impl Iterator<Item = &Item<'a>> {
        self.items.iter().filter(|item| item.detection == Detection::Required)
    }

    /// The update at a position.
    pub(super) fn at(&self, index: usize) -> Option<&Item<'a>> {
        self.items.get(index)
    }

    /// The update of this name.
    pub(super) fn named(&self, id: &UpdateId) -> Option<&Item<'a>> {
        let index = self.items.binary_search_by(|item| item.id.cmp(id)).ok()?;
        self.items.get(index)
    }

    /// The deployments in force for an update.
    pub(super) fn active<'b>(&'b self, item: &'b Item<'a>) -> impl Iterator<Item = &'b Reach<'a>> + Clone {
        item.place.active.iter().filter_map(|index| self.deployments.get(*index))
    }

    /// All deployments that name an update, suspended ones too.
    pub(super) fn reaching<'b>(&'b self, item: &'b Item<'a>) -> impl Iterator<Item = &'b Reach<'a>> + Clone {
        item.place.reach.iter().filter_map(|index| self.deployments.get(*index))
    }

    pub(super) fn is_available(&self, item: &Item<'a>) -> bool {
        self.active(item).any(|reach| reach.is_available(self.now))
    }

    /// The start time of its own deployments; an optional update's is the end of time.
    pub(super) fn own_start(&self, item: &Item<'a>) -> Timestamp {
        self.active(item).filter_map(|reach| reach.start).min().unwrap_or(Timestamp::MAX)
    }

    /// The earliest start time: its own, that of what pulls it in, of the schedule, or until when who asked for it put it off.
    pub(super) fn start(&self, item: &Item<'a>) -> Timestamp {
        let others = [item.pulled.map(|(at, _)| at), item.scheduled, self.put_off(item)];
        others.into_iter().flatten().fold(self.own_start(item), Timestamp::min)
    }

    /// Until when a person who asked for the update put it off.
    pub(super) fn put_off(&self, item: &Item<'a>) -> Option<Timestamp> {
        let until = self.view.people.postponed(self.now)?;
        (self.view.requested.contains(item.id) && self.is_available(item)).then_some(until)
    }

    /// Whether its content is fetched: mandatory or asked for, and available (domain.md 5.2).
    pub(super) fn is_wanted(&self, item: &Item<'a>) -> bool {
        item.detection == Detection::Required
            && item.covered_by.is_none()
            && (item.due.is_some()
                || self.active(item).any(|reach| reach.is_available(self.now) && reach.deadline.is_some()))
    }

    /// From when on a window for it is looked for.
    pub(super) fn install_from(&self, item: &Item<'a>) -> Timestamp {
        let start = self.start(item);
        if item.due.is_some() || start == Timestamp::MAX { self.now } else { start.max(self.now) }
    }

    /// Whether a deployment suppresses restarts of this kind of machine.
    pub(super) fn suppresses_restart(&self, reach: &Reach<'a>) -> bool {
        reach.policy.settings.suppresses_restart(self.view.workstation)
    }

    /// Time that has to be left for a restart when these updates are installed at `at` (domain.md 4.3): countdown and
    /// turnaround, unless none can follow, or restarts have windows of their own or need none by then.
    pub(super) fn restart_allowance<'b>(
        &'b self,
        items: impl Iterator<Item = &'b Item<'a>> + Clone,
        at: Timestamp,
    ) -> SignedDuration
    where
        'a: 'b,
    {
        let follows = |item: &'b Item<'a>| {
            let suppressed = self.reaching(item).any(|reach| self.suppresses_restart(reach));
            let outside = self.restart_outside(std::iter::once(item), at).is_allowed();
            allowance::restart_follows(item.policy.restart, suppressed, outside)
        };
        if self.prepared.common.restart_windows || !items.clone().any(follows) {
            SignedDuration::ZERO
        } else {
            self.restart_time(items)
        }
    }

    /// Countdown before a restart because of these updates: the longest that a deployment in force for them gives; one
    /// that says nothing gives that of the client settings.
    pub(super) fn countdown<'b>(&'b self, items: impl Iterator<Item = &'b Item<'a>>) -> SignedDuration
    where
        'a: 'b,
    {
        let settings = items.flat_map(|item| self.active(item)).map(|reach| &reach.policy.settings);
        allowance::countdown(&self.body.settings, settings)
    }

    /// Countdown and turnaround.
    pub(super) fn restart_time<'b>(&'b self, items: impl Iterator<Item = &'b Item<'a>>) -> SignedDuration
    where
        'a: 'b,
    {
        self.countdown(items).saturating_add(self.body.settings.restart_turnaround)
    }

    /// How long these updates are expected to take: one transaction, or each installer after the other.
    pub(super) fn run_time<'b, I>(items: I) -> SignedDuration
    where
        'a: 'b,
        I: Iterator<Item = &'b Item<'a>> + Clone,
    {
        let run_times = |items: I, apt: bool| {
            let items = items.filter(move |item| item.policy.installer.is_apt() == apt);
            items.map(|item| item.policy.maximum_run_time)
        };
        let one_by_one = limits::sequence(run_times(items.clone(), false));
        let none = |apt: bool| run_times(items.clone(), apt).next().is_none();
        if none(true) && !none(false) {
            return one_by_one;
        }
        limits::transaction(run_times(items, true)).saturating_add(one_by_one)
    }

    /// The next opening for installations, remembered.
    pub(super) fn opening(&self, from: Timestamp, need: SignedDuration) -> NextOpening {
        let asked = (from, need);
        if let Some((_, known)) = self.openings.borrow().iter().find(|(known, _)| *known == asked) {
            return *known;
        }
        let found = self.installs.next_opening(from, need);
        self.openings.borrow_mut().push((asked, found));
        found
    }

    /// What would be tried: the update as it is offered, by which deployments, and what it needs.
    pub(super) fn basis(&self, item: &Item<'a>) -> Digest {
        let deployments: Vec<_> =
            self.active(item).map(|reach| (&reach.policy.uid, reach.policy.generation)).collect();
        let needs = item.found.map(|found| (&found.leaves, &found.needs));
        Digest::of(&serde_json::to_vec(&(item.policy, deployments, needs)).unwrap_or_default())
    }

    /// Until when a failed update is left alone; none: it may be tried. A changed offer, a person's word and a
    /// re-evaluation all mean: at once.
    pub(super) fn backing_off(&self, item: &Item<'a>) -> Option<(Timestamp, &'a Attempt)> {
        let attempt = item.attempt?;
        let again = |at: Option<Timestamp>| at.is_some_and(|at| at > attempt.at);
        let until = attempt.at.checked_add(limits::install_retry(attempt.count)).ok()?;
        let waits = until > self.now
            && attempt.basis == self.basis(item)
            && !again(self.view.scan.last_evaluation)
            && !again(self.view.evaluation_requested);
        waits.then_some((until, attempt))
    }

    /// Since when an update that this client installed is required again; none: it may be installed. The re-evaluation
    /// heals it, and so does a person's word; a changed offer is installed at once.
    pub(super) fn fell_below(&self, item: &Item<'a>) -> Option<Timestamp> {
        let record = item.record?;
        let since = record.missing_since?;
        let again = |at: Option<Timestamp>| at.is_some_and(|at| at >= since);
        let waits = item.detection == Detection::Required
            && record.basis.is_none_or(|basis| basis == self.basis(item))
            && !again(self.view.scan.last_evaluation)
            && !again(self.view.evaluation_requested)
            && !self.view.requested.contains(item.id);
        waits.then_some(since)
    }

    /// An approved leaf and the update it belongs to; none for a dependency.
    pub(super) fn find(&self, leaf: &LeafRef) -> Option<(&'a Leaf, Option<usize>)> {
        let (update, place) = self.prepared.common.find(leaf)?;
        let leaf = match update {
            Some(update) => self.at(update)?.policy.leaves.get(place),
            None => self.body.dependencies.get(place),
        };
        Some((leaf?, update))
    }
}
