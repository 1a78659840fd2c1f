//! What people at a machine see of updates and may do about them (R-UX, R-RST-04, R-RST-05).

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned, civil, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::window::first_instant;

/// How much people see of a deployment (R-DEPL-08, R-DEPL-09, R-UX-10); what shows more is smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Display {
    /// Messages on terminals and desktops, reminders, the countdown of a restart.
    Full,
    /// Short messages on desktops; terminals hear of restarts alone.
    Balloon,
    /// No message; who asks gets the list (R-UX-01).
    Listed,
    /// Nothing: only administrators of the machine find it.
    Hidden,
}

impl Display {
    /// Whether messages are given at all.
    pub const fn speaks(self) -> bool {
        matches!(self, Self::Full | Self::Balloon)
    }
}

/// Who at the machine may have updates installed before their deadline, postpone them, and restart (domain.md 6.4,
/// `InstallRestriction`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserActions {
    /// Not even root through the agent.
    Nobody,
    /// Root.
    #[default]
    Root,
    /// Root and the members of the groups `sudo` and `wheel`.
    Administrators,
    /// Everybody who can log in.
    Everybody,
}

/// What client settings say for the people at the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeopleSettings {
    /// Time between two reminders while the deadline is more than a day away. Default 48 h (domain.md 5.3).
    pub remind_far: SignedDuration,
    /// Within a day of the deadline. Default 4 h.
    pub remind_day: SignedDuration,
    /// Within the last hour. Default 15 min.
    pub remind_hour: SignedDuration,
    /// Last part of a restart's countdown: its message stays on the screen. Default 1 min.
    pub final_warning: SignedDuration,
    /// Time between two reminders of a restart that waits. Default 4 h.
    pub restart_reminder: SignedDuration,
    /// When people are at work.
    pub business_hours: BusinessHours,
    /// A time at which updates are installed before their deadline; none: people may set their own (R-UX-07, R-UX-08).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_schedule: Option<UserSchedule>,
    /// Who may act.
    pub user_actions: UserActions,
}

impl Default for PeopleSettings {
    fn default() -> Self {
        Self {
            remind_far: SignedDuration::from_hours(48),
            remind_day: SignedDuration::from_hours(4),
            remind_hour: SignedDuration::from_mins(15),
            final_warning: SignedDuration::from_mins(1),
            restart_reminder: SignedDuration::from_hours(4),
            business_hours: BusinessHours::default(),
            user_schedule: None,
            user_actions: UserActions::default(),
        }
    }
}

impl PeopleSettings {
    /// Whether nothing is said: a policy document then leaves it out.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// When people are at work, in the client's wall clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusinessHours {
    /// From.
    pub from: civil::Time,
    /// Until, on the same day.
    pub until: civil::Time,
    /// ISO numbers 1 (Monday) to 7 (Sunday).
    pub weekdays: BTreeSet<u8>,
}

impl Default for BusinessHours {
    fn default() -> Self {
        Self {
            from: civil::time(5, 0, 0, 0),
            until: civil::time(22, 0, 0, 0),
            weekdays: BTreeSet::from([1, 2, 3, 4, 5]),
        }
    }
}

impl BusinessHours {
    /// The first instant outside of them, from `now` on.
    pub fn free_from(&self, now: Timestamp, zone: &TimeZone) -> Timestamp {
        let local = Zoned::new(now, zone.clone());
        let at_work = self.weekdays.contains(&weekday(local.date()))
            && self.from <= local.time()
            && local.time() < self.until;
        if at_work {
            first_instant(local.date().to_datetime(self.until), zone).map_or(now, |end| end.max(now))
        } else {
            now
        }
    }
}

/// A time of day at which updates are installed before their deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSchedule {
    /// In the client's wall clock.
    pub time: civil::Time,
    /// ISO numbers 1 (Monday) to 7 (Sunday); empty: every day.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub weekdays: BTreeSet<u8>,
    /// People at the machine may have another one, or none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub user_may_change: bool,
}

impl UserSchedule {
    /// The last occurrence at or before `now`.
    pub fn last(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        self.around(now, zone).filter(|at| *at <= now).max()
    }

    /// The first occurrence after `now`.
    pub fn next(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        self.around(now, zone).filter(|at| *at > now).min()
    }

    /// Those of eight days before and after: any set of weekdays has one in seven, and a zone may leave out a day.
    fn around(&self, now: Timestamp, zone: &TimeZone) -> impl Iterator<Item = Timestamp> {
        let today = Zoned::new(now, zone.clone()).date();
        (-8..=8)
            .filter_map(move |days: i64| today.checked_add(days.days()).ok())
            .filter(|date| self.weekdays.is_empty() || self.weekdays.contains(&weekday(*date)))
            .filter_map(|date| first_instant(date.to_datetime(self.time), zone))
    }
}

fn weekday(date: civil::Date) -> u8 {
    u8::try_from(date.weekday().to_monday_one_offset()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    #[test]
    fn business_hours_end_by_the_wall_clock() {
        let hours = BusinessHours::default();
        // A Friday in winter: 22:00 is 21:00 UTC.
        assert_eq!(hours.free_from(at("2026-11-20T12:00:00Z"), &berlin()), at("2026-11-20T21:00:00Z"));
        assert_eq!(hours.free_from(at("2026-11-20T21:00:00Z"), &berlin()), at("2026-11-20T21:00:00Z"));
        let saturday = at("2026-11-21T12:00:00Z");
        assert_eq!(hours.free_from(saturday, &berlin()), saturday);
        let night = at("2026-11-20T03:59:59Z");
        assert_eq!(hours.free_from(night, &berlin()), night, "04:59:59 at the place");
    }

    #[test]
    fn a_schedule_follows_the_wall_clock_and_its_weekdays() {
        let daily =
            UserSchedule { time: civil::time(3, 0, 0, 0), weekdays: BTreeSet::new(), user_may_change: false };
        let now = at("2026-11-21T10:00:00Z");
        assert_eq!(daily.last(now, &berlin()), Some(at("2026-11-21T02:00:00Z")));
        assert_eq!(daily.next(now, &berlin()), Some(at("2026-11-22T02:00:00Z")));
        assert_eq!(daily.last(at("2026-11-21T02:00:00Z"), &berlin()), Some(at("2026-11-21T02:00:00Z")));
        let sundays = UserSchedule { weekdays: [7].into(), ..daily.clone() };
        assert_eq!(sundays.last(now, &berlin()), Some(at("2026-11-15T02:00:00Z")));
        assert_eq!(sundays.next(now, &berlin()), Some(at("2026-11-22T02:00:00Z")));
        // 02:30 does not exist on that day: the first instant after the gap.
        let gap = UserSchedule { time: civil::time(2, 30, 0, 0), ..daily };
        assert_eq!(gap.next(at("2026-03-28T12:00:00Z"), &berlin()), Some(at("2026-03-29T01:00:00Z")));
    }
}
