//! Times in words that were made for the site too.

use jiff::{Timestamp, tz::TimeZone};

use crate::notify::words::local;

/// Length of `2026-11-21T02:00:00`, before its `Z`.
const INSTANT: usize = 19;

/// `text` with every instant in UTC told on this machine's clock. Reasons are made by the planner, the same for the site as
/// for the machine; people at a machine read its clock.
pub(crate) fn on_this_clock(text: &str, zone: &TimeZone) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(end) = rest.find('Z') {
        let begin = end.checked_sub(INSTANT);
        let instant = begin.and_then(|begin| Some((begin, instant(rest.get(begin..=end)?)?)));
        if let Some((begin, at)) = instant {
            out.push_str(&rest[..begin]);
            out.push_str(&local(at, zone));
        } else {
            out.push_str(&rest[..=end]);
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

fn instant(text: &str) -> Option<Timestamp> {
    // jiff takes more forms than the one that we write.
    let is_ours = text.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        10 => byte == b'T',
        13 | 16 => byte == b':',
        INSTANT => byte == b'Z',
        _ => byte.is_ascii_digit(),
    });
    if is_ours { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_told_on_this_machines_clock_and_nothing_else_changes() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let text = "waits for the window from 2026-11-21T22:00:00Z to 2026-11-22T02:00:00Z; it needs 11m [MaintenanceWindow/nightly]";
        assert_eq!(
            on_this_clock(text, &berlin),
            "waits for the window from Sat 21 Nov 2026 23:00 CET to Sun 22 Nov 2026 03:00 CET; it needs 11m [MaintenanceWindow/nightly]"
        );
        for same in
            ["", "Z", "a Zebra", "éèéèéèéèéèéèéèéèéèZ", "2026-11-21 22:00:00Z", "2026-99-21T22:00:00Z"]
        {
            assert_eq!(on_this_clock(same, &berlin), same);
        }
    }
}
