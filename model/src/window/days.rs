//! The days a recurrence names, as numbers since 1 January 1970, found by arithmetic in both directions.

use jiff::{SignedDuration, civil};

use super::Recurrence;

/// The first day that has a number here: 1 January -9999.
pub(super) const FIRST: i64 = -4_371_587;

/// The last one: 31 December 9999.
pub(super) const LAST: i64 = 2_932_896;

/// Days of 400 years.
pub(super) const CYCLE_DAYS: i64 = 146_097;

/// Months of a cycle.
const CYCLE_MONTHS: i64 = 4_800;

/// Months looked at for a day that not all months have. Every month that `every` ever reaches comes by within twelve
/// steps; only 29 February every twelve months has to wait for a leap year, at most eight years.
const TRIES: i64 = 13;

/// A recurrence, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Days {
    /// One day.
    Once(i64),
    /// Every so many days, one of which is `phase`.
    Every { step: i64, phase: i64 },
    /// In every so many weeks, one of which is `phase`: the weekdays of the mask (bit 0 is Monday).
    Weeks { step: i64, phase: i64, mask: u8 },
    /// In every so many months: that day, 0 for the last.
    MonthDay { step: i64, phase: i64, day: u8 },
    /// In every so many months: the weekday (0 Monday), first to fourth or (0) last, and so many days on.
    MonthWeekday { step: i64, phase: i64, order: u8, weekday: i64, offset: i64 },
}

impl Days {
    /// Of a recurrence whose numbers were checked; others name some days, and never fail.
    pub(super) fn of(recurrence: &Recurrence) -> Self {
        let step = |every: u8| i64::from(every).max(1);
        match recurrence {
            Recurrence::Once { date } => Self::Once(number(*date)),
            Recurrence::Daily { every, anchor } => Self::Every { step: step(*every), phase: number(*anchor) },
            Recurrence::Weekly { every, anchor, weekdays } => {
                let bit = |weekday: &u8| 1_u8.checked_shl(u32::from(*weekday)).unwrap_or_default() >> 1;
                let mask = weekdays.iter().map(bit).fold(0, |mask, bit| mask | bit);
                Self::Weeks { step: step(*every), phase: week(number(*anchor)), mask }
            }
            Recurrence::MonthlyByDate { every, anchor, day } => {
                Self::MonthDay { step: step(*every), phase: month(*anchor), day: *day }
            }
            Recurrence::MonthlyByWeekday { every, anchor, order, weekday, offset_days } => {
                Self::MonthWeekday {
                    step: step(*every),
                    phase: month(*anchor),
                    order: *order,
                    weekday: i64::from(*weekday) - 1,
                    offset: i64::from(*offset_days),
                }
            }
        }
    }

    /// The first of its days that is not before `day`.
    pub(super) fn next(&self, day: i64) -> Option<i64> {
        let day = day.max(FIRST);
        let found = match self {
            Self::Once(only) => Some(*only).filter(|only| *only >= day),
            Self::Every { step, phase } => Some(up(day, *phase, *step)),
            Self::Weeks { step, phase, mask } => {
                let this = week(day);
                let in_week = |week: i64, mask: u8| {
                    (mask != 0).then(|| monday(week) + i64::from(mask.trailing_zeros()))
                };
                let rest =
                    if up(this, *phase, *step) == this { mask & (0x7f << (day - monday(this))) } else { 0 };
                in_week(this, rest).or_else(|| in_week(up(this + 1, *phase, *step), *mask))
            }
            Self::MonthDay { step, phase, day: wanted } => {
                let first = up(month(date(day)?), *phase, *step);
                (0..=TRIES)
                    .filter_map(|n| day_of_month(first + n * step, *wanted))
                    .find(|found| *found >= day)
            }
            Self::MonthWeekday { step, phase, order, weekday, offset } => {
                let base = (day - offset).max(FIRST);
                let first = up(month(date(base)?), *phase, *step);
                [first, first + step]
                    .into_iter()
                    .filter_map(|month| Some(weekday_of_month(month, *order, *weekday)? + offset))
                    .find(|found| *found >= day)
            }
        };
        found.filter(|found| *found <= LAST)
    }

    /// The last of its days that is not after `day`.
    pub(super) fn previous(&self, day: i64) -> Option<i64> {
        let day = day.min(LAST);
        let found = match self {
            Self::Once(only) => Some(*only).filter(|only| *only <= day),
            Self::Every { step, phase } => Some(down(day, *phase, *step)),
            Self::Weeks { step, phase, mask } => {
                let this = week(day);
                let in_week =
                    |week: i64, mask: u8| (mask != 0).then(|| monday(week) + i64::from(mask.ilog2()));
                let past = if down(this, *phase, *step) == this {
                    mask & (0x7f >> (6 - (day - monday(this))))
                } else {
                    0
                };
                in_week(this, past).or_else(|| in_week(down(this - 1, *phase, *step), *mask))
            }
            Self::MonthDay { step, phase, day: wanted } => {
                let last = down(month(date(day)?), *phase, *step);
                (0..=TRIES).filter_map(|n| day_of_month(last - n * step, *wanted)).find(|found| *found <= day)
            }
            Self::MonthWeekday { step, phase, order, weekday, offset } => {
                let last = down(month(date((day - offset).max(FIRST))?), *phase, *step);
                [last, last - step]
                    .into_iter()
                    .filter_map(|month| Some(weekday_of_month(month, *order, *weekday)? + offset))
                    .find(|found| *found <= day)
            }
        };
        found.filter(|found| *found >= FIRST)
    }

    /// After how many days it repeats; none for a single day.
    pub(super) fn period(&self) -> Option<i64> {
        match self {
            Self::Once(_) => None,
            Self::Every { step, .. } => Some(*step),
            Self::Weeks { step, .. } => Some(7 * step),
            Self::MonthDay { step, .. } | Self::MonthWeekday { step, .. } => {
                Some(CYCLE_DAYS * (step / gcd(CYCLE_MONTHS, *step)))
            }
        }
    }

    /// The least recurrence by weekdays that names every day this one names, and whether it names no other.
    pub(super) fn by_weekday(&self) -> (Self, bool) {
        let weekly = |mask| Self::Weeks { step: 1, phase: 0, mask };
        match self {
            Self::Every { step: 1, .. } => (weekly(0x7f), true),
            Self::Weeks { step, mask, .. } => (weekly(*mask), *step == 1),
            Self::MonthWeekday { weekday, offset, .. } => (weekly(1 << ((weekday + offset) % 7)), false),
            Self::Once(_) | Self::Every { .. } | Self::MonthDay { .. } => (weekly(0x7f), false),
        }
    }
}

/// Greatest common divisor.
pub(super) fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The first number from `from` on that is a multiple of `step` away from `phase`.
fn up(from: i64, phase: i64, step: i64) -> i64 {
    from + (phase - from).rem_euclid(step)
}

/// The last one up to `from`.
fn down(from: i64, phase: i64, step: i64) -> i64 {
    from - (from - phase).rem_euclid(step)
}

const EPOCH: civil::Date = civil::date(1970, 1, 1);

/// Days since 1 January 1970, a Thursday.
pub(super) fn number(date: civil::Date) -> i64 {
    date.duration_since(EPOCH).as_hours() / 24
}

fn date(number: i64) -> Option<civil::Date> {
    EPOCH.checked_add(SignedDuration::from_hours(number * 24)).ok()
}

/// Weeks begin on Monday; week 0 is that of 1 January 1970.
fn week(day: i64) -> i64 {
    (day + 3).div_euclid(7)
}

fn monday(week: i64) -> i64 {
    week * 7 - 3
}

fn month(date: civil::Date) -> i64 {
    i64::from(date.year()) * 12 + i64::from(date.month()) - 1
}

fn first_of_month(month: i64) -> Option<civil::Date> {
    let year = i16::try_from(month.div_euclid(12)).ok()?;
    civil::Date::new(year, i8::try_from(month.rem_euclid(12) + 1).ok()?, 1).ok()
}

/// Day 1 to 31 of the month, 0 for its last; none when the month is too short.
fn day_of_month(month: i64, day: u8) -> Option<i64> {
    let first = first_of_month(month)?;
    let length = i64::from(first.days_in_month());
    let day = if day == 0 { length } else { i64::from(day) };
    (day <= length).then(|| number(first) + day - 1)
}

/// The first to fourth (1 to 4) or last (0) of a weekday (0 Monday to 6 Sunday) in the month.
fn weekday_of_month(month: i64, order: u8, weekday: i64) -> Option<i64> {
    let first = first_of_month(month)?;
    let number = number(first);
    if order == 0 {
        let last = number + i64::from(first.days_in_month()) - 1;
        return Some(last - (last + 3 - weekday).rem_euclid(7));
    }
    Some(number + (weekday - (number + 3)).rem_euclid(7) + 7 * (i64::from(order) - 1))
}
