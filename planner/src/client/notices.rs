//! What people at the machine are told, when, and what they can choose from (R-UX). Pure: what was told before is in
//! [`super::People`].

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    UpdateId,
    people::{Display, PeopleSettings},
    state::Detection,
};
use serde::{Deserialize, Serialize};

use super::{
    content::Content,
    context::{Context, Item},
    decide::Machine,
    earliest::Earliest,
    limits,
    outcome::Outcome,
    people::Told,
    restart_notices,
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// An occurrence of a schedule that is missed by this long is left out: the machine was off, and people are at work by now.
const SCHEDULE_PATIENCE: SignedDuration = SignedDuration::from_hours(1);

/// Something that people at the machine are told, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The same for the same thing, on every computation.
    pub id: String,
    /// Full or balloon.
    pub display: Display,
    /// What.
    #[serde(flatten)]
    pub kind: NoticeKind,
}

/// What people are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "kebab-case")]
pub enum NoticeKind {
    /// Updates can be installed: one set for all deployments (R-UX-04).
    Updates {
        /// Those that were not told of before.
        new: BTreeMap<UpdateId, Told>,
        /// All that can be installed now.
        all: BTreeSet<UpdateId>,
        /// When the first of them is installed without being asked for; none: all are optional.
        start: Option<Timestamp>,
    },
    /// They still wait.
    Reminder {
        /// Those with a deadline.
        updates: BTreeSet<UpdateId>,
        /// When the first of them is installed.
        start: Timestamp,
    },
    /// The installation began (R-UX-05).
    Begun {
        /// Its updates.
        updates: BTreeSet<UpdateId>,
    },
    /// It ended.
    Ended {
        /// Installed.
        installed: BTreeSet<UpdateId>,
        /// Not installed.
        failed: BTreeSet<UpdateId>,
    },
    /// A restart counts down (R-RST-04, R-RST-05).
    Restart {
        /// End of the countdown.
        at: Timestamp,
        /// The machine restarts then; otherwise people do.
        forced: bool,
        /// How far it is.
        stage: Stage,
        /// It is switched off instead.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        power_off: bool,
    },
    /// A restart is needed and waits for people or for its time.
    RestartWaits {
        /// When it can happen by itself; none: only people restart this machine.
        until: Option<Timestamp>,
    },
    /// The announced restart does not happen.
    RestartCalledOff {
        /// When it would have been.
        at: Timestamp,
    },
}

/// How far a countdown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It begins.
    Announced,
    /// It goes on.
    Reminder,
    /// Its last part: the message stays.
    Final,
}

/// An update that people can choose: the icon's list (R-UX-01, R-UX-04).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// How much people see of it: of several deployments the one that shows most.
    pub display: Display,
    /// The earliest deadline; none: optional.
    pub deadline: Option<Timestamp>,
    /// When it is installed without being asked for: the deadline with this client's share of the spread and its grace
    /// period.
    pub start: Option<Timestamp>,
    /// Its files are here.
    pub ready: bool,
    /// A person or the schedule asked for it.
    pub requested: bool,
}

/// A schedule whose time has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduled {
    /// The occurrence.
    pub at: Timestamp,
    /// Updates that count as asked for from now on.
    pub updates: BTreeSet<UpdateId>,
}

/// The latest reminder rule: when the next one is due after one at `last`, of something that happens at `end`.
pub(super) fn next_reminder(settings: &PeopleSettings, last: Timestamp, end: Timestamp) -> Option<Timestamp> {
    let before = |span: SignedDuration| end.checked_sub(span).unwrap_or(Timestamp::MIN);
    let phases = [
        (Timestamp::MIN, before(DAY), settings.remind_far),
        (before(DAY), before(HOUR), settings.remind_day),
        (before(HOUR), end, settings.remind_hour),
    ];
    phases.into_iter().find_map(|(from, until, interval)| {
        let due = last.checked_add(interval).ok()?.max(from);
        (due < until).then_some(due)
    })
}

/// Fills in what concerns people.
pub(super) fn people(context: &Context<'_>, machine: &Machine<'_>, outcome: &mut Outcome) {
    let mut times = Earliest::after(context.now);
    outcome.offers = offers(context, machine);
    outcome.scheduled = scheduled(context, &outcome.offers, &mut times);
    outcome.notices.extend(batch(context));
    outcome.notices.extend(updates(context, machine, &outcome.offers, &mut times));
    outcome.notices.extend(restart_notices::restart(context, machine, &mut times));
    times.extend(context.view.people.postponed);
    times.extend(outcome.next_wake);
    outcome.next_wake = times.first;
}

/// How much people see of an update.
pub(super) fn display(context: &Context<'_>, item: &Item<'_>) -> Display {
    let shown = context.active(item).filter(|reach| reach.is_available(context.now));
    shown.map(|reach| reach.policy.settings.display()).min().unwrap_or(Display::Hidden)
}

/// The same of several updates.
pub(super) fn display_of<'b, 'a: 'b>(
    context: &'b Context<'a>,
    items: impl Iterator<Item = &'b Item<'a>>,
) -> Display {
    items.map(|item| display(context, item)).min().unwrap_or(Display::Hidden)
}

/// With the positions of the updates.
type Offers = [(usize, Offer)];

fn offers(context: &Context<'_>, machine: &Machine<'_>) -> Vec<(usize, Offer)> {
    let running = context.view.running.install.as_ref();
    context
        .required()
        .filter(|item| item.covered_by.is_none())
        .filter(|item| context.is_available(item))
        .filter(|item| !running.is_some_and(|run| run.batch.updates.contains_key(item.id)))
        .map(|item| {
            let reach = || context.available(item);
            let offer = Offer {
                display: display(context, item),
                deadline: reach().filter_map(|reach| reach.deadline).min(),
                start: reach().filter_map(|reach| reach.start).min(),
                ready: machine.stock.is_ready(item.index),
                requested: context.view.requested.contains(item.id),
            };
            (item.index, offer)
        })
        .collect()
}

/// The schedule, when its time has come: mandatory updates that people see count as asked for. Staged ones stay unseen.
fn scheduled(context: &Context<'_>, offers: &Offers, times: &mut Earliest) -> Option<Scheduled> {
    let zone = &context.prepared.common.zone;
    let people = &context.view.people;
    let (schedule, since) = people.schedule(context.body.settings.people.user_schedule.as_ref())?;
    let wanted = |offer: &&Offer| {
        offer.display.speaks() && !offer.requested && offer.start.is_some_and(|start| start > context.now)
    };
    if offers.iter().any(|(_, offer)| wanted(&offer)) {
        times.extend(schedule.next(context.now, zone));
    }
    let at = schedule.last(context.now, zone)?;
    let fresh = at > since
        && people.scheduled.is_none_or(|last| at > last)
        && context.now.duration_since(at) < SCHEDULE_PATIENCE;
    if !fresh {
        return None;
    }
    let free = people.postponed(context.now).is_none();
    let updates = offers.iter().filter(|(_, offer)| free && wanted(&offer));
    let updates = updates.filter_map(|(index, _)| Some(context.at(*index)?.id.clone())).collect();
    Some(Scheduled { at, updates })
}

/// The beginning and the end of a transaction (R-UX-05).
fn batch(context: &Context<'_>) -> Option<Notice> {
    let view = context.view;
    let batch = view.people.batch.as_ref()?;
    let display = display_of(context, batch.updates.iter().filter_map(|id| context.named(id)));
    if view.running.install.is_some() {
        let kind = NoticeKind::Begun { updates: batch.updates.clone() };
        return (!batch.begun && display.speaks()).then(|| Notice {
            id: format!("begun/{}", batch.since),
            display,
            kind,
        });
    }
    // What was installed is known after a scan.
    let known = view.recovery.is_none() && !view.running.recovery && view.scan.stale.is_none();
    if !batch.begun || !known {
        return None;
    }
    let (installed, failed) = batch
        .updates
        .iter()
        .cloned()
        .partition(|id| view.detected.get(id).is_some_and(|found| found.state == Detection::Installed));
    // Its deployments may be gone meanwhile: who heard of the beginning hears of the end.
    let display = if display.speaks() { display } else { Display::Balloon };
    let kind = NoticeKind::Ended { installed, failed };
    Some(Notice { id: format!("ended/{}", batch.since), display, kind })
}

/// New updates, and reminders of those that wait (R-UX-02 to R-UX-04).
fn updates(
    context: &Context<'_>,
    machine: &Machine<'_>,
    offers: &Offers,
    times: &mut Earliest,
) -> Option<Notice> {
    let people = &context.view.people;
    let shown: Vec<(&UpdateId, &Offer, Told)> = offers
        .iter()
        .filter(|(index, offer)| offer.display.speaks() && !machine.chosen.contains(index))
        .filter_map(|(index, offer)| {
            let item = context.at(*index)?;
            let told = match offer.start {
                None => Told::Offered,
                Some(_) if offer.ready && !waits_for_others(context, machine, item, times) => {
                    Told::Downloaded
                }
                Some(_) => return None,
            };
            Some((item.id, offer, told))
        })
        .collect();
    let new: BTreeMap<UpdateId, Told> = shown
        .iter()
        .filter(|(id, _, told)| people.told.get(*id).is_none_or(|known| known < told))
        .map(|(id, _, told)| ((*id).clone(), *told))
        .collect();
    if !new.is_empty() {
        let start = shown.iter().filter_map(|(_, offer, _)| offer.start).min();
        let names: Vec<String> = new.iter().map(|(id, told)| format!("{id} {told:?}")).collect();
        let id = format!("updates/{}", patchtide_model::Digest::of(names.join("\n").as_bytes()));
        let display = shown.iter().map(|(_, offer, _)| offer.display).min().unwrap_or(Display::Balloon);
        let all = shown.iter().map(|(id, ..)| (*id).clone()).collect();
        return Some(Notice { id, display, kind: NoticeKind::Updates { new, all, start } });
    }
    let waiting = || {
        let later = |offer: &Offer| offer.start.is_some_and(|start| start > context.now);
        shown.iter().filter(move |(_, offer, _)| later(offer) && !offer.requested)
    };
    let start = waiting().filter_map(|(_, offer, _)| offer.start).min()?;
    let display = waiting().map(|(_, offer, _)| offer.display).min()?;
    let due = next_reminder(&context.body.settings.people, people.reminded?, start)?;
    let due = people.postponed.map_or(due, |until| due.max(until));
    if due > context.now {
        times.push(due);
        return None;
    }
    let updates = waiting().map(|(id, ..)| (*id).clone()).collect();
    let kind = NoticeKind::Reminder { updates, start };
    Some(Notice { id: format!("reminder/{due}"), display, kind })
}

/// Whether other updates of its deployments are still on their way, so that people hear of all at once; an hour before its
/// start nobody is waited for.
fn waits_for_others(
    context: &Context<'_>,
    machine: &Machine<'_>,
    item: &Item<'_>,
    times: &mut Earliest,
) -> bool {
    let coming = |other: &Item<'_>| {
        context.is_wanted(other)
            && match machine.stock.content(other.index) {
                Some(Content::Missing(missing)) => missing.is_under_way() || missing.awaited > 0,
                Some(Content::Unapproved(_)) => context
                    .view
                    .scan
                    .changed
                    .is_some_and(|at| context.now.duration_since(at) < limits::APPROVAL_GRACE),
                _ => false,
            }
    };
    let complete = context.available(item).any(|reach| {
        let mut fellows = reach.members.iter().filter_map(|index| context.at(*index));
        reach.policy.settings.display().speaks() && !fellows.any(coming)
    });
    let last = context.start(item).checked_sub(HOUR).unwrap_or(Timestamp::MIN);
    if !complete {
        times.push(last);
    }
    !complete && last > context.now
}
