//! SSH public keys and who they are good for: plain `*.pub` lines and those of `allowed_signers` (ssh-keygen(1)).

use jiff::{Timestamp, civil, tz::TimeZone};
use ssh_key::PublicKey;

use super::SSH_NAMESPACE;

/// A key that may sign, and when.
#[derive(Debug)]
pub(super) struct Trusted {
    /// The key.
    pub(super) key: PublicKey,
    after: Option<Timestamp>,
    before: Option<Timestamp>,
}

impl Trusted {
    /// Why the key may not sign at this time, if so.
    pub(super) fn refuses(&self, now: Timestamp) -> Option<String> {
        match (self.after, self.before) {
            (Some(after), _) if now < after => Some(format!("is not valid before {after}")),
            (_, Some(before)) if now >= before => Some(format!("has expired, at {before}")),
            _ => None,
        }
    }
}

/// The keys of a text, one a line. A line whose key is for other namespaces than Git's is left out; one that cannot be
/// honoured as it is written is an error, because ignoring a restriction would widen it.
pub(super) fn parse(text: &str) -> Result<Vec<Trusted>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(line).filter_map(Result::transpose).collect()
}

fn line(line: &str) -> Result<Option<Trusted>, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let kind = |word: &str| ["ssh-", "ecdsa-", "sk-"].iter().any(|start| word.starts_with(start));
    let at = words.windows(2).position(|pair| kind(pair[0]) && pair[1].starts_with("AAAA"));
    let at = at.ok_or("a line holds no SSH public key")?;
    let key = PublicKey::from_openssh(&words[at..].join(" "))
        .map_err(|error| format!("an SSH public key cannot be read: {error}"))?;
    let mut trusted = Trusted { key, after: None, before: None };
    let mut for_git = true;
    // Before the key: principals, then options.
    for option in words[..at].iter().skip(1).flat_map(|word| options(word)) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = value.trim_matches('"');
        match name.to_lowercase().as_str() {
            "namespaces" => {
                for_git = value.split(',').any(|namespace| namespace == SSH_NAMESPACE || namespace == "*");
            }
            "valid-after" => trusted.after = Some(time(value)?),
            "valid-before" => trusted.before = Some(time(value)?),
            other => {
                return Err(format!(
                    "the option {other} of a line is not supported; write the keys themselves, one a line"
                ));
            }
        }
    }
    Ok(for_git.then_some(trusted))
}

/// Splits at commas outside of quotes.
fn options(word: &str) -> Vec<&str> {
    let mut quoted = false;
    word.split(|c| {
        if c == '"' {
            quoted = !quoted;
        }
        c == ',' && !quoted
    })
    .filter(|option| !option.is_empty())
    .collect()
}

/// `YYYYMMDD` or `YYYYMMDDHHMM[SS]`, with or without `Z`; always UTC here.
fn time(text: &str) -> Result<Timestamp, String> {
    let digits = text.trim_end_matches('Z');
    let part = |from: usize, to: usize| digits.get(from..to).and_then(|part| part.parse::<i8>().ok());
    let parsed = (|| {
        let shape = matches!(digits.len(), 8 | 12 | 14) && digits.bytes().all(|byte| byte.is_ascii_digit());
        let year: i16 = digits.get(..4).filter(|_| shape)?.parse().ok()?;
        let of_day = |from| if digits.len() >= from + 2 { part(from, from + 2) } else { Some(0) };
        let time =
            civil::DateTime::new(year, part(4, 6)?, part(6, 8)?, of_day(8)?, of_day(10)?, of_day(12)?, 0)
                .ok()?;
        time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })();
    parsed.ok_or_else(|| format!("{text:?} is not a time: write YYYYMMDD or YYYYMMDDHHMMSS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn restrictions_of_allowed_signers_are_kept() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let one = |options: &str| parse(&format!("ssh-admin@example.com {options} {KEY} note\n")).unwrap();
        assert_eq!(parse(&format!("# people\n{KEY} a@b\n\n")).unwrap().len(), 1);
        assert_eq!(one("").len(), 1);
        assert_eq!(one("namespaces=\"git,file\"").len(), 1);
        assert_eq!(one("namespaces=\"file\"").len(), 0, "a key for files is none for commits");
        let trusted = &one("valid-after=\"20260101\",valid-before=\"202602011200Z\"")[0];
        assert!(trusted.refuses(at("2025-12-31T23:59:59Z")).unwrap().contains("not valid before"));
        assert_eq!(trusted.refuses(at("2026-01-01T00:00:00Z")), None);
        assert!(trusted.refuses(at("2026-02-01T12:00:00Z")).unwrap().contains("expired"));
        for bad in ["cert-authority", "valid-before=\"soon\"", "valid-before=\"20261301\"", "future-option"] {
            assert!(parse(&format!("a@b {bad} {KEY}")).is_err(), "{bad}");
        }
    }
}
