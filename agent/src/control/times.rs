//! Times as people write them: `18:00`, `2026-11-24T18:00`, `2h`, or an instant.

use jiff::{SignedDuration, Timestamp, ToSpan as _, civil, tz::TimeZone};
use patchtide_model::window::first_instant;

/// Reads a time; a time of day is the next one by the machine's clock.
pub(crate) fn read(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
    let wrong = || {
        format!(
            "{text:?} is no time: write for example 18:00, 2026-11-24T18:00, 2026-11-24T18:00:00Z, or 2h for in two hours"
        )
    };
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    // Before the time of day, which is a part of it.
    if let Ok(at) = text.parse::<civil::DateTime>() {
        return first_instant(at, zone).ok_or_else(wrong);
    }
    if let Ok(at) = text.parse::<civil::Time>() {
        let today = now.to_zoned(zone.clone()).date();
        let days = [today, today.checked_add(1.day()).map_err(|_| wrong())?];
        let next =
            days.iter().filter_map(|day| first_instant(day.to_datetime(at), zone)).find(|at| *at > now);
        return next.ok_or_else(wrong);
    }
    let span: SignedDuration = text.parse().map_err(|_| wrong())?;
    now.checked_add(span).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_times_in_their_own_clock() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        for (text, at) in [
            ("18:00", "2026-11-21T17:00:00Z"),
            ("03:00", "2026-11-22T02:00:00Z"),
            ("11:00", "2026-11-22T10:00:00Z"),
            ("2026-11-24T18:00", "2026-11-24T17:00:00Z"),
            ("2026-11-24T18:00:00Z", "2026-11-24T18:00:00Z"),
            ("2h", "2026-11-21T12:00:00Z"),
            ("90m", "2026-11-21T11:30:00Z"),
        ] {
            assert_eq!(read(text, now, &berlin), Ok(at.parse().unwrap()), "{text}");
        }
        for text in ["", "later", "25:00", "2026-13-01T00:00", "9999999999999999h"] {
            assert!(read(text, now, &berlin).unwrap_err().contains("is no time"), "{text}");
        }
    }
}
