//! Maintenance windows: the types here, the arithmetic in the modules below. It is total: whatever a window says,
//! there is an answer, and a window that cannot be understood never opens anything.
//!
//! From the bottom up: `table` turns civil times of a zone into instants, `days` finds the days that a recurrence names,
//! `track` puts one window on the line of time, `sweep` walks the openings of several in either direction, `proof` says
//! when none will come, and how that is known; [`Calendar`] answers. Every step jumps: nothing counts days or minutes, so
//! what is far away is found as quickly as what is near.

mod calendar;
mod days;
mod occurrence;
mod openings;
mod proof;
mod sweep;
mod table;
mod track;
mod zone;

#[cfg(test)]
mod examples;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod proofs;
#[cfg(test)]
mod walker;

pub use calendar::{Calendar, NeverReason, NextOpening, Openness, Purpose};
pub use occurrence::WindowError;
pub use zone::{first_instant, time_zone, time_zone_names};

use jiff::{SignedDuration, Timestamp, civil};
use serde::{Deserialize, Serialize};

use crate::ObjectName;

/// A maintenance window as it stands in policy and in the site database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The object it comes from.
    pub name: ObjectName,
    /// The collection whose members it governs.
    pub collection: ObjectName,
    /// When it opens.
    pub recurrence: Recurrence,
    /// Civil time of day at which it opens (for `Once`, part of the recurrence).
    pub start: civil::Time,
    /// How long it stays open: 5 minutes to 24 hours, elapsed time.
    pub duration: SignedDuration,
    /// The zone of its civil times.
    pub zone: Zone,
    /// First day on which it may open.
    pub effective_from: Option<civil::Date>,
    /// Last day on which it may open.
    pub effective_until: Option<civil::Date>,
    /// What it governs.
    pub applies_to: AppliesTo,
    /// Allow or deny; deny wins.
    pub action: WindowAction,
}

/// The zone in which civil times are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Zone {
    /// Coordinated Universal Time.
    Utc,
    /// The client's own zone.
    ClientLocal,
    /// A zone of the IANA database.
    Iana(String),
}

/// When a window recurs (R-MW, domain.md 4.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recurrence {
    /// On one day.
    Once {
        /// The day.
        date: civil::Date,
    },
    /// Every n-th day, 1 to 31, counted from the anchor.
    Daily {
        /// Days from one to the next.
        every: u8,
        /// A day on which it opens.
        anchor: civil::Date,
    },
    /// On weekdays of every n-th week, 1 to 4, counted from the anchor's week (Monday first).
    Weekly {
        /// Weeks from one to the next.
        every: u8,
        /// A day of a week in which it opens.
        anchor: civil::Date,
        /// The weekdays, ISO numbers 1 (Monday) to 7 (Sunday), at least one.
        weekdays: Vec<u8>,
    },
    /// On a day of every n-th month, 1 to 12, counted from the anchor's month.
    MonthlyByDate {
        /// Months from one to the next.
        every: u8,
        /// A day of a month in which it opens.
        anchor: civil::Date,
        /// 1 to 31 (a month without that day is left out), or 0: the last day.
        day: u8,
    },
    /// On the n-th weekday of every n-th month, plus an offset in days.
    MonthlyByWeekday {
        /// Months from one to the next.
        every: u8,
        /// A day of a month in which it opens.
        anchor: civil::Date,
        /// 1 to 4: first to fourth; 0: last.
        order: u8,
        /// ISO weekday 1 (Monday) to 7 (Sunday).
        weekday: u8,
        /// Days after that weekday, 0 to 31; may lead into the next month.
        offset_days: u8,
    },
}

/// What a window governs (domain.md 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AppliesTo {
    /// Software updates: displaces `AllDeployments` windows of the client.
    Updates,
    /// Everything that is deployed.
    AllDeployments,
    /// Restarts alone.
    RestartsOnly,
}

/// Allow or deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WindowAction {
    /// Opens.
    Allow,
    /// Closes, and wins over every allow.
    Deny,
}

/// A half-open span of time `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// First instant inside.
    pub start: Timestamp,
    /// First instant after.
    pub end: Timestamp,
}

impl Span {
    /// How long it lasts; never negative.
    pub fn length(&self) -> SignedDuration {
        self.end.duration_since(self.start).max(SignedDuration::ZERO)
    }

    /// Whether `at` lies inside.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }
}
