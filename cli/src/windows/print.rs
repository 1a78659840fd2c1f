//! A listing as a table and as JSON.

use std::fmt::Write as _;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use patchtide_model::window::{Calendar, NextOpening, Purpose, Window, WindowAction, Zone, time_zone};
use serde_json::json;

use super::{Line, Listing};

/// The zone in which a window's times are shown: the client's where it is known, else the window's own.
fn shown_in(listing: &Listing<'_>, window: Option<&Window>) -> TimeZone {
    listing.zone.clone().unwrap_or_else(|| match window.map(|window| &window.zone) {
        Some(Zone::Iana(name)) => time_zone(name).unwrap_or(TimeZone::UTC),
        _ => TimeZone::UTC,
    })
}

fn show(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M %:z").to_string()
}

pub(super) fn table(listing: &Listing<'_>) -> String {
    let mut rows = vec![["WINDOW", "START", "END", "LENGTH", "ACTION"].map(str::to_owned)];
    for line in &listing.lines {
        let window = line.window.map(|shown| &shown.window);
        let zone = shown_in(listing, window);
        rows.push([
            window.map_or_else(|| "(all together)".to_owned(), |window| window.name.to_string()),
            show(line.span.start, &zone),
            show(line.span.end, &zone),
            format!("{:#}", SignedDuration::from_secs(line.span.length().as_secs())),
            if line.denies() { "Deny" } else { "Allow" }.to_owned(),
        ]);
    }
    let mut out = String::new();
    if rows.len() > 1 {
        let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max();
        let widths: Vec<usize> = (0..5).map(|column| width(column).unwrap_or_default()).collect();
        for row in &rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }
    for shown in listing.windows.iter().filter(|shown| !shown.enabled) {
        let effect = match shown.window.action {
            WindowAction::Allow => "it never opens, and its clients do not become free by that",
            WindowAction::Deny => "it denies nothing",
        };
        let _ = writeln!(out, "{}: disabled (spec.enabled: false): {effect}", shown.window.name);
    }
    for told in nothing(listing) {
        let _ = writeln!(out, "{told}");
    }
    out
}

/// What is told of windows without an occurrence in the time that was asked for.
fn nothing(listing: &Listing<'_>) -> Vec<String> {
    let (from, to) = (listing.from, listing.to);
    if let Some(calendar) = &listing.calendar {
        let told = || format!("nothing is open between {from} and {to}; {}", next(calendar, to, "opens"));
        return listing.lines.is_empty().then(told).into_iter().collect();
    }
    let without = |window: &Window| {
        !listing.lines.iter().any(|line| line.window.is_some_and(|shown| shown.window.name == window.name))
    };
    listing
        .windows
        .iter()
        .filter(|shown| shown.enabled)
        .map(|shown| &shown.window)
        .filter(|window| without(window))
        .map(|window| {
            let clock = listing.zone.clone().unwrap_or(TimeZone::UTC);
            let alone = Window { action: WindowAction::Allow, ..window.clone() };
            let verb = if window.action == WindowAction::Deny { "denies" } else { "opens" };
            let next = next(&Calendar::new([&alone], Purpose::Restart, &clock), to, verb);
            format!("{}: nothing between {from} and {to}; {next}", window.name)
        })
        .collect()
}

fn next(calendar: &Calendar, at: Timestamp, verb: &str) -> String {
    match calendar.next_opening(at, SignedDuration::from_secs(1)) {
        NextOpening::Now { .. } => format!("it {verb} at once after"),
        NextOpening::At(span) => format!("next {verb} {}", span.start),
        NextOpening::Never { reason, .. } => format!("never {verb} again: {}", reason.text()),
    }
}

pub(super) fn json(listing: &Listing<'_>) -> anyhow::Result<String> {
    let several = listing.windows.len() > 1;
    let item = |line: &Line<'_>| {
        let (start, end) = (line.span.start.to_string(), line.span.end.to_string());
        match line.window.filter(|_| several) {
            Some(shown) => {
                let action = if line.denies() { "Deny" } else { "Allow" };
                json!({"start": start, "end": end, "window": shown.window.name, "action": action})
            }
            None => json!({"start": start, "end": end}),
        }
    };
    let list: Vec<_> = listing.lines.iter().map(item).collect();
    serde_json::to_string_pretty(&list).context("the occurrences cannot be written as JSON")
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{TWO, file, options},
        *,
    };

    const RANGE: [&str; 8] =
        ["-f", "-", "--client-zone", "Europe/Berlin", "--from", "2026-11-27", "--to", "2026-12-01"];

    #[test]
    fn the_table_shows_the_clients_clock_and_what_has_no_occurrence() {
        let windows = file(TWO);
        let listing = options(&RANGE).list(&windows, Timestamp::UNIX_EPOCH).unwrap();
        let table = table(&listing);
        let mut lines = table.lines();
        assert!(lines.next().unwrap().starts_with("WINDOW  START"));
        assert_eq!(
            lines.next().unwrap(),
            "nights  Fri 2026-11-27 22:00 +01:00  Sat 2026-11-28 02:00 +01:00  4h      Allow"
        );
        assert!(lines.next().unwrap().ends_with("24h     Deny"));
        let far = ["-f", "-", "--client-zone", "UTC", "--from", "2026-11-25", "--to", "2026-11-26"];
        let listing = options(&far).list(&windows, Timestamp::UNIX_EPOCH).unwrap();
        let table = super::table(&listing);
        assert!(table.contains("nights: nothing between 2026-11-25T00:00:00Z and 2026-11-26T00:00:00Z; next opens 2026-11-27T22:00:00Z"), "{table}");
        assert!(
            table.contains("freeze: nothing between") && table.contains("next denies 2026-11-30T00:00:00Z"),
            "{table}"
        );
        let past = file(&TWO.split("---").next().unwrap().replace(
            "recurrence: {weekly: {weekdays: [Monday, Friday]}}",
            "recurrence: {once: {date: '2020-01-01'}}",
        ));
        let listing = options(&far).list(&past, Timestamp::UNIX_EPOCH).unwrap();
        assert!(
            super::table(&listing)
                .contains("never opens again: the days on which the windows may open are over")
        );
    }

    #[test]
    fn a_disabled_window_is_listed_as_disabled() {
        let windows = file(&TWO.replacen("  start:", "  enabled: false\n  start:", 1));
        let listing = options(&RANGE).list(&windows, Timestamp::UNIX_EPOCH).unwrap();
        let table = table(&listing);
        assert!(
            table.ends_with(
                "\nnights: disabled (spec.enabled: false): it never opens, and its clients do not become free by that\n"
            ),
            "{table}"
        );
        assert!(!table.contains("nights  ") && table.contains("freeze"), "{table}");
    }

    #[test]
    fn json_is_a_list_of_starts_and_ends_in_utc() {
        let one = file(TWO.split("---").next().unwrap());
        let listing = options(&RANGE).list(&one, Timestamp::UNIX_EPOCH).unwrap();
        let list: serde_json::Value = serde_json::from_str(&json(&listing).unwrap()).unwrap();
        let (first, second) = (
            json!({"start": "2026-11-27T21:00:00Z", "end": "2026-11-28T01:00:00Z"}),
            json!({"start": "2026-11-30T21:00:00Z", "end": "2026-12-01T01:00:00Z"}),
        );
        assert_eq!(list, json!([first, second]));
        let two = file(TWO);
        let listing = options(&RANGE).list(&two, Timestamp::UNIX_EPOCH).unwrap();
        let list: serde_json::Value = serde_json::from_str(&json(&listing).unwrap()).unwrap();
        assert_eq!((&list[1]["window"], &list[1]["action"]), (&json!("freeze"), &json!("Deny")));
    }
}
