//! Window arithmetic against an oracle that knows none of it: it walks day by day and minute by minute.
//!
//! `PROPTEST_CASES` gives the number of random cases.

use jiff::{SignedDuration, Timestamp, ToSpan, civil, tz::TimeZone};
use proptest::prelude::*;

use super::{examples::plain, *};

const ZONES: &[&str] = &[
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Africa/Casablanca",
    "Europe/Dublin",
    "Asia/Kathmandu",
    "America/St_Johns",
    "Pacific/Kiritimati",
];

/// Days near which zones above do something odd, and ordinary ones.
const DAYS: &[(i16, i8, i8)] = &[
    (2024, 3, 31),
    (2024, 10, 27),
    (2024, 4, 7),
    (2024, 10, 6),
    (2011, 12, 30),
    (2024, 2, 29),
    (2023, 2, 28),
    (2024, 12, 31),
    (2024, 3, 10),
    (2024, 11, 3),
    (2024, 4, 14),
    (2024, 3, 10),
    (2024, 6, 12),
    (2012, 4, 1),
];

/// Zones and days on which their clocks jump.
const JUMPS: &[(&str, (i16, i8, i8))] = &[
    ("Europe/Berlin", (2024, 3, 31)),
    ("Europe/Berlin", (2024, 10, 27)),
    ("Europe/Dublin", (2024, 3, 31)),
    ("America/New_York", (2024, 3, 10)),
    ("America/New_York", (2024, 11, 3)),
    ("America/St_Johns", (2024, 3, 10)),
    ("Australia/Lord_Howe", (2024, 4, 7)),
    ("Australia/Lord_Howe", (2024, 10, 6)),
    ("Pacific/Chatham", (2024, 4, 7)),
    ("Pacific/Chatham", (2024, 9, 29)),
    ("Africa/Casablanca", (2024, 3, 10)),
    ("Africa/Casablanca", (2024, 4, 14)),
    ("Pacific/Apia", (2011, 12, 30)),
];

/// Whether the recurrence names this day, from the words of its documentation alone.
fn names_day(recurrence: &Recurrence, day: civil::Date) -> bool {
    let days_between = |a: civil::Date, b: civil::Date| i64::from(a.until(b).unwrap().get_days());
    let months_between = |a: civil::Date, b: civil::Date| {
        (i64::from(b.year()) - i64::from(a.year())) * 12 + i64::from(b.month()) - i64::from(a.month())
    };
    let monday_of = |mut date: civil::Date| {
        while date.weekday() != civil::Weekday::Monday {
            date = date.yesterday().unwrap();
        }
        date
    };
    match recurrence {
        Recurrence::Once { date } => *date == day,
        Recurrence::Daily { every, anchor } => days_between(*anchor, day) % i64::from(*every) == 0,
        Recurrence::Weekly { every, anchor, weekdays } => {
            weekdays.contains(&u8::try_from(day.weekday().to_monday_one_offset()).unwrap())
                && days_between(monday_of(*anchor), monday_of(day)) / 7 % i64::from(*every) == 0
        }
        Recurrence::MonthlyByDate { every, anchor, day: wanted } => {
            months_between(*anchor, day) % i64::from(*every) == 0
                && match wanted {
                    0 => day.tomorrow().unwrap().month() != day.month(),
                    wanted => i64::from(day.day()) == i64::from(*wanted),
                }
        }
        Recurrence::MonthlyByWeekday { every, anchor, order, weekday, offset_days } => {
            let base = day.checked_sub(i64::from(*offset_days).days()).unwrap();
            if i64::from(base.weekday().to_monday_one_offset()) != i64::from(*weekday)
                || months_between(*anchor, base) % i64::from(*every) != 0
            {
                return false;
            }
            let mut same_before = 0;
            let mut same_after = 0;
            for other in 1..=31 {
                let Ok(date) = civil::Date::new(base.year(), base.month(), other) else { break };
                if date.weekday() == base.weekday() {
                    same_before += u8::from(date < base);
                    same_after += u8::from(date > base);
                }
            }
            if *order == 0 { same_after == 0 } else { same_before + 1 == *order }
        }
    }
}

/// The minutes of a stretch of time and what windows say about each.
struct Minutes {
    start: Timestamp,
    count: usize,
}

impl Minutes {
    fn at(&self, index: usize) -> Timestamp {
        self.start + SignedDuration::from_mins(i64::try_from(index).unwrap())
    }

    /// Minute by minute: is this one window open?
    fn open(&self, window: &Window, local: &TimeZone) -> Vec<bool> {
        let zone = window.zone.resolve(local).unwrap();
        let clock: Vec<civil::DateTime> = (0..self.count).map(|i| zone.to_datetime(self.at(i))).collect();
        let mut open = vec![false; self.count];
        let mut day = clock[0].date().tomorrow().unwrap();
        while day < clock[self.count - 1].date() {
            let wanted = names_day(&window.recurrence, day)
                && window.effective_from.is_none_or(|from| from <= day)
                && window.effective_until.is_none_or(|until| day <= until);
            // The first minute at which the clock shows the time or has jumped past it.
            if wanted
                && let Some(first) = clock.iter().position(|shown| *shown >= day.to_datetime(window.start))
            {
                let end = self.at(first) + window.duration;
                for (index, minute) in open.iter_mut().enumerate().skip(first) {
                    *minute |= self.at(index) < end;
                }
            }
            day = day.tomorrow().unwrap();
        }
        open
    }

    fn together(&self, windows: &[Window], purpose: Purpose, local: &TimeZone) -> Vec<bool> {
        let any = |action: WindowAction, kinds: &[AppliesTo]| {
            windows.iter().any(|w| w.action == action && kinds.contains(&w.applies_to))
        };
        let kinds: &[AppliesTo] =
            if purpose == Purpose::Restart && any(WindowAction::Allow, &[AppliesTo::RestartsOnly]) {
                &[AppliesTo::RestartsOnly]
            } else if any(WindowAction::Allow, &[AppliesTo::Updates]) {
                &[AppliesTo::Updates]
            } else {
                &[AppliesTo::AllDeployments]
            };
        let free = !any(WindowAction::Allow, kinds);
        let mut open = vec![free; self.count];
        for window in windows {
            if window.action == WindowAction::Allow && kinds.contains(&window.applies_to) {
                for (sum, one) in open.iter_mut().zip(self.open(window, local)) {
                    *sum |= one;
                }
            }
        }
        for window in windows {
            if window.action == WindowAction::Deny
                && (purpose == Purpose::Restart || window.applies_to != AppliesTo::RestartsOnly)
            {
                for (sum, one) in open.iter_mut().zip(self.open(window, local)) {
                    *sum &= !one;
                }
            }
        }
        open
    }
}

fn day_near() -> impl Strategy<Value = civil::Date> {
    (prop::sample::select(DAYS), -3_i64..=3).prop_map(|((year, month, day), shift)| {
        civil::date(year, month, day).checked_add(shift.days()).unwrap()
    })
}

fn recurrence() -> impl Strategy<Value = Recurrence> {
    prop_oneof![
        day_near().prop_map(|date| Recurrence::Once { date }),
        (1_u8..=31, day_near()).prop_map(|(every, anchor)| Recurrence::Daily { every, anchor }),
        (1_u8..=4, day_near(), prop::collection::vec(1_u8..=7, 1..4))
            .prop_map(|(every, anchor, weekdays)| Recurrence::Weekly { every, anchor, weekdays }),
        (prop::sample::select(vec![1_u8, 2, 3, 12]), day_near(), 0_u8..=31)
            .prop_map(|(every, anchor, day)| Recurrence::MonthlyByDate { every, anchor, day }),
        (prop::sample::select(vec![1_u8, 2, 3, 12]), day_near(), 0_u8..=4, 1_u8..=7, 0_u8..=31).prop_map(
            |(every, anchor, order, weekday, offset_days)| Recurrence::MonthlyByWeekday {
                every,
                anchor,
                order,
                weekday,
                offset_days
            }
        ),
    ]
}

fn window() -> impl Strategy<Value = Window> {
    (
        recurrence(),
        (0_i8..24, prop::sample::select(vec![0_i8, 1, 15, 30, 59])),
        prop_oneof![5_i64..=1440, Just(1440), 60_i64..=240],
        prop_oneof![
            Just(Zone::Utc),
            Just(Zone::ClientLocal),
            prop::sample::select(ZONES).prop_map(|name| Zone::Iana(name.to_owned()))
        ],
        (prop::option::weighted(0.2, day_near()), 0_i64..40, prop::bool::weighted(0.2)),
        prop_oneof![Just(AppliesTo::AllDeployments), Just(AppliesTo::Updates), Just(AppliesTo::RestartsOnly)],
        prop::bool::weighted(0.25),
    )
        .prop_map(|(recurrence, (hour, minute), minutes, zone, (from, days, ends), applies_to, deny)| {
            Window {
                name: ObjectName::new("w").unwrap(),
                collection: ObjectName::new("c").unwrap(),
                recurrence,
                start: civil::time(hour, minute, 0, 0),
                duration: SignedDuration::from_mins(minutes),
                zone,
                effective_from: from,
                effective_until: from.filter(|_| ends).map(|from| from.checked_add(days.days()).unwrap()),
                applies_to,
                action: if deny { WindowAction::Deny } else { WindowAction::Allow },
            }
        })
}

proptest! {
    /// Every minute of three weeks, for a handful of windows together.
    #[test]
    fn calendar_agrees_with_the_minute_walker(
        windows in prop::collection::vec(window(), 0..4),
        purpose in prop_oneof![Just(Purpose::Install), Just(Purpose::Restart)],
        local in prop::sample::select(ZONES),
        around in day_near(),
        probes in prop::collection::vec((0_usize..10_000, 0_i64..2_000), 4),
    ) {
        let local = time_zone(local).unwrap();
        // The walker begins eight days before what is compared, so that nothing reaches in from outside.
        let middle = around.to_zoned(TimeZone::UTC).unwrap().timestamp();
        let minutes = Minutes { start: middle - SignedDuration::from_hours(24 * 15), count: 60 * 24 * 24 };
        let open = minutes.together(&windows, purpose, &local);
        let calendar = Calendar::new(&windows, purpose, &local);
        let (low, high) = (60 * 24 * 8, 60 * 24 * 22);

        let mut said = vec![false; minutes.count];
        let mut before = Timestamp::MIN;
        for span in calendar.openings(minutes.at(low)) {
            prop_assert!(span.start < span.end && before <= span.start, "spans are ordered and not empty");
            before = span.end;
            if span.start >= minutes.at(high) {
                break;
            }
            for (index, minute) in said.iter_mut().enumerate().take(high).skip(low) {
                *minute |= span.contains(minutes.at(index));
            }
        }
        for index in low..high {
            prop_assert_eq!(said[index], open[index], "at {}", minutes.at(index));
        }

        for (offset, need) in probes {
            let from = low + offset;
            let need_minutes = usize::try_from(need).unwrap();
            prop_assert_eq!(
                matches!(calendar.is_open(minutes.at(from)), Openness::Open { .. }),
                open[from]
            );
            // The first minute of an opening that is long enough, if the walker sees all of it.
            let walked = (from..high).find(|start| {
                (*start == from || !open[start - 1])
                    && open[*start]
                    && (*start..*start + need_minutes).all(|index| open.get(index).copied().unwrap_or(true))
            });
            match (calendar.next_opening(minutes.at(from), SignedDuration::from_mins(need)), walked) {
                (NextOpening::Now { .. }, walked) => prop_assert_eq!(walked, Some(from)),
                (NextOpening::At(span), Some(start)) => {
                    // What lies past the walker's end it cannot judge.
                    if start + need_minutes < high {
                        prop_assert_eq!(span.start, minutes.at(start));
                    }
                }
                (NextOpening::At(span), None) => prop_assert!(span.end > minutes.at(high)),
                (NextOpening::Never { .. }, walked) => {
                    if let Some(start) = walked {
                        prop_assert!(start + need_minutes >= high);
                    }
                }
            }
        }
    }

    /// Daily windows in the small hours around the days on which a zone jumps.
    #[test]
    fn jumps_of_the_clock_agree_with_the_minute_walker(
        (zone, (year, month, day)) in prop::sample::select(JUMPS),
        windows in prop::collection::vec((0_i8..5, prop::sample::select(vec![0_i8, 15, 30, 45, 59]), 5_i64..180, any::<bool>()), 1..3),
    ) {
        let local = time_zone(zone).unwrap();
        let day = civil::date(year, month, day);
        let windows: Vec<Window> = windows
            .into_iter()
            .map(|(hour, minute, minutes, deny)| {
                let recurrence = Recurrence::Daily { every: 1, anchor: day };
                let mut window = plain(recurrence, civil::time(hour, minute, 0, 0), minutes, zone);
                window.action = if deny { WindowAction::Deny } else { WindowAction::Allow };
                window
            })
            .collect();
        let middle = day.to_zoned(TimeZone::UTC).unwrap().timestamp();
        let minutes = Minutes { start: middle - SignedDuration::from_hours(24 * 5), count: 60 * 24 * 8 };
        let open = minutes.together(&windows, Purpose::Install, &local);
        let calendar = Calendar::new(&windows, Purpose::Install, &local);
        for index in (60 * 24 * 3..60 * 24 * 7).step_by(5) {
            let said = matches!(calendar.is_open(minutes.at(index)), Openness::Open { .. });
            prop_assert_eq!(said, open[index], "at {}", minutes.at(index));
        }
    }
}
