//! Table 3 of the whitepaper, row by row.

use super::*;

const LAST: &str = "2026-11-21T09:59:00Z";

/// A purpose, how to bring it about, and the kinds within and beyond the 24 hours.
type Row = (ScanPurpose, fn(&mut Policy, &mut ClientView), ScanKind, ScanKind);

/// R-SCAN-07 to R-SCAN-12: every purpose, within the time to live of the last forced online scan and beyond it.
const TABLE: &[Row] = &[
    // Row 1, forced online: it always needs the software update point.
    (
        ScanPurpose::First,
        |_, view| view.scan = ScanFacts::default(),
        ScanKind::ForcedOnline,
        ScanKind::ForcedOnline,
    ),
    (
        ScanPurpose::Cycle,
        |policy, view| {
            policy.body.settings.scan_cycle = SignedDuration::from_hours(2);
            view.scan.last_cycle = Some(at("2026-11-20T00:00:00Z"));
        },
        ScanKind::ForcedOnline,
        ScanKind::ForcedOnline,
    ),
    (
        ScanPurpose::ScanRequested,
        |_, view| view.scan_requested = Some(at(LAST)),
        ScanKind::ForcedOnline,
        ScanKind::ForcedOnline,
    ),
    (
        ScanPurpose::EvaluationRequested,
        |_, view| view.evaluation_requested = Some(at(LAST)),
        ScanKind::ForcedOnline,
        ScanKind::ForcedOnline,
    ),
    // Row 2, non-forced online: forced when none was within 24 hours.
    (
        ScanPurpose::Evaluation,
        |_, view| view.scan.last_evaluation = Some(at("2026-11-10T00:00:00Z")),
        ScanKind::NonForcedOnline,
        ScanKind::ForcedOnline,
    ),
    (
        ScanPurpose::PolicyChanged,
        |policy, view| {
            policy.body.lines[0].catalogue_version = 2;
            view.scan.cached.insert(line(), 2);
        },
        ScanKind::NonForcedOnline,
        ScanKind::ForcedOnline,
    ),
    // Row 3, forced offline: never, whatever the age.
    (
        ScanPurpose::Validation,
        |_, view| view.scan.stale = Some(StaleReason::Installed),
        ScanKind::ForcedOffline,
        ScanKind::ForcedOffline,
    ),
    (
        ScanPurpose::Validation,
        |_, view| view.scan.stale = Some(StaleReason::Booted),
        ScanKind::ForcedOffline,
        ScanKind::ForcedOffline,
    ),
    // Row 4, non-forced offline: before an installation, the age counts.
    (ScanPurpose::BeforeInstall, |_, view| present(view), ScanKind::NonForcedOffline, ScanKind::ForcedOnline),
];

#[test]
fn table_three_row_by_row() {
    for (index, (purpose, bring_about, within, beyond)) in TABLE.iter().enumerate() {
        for (kind, now) in [(within, "2026-11-21T20:00:00Z"), (beyond, "2026-11-22T20:00:00Z")] {
            let (mut policy, mut view) = setting(|_| {});
            view.scan.changed = None;
            bring_about(&mut policy, &mut view);
            let words = format!("row {index}, {purpose:?} at {now}");
            assert_eq!(scan(&policy, &view, now), Some((*kind, *purpose)), "{words}");
            assert_eq!(kind.needs_software_update_point(), *kind == ScanKind::ForcedOnline);

            // Only a forced online scan starts the 24 hours anew.
            let request = ScanRequest { kind: *kind, purpose: *purpose };
            let before = view.scan.last_online;
            let covered = view.scan.cached.clone();
            let mut ended = view.clone();
            ended.scan_completed(&policy, &request, ended.detected.clone(), covered, at(now));
            let expected = if *kind == ScanKind::ForcedOnline { Some(at(now)) } else { before };
            assert_eq!(ended.scan.last_online, expected, "{words}");

            // R-SCAN-15, R-SCAN-16: the point is away. What was needed fails, and nothing starts without it.
            view.scan_failed(failure(), at(now));
            let decision = decide(&policy, &view, at(now), &TimeZone::UTC);
            if *kind == ScanKind::ForcedOnline {
                assert_eq!(batch_of(&decision), None, "{words}");
                assert!(scan(&policy, &view, now).is_none(), "{words}: not again at once");
            }
        }
    }
}

/// R-SCAN-14: one scan for a batch of two, and none when the last one is ten minutes young.
#[test]
fn one_scan_goes_before_a_batch() {
    let (policy, mut view) = setting(|_| {});
    view.scan.changed = None;
    present(&mut view);
    assert!(batch_of(&now_for(&policy, &view)).unwrap().updates.len() == 2, "a minute old: it counts");
    let evening = at("2026-11-21T20:00:00Z");
    let decision = decide(&policy, &view, evening, &TimeZone::UTC);
    assert_eq!((decision.actions.len(), batch_of(&decision)), (1, None));
    let Action::Scan(request) = &decision.actions[0] else { panic!("{:?}", decision.actions) };
    let (found, covered) = (view.detected.clone(), view.scan.cached.clone());
    view.scan_completed(&policy, request, found, covered, evening);
    assert!(batch_of(&decide(&policy, &view, evening, &TimeZone::UTC)).is_some());
}

/// Reliability #106: a clock that was set back makes no old scan young.
#[test]
fn a_scan_from_the_future_is_not_within_the_time_to_live() {
    let (policy, mut view) = setting(|_| {});
    present(&mut view);
    view.scan.changed = None;
    view.scan.last_online = Some(at("2027-11-21T10:00:00Z"));
    view.scan.last = Some(at("2026-11-21T08:00:00Z"));
    assert_eq!(scan(&policy, &view, NOW), Some((ScanKind::ForcedOnline, ScanPurpose::BeforeInstall)));
}
