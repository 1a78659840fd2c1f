//! A window's recurrence as the columns of a service window and in words.

use jiff::{Timestamp, civil, tz::TimeZone};
use patchtide_model::window::{AppliesTo, Recurrence, Window, Zone};

/// A civil time, read as if it were UTC.
fn instant(at: civil::DateTime) -> Timestamp {
    TimeZone::UTC.to_timestamp(at).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The first instant of a day, read as if it were UTC.
pub(super) fn midnight(day: civil::Date) -> Timestamp {
    instant(day.at(0, 0, 0, 0))
}

/// The day that the recurrence is counted from, at the time of day when it opens.
pub(super) fn start(window: &Window) -> Timestamp {
    let (Recurrence::Once { date: day }
    | Recurrence::Daily { anchor: day, .. }
    | Recurrence::Weekly { anchor: day, .. }
    | Recurrence::MonthlyByDate { anchor: day, .. }
    | Recurrence::MonthlyByWeekday { anchor: day, .. }) = &window.recurrence;
    instant(day.to_datetime(window.start))
}

/// Published number of the recurrence (domain model, section 4).
pub(super) const fn recurrence(window: &Window) -> i64 {
    match window.recurrence {
        Recurrence::Once { .. } => 1,
        Recurrence::Daily { .. } => 2,
        Recurrence::Weekly { .. } => 3,
        Recurrence::MonthlyByWeekday { offset_days: 0, .. } => 4,
        Recurrence::MonthlyByDate { .. } => 5,
        Recurrence::MonthlyByWeekday { .. } => 6,
    }
}

/// Published number of what it governs.
pub(super) const fn kind(window: &Window) -> i64 {
    match window.applies_to {
        AppliesTo::AllDeployments => 1,
        AppliesTo::RestartsOnly => 3,
        AppliesTo::Updates => 4,
    }
}

/// The zone's name.
pub(super) fn zone(window: &Window) -> &str {
    match &window.zone {
        Zone::Utc => "UTC",
        Zone::ClientLocal => "ClientLocal",
        Zone::Iana(name) => name,
    }
}

/// When it opens, in words.
pub(super) fn words(window: &Window) -> String {
    let every = |n: u8, one: &str, many: &str| {
        if n == 1 { format!("every {one}") } else { format!("every {n} {many}") }
    };
    let days = match &window.recurrence {
        Recurrence::Once { date } => format!("on {date}"),
        Recurrence::Daily { every: n, .. } => every(*n, "day", "days"),
        Recurrence::Weekly { every: n, weekdays, .. } => {
            let names: Vec<&str> = weekdays.iter().map(|day| weekday(*day)).collect();
            format!("{} on {}", every(*n, "week", "weeks"), names.join(", "))
        }
        Recurrence::MonthlyByDate { every: n, day: 0, .. } => {
            format!("{} on the last day", every(*n, "month", "months"))
        }
        Recurrence::MonthlyByDate { every: n, day, .. } => {
            format!("{} on day {day}", every(*n, "month", "months"))
        }
        Recurrence::MonthlyByWeekday { every: n, order, weekday: day, offset_days, .. } => {
            let order = match order {
                1 => "first",
                2 => "second",
                3 => "third",
                4 => "fourth",
                _ => "last",
            };
            let after = match offset_days {
                0 => String::new(),
                days => format!(", {days} days after"),
            };
            format!("{} on the {order} {}{after}", every(*n, "month", "months"), weekday(*day))
        }
    };
    let minutes = window.duration.as_secs() / 60;
    format!("{days} at {} for {minutes} min, {}", window.start.strftime("%H:%M"), zone(window))
}

const fn weekday(day: u8) -> &'static str {
    match day {
        1 => "Monday",
        2 => "Tuesday",
        3 => "Wednesday",
        4 => "Thursday",
        5 => "Friday",
        6 => "Saturday",
        _ => "Sunday",
    }
}
