//! What a decision is made from, put in order: deployments with their times, updates with what reaches them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use patchtide_model::{
    Digest, UpdateId,
    catalogue::{Leaf, LeafRef},
    policy::{DeploymentPolicy, Policy, PolicyBody, UpdatePolicy},
    state::Detection,
    window::{Calendar, NextOpening, Purpose},
};

use super::{
    allowance, limits,
    view::{Attempt, ClientView, Detected},
};
use crate::times;

/// A deployment with its times as this client reads them.
pub(super) struct Reach<'a> {
    pub policy: &'a DeploymentPolicy,
    pub available: Option<Timestamp>,
    pub deadline: Option<Timestamp>,
    /// The deadline plus this client's share of the spread and its grace period.
    pub start: Option<Timestamp>,
}

impl Reach<'_> {
    pub(super) fn is_available(&self, now: Timestamp) -> bool {
        self.available.is_some_and(|at| at <= now)
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.is_available(now) && self.start.is_some_and(|at| at <= now)
    }

    pub(super) fn object(&self) -> String {
        format!("UpdateDeployment/{}", self.policy.name)
    }
}

/// An update of the policy.
pub(super) struct Item<'a> {
    pub id: &'a UpdateId,
    pub policy: &'a UpdatePolicy,
    pub detection: Detection,
    pub found: Option<&'a Detected>,
    /// Deployments that name it, as positions in [`Context::deployments`].
    pub reach: Vec<usize>,
    /// Those of them that are not suspended.
    pub active: Vec<usize>,
    /// Why it is due now; none: it is not.
    pub due: Option<String>,
    /// The newer update that is installed instead of it, when that one goes at least as early.
    pub covered_by: Option<&'a UpdateId>,
}

/// Everything a decision looks at.
pub(super) struct Context<'a> {
    pub policy: &'a Policy,
    pub body: &'a PolicyBody,
    pub view: &'a ClientView,
    pub now: Timestamp,
    pub installs: Calendar,
    pub restarts: Calendar,
    pub deployments: Vec<Reach<'a>>,
    pub items: BTreeMap<&'a UpdateId, Item<'a>>,
    /// Every approved leaf, with the update it belongs to; none for a dependency.
    pub approved: BTreeMap<(&'a str, &'a str, &'a str), (&'a Leaf, Option<&'a UpdateId>)>,
    /// Many updates ask the same question of the calendar.
    openings: RefCell<BTreeMap<(Timestamp, SignedDuration), NextOpening>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(policy: &'a Policy, view: &'a ClientView, now: Timestamp, zone: &TimeZone) -> Self {
        let body = &policy.body;
        let deployments: Vec<Reach<'a>> = body
            .deployments
            .iter()
            .map(|deployment| {
                let deadline = times::deadline(&deployment.settings, deployment.anchor, zone);
                let share = times::share(policy.client, &deployment.uid, deployment.settings.deadline_spread);
                Reach {
                    policy: deployment,
                    available: times::available(&deployment.settings, deployment.anchor, zone),
                    deadline,
                    start: deadline
                        .and_then(|at| at.checked_add(share.saturating_add(body.settings.grace_period)).ok()),
                }
            })
            .collect();
        let mut approved = BTreeMap::new();
        for leaf in &body.dependencies {
            approved.insert(key(leaf), (leaf, None));
        }
        for (id, update) in &body.updates {
            for leaf in &update.leaves {
                approved.insert(key(leaf), (leaf, Some(id)));
            }
        }
        let mut context = Self {
            policy,
            body,
            view,
            now,
            installs: Calendar::new(&body.windows, Purpose::Install, zone),
            restarts: Calendar::new(&body.windows, Purpose::Restart, zone),
            deployments,
            items: BTreeMap::new(),
            approved,
            openings: RefCell::default(),
        };
        for (id, update) in &body.updates {
            let item = context.item(id, update);
            context.items.insert(id, item);
        }
        context.find_due();
        context.find_covered();
        context
    }

    fn item(&self, id: &'a UpdateId, policy: &'a UpdatePolicy) -> Item<'a> {
        let reach: Vec<usize> = self
            .deployments
            .iter()
            .enumerate()
            .filter(|(_, reach)| reach.policy.updates.contains(id))
            .map(|(index, _)| index)
            .collect();
        let active = reach
            .iter()
            .copied()
            .filter(|index| self.deployments.get(*index).is_some_and(|reach| !reach.policy.suspend))
            .collect();
        let found = self.view.detected.get(id);
        let detection = found.map_or(Detection::Unknown, |found| found.state);
        Item { id, policy, detection, found, reach, active, due: None, covered_by: None }
    }

    /// The union of what is due: past a start time, asked for, or pulled in by *install all applicable* (R-DEPL-38,
    /// R-DEPL-41, R-DEPL-42).
    fn find_due(&mut self) {
        let mut due: BTreeMap<&'a UpdateId, String> = BTreeMap::new();
        // Who pulls in what is not due yet, and up to which deadline.
        let mut pulls: Vec<(String, Timestamp)> = Vec::new();
        let until = |within: SignedDuration| self.now.checked_add(within).unwrap_or(Timestamp::MAX);
        for item in self.items.values().filter(|item| item.detection == Detection::Required) {
            let first =
                self.active(item).filter(|reach| reach.is_due(self.now)).min_by_key(|reach| reach.start);
            if let Some(reach) = first {
                due.insert(item.id, format!("the deadline of {} has come", reach.object()));
                for reach in self.active(item).filter(|reach| reach.is_due(self.now)) {
                    let settings = &reach.policy.settings;
                    if settings.install_all_applicable {
                        pulls.push((
                            reach.object(),
                            settings.install_all_within.map_or(Timestamp::MAX, until),
                        ));
                    }
                }
                if let Some(within) = self.body.settings.install_due_within {
                    pulls.push((format!("ClientSettings/{}", self.body.settings.name), until(within)));
                }
            } else if self.view.requested.contains(item.id)
                && self.is_available(item)
                && self.view.people.postponed(self.now).is_none()
            {
                due.insert(item.id, "a person asked for it".to_owned());
            }
        }
        pulls.sort();
        pulls.dedup();
        if !pulls.is_empty() {
            for item in self.items.values().filter(|item| item.detection == Detection::Required) {
                let available = || self.active(item).filter(|reach| reach.is_available(self.now));
                let Some(deadline) = available().filter_map(|reach| reach.deadline).min() else { continue };
                if let Some((object, _)) = pulls.iter().find(|(_, until)| deadline <= *until) {
                    due.entry(item.id).or_insert_with(|| {
                        format!("{object} installs what is due soon along with what is due")
                    });
                }
            }
        }
        for (id, why) in due {
            if let Some(item) = self.items.get_mut(id) {
                item.due = Some(why);
            }
        }
    }

    /// An update whose successor is required here and goes at least as early comes with that one.
    fn find_covered(&mut self) {
        let mut covered: Vec<(&'a UpdateId, &'a UpdateId)> = Vec::new();
        for item in self.items.values().filter(|item| item.detection == Detection::Required) {
            let mut seen = BTreeSet::from([item.id]);
            let mut best = None;
            let mut next = item.policy.superseded_by.as_ref();
            while let Some(id) = next {
                let Some(successor) = self.items.get(id) else { break };
                if !seen.insert(id) {
                    break;
                }
                let early = successor.due.is_some()
                    || (item.due.is_none() && self.start(successor) <= self.start(item));
                if successor.detection == Detection::Required && self.is_available(successor) && early {
                    best = Some(successor.id);
                }
                next = successor.policy.superseded_by.as_ref();
            }
            covered.extend(best.map(|best| (item.id, best)));
        }
        for (id, by) in covered {
            if let Some(item) = self.items.get_mut(id) {
                item.covered_by = Some(by);
            }
        }
    }

    /// The deployments in force for an update.
    pub(super) fn active<'b>(&'b self, item: &'b Item<'a>) -> impl Iterator<Item = &'b Reach<'a>> {
        item.active.iter().filter_map(|index| self.deployments.get(*index))
    }

    /// All deployments that name an update, suspended ones too.
    pub(super) fn reaching<'b>(&'b self, item: &'b Item<'a>) -> impl Iterator<Item = &'b Reach<'a>> {
        item.reach.iter().filter_map(|index| self.deployments.get(*index))
    }

    pub(super) fn is_available(&self, item: &Item<'a>) -> bool {
        self.active(item).any(|reach| reach.is_available(self.now))
    }

    /// The earliest start time; an optional update's is the end of time.
    pub(super) fn start(&self, item: &Item<'a>) -> Timestamp {
        self.active(item).filter_map(|reach| reach.start).min().unwrap_or(Timestamp::MAX)
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

    /// Time that has to be left for a restart after these updates (domain.md 4.3): countdown and turnaround, unless
    /// none can follow, or restarts have windows of their own or need none.
    pub(super) fn restart_allowance<'b>(&self, items: impl Iterator<Item = &'b Item<'a>>) -> SignedDuration
    where
        'a: 'b,
    {
        let follows = |item: &Item<'a>| {
            let suppressed = self.reaching(item).any(|reach| self.suppresses_restart(reach));
            let outside = self.restart_outside(&[item]).is_allowed();
            allowance::restart_follows(item.policy.restart, suppressed, outside)
        };
        let items: Vec<&Item<'a>> = items.collect();
        if allowance::own_windows(self.restarts.windows()) || !items.iter().any(|item| follows(item)) {
            SignedDuration::ZERO
        } else {
            self.restart_time(&items)
        }
    }

    /// Countdown before a restart because of these updates: the longest that a deployment in force for them gives; one
    /// that says nothing gives that of the client settings.
    pub(super) fn countdown(&self, items: &[&Item<'a>]) -> SignedDuration {
        let settings = items.iter().flat_map(|item| self.active(item)).map(|reach| &reach.policy.settings);
        allowance::countdown(&self.body.settings, settings)
    }

    /// Countdown and turnaround.
    pub(super) fn restart_time(&self, items: &[&Item<'a>]) -> SignedDuration {
        self.countdown(items).saturating_add(self.body.settings.restart_turnaround)
    }

    /// How long these updates are expected to take: one transaction, or each installer after the other.
    pub(super) fn run_time<'b>(items: impl Iterator<Item = &'b Item<'a>>) -> SignedDuration
    where
        'a: 'b,
    {
        let (apt, sequential): (Vec<_>, Vec<_>) = items.partition(|item| item.policy.installer.is_apt());
        let one_by_one = limits::sequence(sequential.iter().map(|item| item.policy.maximum_run_time));
        if apt.is_empty() && !sequential.is_empty() {
            return one_by_one;
        }
        limits::transaction(apt.iter().map(|item| item.policy.maximum_run_time)).saturating_add(one_by_one)
    }

    /// The next opening for installations, remembered.
    pub(super) fn opening(&self, from: Timestamp, need: SignedDuration) -> NextOpening {
        if let Some(known) = self.openings.borrow().get(&(from, need)) {
            return *known;
        }
        let found = self.installs.next_opening(from, need);
        self.openings.borrow_mut().insert((from, need), found);
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
        let attempt = self.view.failed.get(item.id)?;
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
        let record = self.view.installed.get(item.id)?;
        let since = record.missing_since?;
        let again = |at: Option<Timestamp>| at.is_some_and(|at| at >= since);
        let waits = item.detection == Detection::Required
            && record.basis.is_none_or(|basis| basis == self.basis(item))
            && !again(self.view.scan.last_evaluation)
            && !again(self.view.evaluation_requested)
            && !self.view.requested.contains(item.id);
        waits.then_some(since)
    }

    /// An approved leaf and the update it belongs to.
    pub(super) fn find(&self, leaf: &LeafRef) -> Option<(&'a Leaf, Option<&'a UpdateId>)> {
        self.approved
            .get(&(leaf.package.as_str(), leaf.architecture.as_str(), leaf.version.as_str()))
            .copied()
    }
}

fn key(leaf: &Leaf) -> (&str, &str, &str) {
    (&leaf.package, &leaf.architecture, &leaf.version)
}
