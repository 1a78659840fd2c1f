//! That *never* is true, and that what is far away or has no end is answered.

use std::slice::from_ref as one;

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use proptest::prelude::*;

use super::{
    days,
    examples::plain,
    proof::Direction,
    sweep::{BEGIN, END, Tracks},
    table::DAY,
    track::Track,
    *,
};

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn at(text: &str, hours: i64) -> Span {
    Span { start: instant(text), end: instant(text) + SignedDuration::from_hours(hours) }
}

fn daily(hour: i8, minutes: i64, zone: &str) -> Window {
    let recurrence = Recurrence::Daily { every: 1, anchor: civil::date(2024, 1, 1) };
    plain(recurrence, civil::time(hour, 0, 0, 0), minutes, zone)
}

fn deny(window: Window) -> Window {
    Window { action: WindowAction::Deny, ..window }
}

fn monthly(day: u8, every: u8, anchor: civil::Date, minutes: i64) -> Window {
    plain(Recurrence::MonthlyByDate { every, anchor, day }, civil::Time::midnight(), minutes, "UTC")
}

fn calendar(windows: &[Window]) -> Calendar {
    Calendar::new(windows, Purpose::Install, &TimeZone::UTC)
}

fn next(windows: &[Window], from: &str, minutes: i64) -> NextOpening {
    calendar(windows).next_opening(instant(from), SignedDuration::from_mins(minutes))
}

fn never(reason: NeverReason) -> NextOpening {
    NextOpening::Never { longest: None, reason }
}

/// Each reason why nothing ever opens; bad input 102: 30 and 31 February, 31 June.
#[test]
fn nothing_has_a_reason() {
    let now = "2026-11-21T12:00:00Z";
    for (day, month) in [(30, 2), (31, 2), (31, 4), (31, 6), (31, 9), (31, 11)] {
        let never_comes = monthly(day, 12, civil::date(2025, month, 1), 60);
        assert_eq!(next(&[never_comes], now, 5), never(NeverReason::NoOccurrence), "{day} {month}");
    }
    let mut empty = monthly(31, 1, civil::date(2025, 1, 1), 60);
    (empty.effective_from, empty.effective_until) =
        (Some(civil::date(2027, 2, 1)), Some(civil::date(2027, 2, 28)));
    assert_eq!(next(&[empty], now, 5), never(NeverReason::NoOccurrence));

    let mut past = daily(2, 60, "Europe/Berlin");
    past.effective_until = Some(civil::date(2026, 11, 20));
    assert_eq!(next(one(&past), now, 5), never(NeverReason::Past));
    assert_eq!(
        next(one(&past), "2026-11-20T01:30:00Z", 5),
        NextOpening::Now { until: Some(instant("2026-11-20T02:00:00Z")) }
    );
    assert_eq!(next(&[past], "2026-11-20T02:00:00Z", 5), never(NeverReason::Past));

    let mut invalid = daily(2, 60, "Europe/Berlim");
    assert_eq!(next(one(&invalid), now, 5), never(NeverReason::Invalid));
    invalid.action = WindowAction::Deny;
    assert_eq!(next(&[invalid], now, 5), never(NeverReason::Invalid));
    for window in [
        Window { start: civil::time(2, 0, 0, 1), ..daily(2, 60, "UTC") },
        Window { duration: SignedDuration::new(600, 1), ..daily(2, 60, "UTC") },
        Window { duration: SignedDuration::from_secs(299), ..daily(2, 60, "UTC") },
        Window { duration: SignedDuration::from_secs(86_401), ..daily(2, 60, "UTC") },
        plain(
            Recurrence::Weekly { every: 1, anchor: civil::date(2024, 1, 1), weekdays: vec![] },
            civil::Time::midnight(),
            60,
            "UTC",
        ),
    ] {
        assert!(window.validate().is_err(), "{window:?}");
        assert_eq!(next(one(&window), now, 5), never(NeverReason::Invalid));
        assert_eq!(window.occurrences(&TimeZone::UTC, instant(now)).next(), None);
    }

    let everything = deny(daily(0, 1440, "UTC"));
    assert_eq!(
        next(&[daily(2, 60, "Europe/Berlin"), everything.clone()], now, 5),
        never(NeverReason::Denied)
    );
    assert_eq!(next(&[everything], now, 5), never(NeverReason::Denied));
    // The last one has begun, and is denied to its end.
    let once =
        plain(Recurrence::Once { date: civil::date(2026, 11, 21) }, civil::time(11, 0, 0, 0), 180, "UTC");
    assert_eq!(next(&[once, deny(daily(11, 240, "UTC"))], now, 5), never(NeverReason::Denied));
}

/// What was denied every day for years is passed over, in both directions, to what lies behind it.
#[test]
fn behind_years_that_are_denied_there_are_openings() {
    let mut years = deny(daily(0, 1440, "Europe/Berlin"));
    (years.effective_from, years.effective_until) =
        (Some(civil::date(2016, 1, 1)), Some(civil::date(2035, 12, 31)));
    let windows = [daily(2, 60, "Europe/Berlin"), years];
    let (before, after) = (at("2015-12-31T01:00:00Z", 1), at("2036-01-01T01:00:00Z", 1));
    assert_eq!(calendar(&windows).previous_opening(instant("2034-11-21T12:00:00Z")), Some(before));
    assert_eq!(next(&windows, "2017-11-21T12:00:00Z", 60), NextOpening::At(after));
}

/// What begins in twenty years is found behind what is denied until then; what lasts for years ends when it ends; and what
/// two windows make together once a year is found however many shorter openings lie before it.
#[test]
fn what_is_rare_long_or_late_is_neither_missed_nor_stretched() {
    let mut late = daily(10, 60, "UTC");
    late.effective_from = Some(civil::date(2036, 1, 1));
    let windows = [daily(2, 60, "UTC"), deny(daily(1, 240, "UTC")), late];
    assert_eq!(next(&windows, "2016-11-21T12:00:00Z", 60), NextOpening::At(at("2036-01-01T10:00:00Z", 1)));

    let mut years = daily(0, 1440, "UTC");
    years.effective_until = Some(civil::date(2031, 12, 31));
    assert_eq!(
        next(one(&years), "2024-11-21T12:00:00Z", 60),
        NextOpening::Now { until: Some(instant("2032-01-01T00:00:00Z")) }
    );

    let anchor = civil::date(2026, 3, 1);
    let weekly = Recurrence::Weekly { every: 1, anchor, weekdays: vec![6] };
    let yearly = Recurrence::MonthlyByWeekday { every: 12, anchor, order: 2, weekday: 2, offset_days: 4 };
    let windows = [
        daily(10, 30, "UTC"),
        plain(weekly, civil::time(1, 0, 0, 0), 60, "UTC"),
        plain(yearly, civil::time(2, 0, 0, 0), 60, "UTC"),
    ];
    assert_eq!(next(&windows, "2026-03-20T00:00:00Z", 120), NextOpening::At(at("2027-03-13T01:00:00Z", 2)));
}

/// The longest of all, also where it comes on one day of the year, and the next that fits where one does.
#[test]
fn the_longest_may_come_once_a_year() {
    // Denied for an hour at two: a day of 25 hours leaves 24 between, from the second two o'clock on.
    let hour = deny(daily(2, 60, "Europe/Berlin"));
    let from = "2026-11-21T12:00:00Z";
    let long = at("2027-10-31T01:00:00Z", 24);
    assert_eq!(next(one(&hour), from, 24 * 60), NextOpening::At(long));
    let longest = NextOpening::Never { longest: Some(long), reason: NeverReason::TooShort };
    assert_eq!(next(&[hour], from, 24 * 60 + 1), longest);

    // Two windows that meet only when the hour between them is left out.
    let nights = [daily(1, 60, "Europe/Berlin"), daily(3, 60, "Europe/Berlin")];
    let joined = at("2027-03-28T00:00:00Z", 2);
    assert_eq!(next(&nights, from, 61), NextOpening::At(joined));
    let longest = NextOpening::Never { longest: Some(joined), reason: NeverReason::TooShort };
    assert_eq!(next(&nights, from, 121), longest);

    // Lord Howe's half hour; and two zones, whose changes make one longer opening in spring and none in autumn.
    let island = [daily(1, 60, "Australia/Lord_Howe"), daily(2, 60, "Australia/Lord_Howe")];
    let longest =
        NextOpening::Never { longest: Some(at("2026-11-21T14:00:00Z", 2)), reason: NeverReason::TooShort };
    assert_eq!(next(&island, from, 121), longest);
    let two = [daily(2, 60, "Europe/Berlin"), daily(20, 300, "America/New_York")];
    let together = at("2026-11-22T01:00:00Z", 5);
    let longest = NextOpening::Never { longest: Some(together), reason: NeverReason::TooShort };
    assert_eq!(next(&two, from, 301), longest);

    // A month's last day and the first of the next, from midnight to midnight: two days, at every turn of a month.
    let turn = [monthly(0, 1, civil::date(2024, 1, 1), 1440), monthly(1, 1, civil::date(2024, 1, 1), 1440)];
    let longest =
        NextOpening::Never { longest: Some(at("2026-11-30T00:00:00Z", 48)), reason: NeverReason::TooShort };
    assert_eq!(next(&turn, from, 48 * 60 + 1), longest);
    // Once, and then weekly.
    let once = plain(Recurrence::Once { date: civil::date(2031, 1, 1) }, civil::time(3, 0, 0, 0), 600, "UTC");
    let weekly = plain(
        Recurrence::Weekly { every: 2, anchor: civil::date(2024, 1, 1), weekdays: vec![6] },
        civil::time(3, 0, 0, 0),
        120,
        "UTC",
    );
    let longest =
        NextOpening::Never { longest: Some(at("2031-01-01T03:00:00Z", 10)), reason: NeverReason::TooShort };
    assert_eq!(next(&[once.clone(), weekly.clone()], from, 601), longest);
    // Friday the thirteenth, when it is the last of its month but two: denied on all other days.
    let rest = [0, 13].map(|day| deny(monthly(day, 1, civil::date(2024, 1, 1), 1440)));
    let windows = [weekly, rest[0].clone(), rest[1].clone()];
    assert_eq!(next(&windows, from, 60), NextOpening::At(at("2026-12-05T03:00:00Z", 2)));
}

/// Bad input 107, and years without a leap day: the answer is as near as what is asked for, whatever lies between.
#[test]
fn what_is_far_away_is_found_in_both_directions() {
    let leap = monthly(29, 12, civil::date(2024, 2, 1), 60);
    assert_eq!(next(one(&leap), "2096-03-01T00:00:00Z", 60), NextOpening::At(at("2104-02-29T00:00:00Z", 1)));
    let all = calendar(one(&leap));
    assert_eq!(all.previous_opening(instant("2104-02-29T00:59:59Z")), Some(at("2096-02-29T00:00:00Z", 1)));
    assert_eq!(all.previous_opening(instant("1904-02-29T00:00:00Z")), Some(at("1896-02-29T00:00:00Z", 1)));
    let last: Vec<Span> = leap.occurrences_back(&TimeZone::UTC, Timestamp::MAX).take(2).collect();
    assert_eq!(last, [at("9996-02-29T00:00:00Z", 1), at("9992-02-29T00:00:00Z", 1)]);
    assert_eq!(
        next(&[leap], "9996-02-29T00:00:00Z", 61),
        NextOpening::Never { longest: Some(at("9996-02-29T00:00:00Z", 1)), reason: NeverReason::TooShort }
    );

    let late = plain(
        Recurrence::Once { date: civil::date(9998, 12, 31) },
        civil::Time::midnight(),
        60,
        "Pacific/Apia",
    );
    assert_eq!(next(one(&late), "2026-01-01T00:00:00Z", 60), NextOpening::At(at("9998-12-30T11:00:00Z", 1)));
    assert_eq!(
        next(&[late], "2026-01-01T00:00:00Z", 61),
        NextOpening::Never { longest: Some(at("9998-12-30T11:00:00Z", 1)), reason: NeverReason::TooShort }
    );

    // The very first and the very last.
    let always = daily(0, 60, "UTC");
    let first = always.occurrences(&TimeZone::UTC, Timestamp::MIN).next().unwrap();
    assert_eq!(first.start, instant("-009999-01-03T00:00:00Z"));
    let last = always.occurrences_back(&TimeZone::UTC, Timestamp::MAX).next().unwrap();
    assert_eq!(last.start, instant("9999-12-30T00:00:00Z"));
    assert_eq!(always.occurrences_back(&TimeZone::UTC, first.start).next(), None);
    assert_eq!(always.occurrences(&TimeZone::UTC, last.end).next(), None);
    // On the last day of the calendar, where a zone is ahead, there is time for one more.
    let ahead = daily(0, 60, "Pacific/Kiritimati");
    let last = ahead.occurrences_back(&TimeZone::UTC, Timestamp::MAX).next().unwrap();
    assert_eq!(last, at("9999-12-30T10:00:00Z", 1));
    assert_eq!(ahead.occurrences(&TimeZone::UTC, instant("9999-12-30T09:00:00Z")).next(), Some(last));
    assert_eq!(days::number(civil::Date::MIN), days::FIRST);
    assert_eq!(days::number(civil::Date::MAX), days::LAST);
    let year = civil::date(-9999, 1, 1);
    for recurrence in [
        Recurrence::Weekly { every: 4, anchor: year, weekdays: vec![1, 7] },
        Recurrence::MonthlyByDate { every: 12, anchor: year, day: 31 },
        Recurrence::MonthlyByWeekday {
            every: 12,
            anchor: civil::Date::MAX,
            order: 0,
            weekday: 7,
            offset_days: 31,
        },
        Recurrence::Once { date: civil::Date::MAX },
        Recurrence::Once { date: civil::Date::MIN },
    ] {
        let window = plain(recurrence, civil::time(23, 59, 59, 0), 1440, "Pacific/Kiritimati");
        for from in [Timestamp::MIN, Timestamp::MAX] {
            window.occurrences(&TimeZone::UTC, from).take(3).count();
            window.occurrences_back(&TimeZone::UTC, from).take(3).count();
            next(one(&window), &from.to_string(), 60);
        }
    }
}

/// Windows that touch for ever are one opening without end; where a day of 25 hours parts them, they are not.
#[test]
fn endless_is_endless() {
    let utc = calendar(&[daily(0, 720, "UTC"), daily(12, 720, "UTC")]);
    let now = instant("2026-11-21T12:00:00Z");
    assert_eq!(utc.opening_at(now), Some(Span { start: Timestamp::MIN, end: Timestamp::MAX }));
    assert_eq!(utc.is_open(now), Openness::Open { until: None });
    assert_eq!(utc.openings(now).count(), 1);
    assert_eq!(utc.openings_back(now).count(), 1);

    let mut bounded = daily(0, 1440, "UTC");
    (bounded.effective_from, bounded.effective_until) =
        (Some(civil::date(2020, 1, 1)), Some(civil::date(2030, 1, 1)));
    let opening = Span { start: instant("2020-01-01T00:00:00Z"), end: instant("2030-01-02T00:00:00Z") };
    assert_eq!(calendar(&[bounded]).opening_at(now), Some(opening));

    let berlin = calendar(&[daily(0, 1440, "Europe/Berlin")]);
    let parted = berlin.opening_at(now).unwrap();
    assert_eq!(parted.start, instant("2026-10-25T23:00:00Z"));
    assert_eq!(parted.end, instant("2027-10-31T22:00:00Z"));
    let free = calendar(&[]);
    assert_eq!(free.next_opening(now, SignedDuration::MAX), NextOpening::Now { until: None });
    let noon = calendar(&[deny(daily(12, 60, "UTC"))]);
    assert_eq!(noon.is_open(now), Openness::Closed);
    assert_eq!(noon.is_open(now - SignedDuration::from_nanos(1)), Openness::Open { until: Some(now) });
    let opens = now + SignedDuration::from_hours(1);
    assert_eq!(noon.opening_at(opens - SignedDuration::from_nanos(1)), None);
    assert_eq!(noon.opening_at(opens).unwrap().start, opens);
    assert_eq!(noon.previous_opening(now).unwrap().end, now);
}

/// An edge belongs to what follows it: in spans, in what is listed between two instants, and in who is named.
#[test]
fn edges_belong_to_what_follows() {
    let window = daily(12, 60, "UTC");
    let (noon, past) = (instant("2026-11-21T12:00:00Z"), instant("2026-11-21T13:00:00Z"));
    let span = Span { start: noon, end: past };
    let nano = SignedDuration::from_nanos(1);
    assert!(
        span.contains(noon)
            && span.contains(past - nano)
            && !span.contains(past)
            && !span.contains(noon - nano)
    );
    let between = |from, to| window.occurrences_between(&TimeZone::UTC, from, to).collect::<Vec<_>>();
    assert_eq!(between(past, noon + SignedDuration::from_hours(24)), []);
    assert_eq!(between(past - nano, noon + SignedDuration::from_hours(24)), [span]);
    assert_eq!(between(noon - SignedDuration::from_hours(1), noon), []);
    assert_eq!(between(noon - SignedDuration::from_hours(1), noon + nano), [span]);
    let windows = [window, deny(daily(12, 30, "UTC"))];
    let all = calendar(&windows);
    let openings = |from, to| all.openings_between(from, to).count();
    let open = instant("2026-11-21T12:30:00Z");
    assert_eq!((openings(noon, open), openings(noon, open + nano), openings(past, past)), (0, 1, 0));
    let named = |at| all.governing(at).iter().map(|window| window.action).collect::<Vec<_>>();
    assert_eq!(named(noon - nano), []);
    assert_eq!(named(noon), [WindowAction::Allow, WindowAction::Deny]);
    assert_eq!(named(open), [WindowAction::Allow]);
    assert_eq!(named(past), []);
    assert_eq!(all.windows().count(), 2);
    assert_eq!(all.locked_by(), None);
    assert!(!all.is_free());
}

/// An instant between two seconds: what is left of an opening is exact, and before 1970 too.
#[test]
fn fractions_of_a_second_count() {
    for day in ["1969-12-31", "2026-11-21"] {
        let noon = instant(&format!("{day}T12:00:00Z"));
        let windows = [daily(12, 60, "UTC")];
        let calendar = calendar(&windows);
        let late = noon + SignedDuration::from_millis(1500);
        let rest = SignedDuration::from_millis(3_598_500);
        let end = noon + SignedDuration::from_hours(1);
        assert_eq!(calendar.next_opening(late, rest), NextOpening::Now { until: Some(end) });
        let tomorrow = noon + SignedDuration::from_hours(24);
        assert_eq!(
            calendar.next_opening(late, rest + SignedDuration::from_nanos(1)),
            NextOpening::At(Span { start: tomorrow, end: tomorrow + SignedDuration::from_hours(1) })
        );
        let early = noon - SignedDuration::from_nanos(1);
        assert_eq!(calendar.is_open(early), Openness::Closed);
        assert_eq!(calendar.openings_back(early).next().unwrap().end, end - SignedDuration::from_hours(24));
        assert_eq!(calendar.openings_back(noon + SignedDuration::from_nanos(1)).next().unwrap().start, noon);
        assert_eq!(calendar.openings_back(noon).next().unwrap().end, end - SignedDuration::from_hours(24));
    }
}

const ZONES: &[&str] =
    &["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"];

fn window() -> impl Strategy<Value = Window> {
    let anchor = civil::date(2026, 1, 1);
    let recurrence = prop_oneof![
        3 => (1_u8..=4).prop_map(move |every| Recurrence::Daily { every, anchor }),
        4 => (1_u8..=4, prop::collection::vec(1_u8..=7, 1..4))
            .prop_map(move |(every, weekdays)| Recurrence::Weekly { every, anchor, weekdays }),
        1 => (1_u8..=12, 0_u8..=31).prop_map(move |(every, day)| Recurrence::MonthlyByDate { every, anchor, day }),
        1 => (1_u8..=12, 0_u8..=4, 1_u8..=7).prop_map(move |(every, order, weekday)| {
            Recurrence::MonthlyByWeekday { every, anchor, order, weekday, offset_days: 4 }
        }),
    ];
    let zone = prop_oneof![2 => Just("UTC"), 2 => Just("Europe/Berlin"), 1 => prop::sample::select(ZONES)];
    (recurrence, 0_i8..24, prop_oneof![60_i64..=240, 600_i64..=1440], zone, prop::bool::weighted(0.35))
        .prop_map(|(recurrence, hour, minutes, zone, denies)| {
            let window = plain(recurrence, civil::time(hour, 0, 0, 0), minutes, zone);
            if denies { deny(window) } else { window }
        })
}

/// One that repeats within some weeks, without zones that change.
fn repeating() -> impl Strategy<Value = Window> {
    (window(), 1_u8..=4).prop_map(|(window, every)| {
        let anchor = civil::date(2026, 1, 1);
        let recurrence = match window.recurrence {
            Recurrence::Weekly { .. } => window.recurrence,
            _ => Recurrence::Daily { every, anchor },
        };
        Window { recurrence, zone: Zone::Utc, ..window }
    })
}

/// 32 cases, or as many as `PROPTEST_CASES` says.
fn cases() -> u32 {
    if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 32 }
}

fn tracks(windows: &[Window]) -> Tracks {
    let of = |action| {
        let windows = windows.iter().filter(|window| window.action == action);
        windows.map(|window| Track::of(window, &TimeZone::UTC).unwrap()).collect::<Vec<_>>()
    };
    let allow = of(WindowAction::Allow);
    Tracks { free: allow.is_empty(), allow, deny: of(WindowAction::Deny) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// What the proof says is held against walking: no opening of thirty years is longer than the bound or than the
    /// longest that *never* names, and that one is the first of its length; the bound looked for from either side.
    #[test]
    fn never_and_its_longest_hold_for_thirty_years(
        windows in prop::collection::vec(window(), 1..5),
        day in 0_i64..400,
    ) {
        let from = instant("2026-11-21T12:34:56Z") + SignedDuration::from_hours(24 * day);
        let until = from + SignedDuration::from_hours(24 * 366 * 30);
        let calendar = calendar(&windows);
        let usable = |span: Span| Span { start: span.start.max(from), ..span };
        let walked: Vec<Span> = calendar.openings_between(from, until).map(usable).collect();
        let longest = walked.iter().map(Span::length).max();
        let first = walked.iter().find(|span| Some(span.length()) == longest);
        match calendar.next_opening(from, SignedDuration::from_hours(24 * 365_250)) {
            NextOpening::Never { longest: named, reason } => {
                prop_assert_eq!(named.is_some(), reason == NeverReason::TooShort);
                prop_assert!(named.map(|span| span.length()) >= longest, "{named:?} {first:?}");
                if named.is_some_and(|named| named.start < until) {
                    prop_assert_eq!(named.as_ref(), first);
                }
            }
            said => prop_assert!(first.is_some_and(|span| span.end == Timestamp::MAX), "{said:?} {first:?}"),
        }
        let tracks = tracks(&windows);
        let (low, high) = (from.as_second(), until.as_second());
        for (at, direction) in [(low, Direction::Forward), (high, Direction::Backward)] {
            let inside = walked.iter().filter(|span| from < span.start && span.end < until);
            if let Some(bound) = tracks.bound(at, direction) {
                prop_assert!(inside.clone().all(|span| span.length().as_secs() <= bound), "{bound} {direction:?}");
            }
            if tracks.covers(at, direction) {
                let alone = Tracks { deny: Vec::new(), ..tracks.clone() };
                prop_assert!(alone.sweep().opening_at(at).is_some_and(|(start, end)| start <= low && end >= high));
            }
        }
    }

    /// What repeats, repeats: beyond the horizon stands what stood one period before, and all of it was seen.
    #[test]
    fn the_horizon_shows_everything(windows in prop::collection::vec(repeating(), 1..4)) {
        let from = instant("2026-11-21T12:34:56Z").as_second();
        let tracks = tracks(&windows);
        let lengths = |from: i64, to: i64| {
            let mut sweep = tracks.plain_sweep(END);
            let (mut at, mut all) = (from, std::collections::BTreeSet::new());
            while let Some((start, end)) = sweep.forward(at, to) {
                if start > at || at > from {
                    all.insert(end.saturating_sub(start));
                }
                at = end;
            }
            all
        };
        let horizon = tracks.horizon(from, Direction::Forward);
        let seen = lengths(from, horizon);
        prop_assert!(lengths(horizon, horizon + 3 * 366 * DAY).is_subset(&seen));
        prop_assert!(BEGIN < horizon);
    }
}
