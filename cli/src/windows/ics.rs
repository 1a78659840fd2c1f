//! A listing as iCalendar (RFC 5545): one event for each occurrence, in UTC, so that no calendar program has to agree with
//! us about zones and recurrences. Five properties of an event are less than a library that brings a second one for time.

use std::fmt::Write as _;

use jiff::{Timestamp, tz::TimeZone};

use super::{Line, Listing};

/// Octets of a line (RFC 5545 3.1).
const FOLD: usize = 75;

pub(super) fn calendar(listing: &Listing<'_>) -> String {
    let mut out = Lines::default();
    out.line("BEGIN:VCALENDAR");
    out.line("VERSION:2.0");
    out.line("PRODID:-//Patchtide//kubectl patchtide windows//EN");
    out.line("CALSCALE:GREGORIAN");
    out.line("METHOD:PUBLISH");
    for line in &listing.lines {
        event(&mut out, line, listing.from);
    }
    out.line("END:VCALENDAR");
    out.0
}

fn event(out: &mut Lines, line: &Line<'_>, stamp: Timestamp) {
    let start = utc(line.span.start);
    let (name, namespace) = line
        .window
        .map_or(("union", "patchtide"), |shown| (shown.window.name.as_str(), shown.namespace.as_str()));
    let summary = match line.window {
        None => "Maintenance".to_owned(),
        Some(shown) if line.denies() => format!("No maintenance: {} ({name})", shown.window.collection),
        Some(shown) => format!("Maintenance: {} ({name})", shown.window.collection),
    };
    out.line("BEGIN:VEVENT");
    // The same occurrence has the same name in every export, so that a second import changes nothing.
    out.line(&format!("UID:{start}.{name}.{namespace}@patchtide.dev"));
    out.line(&format!("DTSTAMP:{}", utc(stamp)));
    out.line(&format!("DTSTART:{start}"));
    out.line(&format!("DTEND:{}", utc(line.span.end)));
    out.line(&format!("SUMMARY:{}", escape(&summary)));
    if let Some(description) = line.window.and_then(|shown| shown.description.as_ref()) {
        out.line(&format!("DESCRIPTION:{}", escape(description)));
    }
    out.line(&format!("CATEGORIES:{}", if line.denies() { "Deny" } else { "Allow" }));
    out.line("TRANSP:TRANSPARENT");
    out.line("END:VEVENT");
}

fn utc(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A text value (RFC 5545 3.3.11): control characters do not belong into one.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.replace("\r\n", "\n").chars() {
        match c {
            '\\' | ';' | ',' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Lines that end with CR LF and are folded between characters.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, text: &str) {
        let mut length = 0;
        for c in text.chars() {
            if length + c.len_utf8() > FOLD {
                self.0.push_str("\r\n ");
                length = 1;
            }
            let _ = write!(self.0, "{c}");
            length += c.len_utf8();
        }
        self.0.push_str("\r\n");
    }
}

#[cfg(test)]
mod tests {
    use icalendar::{Calendar, Component as _, Event};

    use super::{
        super::tests::{TWO, file, options},
        *,
    };

    /// Read back by a parser that is not ours: every event whole, texts as they were, lines no longer than allowed.
    #[test]
    fn another_parser_reads_what_was_written() {
        let long = "ä; ö, \\\\ ".repeat(30);
        let text = TWO.replace("Nights; backups, then updates\\nas agreed", &format!("{long}\\nsecond line"));
        let windows = file(&text);
        let range =
            ["-f", "-", "--client-zone", "Europe/Berlin", "--from", "2026-11-27", "--to", "2026-12-02"];
        let listing = options(&range).list(&windows, Timestamp::UNIX_EPOCH).unwrap();
        let written = calendar(&listing);
        assert!(written.split("\r\n").all(|line| line.len() <= FOLD && !line.contains('\n')), "{written}");
        let parsed: Calendar = written.parse().unwrap();
        let events: Vec<&Event> = parsed.components.iter().filter_map(|part| part.as_event()).collect();
        assert_eq!(events.len(), 3);
        let value = |event: usize, name: &str| events[event].property_value(name).unwrap().to_owned();
        assert_eq!(value(0, "DTSTART"), "20261127T210000Z");
        assert_eq!(value(0, "DTEND"), "20261128T010000Z");
        assert_eq!(value(0, "UID"), "20261127T210000Z.nights.default@patchtide.dev");
        assert_eq!(value(1, "SUMMARY"), "No maintenance: servers (freeze)");
        assert_eq!(events[0].get_description().unwrap(), format!("{}\nsecond line", "ä; ö, \\ ".repeat(30)));
        assert_eq!(calendar(&options(&range).list(&windows, Timestamp::UNIX_EPOCH).unwrap()), written);
    }
}
