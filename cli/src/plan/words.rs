//! Counts, times and names in words. Names and messages come from machines and repositories, so they are made safe for where
//! they are shown.

use jiff::{SignedDuration, Timestamp};
use patchtide_intent::yaml::verdict::clean;
use patchtide_planner::site::forecast::Sample;

/// Where words are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// On a terminal.
    Plain,
    /// As Markdown, which must neither be broken nor call anybody.
    Markdown,
}

impl Style {
    /// A name.
    pub(super) fn name(self, name: &str) -> String {
        let name = clean(name);
        match self {
            Self::Plain => name,
            Self::Markdown => format!("`{}`", name.replace('`', "'")),
        }
    }

    /// Text that others wrote.
    pub(super) fn text(self, text: &str) -> String {
        let text = clean(text);
        match self {
            Self::Plain => text,
            Self::Markdown => text
                .chars()
                .flat_map(|c| match c {
                    '<' => "&lt;".chars().collect::<Vec<_>>(),
                    '>' => "&gt;".chars().collect(),
                    '&' => "&amp;".chars().collect(),
                    // A zero-width space keeps it from being a mention.
                    '@' => vec!['@', '\u{200b}'],
                    '`' | '*' | '_' | '[' | ']' | '|' | '#' | '\\' | '~' => vec!['\\', c],
                    c => vec![c],
                })
                .collect(),
        }
    }

    /// The first names and how many more.
    pub(super) fn names<T: ToString>(self, sample: &Sample<T>) -> String {
        let mut names: Vec<String> = sample.first.iter().map(|name| self.name(&name.to_string())).collect();
        if sample.more() > 0 {
            names.push(format!("{} more", number(sample.more())));
        }
        joined(&names)
    }

    /// All of these.
    pub(super) fn list<T: ToString>(self, all: &[T]) -> String {
        joined(&all.iter().map(|name| self.name(&name.to_string())).collect::<Vec<_>>())
    }
}

fn joined(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

/// `100,000`.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 client`, `3 clients`.
pub(super) fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{} {one}s", number(count)) }
}

/// `1 client gets`, `3 clients get`: the verb for one and for several.
pub(super) fn clients(count: u64, one: &str, several: &str) -> String {
    format!("{} {}", counted(count, "client"), if count == 1 { one } else { several })
}

/// `12.3 MB`, powers of ten.
pub(super) fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut unit, mut divisor) = (0, 1_u64);
    while bytes / divisor >= 1000 && unit + 1 < units.len() {
        unit += 1;
        divisor = divisor.saturating_mul(1000);
    }
    let name = units.get(unit).copied().unwrap_or_default();
    let tenths = u128::from(bytes) * 10 / u128::from(divisor);
    if unit == 0 { format!("{bytes} B") } else { format!("{}.{} {name}", tenths / 10, tenths % 10) }
}

/// To the second.
pub(super) fn time(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// From one to another; the day is said once.
pub(super) fn span(start: Timestamp, end: Option<Timestamp>) -> String {
    let from = time(start);
    let Some(end) = end else { return format!("from {from} on") };
    let to = time(end);
    match (from.split_once('T'), to.split_once('T')) {
        (Some((day, _)), Some((other, hour))) if day == other => format!("{from} to {hour}"),
        _ => format!("{from} to {to}"),
    }
}

/// `14d`, `1h30m`.
pub(super) fn length(length: SignedDuration) -> String {
    patchtide_planner::site::forecast::length(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_are_read_at_a_glance() {
        assert_eq!(
            (number(0), number(999), number(1_234_567)),
            ("0".into(), "999".into(), "1,234,567".into())
        );
        assert_eq!(
            (size(999), size(1_000), size(1_250_000)),
            ("999 B".into(), "1.0 kB".into(), "1.2 MB".into())
        );
        assert_eq!(size(u64::MAX), "18446.7 PB");
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let night = span(at("2026-03-09T02:00:00Z"), Some(at("2026-03-09T04:00:00Z")));
        assert_eq!(night, "2026-03-09T02:00:00Z to 04:00:00Z");
        assert_eq!(
            span(at("2026-03-09T22:00:00Z"), Some(at("2026-03-10T04:00:00Z"))),
            "2026-03-09T22:00:00Z to 2026-03-10T04:00:00Z"
        );
    }

    /// A machine chooses its own host name, and a comment is read by people who trust it.
    #[test]
    fn names_and_messages_cannot_break_out_of_a_comment() {
        assert_eq!(Style::Markdown.name("a`b\n</details>"), "`a'b\\n</details>`");
        let text = Style::Markdown.text("@everyone <img src=x> [a](b) | `x`");
        assert_eq!(text, "@\u{200b}everyone &lt;img src=x&gt; \\[a\\](b) \\| \\`x\\`");
        assert_eq!(Style::Plain.name("a\u{1b}[31m"), "a\\u{1b}[31m");
    }
}
