//! Notices in words.

use std::collections::BTreeSet;

use jiff::{Timestamp, tz::TimeZone};
use patchtide_model::{UpdateId, people::Display};
use patchtide_planner::client::{Notice, NoticeKind, Stage};

/// Updates that are named; the rest is counted.
const NAMED: usize = 5;
/// Characters of one message, at most.
const LENGTH: usize = 1200;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// One line.
    pub(crate) summary: String,
    /// The rest; empty for a balloon.
    pub(crate) body: String,
}

/// A notice in words, times by the machine's own clock.
pub(crate) fn message(notice: &Notice, zone: &TimeZone) -> Message {
    let time = |at: &Timestamp| local(*at, zone);
    let (summary, body) = match &notice.kind {
        NoticeKind::Updates { all, start, .. } => (
            format!("{} can be installed", count(all.len(), "update")),
            match start {
                None => format!("{}.\nInstall: patchtide-agent install", names(all)),
                Some(start) => format!(
                    "{}.\nInstalled by themselves from {} on. Sooner: patchtide-agent install",
                    names(all),
                    time(start)
                ),
            },
        ),
        NoticeKind::Reminder { updates, start } => (
            format!("{} will be installed from {} on", count(updates.len(), "update"), time(start)),
            format!("{}.\nSooner: patchtide-agent install, or patchtide-agent schedule", names(updates)),
        ),
        NoticeKind::Begun { updates } => (
            format!("{} being installed", is_or_are(updates.len())),
            format!("{}.\nDo not switch the machine off.", names(updates)),
        ),
        NoticeKind::Ended { installed, failed } if failed.is_empty() => {
            (format!("{} installed", was_or_were(installed.len())), format!("{}.", names(installed)))
        }
        NoticeKind::Ended { installed, failed } => (
            format!("{} installed, {} failed", was_or_were(installed.len()), failed.len()),
            format!("Not installed: {}. They are tried again.", names(failed)),
        ),
        NoticeKind::Restart { at, forced: true, stage, power_off } => (
            if *power_off {
                format!("This machine shuts down at {}: it was woken for updates", time(at))
            } else {
                format!("This machine restarts at {} to complete updates", time(at))
            },
            match stage {
                Stage::Final => "Save your work now.".to_owned(),
                Stage::Announced | Stage::Reminder => "Save your work before then.".to_owned(),
            },
        ),
        NoticeKind::Restart { at, forced: false, .. } => (
            format!("This machine should be restarted by {} to complete updates", time(at)),
            "It does not restart by itself. Now: patchtide-agent restart".to_owned(),
        ),
        NoticeKind::RestartWaits { until } => (
            "This machine needs a restart to complete updates".to_owned(),
            match until {
                Some(at) => format!("It restarts from {} on. Sooner: patchtide-agent restart", time(at)),
                None => "It does not restart by itself. When you can: patchtide-agent restart".to_owned(),
            },
        ),
        NoticeKind::RestartCalledOff { at } => {
            (format!("The restart announced for {} is called off", time(at)), String::new())
        }
    };
    let brief = notice.display == Display::Balloon;
    Message { summary: plain(&summary, 200), body: if brief { String::new() } else { plain(&body, LENGTH) } }
}

/// `Sat 21 Nov 2026 03:00 CET`.
pub(crate) fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%a %-d %b %Y %H:%M %Z").to_string()
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn is_or_are(number: usize) -> String {
    format!("{} {}", count(number, "update"), if number == 1 { "is" } else { "are" })
}

fn was_or_were(number: usize) -> String {
    format!("{} {}", count(number, "update"), if number == 1 { "was" } else { "were" })
}

/// `openssl 3.0.17-1, bash 5.2-1 and 3 more`.
pub(crate) fn names(updates: &BTreeSet<UpdateId>) -> String {
    let named: Vec<String> =
        updates.iter().take(NAMED).map(|id| format!("{} {}", id.source, id.version)).collect();
    match updates.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// What the site and packages said steers no terminal, and is not endless.
fn plain(text: &str, length: usize) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\n').take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(source: &str) -> UpdateId {
        UpdateId {
            line: "debian/test/main".parse().unwrap(),
            source: source.to_owned(),
            version: "1".to_owned(),
        }
    }

    fn said(display: Display, kind: NoticeKind) -> Message {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        message(&Notice { id: String::new(), display, kind }, &berlin)
    }

    #[test]
    fn people_get_their_own_time_few_names_and_no_escapes() {
        let at: Timestamp = "2026-11-21T02:00:00Z".parse().unwrap();
        let updates: BTreeSet<UpdateId> = ["a", "b", "c", "d", "e", "f", "g"].into_iter().map(id).collect();
        let message = said(Display::Full, NoticeKind::Reminder { updates, start: at });
        assert_eq!(message.summary, "7 updates will be installed from Sat 21 Nov 2026 03:00 CET on");
        assert!(message.body.starts_with("a 1, b 1, c 1, d 1, e 1 and 2 more.\n"), "{}", message.body);
        let evil = BTreeSet::from([id("x\u{1b}]0;y\u{7}\u{9b}31m")]);
        let message = said(Display::Full, NoticeKind::Begun { updates: evil.clone() });
        assert_eq!(message.summary, "1 update is being installed");
        assert!(message.body.starts_with("x]0;y31m 1.\n"), "{}", message.body);
        let balloon = said(Display::Balloon, NoticeKind::Begun { updates: evil });
        assert_eq!(balloon.body, "", "short");
        let forced = |forced| NoticeKind::Restart { at, forced, stage: Stage::Announced, power_off: false };
        assert!(said(Display::Full, forced(true)).summary.contains("restarts at Sat 21 Nov 2026 03:00 CET"));
        let off = NoticeKind::Restart { at, forced: true, stage: Stage::Announced, power_off: true };
        assert!(said(Display::Full, off).summary.starts_with("This machine shuts down at Sat 21 Nov 2026"));
        assert!(said(Display::Full, forced(false)).body.contains("does not restart by itself"));
    }
}
