//! A window's spec in domain form. Pure.

use jiff::civil;
use patchtide_crds::{
    MaintenanceWindowSpec,
    conditions::reason,
    maintenance_window::{WindowAction as WishedAction, WindowScope},
    recurrence::{Recurrence as Wished, WeekOfMonth, Weekday},
};
use patchtide_model::window::{
    AppliesTo, Recurrence, Window, WindowAction, WindowError, Zone, time_zone_names,
};

use crate::problem::{Problem, date, duration, object_name, time_of_day};

/// The domain form of `spec`.
pub fn validate(name: &str, spec: &MaintenanceWindowSpec) -> Result<Window, Problem> {
    let effective_from =
        spec.effective_from.as_deref().map(|text| date("effectiveFrom", text)).transpose()?;
    let effective_until =
        spec.effective_until.as_deref().map(|text| date("effectiveUntil", text)).transpose()?;
    if effective_from.is_none() && every(&spec.recurrence) > 1 {
        return Err(Problem::stalled(
            reason::INVALID_SPEC,
            "effectiveFrom: is missing: an every of 2 or more is counted from it",
        ));
    }
    // Without a first day nothing is counted from anywhere: `every` is 1 then, and any day serves.
    let anchor = effective_from.unwrap_or(civil::Date::constant(2000, 1, 3));
    let mut recurrence = recurrence(&spec.recurrence, anchor)?;
    if !spec.enabled {
        // It opens never, and still selects its clients: a day that is long past.
        recurrence = Recurrence::Once { date: civil::Date::constant(1970, 1, 1) };
    }
    let window = Window {
        name: object_name(name)?,
        collection: object_name(&spec.collection)?,
        recurrence,
        start: time_of_day("start", &spec.start)?,
        duration: duration("duration", &spec.duration)?,
        zone: match spec.time_zone.as_str() {
            "UTC" => Zone::Utc,
            "ClientLocal" => Zone::ClientLocal,
            name => Zone::Iana(name.to_owned()),
        },
        effective_from,
        effective_until,
        applies_to: match spec.applies_to {
            WindowScope::AllDeployments => AppliesTo::AllDeployments,
            WindowScope::Updates => AppliesTo::Updates,
            WindowScope::RestartsOnly => AppliesTo::RestartsOnly,
        },
        action: match spec.action {
            WishedAction::Allow => WindowAction::Allow,
            WishedAction::Deny => WindowAction::Deny,
        },
    };
    window.validate().map_err(|error| Problem::stalled(reason::INVALID_SPEC, told(&window, &error)))?;
    Ok(window)
}

fn every(wished: &Wished) -> u32 {
    let daily = wished.daily.as_ref().map(|daily| daily.every);
    let weekly = wished.weekly.as_ref().map(|weekly| weekly.every);
    let by_date = wished.monthly_by_date.as_ref().map(|monthly| monthly.every);
    let by_weekday = wished.monthly_by_weekday.as_ref().map(|monthly| monthly.every);
    daily.or(weekly).or(by_date).or(by_weekday).unwrap_or(1)
}

/// The error with what was perhaps meant: the zone whose name is nearest (reliability.md #94).
fn told(window: &Window, error: &WindowError) -> String {
    match (&window.zone, error) {
        (Zone::Iana(name), WindowError::Zone(_)) => match nearest_zone(name) {
            Some(near) => format!("{error}; did you mean {near}?"),
            None => error.to_string(),
        },
        _ => error.to_string(),
    }
}

fn nearest_zone(name: &str) -> Option<String> {
    time_zone_names()
        .map(|known| (strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()), known))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, known)| known)
}

/// The domain form of a recurrence, counted from `anchor`.
pub fn recurrence(wished: &Wished, anchor: civil::Date) -> Result<Recurrence, Problem> {
    let small = |field: &str, n: u32| {
        u8::try_from(n)
            .map_err(|_| Problem::stalled(reason::INVALID_SPEC, format!("RANGE: {field}: {n} is too large")))
    };
    if let Some(once) = &wished.once {
        return Ok(Recurrence::Once { date: date("recurrence.once.date", &once.date)? });
    }
    if let Some(daily) = &wished.daily {
        return Ok(Recurrence::Daily { every: small("recurrence.daily.every", daily.every)?, anchor });
    }
    if let Some(weekly) = &wished.weekly {
        return Ok(Recurrence::Weekly {
            every: small("recurrence.weekly.every", weekly.every)?,
            anchor,
            weekdays: weekly.weekdays.iter().copied().map(weekday).collect(),
        });
    }
    if let Some(monthly) = &wished.monthly_by_date {
        return Ok(Recurrence::MonthlyByDate {
            every: small("recurrence.monthlyByDate.every", monthly.every)?,
            anchor,
            day: small("recurrence.monthlyByDate.day", monthly.day.unwrap_or(0))?,
        });
    }
    if let Some(monthly) = &wished.monthly_by_weekday {
        return Ok(Recurrence::MonthlyByWeekday {
            every: small("recurrence.monthlyByWeekday.every", monthly.every)?,
            anchor,
            order: match monthly.week {
                WeekOfMonth::First => 1,
                WeekOfMonth::Second => 2,
                WeekOfMonth::Third => 3,
                WeekOfMonth::Fourth => 4,
                WeekOfMonth::Last => 0,
            },
            weekday: weekday(monthly.weekday),
            offset_days: small("recurrence.monthlyByWeekday.offsetDays", monthly.offset_days)?,
        });
    }
    Err(Problem::stalled(
        reason::INVALID_SPEC,
        "recurrence: set exactly one of once, daily, weekly, monthlyByDate and monthlyByWeekday",
    ))
}

const fn weekday(day: Weekday) -> u8 {
    match day {
        Weekday::Monday => 1,
        Weekday::Tuesday => 2,
        Weekday::Wednesday => 3,
        Weekday::Thursday => 4,
        Weekday::Friday => 5,
        Weekday::Saturday => 6,
        Weekday::Sunday => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unwrap_in_result, reason = "the fixture itself must be readable")]
    fn window(yaml: &str) -> Result<Window, Problem> {
        validate("night", &serde_saphyr::from_str(yaml).unwrap())
    }

    #[test]
    fn the_day_after_patch_tuesday() {
        let window = window(
            "collection: web\nstart: '02:00'\nduration: 3h\ntimeZone: Europe/Berlin\nrecurrence:\n  monthlyByWeekday: {week: Second, weekday: Tuesday, offsetDays: 1}\n",
        )
        .unwrap();
        assert_eq!(window.zone, Zone::Iana("Europe/Berlin".into()));
        let next =
            window.occurrences(&jiff::tz::TimeZone::UTC, "2026-12-01T00:00:00Z".parse().unwrap()).next();
        assert_eq!(next.unwrap().start.to_string(), "2026-12-09T01:00:00Z");
    }

    #[test]
    fn a_disabled_window_never_opens_and_still_selects() {
        let window = window(
            "collection: web\nstart: '02:00'\nduration: 3h\nenabled: false\nrecurrence: {daily: {}}\n",
        )
        .unwrap();
        assert_eq!(window.collection.as_str(), "web");
        let after = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(window.occurrences(&jiff::tz::TimeZone::UTC, after).next(), None);
    }

    #[test]
    fn what_cannot_be_evaluated_is_refused_with_its_field() {
        let base = "collection: web\nduration: 3h\nrecurrence: {daily: {}}\n";
        for (more, needle) in [
            // reliability.md #94: the nearest name is told.
            ("start: '02:00'\ntimeZone: Europe/Berlim\n", "did you mean Europe/Berlin?"),
            ("start: '02:00'\ntimeZone: Mars/Olympus\n", "Mars/Olympus"),
            ("start: '25:00'\n", "start: 25:00"),
            ("start: '02:00'\neffectiveFrom: '2026-02-30'\n", "effectiveFrom: 2026-02-30"),
        ] {
            let failure = window(&format!("{base}{more}")).unwrap_err();
            assert!(failure.message.contains(needle), "{failure}");
        }
    }
}
