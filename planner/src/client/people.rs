//! What the people at a machine asked for and were told: a part of the client's facts.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{UpdateId, people::UserSchedule, state::Detection};
use serde::{Deserialize, Serialize};

use super::{
    decision::Decision,
    notices::{Notice, NoticeKind, Scheduled, Stage},
    view::ClientView,
};

/// A restart that a person asked for counts this long; what could not happen by then is asked for anew.
pub(super) const RESTART_REQUEST: SignedDuration = SignedDuration::from_hours(1);

/// What the people at the machine asked for and were told. It survives restarts of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct People {
    /// Updates that they were told of; gone when an update is no longer required.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub told: BTreeMap<UpdateId, Told>,
    /// When they last heard of updates to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reminded: Option<Timestamp>,
    /// The transaction that runs or ran last, until its end was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchTold>,
    /// The restart that they were told of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartTold>,
    /// What they asked for, their schedule and reminders wait until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postponed: Option<Timestamp>,
    /// A schedule of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<OwnSchedule>,
    /// The last occurrence of the schedule that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Timestamp>,
    /// When a person asked for a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_requested: Option<Timestamp>,
}

/// What people were told of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// It is offered.
    Offered,
    /// It is here and has a deadline.
    Downloaded,
}

/// A transaction as people know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchTold {
    /// Since when.
    pub since: Timestamp,
    /// Its updates.
    pub updates: BTreeSet<UpdateId>,
    /// Whether its beginning was told: only then its end is.
    pub begun: bool,
}

/// A restart as people know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartTold {
    /// The end of the countdown, or when it was called off; none: there was none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// When they last heard of it.
    pub last: Timestamp,
    /// They heard that the machine restarts then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
    /// The final warning was given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warned: bool,
    /// They heard that it waits for them or for its time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
}

impl RestartTold {
    const fn waiting(at: Option<Timestamp>, now: Timestamp) -> Self {
        Self { at, last: now, forced: false, warned: false, waits: true }
    }
}

/// What people set in place of the schedule of the client settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnSchedule {
    /// None.
    Off,
    /// This one.
    At {
        /// When.
        schedule: UserSchedule,
        /// Since when: earlier occurrences do not count.
        since: Timestamp,
    },
}

impl ClientView {
    /// A transaction really began: everything was checked, and the package system works.
    pub fn install_started(&mut self, at: Timestamp) {
        if let Some(run) = &self.running.install {
            let updates = run.batch.updates.keys().cloned().collect();
            self.people.batch = Some(BatchTold { since: at, updates, begun: false });
        }
    }

    /// The notices of `decision` were given and its schedule was carried out. True when that changed something: then decide
    /// again.
    pub fn told(&mut self, decision: &Decision, now: Timestamp) -> bool {
        self.heard(&decision.notices, decision.scheduled.as_ref(), now)
    }

    pub(crate) fn heard(
        &mut self,
        notices: &[Notice],
        scheduled: Option<&Scheduled>,
        now: Timestamp,
    ) -> bool {
        for notice in notices {
            self.note(&notice.kind, now);
        }
        if let Some(scheduled) = scheduled {
            self.people.scheduled = Some(scheduled.at);
            self.requested.extend(scheduled.updates.iter().cloned());
        }
        !notices.is_empty() || scheduled.is_some()
    }

    fn note(&mut self, kind: &NoticeKind, now: Timestamp) {
        let people = &mut self.people;
        match kind {
            NoticeKind::Updates { new, .. } => {
                people.told.extend(new.iter().map(|(id, told)| (id.clone(), *told)));
                people.reminded = Some(now);
            }
            NoticeKind::Reminder { .. } => people.reminded = Some(now),
            NoticeKind::Begun { updates } => {
                if let Some(batch) = &mut people.batch {
                    batch.begun = true;
                }
                // Nobody has to hear later that they are to come.
                people.told.extend(updates.iter().map(|id| (id.clone(), Told::Downloaded)));
            }
            NoticeKind::Ended { .. } => people.batch = None,
            NoticeKind::Restart { at, stage, forced, .. } => {
                let warned = *stage == Stage::Final
                    || people.restart.as_ref().is_some_and(|told| told.at == Some(*at) && told.warned);
                people.restart =
                    Some(RestartTold { at: Some(*at), last: now, forced: *forced, warned, waits: false });
            }
            NoticeKind::RestartWaits { .. } => {
                // A countdown that came to its end does not begin again.
                let at = people.restart.as_ref().and_then(|told| told.at).filter(|at| *at <= now);
                people.restart = Some(RestartTold::waiting(at, now));
            }
            NoticeKind::RestartCalledOff { .. } => {
                people.restart = Some(RestartTold::waiting(Some(now), now));
                people.restart_requested = None;
            }
        }
    }

    /// What is no longer required needs no word; when it is again, it is told again.
    pub(super) fn forget_told(&mut self) {
        let detected = &self.detected;
        self.people
            .told
            .retain(|id, _| detected.get(id).is_some_and(|found| found.state == Detection::Required));
    }
}

impl People {
    /// Whether what people asked for waits.
    pub(super) fn postponed(&self, now: Timestamp) -> Option<Timestamp> {
        self.postponed.filter(|until| *until > now)
    }

    /// When a restart was asked for that still counts.
    pub(super) fn restart_asked(&self, now: Timestamp) -> Option<Timestamp> {
        let asked = self.restart_requested?;
        let ends = asked.checked_add(RESTART_REQUEST).unwrap_or(Timestamp::MAX);
        (now < ends).then_some(asked)
    }

    /// The schedule in force and since when it counts.
    pub(super) fn schedule<'a>(
        &'a self,
        of_settings: Option<&'a UserSchedule>,
    ) -> Option<(&'a UserSchedule, Timestamp)> {
        let free = of_settings.is_none_or(|schedule| schedule.user_may_change);
        match &self.schedule {
            Some(OwnSchedule::Off) if free => None,
            Some(OwnSchedule::At { schedule, since }) if free => Some((schedule, *since)),
            _ => of_settings.map(|schedule| (schedule, Timestamp::MIN)),
        }
    }
}
