//! When one window opens.

use std::iter;

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};

use super::{
    Recurrence, Span, Window, Zone,
    openings::{ceiling, floor},
    table::Table,
    track::{Occurrence, Track},
};

/// Why a window can never be evaluated. It opens nothing; a deny window like this denies always.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Duration outside 5 minutes to 24 hours.
    #[error("duration: WIN-RANGE: {0:#} is outside 5m to 24h")]
    Duration(SignedDuration),
    /// A start or a duration with a part of a second.
    #[error("{field}: WIN-RANGE: windows open and close on whole seconds")]
    Fraction {
        /// Field.
        field: &'static str,
    },
    /// A zone in no database.
    #[error(
        "timeZone: TZ-UNKNOWN: {0:?} is not a zone of the IANA database; write for example Europe/Berlin"
    )]
    Zone(String),
    /// A number of the recurrence outside its range.
    #[error("recurrence: WIN-RANGE: {field} is {value}, outside {range}")]
    Range {
        /// Field.
        field: &'static str,
        /// Its value.
        value: u8,
        /// What it may be.
        range: &'static str,
    },
    /// Weekly without a weekday.
    #[error("recurrence: a weekly window needs at least one weekday")]
    NoWeekday,
    /// First day after the last.
    #[error("effectiveUntil: WIN-RANGE: {until} is before effectiveFrom, {from}")]
    Effective {
        /// First day.
        from: civil::Date,
        /// Last day.
        until: civil::Date,
    },
}

impl Window {
    /// Whether the window can be evaluated; `Ok` does not say that it ever opens.
    pub fn validate(&self) -> Result<(), WindowError> {
        self.check()?;
        match &self.zone {
            Zone::Iana(name) if Table::named(name).is_none() => Err(WindowError::Zone(name.clone())),
            _ => Ok(()),
        }
    }

    /// Everything but the zone.
    pub(super) fn check(&self) -> Result<(), WindowError> {
        if self.duration < SignedDuration::from_mins(5) || self.duration > SignedDuration::from_hours(24) {
            return Err(WindowError::Duration(self.duration));
        }
        for (field, rest) in
            [("start", self.start.subsec_nanosecond()), ("duration", self.duration.subsec_nanos())]
        {
            if rest != 0 {
                return Err(WindowError::Fraction { field });
            }
        }
        let within = |field, value: u8, low: u8, high: u8, range| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(WindowError::Range { field, value, range })
            }
        };
        match &self.recurrence {
            Recurrence::Once { .. } => {}
            Recurrence::Daily { every, .. } => within("every", *every, 1, 31, "1 to 31")?,
            Recurrence::Weekly { every, weekdays, .. } => {
                within("every", *every, 1, 4, "1 to 4")?;
                if weekdays.is_empty() {
                    return Err(WindowError::NoWeekday);
                }
                for weekday in weekdays {
                    within("weekday", *weekday, 1, 7, "1 to 7")?;
                }
            }
            Recurrence::MonthlyByDate { every, day, .. } => {
                within("every", *every, 1, 12, "1 to 12")?;
                within("day", *day, 0, 31, "1 to 31, or 0 for the last")?;
            }
            Recurrence::MonthlyByWeekday { every, order, weekday, offset_days, .. } => {
                within("every", *every, 1, 12, "1 to 12")?;
                within("order", *order, 0, 4, "1 to 4, or 0 for the last")?;
                within("weekday", *weekday, 1, 7, "1 to 7")?;
                within("offsetDays", *offset_days, 0, 31, "0 to 31")?;
            }
        }
        if let (Some(from), Some(until)) = (self.effective_from, self.effective_until)
            && from > until
        {
            return Err(WindowError::Effective { from, until });
        }
        Ok(())
    }

    /// Its occurrences that end after `from`, in order, lazily, to the end of time. `local` is the client's zone. None
    /// at all when the window cannot be evaluated. The length is elapsed time (reliability.md #97). Days that a zone left
    /// out begin with the day after; where that one is named too, the two are one occurrence.
    pub fn occurrences(
        &self,
        local: &TimeZone,
        from: Timestamp,
    ) -> impl Iterator<Item = Span> + Send + 'static {
        let track = Track::of(self, local);
        let first = track.as_ref().and_then(|track| track.next_begun(floor(from) - track.duration));
        iter::successors(first, move |now| track.as_ref()?.next_begun(now.start)).map(Occurrence::span)
    }

    /// Its occurrences that begin before `to`, the last one first, lazily, to the beginning of time.
    pub fn occurrences_back(
        &self,
        local: &TimeZone,
        to: Timestamp,
    ) -> impl Iterator<Item = Span> + Send + 'static {
        let track = Track::of(self, local);
        let first = track.as_ref().and_then(|track| track.last_begun(ceiling(to) - 1));
        iter::successors(first, move |now| track.as_ref()?.last_begun(now.start - 1)).map(Occurrence::span)
    }

    /// Its occurrences that overlap `[from, to)`, in order and whole.
    pub fn occurrences_between(
        &self,
        local: &TimeZone,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = Span> + Send + 'static {
        self.occurrences(local, from).take_while(move |span| span.start < to)
    }
}
