//! One window on the line of time, in whole seconds since 1970: the occurrence before and the one after an instant, by
//! arithmetic. A start is the first instant at which the zone's clock shows the time or has passed it; so occurrences are
//! ordered as their days are, and of several that begin in one second (days that a zone left out) one is told.

use std::sync::Arc;

use jiff::{Timestamp, civil, tz::TimeZone};

use super::{
    Window, Zone,
    days::{self, Days, number},
    table::{DAY, Table},
};

/// One occurrence: `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Occurrence {
    pub day: i64,
    pub start: i64,
    pub end: i64,
}

/// A valid window.
#[derive(Debug, Clone)]
pub(super) struct Track {
    pub days: Days,
    /// First and last day on which it may open.
    pub first: i64,
    pub last: i64,
    /// Seconds after midnight.
    pub time: i64,
    pub duration: i64,
    pub table: Arc<Table>,
}

impl Track {
    /// None: the window cannot be evaluated.
    pub(super) fn of(window: &Window, local: &TimeZone) -> Option<Self> {
        window.check().ok()?;
        let table = match &window.zone {
            Zone::Utc => Arc::new(Table::fixed(0)),
            Zone::ClientLocal => Table::of(local),
            Zone::Iana(name) => Table::named(name)?,
        };
        Some(Self {
            days: Days::of(&window.recurrence),
            first: window.effective_from.map_or(days::FIRST, number),
            last: window.effective_until.map_or(days::LAST, number),
            time: window.start.duration_since(civil::Time::midnight()).as_secs(),
            duration: window.duration.as_secs(),
            table,
        })
    }

    /// The occurrence of a day; none: it would not end before time does, or begin before it.
    fn on(&self, day: i64) -> Option<Occurrence> {
        let start = self.table.instant(day * DAY + self.time);
        let end = start + self.duration;
        let inside = start >= Timestamp::MIN.as_second() && end <= Timestamp::MAX.as_second();
        inside.then_some(Occurrence { day, start, end })
    }

    /// The last day whose occurrence has begun by `at`: the clock has shown its time.
    fn begun(&self, at: i64) -> i64 {
        (self.table.latest_reading(at) - self.time).div_euclid(DAY)
    }

    /// The last occurrence that begins at or before `at`.
    pub(super) fn last_begun(&self, at: i64) -> Option<Occurrence> {
        let mut day = self.days.previous(self.begun(at).min(self.last))?;
        loop {
            if day < self.first {
                return None;
            }
            match self.on(day) {
                Some(found) => return Some(found),
                // At the end of time a day or two have no occurrence; at its beginning none before has one.
                None if at < 0 => return None,
                None => day = self.days.previous(day - 1)?,
            }
        }
    }

    /// The first occurrence that begins after `at`.
    pub(super) fn next_begun(&self, at: i64) -> Option<Occurrence> {
        let mut day = self.days.next((self.begun(at) + 1).max(self.first))?;
        loop {
            if day > self.last {
                return None;
            }
            match self.on(day) {
                Some(found) => return Some(found),
                None if at > 0 => return None,
                None => day = self.days.next(day + 1)?,
            }
        }
    }
}

/// A place on a track: the occurrences around an instant. Moving to a near instant is one step.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    pub track: &'a Track,
    around: Option<(Option<Occurrence>, Option<Occurrence>)>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(track: &'a Track) -> Self {
        Self { track, around: None }
    }

    /// The last occurrence that begins at or before `at`, and the first that begins after it.
    pub(super) fn around(&mut self, at: i64) -> (Option<Occurrence>, Option<Occurrence>) {
        if let Some((before, after)) = self.around {
            let begun = before.is_none_or(|before| before.start <= at);
            let ahead = after.is_none_or(|after| at < after.start);
            if begun && ahead {
                return (before, after);
            }
            if begun && let Some(now) = after {
                let next = self.track.next_begun(now.start);
                if next.is_none_or(|next| at < next.start) {
                    self.around = Some((after, next));
                    return (after, next);
                }
            }
            if ahead && let Some(now) = before {
                let last = self.track.last_begun(now.start - 1);
                if last.is_none_or(|last| last.start <= at) {
                    self.around = Some((last, before));
                    return (last, before);
                }
            }
        }
        let found = (self.track.last_begun(at), self.track.next_begun(at));
        self.around = Some(found);
        found
    }
}
