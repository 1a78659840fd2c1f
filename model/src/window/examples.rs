//! Windows whose answer is known from the words of the documents.

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};

use super::*;

pub(super) fn plain(recurrence: Recurrence, start: civil::Time, minutes: i64, zone: &str) -> Window {
    Window {
        name: ObjectName::new("w").unwrap(),
        collection: ObjectName::new("c").unwrap(),
        recurrence,
        start,
        duration: SignedDuration::from_mins(minutes),
        zone: Zone::Iana(zone.to_owned()),
        effective_from: None,
        effective_until: None,
        applies_to: AppliesTo::Updates,
        action: WindowAction::Allow,
    }
}

fn first(window: &Window, from: &str) -> Span {
    window.occurrences(&TimeZone::UTC, from.parse().unwrap()).next().unwrap()
}

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// reliability.md #95: 02:30 does not exist on that day; open from the first instant after the gap, full length.
#[test]
fn a_start_in_a_gap_is_moved_to_the_end_of_the_gap() {
    let window = plain(
        Recurrence::Once { date: civil::date(2024, 3, 31) },
        civil::time(2, 30, 0, 0),
        60,
        "Europe/Berlin",
    );
    let span = first(&window, "2024-03-30T00:00:00Z");
    assert_eq!((span.start, span.end), (instant("2024-03-31T01:00:00Z"), instant("2024-03-31T02:00:00Z")));
}

/// The day that Samoa left out: the window opens when the next one begins.
#[test]
fn a_start_on_a_day_that_was_left_out_is_not_skipped() {
    let window = plain(
        Recurrence::Once { date: civil::date(2011, 12, 30) },
        civil::time(12, 0, 0, 0),
        60,
        "Pacific/Apia",
    );
    assert_eq!(first(&window, "2011-12-29T00:00:00Z").start, instant("2011-12-30T10:00:00Z"));
}

/// reliability.md #96, #97: once, at the first 02:30, and 180 minutes of elapsed time.
#[test]
fn a_start_in_a_fold_runs_once() {
    let window = plain(
        Recurrence::Once { date: civil::date(2024, 10, 27) },
        civil::time(2, 30, 0, 0),
        180,
        "Europe/Berlin",
    );
    let spans: Vec<Span> = window.occurrences(&TimeZone::UTC, instant("2024-10-20T00:00:00Z")).collect();
    assert_eq!(
        spans,
        [Span { start: instant("2024-10-27T00:30:00Z"), end: instant("2024-10-27T03:30:00Z") }]
    );
}

/// reliability.md #101: two one-hour windows that overlap by half an hour are one of ninety minutes; touching ones join.
#[test]
fn overlapping_and_touching_windows_join() {
    let daily = || Recurrence::Daily { every: 1, anchor: civil::date(2024, 1, 1) };
    let windows = [
        plain(daily(), civil::time(2, 0, 0, 0), 60, "UTC"),
        plain(daily(), civil::time(2, 30, 0, 0), 60, "UTC"),
        plain(daily(), civil::time(3, 30, 0, 0), 30, "UTC"),
    ];
    let calendar = Calendar::new(&windows, Purpose::Install, &TimeZone::UTC);
    let span = calendar.openings(instant("2024-01-01T00:00:00Z")).next().unwrap();
    assert_eq!((span.start, span.end), (instant("2024-01-01T02:00:00Z"), instant("2024-01-01T04:00:00Z")));
    let need = SignedDuration::from_mins(120);
    assert_eq!(
        calendar.next_opening(instant("2024-01-01T02:01:00Z"), need),
        NextOpening::At(Span {
            start: instant("2024-01-02T02:00:00Z"),
            end: instant("2024-01-02T04:00:00Z")
        })
    );
    let NextOpening::Never { longest: Some(longest), reason: NeverReason::TooShort } =
        calendar.next_opening(instant("2024-01-01T00:00:00Z"), SignedDuration::from_mins(121))
    else {
        panic!("no opening is longer than two hours")
    };
    assert_eq!(longest.length(), need);
}

/// Windows for updates displace those for all deployments, even when they are past: nothing opens then.
#[test]
fn a_past_window_does_not_open_the_rest() {
    let mut past =
        plain(Recurrence::Once { date: civil::date(2020, 1, 1) }, civil::time(2, 0, 0, 0), 60, "UTC");
    let mut general = plain(
        Recurrence::Daily { every: 1, anchor: civil::date(2024, 1, 1) },
        civil::time(2, 0, 0, 0),
        60,
        "UTC",
    );
    general.applies_to = AppliesTo::AllDeployments;
    let at = instant("2024-01-01T02:30:00Z");
    let windows = [past.clone(), general.clone()];
    let calendar = Calendar::new(&windows, Purpose::Install, &TimeZone::UTC);
    assert_eq!(
        calendar.next_opening(at, SignedDuration::ZERO),
        NextOpening::Never { longest: None, reason: NeverReason::Past }
    );
    past.applies_to = AppliesTo::RestartsOnly;
    let windows = [past, general];
    assert!(matches!(
        Calendar::new(&windows, Purpose::Install, &TimeZone::UTC).is_open(at),
        Openness::Open { until: Some(_) }
    ));
    assert_eq!(Calendar::new(&windows, Purpose::Restart, &TimeZone::UTC).is_open(at), Openness::Closed);
}

/// No window: free. Deny only: free outside. A deny window nobody can evaluate: closed.
#[test]
fn free_deny_only_and_locked() {
    let at = instant("2024-01-01T02:30:00Z");
    let free = Calendar::new(&[], Purpose::Install, &TimeZone::UTC);
    assert!(free.is_free());
    assert_eq!(free.is_open(at), Openness::Open { until: None });
    let mut deny = plain(
        Recurrence::Daily { every: 1, anchor: civil::date(2024, 1, 1) },
        civil::time(2, 0, 0, 0),
        60,
        "UTC",
    );
    deny.action = WindowAction::Deny;
    let windows = [deny.clone()];
    let calendar = Calendar::new(&windows, Purpose::Install, &TimeZone::UTC);
    assert!(!calendar.is_free());
    let allow = [Window { action: WindowAction::Allow, ..deny.clone() }];
    assert!(!Calendar::new(&allow, Purpose::Install, &TimeZone::UTC).is_free());
    assert_eq!(calendar.is_open(at), Openness::Closed);
    assert_eq!(
        calendar.is_open(instant("2024-01-01T03:00:00Z")),
        Openness::Open { until: Some(instant("2024-01-02T02:00:00Z")) }
    );
    deny.zone = Zone::Iana("Europe/Berlim".to_owned());
    assert_eq!(deny.validate(), Err(WindowError::Zone("Europe/Berlim".to_owned())));
    let windows = [deny];
    let locked = Calendar::new(&windows, Purpose::Install, &TimeZone::UTC);
    assert_eq!(locked.is_open(at), Openness::Closed);
    assert!(!locked.is_free());
    assert!(locked.locked_by().is_some());
}

/// 29 February every year and windows that never end are both answered.
#[test]
fn rare_and_endless_windows_are_answered() {
    let leap = plain(
        Recurrence::MonthlyByDate { every: 12, anchor: civil::date(2024, 2, 1), day: 29 },
        civil::time(1, 0, 0, 0),
        60,
        "UTC",
    );
    let windows = [leap];
    let calendar = Calendar::new(&windows, Purpose::Install, &TimeZone::UTC);
    assert!(matches!(
        calendar.next_opening(instant("2096-03-01T00:00:00Z"), SignedDuration::from_mins(60)),
        NextOpening::At(span) if span.start == instant("2104-02-29T01:00:00Z")
    ));
    let endless = plain(
        Recurrence::Daily { every: 1, anchor: civil::date(2024, 1, 1) },
        civil::Time::midnight(),
        1440,
        "UTC",
    );
    let windows = [endless];
    let calendar = Calendar::new(&windows, Purpose::Install, &TimeZone::UTC);
    assert_eq!(
        calendar.next_opening(instant("2024-05-05T05:05:00Z"), SignedDuration::from_hours(24 * 300)),
        NextOpening::Now { until: None },
        "touching for ever is open for ever"
    );
}

/// Denied for ever: answered, and soon.
#[test]
fn what_is_always_denied_never_opens() {
    let daily = |start, minutes| {
        plain(
            Recurrence::Daily { every: 1, anchor: civil::date(2024, 1, 1) },
            start,
            minutes,
            "Europe/Berlin",
        )
    };
    let allow = daily(civil::time(2, 0, 0, 0), 60);
    let mut deny = daily(civil::Time::midnight(), 1440);
    deny.action = WindowAction::Deny;
    let mut rest = daily(civil::time(12, 0, 0, 0), 1440);
    rest.action = WindowAction::Deny;
    for windows in [vec![allow, deny.clone(), rest.clone()], vec![deny, rest]] {
        let calendar = Calendar::new(&windows, Purpose::Install, &TimeZone::UTC);
        let at = instant("2024-05-05T05:05:00Z");
        assert_eq!(calendar.is_open(at), Openness::Closed);
        assert_eq!(
            calendar.next_opening(at, SignedDuration::from_mins(5)),
            NextOpening::Never { longest: None, reason: NeverReason::Denied }
        );
    }
}

/// reliability.md #107: the end of time is *never*, not an error.
#[test]
fn the_end_of_time_is_never() {
    assert_eq!(first_instant(civil::DateTime::MAX, &TimeZone::UTC), None);
    let window = plain(
        Recurrence::Daily { every: 1, anchor: civil::date(2024, 1, 1) },
        civil::time(23, 0, 0, 0),
        1440,
        "UTC",
    );
    assert!(window.occurrences(&TimeZone::UTC, Timestamp::MAX - SignedDuration::from_hours(100)).count() < 6);
    // Backward from there, the last day that has room for its occurrence is found, not nothing.
    let last = window.occurrences_back(&TimeZone::UTC, Timestamp::MAX).next().unwrap();
    let left = Timestamp::MAX.duration_since(last.start);
    assert!(last.end <= Timestamp::MAX && left < SignedDuration::from_hours(72), "{left}");
}

/// Where the times at which nothing may run go on for ever, the last opening of all is not endless, however far the search
/// has to go; where they end, the opening after them is.
#[test]
fn the_last_opening_of_time_is_not_endless() {
    let mut denies = [
        Recurrence::Daily { every: 2, anchor: civil::date(2026, 1, 1) },
        Recurrence::MonthlyByDate { every: 11, anchor: civil::date(2026, 1, 1), day: 0 },
    ]
    .map(|recurrence| Window {
        action: WindowAction::Deny,
        ..plain(recurrence, civil::time(0, 0, 0, 0), 60, "UTC")
    });
    let from = instant("2026-11-21T12:34:56Z");
    let next = |windows: &[Window]| {
        let calendar = Calendar::new(windows, Purpose::Install, &TimeZone::UTC);
        calendar.next_opening(from, SignedDuration::from_hours(24 * 365_250 * 100))
    };
    let never = next(&denies);
    let NextOpening::Never { longest: Some(longest), .. } = &never else { panic!("{never:?}") };
    assert_eq!(longest.start, instant("2026-11-23T01:00:00Z"));
    for deny in &mut denies {
        deny.effective_until = Some(civil::date(2026, 12, 31));
    }
    let NextOpening::At(endless) = next(&denies) else { panic!() };
    assert_eq!((endless.start, endless.end), (instant("2026-12-31T01:00:00Z"), Timestamp::MAX));
}

/// 5 minutes and 24 hours are allowed, a second less or more is not.
#[test]
fn the_bounds_of_a_duration_belong_to_it() {
    let lasting = |seconds| {
        let mut window = plain(
            Recurrence::Once { date: civil::date(2024, 3, 31) },
            civil::time(2, 0, 0, 0),
            60,
            "Europe/Berlin",
        );
        window.duration = SignedDuration::from_secs(seconds);
        window.validate()
    };
    assert_eq!([lasting(300), lasting(86_400)], [Ok(()), Ok(())]);
    for seconds in [299, 86_401] {
        assert_eq!(lasting(seconds), Err(WindowError::Duration(SignedDuration::from_secs(seconds))));
    }
}

/// The first and the last effective day belong to the time in which it may open, also where they are one day; the wrong
/// way round they are refused.
#[test]
fn the_effective_days_belong_to_it() {
    let daily = Recurrence::Daily { every: 1, anchor: civil::date(2026, 1, 1) };
    let mut window = plain(daily, civil::time(2, 0, 0, 0), 60, "UTC");
    let (one, other) = (civil::date(2026, 3, 1), civil::date(2026, 3, 2));
    let mut opens = |from, until| {
        (window.effective_from, window.effective_until) = (Some(from), Some(until));
        let found = window.occurrences(&TimeZone::UTC, Timestamp::MIN);
        (window.validate(), found.map(|span| span.start).collect::<Vec<_>>())
    };
    let [first, second] = ["2026-03-01T02:00:00Z", "2026-03-02T02:00:00Z"].map(instant);
    assert_eq!(opens(one, one), (Ok(()), vec![first]));
    assert_eq!(opens(one, other), (Ok(()), vec![first, second]));
    assert_eq!(opens(other, one), (Err(WindowError::Effective { from: other, until: one }), vec![]));
}
