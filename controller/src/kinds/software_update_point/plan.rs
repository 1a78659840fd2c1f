//! When the next synchronisation runs, and which. Pure.

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use patchtide_crds::{
    SoftwareUpdatePointSpec,
    conditions::reason,
    software_update_point::{CalendarSchedule, SyncKind},
};
use patchtide_intent::{maintenance_window::recurrence, problem::time_of_day};
use patchtide_model::window::{AppliesTo, Window, WindowAction, Zone};

use super::memory::Memory;
use crate::{
    error::Failure,
    kinds::{duration, object_name},
};

/// Time between two full synchronisations where the spec says nothing.
const FULL: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The next synchronisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// When; now or before: at once.
    pub at: Timestamp,
    /// Which.
    pub kind: SyncKind,
}

/// The next synchronisation: at once for a new generation (full) or a request, after `retryInterval` when the last one
/// failed, else by the schedule.
pub fn next(
    spec: &SoftwareUpdatePointSpec,
    memory: &Memory,
    generation: i64,
    request: Option<&str>,
    full_asked: bool,
    now: Timestamp,
) -> Result<Next, Failure> {
    if memory.generation != Some(generation) {
        return Ok(Next { at: now, kind: SyncKind::Full });
    }
    if request.is_some() && request != memory.request.as_deref() {
        let kind = if full_asked { SyncKind::Full } else { SyncKind::Delta };
        return Ok(Next { at: now, kind });
    }
    let last_full = memory.last_full.unwrap_or(Timestamp::MIN);
    if memory.failures > 0 {
        let retry = duration("retryInterval", &spec.retry_interval)?;
        let at = memory.last_run.and_then(|last| last.checked_add(retry).ok()).unwrap_or(now);
        let kind = if memory.last_full.is_none() { SyncKind::Full } else { SyncKind::Delta };
        return Ok(Next { at, kind });
    }
    let full = if let Some(calendar) = &spec.schedule.full {
        by_calendar(calendar, last_full)?
    } else {
        let period = spec.schedule.full_interval.as_ref();
        let period = period.map_or(Ok(FULL), |text| duration("schedule.fullInterval", text))?;
        last_full.checked_add(period).unwrap_or(Timestamp::MAX)
    };
    let period = duration("schedule.deltaInterval", &spec.schedule.delta_interval)?;
    let last = memory.last_delta.max(memory.last_full).unwrap_or(now);
    let delta =
        if period.is_zero() { Timestamp::MAX } else { last.checked_add(period).unwrap_or(Timestamp::MAX) };
    Ok(if full <= delta {
        Next { at: full, kind: SyncKind::Full }
    } else {
        Next { at: delta, kind: SyncKind::Delta }
    })
}

/// The first time of the calendar after `after`: a window's arithmetic, of which only the openings count.
fn by_calendar(calendar: &CalendarSchedule, after: Timestamp) -> Result<Timestamp, Failure> {
    let anchor = civil::Date::constant(2000, 1, 3);
    let name = object_name("schedule")?;
    let window = Window {
        name: name.clone(),
        collection: name,
        recurrence: recurrence(&calendar.recurrence, anchor)?,
        start: time_of_day("schedule.full.start", &calendar.start)?,
        duration: SignedDuration::from_mins(5),
        zone: if calendar.time_zone == "UTC" { Zone::Utc } else { Zone::Iana(calendar.time_zone.clone()) },
        effective_from: None,
        effective_until: None,
        applies_to: AppliesTo::AllDeployments,
        action: WindowAction::Allow,
    };
    window
        .validate()
        .map_err(|error| Failure::stalled(reason::INVALID_SPEC, format!("schedule.full: {error}")))?;
    let next = window.occurrences(&TimeZone::UTC, after).map(|span| span.start).find(|start| *start > after);
    Ok(next.unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(schedule: &str) -> SoftwareUpdatePointSpec {
        serde_saphyr::from_str(&format!("sources: []\nschedule: {schedule}\n")).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn memory() -> Memory {
        Memory {
            generation: Some(1),
            last_full: Some(at("2026-07-01T00:00:00Z")),
            last_delta: Some(at("2026-07-02T00:00:00Z")),
            last_run: Some(at("2026-07-02T00:00:00Z")),
            request: Some("a".into()),
            ..Memory::default()
        }
    }

    #[test]
    fn the_first_is_full_and_at_once_and_so_is_a_new_generation() {
        let now = at("2026-07-02T00:00:01Z");
        let first = next(&spec("{}"), &Memory::default(), 1, None, false, now).unwrap();
        assert_eq!(first, Next { at: now, kind: SyncKind::Full });
        assert_eq!(next(&spec("{}"), &memory(), 2, Some("a"), false, now).unwrap().kind, SyncKind::Full);
    }

    #[test]
    fn a_request_is_answered_once() {
        let now = at("2026-07-02T00:00:01Z");
        let asked = next(&spec("{}"), &memory(), 1, Some("b"), true, now).unwrap();
        assert_eq!(asked, Next { at: now, kind: SyncKind::Full });
        assert!(next(&spec("{}"), &memory(), 1, Some("a"), true, now).unwrap().at > now);
        // R-SYNC-18: by hand is a delta where nothing else is asked for.
        let plain = next(&spec("{}"), &memory(), 1, Some("b"), false, now).unwrap();
        assert_eq!(plain, Next { at: now, kind: SyncKind::Delta });
    }

    #[test]
    fn delta_and_full_by_their_times_and_a_failure_after_an_hour() {
        let now = at("2026-07-02T00:00:01Z");
        let delta = next(&spec("{}"), &memory(), 1, None, false, now).unwrap();
        assert_eq!(delta, Next { at: at("2026-07-02T01:00:00Z"), kind: SyncKind::Delta });
        let full =
            next(&spec("{deltaInterval: 0s, fullInterval: 1d}"), &memory(), 1, None, false, now).unwrap();
        assert_eq!(full, Next { at: at("2026-07-02T00:00:00Z"), kind: SyncKind::Full });
        let calendar =
            "{full: {recurrence: {weekly: {weekdays: [Sunday]}}, start: '03:00'}, deltaInterval: 31d}";
        let full = next(&spec(calendar), &memory(), 1, None, false, now).unwrap();
        assert_eq!(full, Next { at: at("2026-07-05T03:00:00Z"), kind: SyncKind::Full });
        let failed = Memory { failures: 1, ..memory() };
        let retry = next(&spec("{}"), &failed, 1, None, false, now).unwrap();
        assert_eq!(retry, Next { at: at("2026-07-02T01:00:00Z"), kind: SyncKind::Delta });
    }
}
