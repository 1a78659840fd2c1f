//! What the oracle walks on: for every minute of some years what the clocks of zones show in it, and every day with all that
//! the words of a recurrence speak of. Nothing of the arithmetic is used, but its types.

use std::sync::OnceLock;

use jiff::{Timestamp, civil, tz::TimeZone};

use super::{Recurrence, time_zone};

/// Five years and a bit, in minutes.
pub(super) const MINUTES: usize = 60 * 24 * 1840;

/// First year, and zones with what they did within five years of it.
pub(super) const YEARS: &[(i16, &[&str])] = &[
    // Half-hour zone to quarter-hour zone in 1986; gaps at midnight; half-hour summer time.
    (1984, &["Asia/Kathmandu", "America/Havana", "Australia/Lord_Howe", "Europe/Berlin"]),
    // Days left out: Kwajalein in 1993, Kiritimati and Enderbury in 1994 and 1995.
    (1991, &["Pacific/Kiritimati", "Pacific/Kwajalein", "America/St_Johns", "Europe/Dublin"]),
    // Samoa's day left out in 2011; clocks put forward one minute after midnight; Ramadan; Egypt's four changes of 2010.
    (2009, &["Pacific/Apia", "America/St_Johns", "Africa/Cairo", "Africa/Casablanca", "Pacific/Chatham"]),
    // Half an hour in Venezuela and North Korea; Chile's years without winter; Antarctica's two hours; Brazil at midnight.
    (
        2014,
        &["America/Caracas", "Asia/Pyongyang", "America/Santiago", "Antarctica/Troll", "America/Sao_Paulo"],
    ),
    // Negative summer time in Morocco and Ireland; midnight changes of the Levant and Egypt's return; Greenland; Gaza.
    (
        2020,
        &["Africa/Casablanca", "Asia/Beirut", "Africa/Cairo", "America/Nuuk", "Europe/Dublin", "Asia/Gaza"],
    ),
    // Past 19 January 2038, by rules alone.
    (
        2035,
        &["America/New_York", "Australia/Lord_Howe", "Antarctica/Troll", "Asia/Beirut", "America/Santiago"],
    ),
];

/// When the clock of a zone shows what: found by walking every minute once.
pub(super) struct Clock {
    /// The first minute of the walk, since 1970 in UTC, and what the clock shows in it.
    pub first: i64,
    shows: i64,
    /// For every minute that a clock can show, from `shows` on: the first minute of the walk in which this clock shows it
    /// or has passed it, less the place in this list.
    reached: Vec<i16>,
}

impl Clock {
    fn of(year: i16, zone: &TimeZone) -> Self {
        let first = civil::date(year, 1, 1).at(0, 0, 0, 0).duration_since(EPOCH).as_secs() / 60;
        let offset = |index: usize| {
            let at = Timestamp::from_second((first + i64::try_from(index).unwrap()) * 60).unwrap();
            i64::from(zone.to_offset(at).seconds() / 60)
        };
        let shows = first + offset(0);
        let mut reached = Vec::with_capacity(MINUTES);
        // jiff is asked every half hour, and for each minute where the answers differ: no zone of these years changed
        // twice within one.
        let mut known = offset(0);
        for block in 0..MINUTES / 30 {
            let next = offset(block * 30 + 30);
            for index in block * 30..block * 30 + 30 {
                let now = if known == next { known } else { offset(index) };
                let minute = i64::try_from(index).unwrap();
                while shows + i64::try_from(reached.len()).unwrap() <= first + minute + now {
                    reached.push(i16::try_from(minute - i64::try_from(reached.len()).unwrap()).unwrap());
                }
            }
            known = next;
        }
        Self { first, shows, reached }
    }

    /// The first minute of the walk in which the clock shows that minute or has passed it.
    pub(super) fn reaches(&self, minute: i64) -> Option<usize> {
        let place = usize::try_from(minute - self.shows).ok()?;
        let reached = i64::from(*self.reached.get(place)?);
        Some(usize::try_from(reached + i64::try_from(place).unwrap()).unwrap())
    }
}

/// A bit for every minute.
#[derive(Clone)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn all(set: bool) -> Self {
        Self(vec![if set { u64::MAX } else { 0 }; MINUTES / 64])
    }

    pub(super) fn set(&mut self, from: usize, to: usize) {
        let to = to.min(MINUTES);
        let mut index = from;
        while index < to {
            let word = &mut self.0[index / 64];
            if index.is_multiple_of(64) && index + 64 <= to {
                *word = u64::MAX;
                index += 64;
            } else {
                *word |= 1 << (index % 64);
                index += 1;
            }
        }
    }

    pub(super) fn put(&mut self, other: &Self, with: impl Fn(u64, u64) -> u64) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = with(*mine, *theirs);
        }
    }

    /// The runs of set bits, as first and last but one.
    pub(super) fn runs(&self) -> Vec<(usize, usize)> {
        let mut runs = Vec::new();
        let mut begun = None;
        for (place, word) in self.0.iter().enumerate() {
            // A word that only goes on with what was before it.
            if *word == if begun.is_some() { u64::MAX } else { 0 } {
                continue;
            }
            for bit in 0..64 {
                let index = place * 64 + bit;
                match (word >> bit & 1 == 1, begun) {
                    (true, None) => begun = Some(index),
                    (false, Some(start)) => {
                        runs.push((start, index));
                        begun = None;
                    }
                    _ => {}
                }
            }
        }
        runs.extend(begun.map(|start| (start, MINUTES)));
        runs
    }
}

pub(super) const EPOCH: civil::DateTime = civil::date(1970, 1, 1).at(0, 0, 0, 0);

/// The clock of a zone (0: UTC, then those of the list), made once.
pub(super) fn clock(years: usize, zone: usize) -> &'static Clock {
    static CLOCKS: OnceLock<Vec<Vec<OnceLock<Clock>>>> = OnceLock::new();
    let all = CLOCKS.get_or_init(|| {
        YEARS.iter().map(|(_, zones)| (0..=zones.len()).map(|_| OnceLock::new()).collect()).collect()
    });
    all[years][zone].get_or_init(|| Clock::of(YEARS[years].0, &time_zone(zone_name(years, zone)).unwrap()))
}

pub(super) fn zone_name(years: usize, zone: usize) -> &'static str {
    zone.checked_sub(1).map_or("UTC", |index| YEARS[years].1[index])
}

/// One day of the walk, with all that the words of a recurrence speak of.
pub(super) struct Day {
    pub date: civil::Date,
    /// In days, weeks and months since some day long ago.
    number: i64,
    week: i64,
    month: i64,
    weekday: u8,
    /// How many days of that weekday the month has had with this one, and how many it has still.
    had: u8,
    left: u8,
    last_of_month: bool,
}

/// Every day from 60 days before a walk to its end, one after the other: nothing is computed but what tomorrow is.
pub(super) fn days(years: usize) -> &'static [Day] {
    static DAYS: OnceLock<Vec<Vec<Day>>> = OnceLock::new();
    &DAYS.get_or_init(|| YEARS.iter().map(|(year, _)| walk_days(*year)).collect())[years]
}

fn walk_days(year: i16) -> Vec<Day> {
    let same_weekday = |date: civil::Date, days: i64| {
        let other = date.checked_add(jiff::Span::new().days(days)).unwrap();
        other.month() == date.month()
    };
    let mut date = civil::date(year - 1, 11, 2);
    let (mut number, mut week, mut month) = (0, 0, 0);
    let mut all: Vec<Day> = Vec::new();
    while date.year() <= year + 5 {
        let weekday = u8::try_from(date.weekday().to_monday_one_offset()).unwrap();
        let last_of_month = !same_weekday(date, 1);
        let count = |by: i64| u8::try_from((1..5).filter(|n| same_weekday(date, n * by)).count()).unwrap();
        all.push(Day {
            date,
            number,
            week,
            month,
            weekday,
            had: 1 + count(-7),
            left: count(7),
            last_of_month,
        });
        number += 1;
        week += i64::from(weekday == 7);
        month += i64::from(last_of_month);
        date = date.tomorrow().unwrap();
    }
    all
}

/// Whether the words of the recurrence name the day at that place of the list.
pub(super) fn names(recurrence: &Recurrence, all: &[Day], anchor: Option<&Day>, index: usize) -> bool {
    let apart =
        |of: fn(&Day) -> i64, day: &Day, every: u8| (of(day) - of(anchor.unwrap())) % i64::from(every) == 0;
    let day = &all[index];
    match recurrence {
        Recurrence::Once { date } => *date == day.date,
        Recurrence::Daily { every, .. } => apart(|day| day.number, day, *every),
        Recurrence::Weekly { every, weekdays, .. } => {
            weekdays.contains(&day.weekday) && apart(|day| day.week, day, *every)
        }
        Recurrence::MonthlyByDate { every, day: wanted, .. } => {
            let is_day = if *wanted == 0 {
                day.last_of_month
            } else {
                i64::from(day.date.day()) == i64::from(*wanted)
            };
            is_day && apart(|day| day.month, day, *every)
        }
        Recurrence::MonthlyByWeekday { every, order, weekday, offset_days, .. } => {
            let base = &all[index - usize::from(*offset_days)];
            let is_base = if *order == 0 { base.left == 0 } else { base.had == *order };
            base.weekday == *weekday && is_base && apart(|day| day.month, base, *every)
        }
    }
}
