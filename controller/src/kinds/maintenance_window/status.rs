//! What a window's status shows.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use patchtide_crds::{
    DurationText, MaintenanceWindowStatus,
    maintenance_window::{NeverFits, Occurrence},
};
use patchtide_model::window::{Recurrence, Window, WindowAction, Zone};
use patchtide_planner::site;

use crate::compile::Compiled;

/// Openings shown.
const SHOWN: usize = 5;

/// Fills what follows from the window itself. Returns when the status has to be looked at again.
pub fn fill(
    status: &mut MaintenanceWindowStatus,
    window: &Window,
    compiled: &Compiled,
    now: Timestamp,
) -> Option<Duration> {
    // Client-local windows are shown on the wall clock: that of UTC stands for every client's.
    let local = window.zone == Zone::ClientLocal;
    let show = |at: Timestamp| {
        let at = Timestamp::from_second(at.as_second()).unwrap_or(at);
        if local { at.to_zoned(TimeZone::UTC).datetime().to_string() } else { at.to_string() }
    };
    let spans: Vec<_> = window.occurrences(&TimeZone::UTC, now).take(SHOWN).collect();
    status.next_occurrences =
        spans.iter().map(|span| Occurrence { start: show(span.start), end: show(span.end) }).collect();
    let (opens, open) = match window.action {
        WindowAction::Allow => ("opens", "open"),
        WindowAction::Deny => ("denies from", "denies"),
    };
    status.next = Some(match spans.first() {
        Some(span) if span.contains(now) && !local => format!("{open} until {}", show(span.end)),
        Some(span) => format!("{opens} {}", show(span.start)),
        None => "never again".to_owned(),
    });
    // Right after a start nothing is compiled yet: what was true before stays.
    if let Some(plan) = &compiled.plan {
        status.clients =
            Some(plan.membership.get(&window.collection).map_or(0, |members| members.len()) as u64);
    }
    let edge = spans.first().map(|span| if span.contains(now) { span.end } else { span.start })?;
    let wait = edge.duration_since(now).max(SignedDuration::ZERO) + SignedDuration::from_secs(1);
    Duration::try_from(wait).ok()
}

/// Deployed updates that are too long for every opening of some client that the window selects.
pub fn never_fitting(window: &Window, compiled: &Compiled, now: Timestamp) -> Vec<NeverFits> {
    let Some(plan) = &compiled.plan else {
        return Vec::new();
    };
    site::never_fitting(plan, &compiled.clients, &window.name, now)
        .into_iter()
        .map(|never| NeverFits {
            update: never.update.to_string(),
            needs: DurationText::from_seconds(never.needs.as_secs()),
            longest: DurationText::from_seconds(never.longest.map_or(0, |longest| longest.as_secs())),
        })
        .collect()
}

/// Says of a window that is switched off that it is. Returns what an admin may not expect of it.
pub fn disable(status: &mut MaintenanceWindowStatus, window: &Window) -> Option<String> {
    status.next = Some("disabled".to_owned());
    let effect = match window.action {
        WindowAction::Allow => "it never opens, and still keeps all time closed for its clients",
        WindowAction::Deny => "it denies nothing",
    };
    Some(format!(
        "WIN-NO-OCCURRENCE: enabled: false: {effect}; set spec.enabled to true, or delete the window to set its clients free"
    ))
}

/// What an admin may not expect of the days (reliability.md #102).
pub fn no_occurrence(window: &Window, now: Timestamp) -> Option<String> {
    if window.occurrences(&TimeZone::UTC, now).next().is_none() {
        let past = window.occurrences_back(&TimeZone::UTC, now).next();
        let told = match past {
            Some(last) => format!("recurrence: its last day was {}; it never opens again", last.start),
            None => "recurrence: no year has a day that it names between its effective dates".to_owned(),
        };
        let effect = match window.action {
            WindowAction::Allow => "it still keeps all time closed for its clients",
            WindowAction::Deny => "it denies nothing",
        };
        return Some(format!(
            "WIN-NO-OCCURRENCE: {told}, and {effect}: correct recurrence, effectiveFrom or effectiveUntil, or delete it"
        ));
    }
    match window.recurrence {
        Recurrence::MonthlyByDate { day: day @ 29..=31, every, anchor }
            if leaves_months_out(day, every, anchor) =>
        {
            Some(format!(
                "WIN-NO-OCCURRENCE: recurrence.monthlyByDate.day: months without a day {day} are left out; for the end of each month use lastDay: true"
            ))
        }
        _ => None,
    }
}

/// Whether one of the months that come up in some year does not have the day.
fn leaves_months_out(day: u8, every: u8, anchor: civil::Date) -> bool {
    const SHORTEST: [u8; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let first = usize::try_from(anchor.month() - 1).unwrap_or_default();
    (0..12).any(|n| SHORTEST.get((first + n * usize::from(every)) % 12).is_some_and(|length| *length < day))
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchtide_intent::maintenance_window::validate;

    #[test]
    fn the_status_names_the_next_opening_and_wakes_for_it() {
        let spec = serde_saphyr::from_str(
            "collection: web\nstart: '02:00'\nduration: 2h\ntimeZone: UTC\nrecurrence: {daily: {}}\n",
        )
        .unwrap();
        let window = validate("night", &spec).unwrap();
        let mut status = MaintenanceWindowStatus::default();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let again = fill(&mut status, &window, &Compiled::default(), at("2026-07-01T01:00:00Z"));
        assert_eq!(status.next.as_deref(), Some("opens 2026-07-01T02:00:00Z"));
        assert_eq!(again, Some(Duration::from_secs(3601)));
        fill(&mut status, &window, &Compiled::default(), at("2026-07-01T03:00:00Z"));
        assert_eq!(status.next.as_deref(), Some("open until 2026-07-01T04:00:00Z"));
        assert_eq!(status.next_occurrences.len(), 5);
    }

    #[test]
    fn a_disabled_window_is_told_as_disabled() {
        let told = |action: &str| {
            let yaml = format!(
                "collection: web\nstart: '02:00'\nduration: 2h\nenabled: false\naction: {action}\nrecurrence: {{daily: {{}}}}\n"
            );
            let window = validate("night", &serde_saphyr::from_str(&yaml).unwrap()).unwrap();
            let mut status = MaintenanceWindowStatus::default();
            let now = "2026-07-01T01:00:00Z".parse().unwrap();
            assert_eq!(fill(&mut status, &window, &Compiled::default(), now), None);
            let told = disable(&mut status, &window).unwrap();
            assert_eq!((status.next.as_deref(), status.next_occurrences.len()), (Some("disabled"), 0));
            told
        };
        let allow = told("Allow");
        assert!(allow.contains("still keeps all time closed") && allow.contains("spec.enabled"), "{allow}");
        assert!(!allow.contains("1970"), "{allow}");
        assert!(told("Deny").contains("it denies nothing"));
    }

    /// reliability.md #101: what the clients reckon with is the union less the denied; the status shows the next five.
    /// #102: days that do not exist are told.
    #[test]
    fn days_that_are_left_out_are_told() {
        let window = |recurrence: &str| {
            let yaml = format!(
                "collection: web\nstart: '02:00'\nduration: 2h\ntimeZone: UTC\nrecurrence: {recurrence}\n"
            );
            validate("w", &serde_saphyr::from_str(&yaml).unwrap()).unwrap()
        };
        let now = "2026-11-21T00:00:00Z".parse::<Timestamp>().unwrap();
        let told = |recurrence: &str| no_occurrence(&window(recurrence), now);
        assert!(told("{monthlyByDate: {day: 31}}").unwrap().contains("months without a day 31 are left out"));
        assert!(told("{once: {date: '2025-01-01'}}").unwrap().contains("never opens again"));
        assert!(told("{once: {date: '2025-01-01'}}").unwrap().contains("2025-01-01T02:00:00Z"));
        assert_eq!(told("{monthlyByDate: {day: 28}}"), None);
        let mut yearly = window("{monthlyByDate: {day: 31}}");
        let anchored =
            |day: &str| Recurrence::MonthlyByDate { every: 12, anchor: day.parse().unwrap(), day: 31 };
        yearly.recurrence = anchored("2026-12-01");
        assert_eq!(no_occurrence(&yearly, now), None, "every December has a day 31");
        yearly.recurrence = anchored("2026-06-01");
        assert!(no_occurrence(&yearly, now).unwrap().contains("no year has a day"));
        assert_eq!(told("{monthlyByDate: {lastDay: true}}"), None);
        let mut status = MaintenanceWindowStatus::default();
        fill(&mut status, &window("{monthlyByDate: {day: 31}}"), &Compiled::default(), now);
        let next: Vec<&str> = status.next_occurrences.iter().map(|next| &next.start[..10]).collect();
        assert_eq!(next, ["2026-12-31", "2027-01-31", "2027-03-31", "2027-05-31", "2027-07-31"]);
    }
}
