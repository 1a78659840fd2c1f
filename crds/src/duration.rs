//! Lengths of time in YAML: `14d`, `2h`, `90m`, `1d12h`.

use std::{borrow::Cow, fmt, str::FromStr};

use kube::core::{Message, Rule};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What the schema demands; the parser demands the same.
pub const PATTERN: &str = "^([0-9]{1,5}d)?([0-9]{1,5}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?$";

/// A length of time: days, hours, minutes and seconds in this order, each at most once (`14d`, `2h30m`, `0s`).
///
/// A day is 24 hours. The text is kept as it was written, so that what Git says and what the API server holds are
/// the same; [`DurationText::seconds`] reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationText(pub String);

/// A text that is not a length of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidDuration {
    text: String,
}

impl fmt::Display for InvalidDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a length of time: write days, hours, minutes, seconds in this order, for example 14d, 2h, 30m or 1d12h",
            self.text
        )
    }
}

impl std::error::Error for InvalidDuration {}

impl DurationText {
    /// The length in seconds.
    pub fn seconds(&self) -> Result<i64, InvalidDuration> {
        let invalid = || InvalidDuration { text: self.0.chars().take(40).collect() };
        let mut units = [('d', 86_400_i64, 5), ('h', 3_600, 5), ('m', 60, 7), ('s', 1, 9)].into_iter();
        let mut rest = self.0.as_str();
        let mut total = 0_i64;
        if rest.is_empty() {
            return Err(invalid());
        }
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
            let (digits, tail) = rest.split_at(end);
            let unit = tail.chars().next().ok_or_else(invalid)?;
            let (_, seconds, longest) = units.find(|(name, ..)| *name == unit).ok_or_else(invalid)?;
            if digits.is_empty() || digits.len() > longest {
                return Err(invalid());
            }
            let amount: i64 = digits.parse().map_err(|_| invalid())?;
            total += amount * seconds;
            rest = &tail[unit.len_utf8()..];
        }
        Ok(total)
    }

    /// The shortest text for a number of seconds; negative numbers become `0s`.
    pub fn from_seconds(seconds: i64) -> Self {
        let mut rest = seconds.max(0);
        let mut text = String::new();
        for (unit, length) in [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)] {
            let amount = rest / length;
            rest %= length;
            if amount > 0 {
                text.push_str(&amount.to_string());
                text.push(unit);
            }
        }
        if text.is_empty() {
            text.push_str("0s");
        }
        Self(text)
    }
}

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DurationText {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let duration = Self(text.to_owned());
        duration.seconds()?;
        Ok(duration)
    }
}

impl JsonSchema for DurationText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "DurationText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": PATTERN, "minLength": 2, "maxLength": 32})
    }
}

/// A rule that keeps a duration between two lengths, both included; the message names them.
pub(crate) fn between(least: &str, most: &str) -> Rule {
    let seconds = |text: &str| DurationText(text.to_owned()).seconds().unwrap_or_default();
    // CEL's duration() knows no days. The first half keeps a text that the pattern refuses from failing in the second,
    // so that the answer is this message and not a conversion error.
    let value = "(self.contains('d') ? int(self.split('d')[0]) * 86400 : 0) + (self.endsWith('d') ? 0 : \
                 duration(self.contains('d') ? self.split('d')[1] : self).getSeconds())";
    let (least_seconds, most_seconds) = (seconds(least), seconds(most));
    Rule {
        rule: format!(
            "size(self) > 1 && self.matches('{PATTERN}') && {value} >= {least_seconds} && {value} <= {most_seconds}"
        ),
        message: Some(Message::Message(format!(
            "must be from {least} to {most}, written as days, hours, minutes and seconds, for example 30m, 2h or 1d12h"
        ))),
        ..Rule::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<i64> {
        DurationText(text.to_owned()).seconds().ok()
    }

    #[test]
    fn reads_what_the_pattern_allows() {
        assert_eq!(seconds("14d"), Some(14 * 86_400));
        assert_eq!(seconds("2h"), Some(7_200));
        assert_eq!(seconds("1d12h30m5s"), Some(86_400 + 43_200 + 1_800 + 5));
        assert_eq!(seconds("0s"), Some(0));
        for bad in ["", "1", "d", "1w", "2h1d", "1d1d", "-1h", "1.5h", "999999d", "1 d", "１d"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for n in [0, 1, 59, 60, 3_600, 86_399, 86_400, 1_209_600, 90_061] {
            assert_eq!(seconds(&DurationText::from_seconds(n).0), Some(n));
        }
        assert_eq!(DurationText::from_seconds(-5).0, "0s");
    }

    #[test]
    fn the_error_shows_how_to_write_it() {
        assert!("2 weeks".parse::<DurationText>().unwrap_err().to_string().contains("14d"));
    }
}
