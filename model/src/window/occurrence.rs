//! When one window opens.

use std::iter;

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};

use super::{Recurrence, Span, Window, zone::first_instant};

/// Why a window can never be evaluated. It opens nothing; a deny window like this denies always.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Duration outside 5 minutes to 24 hours.
    #[error("duration: {0:#} is outside 5m to 24h")]
    Duration(SignedDuration),
    /// A zone in no database.
    #[error(
        "timeZone: TZ-UNKNOWN: {0:?} is not a zone of the IANA database; write for example Europe/Berlin"
    )]
    Zone(String),
    /// A number of the recurrence outside its range.
    #[error("recurrence: {field} is {value}, outside {range}")]
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
    #[error("effective dates: {from} is after {until}")]
    Effective {
        /// First day.
        from: civil::Date,
        /// Last day.
        until: civil::Date,
    },
}

/// Days to look back from an instant for occurrences that may still last: a window of at most 24 hours, delayed by a
/// gap of at most 24 hours, in a zone at most 26 hours away.
const LOOK_BACK: i64 = 4;

impl Window {
    /// Whether the window can be evaluated; `Ok` does not say that it ever opens.
    pub fn validate(&self) -> Result<(), WindowError> {
        if self.duration < SignedDuration::from_mins(5) || self.duration > SignedDuration::from_hours(24) {
            return Err(WindowError::Duration(self.duration));
        }
        if self.zone.resolve(&TimeZone::UTC).is_none() {
            return Err(WindowError::Zone(match &self.zone {
                super::Zone::Iana(name) => name.clone(),
                other => format!("{other:?}"),
            }));
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
    /// at all when the window cannot be evaluated. The length is elapsed time (reliability.md #97).
    pub fn occurrences(
        &self,
        local: &TimeZone,
        from: Timestamp,
    ) -> Box<dyn Iterator<Item = Span> + Send + '_> {
        let (Ok(()), Some(zone)) = (self.validate(), self.zone.resolve(local)) else {
            return Box::new(iter::empty());
        };
        let mut first = shift(zone.to_datetime(from).date(), -LOOK_BACK).unwrap_or(civil::Date::MIN);
        if let Some(effective) = self.effective_from {
            first = first.max(effective);
        }
        let last = self.effective_until.unwrap_or(civil::Date::MAX);
        Box::new(
            self.recurrence
                .dates(first)
                .take_while(move |date| *date <= last)
                .map_while(move |date| {
                    let start = first_instant(date.to_datetime(self.start), &zone)?;
                    Some(Span { start, end: start.checked_add(self.duration).ok()? })
                })
                .skip_while(move |span| span.end <= from),
        )
    }
}

impl Recurrence {
    /// The days on which it opens, from `first` on, in order. The anchor gives the phase only: days before it count
    /// too, the effective dates say when the first may be. Numbers out of range give no day.
    pub fn dates(&self, first: civil::Date) -> Box<dyn Iterator<Item = civil::Date> + Send + '_> {
        match self {
            Self::Once { date } => Box::new(iter::once(*date).filter(move |date| *date >= first)),
            Self::Daily { every, anchor } => {
                Box::new(steps(day_number(first), day_number(*anchor), *every).map_while(date_of))
            }
            Self::Weekly { every, anchor, weekdays } => {
                let mut days: Vec<i64> = weekdays.iter().map(|day| i64::from(*day) - 1).collect();
                days.retain(|day| (0..7).contains(day));
                days.sort_unstable();
                days.dedup();
                if days.is_empty() {
                    return Box::new(iter::empty());
                }
                Box::new(
                    steps(week_number(first), week_number(*anchor), *every)
                        .flat_map(move |week| days.clone().into_iter().map(move |day| monday(week) + day))
                        .map_while(date_of)
                        .skip_while(move |date| *date < first),
                )
            }
            Self::MonthlyByDate { every, anchor, day } => Box::new(
                steps(month_number(first), month_number(*anchor), *every)
                    .map_while(first_of_month)
                    .filter_map(move |month| day_of_month(month, *day))
                    .skip_while(move |date| *date < first),
            ),
            Self::MonthlyByWeekday { every, anchor, order, weekday, offset_days } => {
                // An offset may lead into the month after, or the one after that.
                let start = shift(first, -62).unwrap_or(civil::Date::MIN);
                Box::new(
                    steps(month_number(start), month_number(*anchor), *every)
                        .map_while(first_of_month)
                        .filter_map(move |month| weekday_of_month(month, *order, *weekday))
                        .map_while(move |date| shift(date, i64::from(*offset_days)))
                        .skip_while(move |date| *date < first),
                )
            }
        }
    }
}

/// The numbers from `from` on that are `every` apart and hit `anchor`.
fn steps(from: i64, anchor: i64, every: u8) -> Box<dyn Iterator<Item = i64> + Send> {
    let every = i64::from(every);
    if every == 0 {
        return Box::new(iter::empty());
    }
    let start = from + (anchor - from).rem_euclid(every);
    Box::new(iter::successors(Some(start), move |number| number.checked_add(every)))
}

const EPOCH: civil::Date = civil::date(1970, 1, 1);

/// Days since 1 January 1970, a Thursday.
fn day_number(date: civil::Date) -> i64 {
    date.duration_since(EPOCH).as_hours() / 24
}

fn date_of(number: i64) -> Option<civil::Date> {
    shift(EPOCH, number)
}

fn shift(date: civil::Date, days: i64) -> Option<civil::Date> {
    date.checked_add(SignedDuration::try_from_hours(days.checked_mul(24)?)?).ok()
}

/// Weeks begin on Monday; week 0 is that of 1 January 1970.
fn week_number(date: civil::Date) -> i64 {
    (day_number(date) + 3).div_euclid(7)
}

fn monday(week: i64) -> i64 {
    week * 7 - 3
}

fn month_number(date: civil::Date) -> i64 {
    i64::from(date.year()) * 12 + i64::from(date.month()) - 1
}

fn first_of_month(number: i64) -> Option<civil::Date> {
    let year = i16::try_from(number.div_euclid(12)).ok()?;
    let month = i8::try_from(number.rem_euclid(12) + 1).ok()?;
    civil::Date::new(year, month, 1).ok()
}

/// Day 1 to 31 of the month, 0 for its last; none when the month is too short.
fn day_of_month(month: civil::Date, day: u8) -> Option<civil::Date> {
    if day == 0 {
        return Some(month.last_of_month());
    }
    civil::Date::new(month.year(), month.month(), i8::try_from(day).ok()?).ok()
}

/// The first to fourth (1 to 4) or last (0) of a weekday (1 Monday to 7 Sunday) in the month.
fn weekday_of_month(month: civil::Date, order: u8, weekday: u8) -> Option<civil::Date> {
    let weekday = civil::Weekday::from_monday_one_offset(i8::try_from(weekday).ok()?).ok()?;
    let nth = if order == 0 { -1 } else { i8::try_from(order).ok()? };
    month.nth_weekday_of_month(nth, weekday).ok()
}
