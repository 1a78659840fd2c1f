//! Window arithmetic against an oracle that knows none of it: it walks every minute of five years, with what each zone's
//! clock shows in each of them, and asks of every day whether the words of a recurrence name it.
//!
//! 1,000 random cases; `PROPTEST_CASES=20000` is the long run. Every case is a calendar of up to four windows, allow and
//! deny, for updates, all deployments and restarts, in zones that did something odd in the years that are walked.

use jiff::{SignedDuration, Timestamp, civil};
use proptest::prelude::*;

use super::{
    walker::{Bits, EPOCH, MINUTES, YEARS, clock, days, names, zone_name},
    *,
};

/// What the walker leaves out at both ends, where windows from outside may reach in: nine days.
const EDGE: usize = 60 * 24 * 9;

/// Minute by minute: whether this one window is open.
fn open(case: &Case, zone: usize, window: &Window) -> Bits {
    let (clock, all) = (clock(case.years, zone), days(case.years));
    let anchor = match &window.recurrence {
        Recurrence::Once { .. } => None,
        Recurrence::Daily { anchor, .. }
        | Recurrence::Weekly { anchor, .. }
        | Recurrence::MonthlyByDate { anchor, .. }
        | Recurrence::MonthlyByWeekday { anchor, .. } => all.iter().find(|day| day.date == *anchor),
    };
    let length = usize::try_from(window.duration.as_secs() / 60).unwrap();
    let mut open = Bits::all(false);
    for (index, day) in all.iter().enumerate().skip(40) {
        if window.effective_from.is_some_and(|from| day.date < from)
            || window.effective_until.is_some_and(|until| until < day.date)
            || !names(&window.recurrence, all, anchor, index)
        {
            continue;
        }
        let start = day.date.to_datetime(window.start).duration_since(EPOCH).as_secs() / 60;
        if let Some(start) = clock.reaches(start) {
            open.set(start, start + length);
        }
    }
    open
}

/// The windows of the case that count, by the words of domain.md 4.2, and what they leave open.
fn together(case: &Case) -> Bits {
    let any = |action: WindowAction, applies: AppliesTo| {
        case.windows.iter().any(|(_, w)| w.action == action && w.applies_to == applies)
    };
    let counts = if case.purpose == Purpose::Restart && any(WindowAction::Allow, AppliesTo::RestartsOnly) {
        Some(AppliesTo::RestartsOnly)
    } else if any(WindowAction::Allow, AppliesTo::Updates) {
        Some(AppliesTo::Updates)
    } else if any(WindowAction::Allow, AppliesTo::AllDeployments) {
        Some(AppliesTo::AllDeployments)
    } else {
        None
    };
    let mut all = Bits::all(counts.is_none());
    for (zone, window) in &case.windows {
        if window.action == WindowAction::Allow && Some(window.applies_to) == counts {
            all.put(&open(case, *zone, window), |sum, one| sum | one);
        }
    }
    for (zone, window) in &case.windows {
        let denies = case.purpose == Purpose::Restart || window.applies_to != AppliesTo::RestartsOnly;
        if window.action == WindowAction::Deny && denies {
            all.put(&open(case, *zone, window), |sum, one| sum & !one);
        }
    }
    all
}

#[derive(Debug, Clone)]
struct Case {
    years: usize,
    /// The zone of the client.
    local: usize,
    windows: Vec<(usize, Window)>,
    purpose: Purpose,
    /// Minutes at which is asked, and how many are needed.
    probes: Vec<(usize, i64)>,
}

fn recurrence(day: BoxedStrategy<civil::Date>) -> impl Strategy<Value = Recurrence> {
    let months = prop_oneof![Just(1_u8), 1_u8..=12];
    prop_oneof![
        1 => day.clone().prop_map(|date| Recurrence::Once { date }),
        3 => (prop_oneof![Just(1_u8), 1_u8..=31], day.clone())
            .prop_map(|(every, anchor)| Recurrence::Daily { every, anchor }),
        3 => (1_u8..=4, day.clone(), prop::collection::vec(1_u8..=7, 1..4))
            .prop_map(|(every, anchor, weekdays)| Recurrence::Weekly { every, anchor, weekdays }),
        2 => (months.clone(), day.clone(), prop_oneof![0_u8..=31, 29_u8..=31, Just(0)])
            .prop_map(|(every, anchor, day)| Recurrence::MonthlyByDate { every, anchor, day }),
        3 => (months, day, 0_u8..=4, 1_u8..=7, prop_oneof![Just(0_u8), 0_u8..=31]).prop_map(
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

fn window(years: usize) -> impl Strategy<Value = (usize, Window)> {
    let (year, zones) = YEARS[years];
    let day = (0_i64..366 * 5)
        .prop_map(move |by| civil::date(year, 1, 1).checked_add(jiff::Span::new().days(by)).unwrap())
        .boxed();
    let limits = prop_oneof![
        6 => Just((None, None)),
        1 => day.clone().prop_map(|from| (Some(from), None)),
        1 => day.clone().prop_map(|until| (None, Some(until))),
        1 => (day.clone(), day.clone()).prop_map(|(a, b)| (Some(a.min(b)), Some(a.max(b)))),
    ];
    (
        recurrence(day),
        // Mostly the hours in which clocks change.
        prop_oneof![(0_i8..4, 0_i8..60), (0_i8..24, Just(0_i8)), (Just(23_i8), 0_i8..60)],
        prop_oneof![5_i64..=1440, Just(1440), Just(1380), 60_i64..=240],
        (0..=zones.len(), any::<bool>()),
        limits,
        prop_oneof![
            2 => Just(AppliesTo::AllDeployments),
            2 => Just(AppliesTo::Updates),
            1 => Just(AppliesTo::RestartsOnly)
        ],
        prop::bool::weighted(0.3),
    )
        .prop_map(
            move |(recurrence, (hour, minute), minutes, (zone, named), (from, until), applies_to, deny)| {
                let window = Window {
                    name: ObjectName::new("w").unwrap(),
                    collection: ObjectName::new("c").unwrap(),
                    recurrence,
                    start: civil::time(hour, minute, 0, 0),
                    duration: SignedDuration::from_mins(minutes),
                    zone: match (zone, named) {
                        (0, _) => Zone::Utc,
                        (_, true) => Zone::Iana(zone_name(years, zone).to_owned()),
                        (_, false) => Zone::ClientLocal,
                    },
                    effective_from: from,
                    effective_until: until,
                    applies_to,
                    action: if deny { WindowAction::Deny } else { WindowAction::Allow },
                };
                (zone, window)
            },
        )
}

fn case() -> impl Strategy<Value = Case> {
    (0..YEARS.len()).prop_flat_map(|years| {
        let zones = YEARS[years].1.len();
        (
            0..=zones,
            prop::collection::vec(window(years), 1..4),
            prop_oneof![3 => Just(Purpose::Install), 1 => Just(Purpose::Restart)],
            prop::collection::vec((EDGE..MINUTES - EDGE, prop_oneof![1_i64..300, 1_i64..3000]), 6),
        )
            .prop_map(move |(local, mut windows, purpose, probes)| {
                for (zone, window) in &mut windows {
                    if window.zone == Zone::ClientLocal {
                        *zone = local;
                    }
                }
                Case { years, local, windows, purpose, probes }
            })
    })
}

#[expect(clippy::unwrap_in_result, reason = "what cannot fail in a test")]
fn check(case: &Case) -> Result<(), TestCaseError> {
    let first = clock(case.years, 0).first;
    let at = |index: usize| Timestamp::from_second((first + i64::try_from(index).unwrap()) * 60).unwrap();
    let walked = together(case).runs();
    let local = time_zone(zone_name(case.years, case.local)).unwrap();
    let windows: Vec<Window> = case.windows.iter().map(|(_, window)| window.clone()).collect();
    let calendar = Calendar::new(&windows, case.purpose, &local);
    let (low, high) = (EDGE, MINUTES - EDGE);

    // What the walker cannot see of an opening is not compared.
    let clip = |(start, end): (usize, usize)| Some((start.max(low), end.min(high))).filter(|(s, e)| s < e);
    let clipped = |span: Span| Span { start: span.start.max(at(low)), end: span.end.min(at(high)) };
    let expected: Vec<Span> = walked
        .iter()
        .filter_map(|run| clip(*run))
        .map(|(start, end)| Span { start: at(start), end: at(end) })
        .collect();
    let mut said: Vec<Span> = calendar.openings_between(at(low), at(high)).map(clipped).collect();
    prop_assert_eq!(&said, &expected, "forward");
    said.reverse();
    let back: Vec<Span> =
        calendar.openings_back(at(high)).take_while(|span| span.end > at(low)).map(clipped).collect();
    prop_assert_eq!(&back, &said, "backward");

    for (from, need) in &case.probes {
        let inside = walked.iter().find(|(start, end)| start <= from && from < end);
        let opening = calendar.opening_at(at(*from)).map(clipped);
        let whole = inside.and_then(|run| clip(*run)).map(|(s, e)| Span { start: at(s), end: at(e) });
        prop_assert_eq!(opening, whole, "opening at {}", at(*from));
        match (calendar.is_open(at(*from)), inside) {
            (Openness::Closed, None) => {}
            (Openness::Open { until }, Some((_, end))) => {
                prop_assert_eq!(until.unwrap_or(Timestamp::MAX).min(at(high)), at((*end).min(high)));
            }
            (said, walked) => prop_assert!(false, "{said:?} is {walked:?} at {}", at(*from)),
        }
        if let Some((start, end)) = walked.iter().rev().find(|(start, end)| end <= from && *start > low) {
            let previous = calendar.previous_opening(at(*from));
            prop_assert_eq!(previous, Some(Span { start: at(*start), end: at(*end) }));
        }

        let minutes = usize::try_from(*need).unwrap();
        let need = SignedDuration::from_mins(*need);
        let usable = |(start, end): &(usize, usize)| ((*start).max(*from), (*end).max(*from));
        let fits = walked.iter().map(usable).find(|(start, end)| end - start >= minutes);
        match calendar.next_opening(at(*from), need) {
            NextOpening::Now { until } => {
                prop_assert_eq!(fits.map(|(start, _)| start), Some(*from));
                prop_assert_eq!(until.unwrap_or(Timestamp::MAX).min(at(high)), at(fits.unwrap().1.min(high)));
            }
            NextOpening::At(span) => match fits {
                Some((start, end)) => {
                    prop_assert_eq!(span.start, at(start));
                    prop_assert_eq!(span.end.min(at(high)), at(end.min(high)));
                }
                // It lies beyond what is walked, or reaches there.
                None => prop_assert!(span.end > at(high)),
            },
            NextOpening::Never { longest, reason } => {
                prop_assert!(fits.is_none_or(|(_, end)| end >= high), "{fits:?}");
                let seen = walked.iter().map(usable).filter(|(_, end)| *end < high).map(|(s, e)| e - s).max();
                let seen = SignedDuration::from_mins(i64::try_from(seen.unwrap_or(0)).unwrap());
                let longest_length = longest.map_or(SignedDuration::ZERO, |span| span.length());
                prop_assert!(longest_length >= seen && longest_length < need, "{longest:?}, seen {seen:#}");
                prop_assert_eq!(reason == NeverReason::TooShort, longest.is_some());
                if let Some(longest) = longest {
                    let whole = calendar.opening_at(longest.start);
                    prop_assert_eq!(whole.map(|span| span.end), Some(longest.end));
                }
            }
        }
    }
    Ok(())
}

fn cases() -> u32 {
    if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 1000 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// R-MW-01, R-MW-02, R-MW-09; bad input 95 to 98, 101, 102, 107: every minute of five years.
    #[test]
    fn calendar_agrees_with_the_minute_walker(case in case()) {
        check(&case)?;
    }
}
