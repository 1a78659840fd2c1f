//! What an answer about windows takes: ordinary ones, far ones, and hostile ones.
//!
//! `cargo bench -p patchtide-model --bench windows`. Each line is the median of eleven rounds; *first* is the first question
//! of all, which works out the zone.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement that cannot go on ends")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use patchtide_model::{
    ObjectName,
    window::{AppliesTo, Calendar, NextOpening, Purpose, Recurrence, Window, WindowAction, Zone, time_zone},
};

const ROUNDS: usize = 11;

fn window(recurrence: Recurrence, hour: i8, minutes: i64, zone: &str) -> Window {
    Window {
        name: ObjectName::new("w").unwrap(),
        collection: ObjectName::new("c").unwrap(),
        recurrence,
        start: civil::time(hour, 0, 0, 0),
        duration: SignedDuration::from_mins(minutes),
        zone: Zone::Iana(zone.to_owned()),
        effective_from: None,
        effective_until: None,
        applies_to: AppliesTo::Updates,
        action: WindowAction::Allow,
    }
}

fn anchor() -> civil::Date {
    civil::date(2026, 2, 1)
}

fn daily(every: u8, hour: i8, minutes: i64, zone: &str) -> Window {
    window(Recurrence::Daily { every, anchor: anchor() }, hour, minutes, zone)
}

fn weekly(every: u8, weekdays: &[u8], hour: i8, minutes: i64, zone: &str) -> Window {
    let recurrence = Recurrence::Weekly { every, anchor: anchor(), weekdays: weekdays.to_vec() };
    window(recurrence, hour, minutes, zone)
}

fn on_day(every: u8, day: u8, hour: i8, minutes: i64) -> Window {
    window(Recurrence::MonthlyByDate { every, anchor: anchor(), day }, hour, minutes, "Europe/Berlin")
}

fn patch_tuesday(offset_days: u8) -> Window {
    let recurrence =
        Recurrence::MonthlyByWeekday { every: 1, anchor: anchor(), order: 2, weekday: 2, offset_days };
    window(recurrence, 22, 240, "Europe/Berlin")
}

fn deny(window: Window) -> Window {
    Window { action: WindowAction::Deny, ..window }
}

/// The median time of one call, of as many calls as take some milliseconds.
fn time(mut ask: impl FnMut()) -> Duration {
    let mut calls = 1_u32;
    let mut round = |calls: u32| {
        let start = Instant::now();
        for _ in 0..calls {
            ask();
        }
        start.elapsed()
    };
    while round(calls) < Duration::from_millis(5) && calls < 1 << 20 {
        calls *= 4;
    }
    let mut rounds: Vec<Duration> = (0..ROUNDS).map(|_| round(calls) / calls).collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2]
}

/// Weekday nights and the Saturday after Patch Tuesday, but not at the end of a quarter, and not when backups run.
fn several() -> Vec<Window> {
    vec![
        weekly(1, &[1, 2, 3, 4], 22, 240, "Europe/Berlin"),
        patch_tuesday(4),
        deny(on_day(3, 0, 0, 1440)),
        deny(daily(1, 23, 30, "UTC")),
    ]
}

/// What is asked: a name, the windows, from when, and how long an opening is needed.
fn cases() -> Vec<(&'static str, Vec<Window>, &'static str, SignedDuration)> {
    let hours = SignedDuration::from_hours;
    vec![
        ("next opening of 1 h (4 windows)", several(), "2026-11-21T12:00:00Z", hours(1)),
        ("never: 30 h in 4 windows", several(), "2026-11-21T12:00:00Z", hours(30)),
        ("never: 5 h after Patch Tuesday", vec![patch_tuesday(4)], "2026-11-21T12:00:00Z", hours(5)),
        ("29 February, from 1 March 2096", vec![on_day(12, 29, 1, 60)], "2096-03-01T00:00:00Z", hours(1)),
        ("never: 29 February is too short", vec![on_day(12, 29, 1, 60)], "2026-11-21T12:00:00Z", hours(2)),
        ("never: day 31 of each February", vec![on_day(12, 31, 1, 60)], "2026-11-21T12:00:00Z", hours(1)),
        (
            "once, in the year 9990",
            vec![window(Recurrence::Once { date: civil::date(9990, 6, 1) }, 2, 60, "America/New_York")],
            "2026-11-21T12:00:00Z",
            hours(1),
        ),
        (
            "never: denied always",
            vec![daily(1, 2, 240, "Europe/Berlin"), deny(daily(1, 0, 1440, "UTC"))],
            "2026-11-21T12:00:00Z",
            hours(1),
        ),
        (
            "never: denied always, in three zones",
            vec![
                weekly(2, &[3], 2, 240, "America/New_York"),
                deny(daily(1, 0, 780, "Europe/Berlin")),
                deny(daily(1, 12, 840, "Australia/Lord_Howe")),
                deny(daily(1, 0, 1440, "UTC")),
            ],
            "2026-11-21T12:00:00Z",
            hours(1),
        ),
        (
            "24 h between denied hours: the day of 25 hours",
            vec![deny(daily(1, 2, 60, "Europe/Berlin"))],
            "2026-11-21T12:00:00Z",
            hours(24),
        ),
        (
            "never: 25 h between denied hours",
            vec![deny(daily(1, 2, 60, "Europe/Berlin"))],
            "2026-11-21T12:00:00Z",
            hours(25),
        ),
        (
            "open for ever",
            vec![daily(1, 0, 720, "UTC"), daily(1, 12, 720, "UTC")],
            "2026-11-21T12:00:00Z",
            hours(1),
        ),
        (
            "never, 400 years walked: last days and firsts, 49 h",
            vec![on_day(1, 0, 0, 1440), on_day(1, 1, 0, 1440)],
            "2026-11-21T12:00:00Z",
            hours(49),
        ),
        (
            "never, until the year 9999: every 31 days, every 11 months",
            vec![
                daily(31, 0, 1440, "UTC"),
                weekly(4, &[2], 0, 1440, "Europe/Berlin"),
                on_day(11, 31, 0, 1440),
            ],
            "2026-11-21T12:00:00Z",
            hours(24 * 30),
        ),
    ]
}

fn main() {
    let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    let zone = time_zone("Europe/Berlin").unwrap();
    let hours = SignedDuration::from_hours;

    let start = Instant::now();
    let first = Calendar::new(&[patch_tuesday(4)], Purpose::Install, &zone);
    black_box(first.next_opening(now, hours(1)));
    println!("{:<64} {:>12?}", "first question: the zone is worked out", start.elapsed());

    let several = several();
    time_of("make the calendar of 4 windows", || {
        black_box(Calendar::new(&several, Purpose::Install, &TimeZone::UTC));
    });
    let all = Calendar::new(&several, Purpose::Install, &TimeZone::UTC);
    time_of("is it open, until when (4 windows)", || {
        black_box(all.is_open(black_box(now)));
    });
    time_of("since when and until when (4 windows)", || {
        black_box(all.opening_at(black_box(now + hours(10))));
    });
    time_of("the previous opening (4 windows)", || {
        black_box(all.previous_opening(black_box(now)));
    });
    time_of("all openings of a year (4 windows)", || {
        black_box(all.openings_between(now, now + hours(24 * 365)).count());
    });

    for (name, windows, from, need) in cases() {
        let calendar = Calendar::new(&windows, Purpose::Install, &TimeZone::UTC);
        let from: Timestamp = from.parse().unwrap();
        time_of(name, || {
            black_box(calendar.next_opening(black_box(from), need));
        });
        let told = match calendar.next_opening(from, need) {
            NextOpening::Now { until } => format!("now, until {until:?}"),
            NextOpening::At(span) => format!("at {}", span.start),
            NextOpening::Never { longest, reason } => {
                format!("never ({reason:?}), longest {:?}", longest.map(|span| span.length()))
            }
        };
        println!("    {told}");
    }
}

fn time_of(name: &str, ask: impl FnMut()) {
    println!("{name:<64} {:>12?}", time(ask));
}
