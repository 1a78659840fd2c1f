//! Package versions, ordered exactly as dpkg orders them.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest version that is accepted, in bytes. The longest one in a Debian release has some 80.
pub const MAX_LENGTH: usize = 512;

/// A version of a Debian package: `[epoch:]upstream[-revision]`.
///
/// Order and equality are dpkg's: `1.0`, `0:1.0` and `1.0-0` are equal although they are written differently.
/// There is no `Hash` for that reason; use a `BTreeMap`.
#[derive(Clone)]
pub struct Version {
    text: Box<str>,
    epoch: u32,
    /// Where the upstream part begins and ends in `text`; the revision, when there is one, is one byte after.
    upstream: (u16, u16),
}

/// Why a text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Nothing was given.
    #[error("the version is empty")]
    Empty,
    /// More than [`MAX_LENGTH`] bytes.
    #[error("the version has {0} bytes, at most {MAX_LENGTH} are accepted")]
    TooLong(usize),
    /// What is before the first colon is not a number from 0 to 2147483647.
    #[error("the epoch (before the colon) must be a number from 0 to 2147483647")]
    Epoch,
    /// Nothing between epoch and revision.
    #[error("there is no upstream version between epoch and revision")]
    NoUpstream,
    /// A hyphen with nothing behind it.
    #[error("the revision (after the last hyphen) is empty")]
    NoRevision,
    /// A character that no version may contain.
    #[error("character {0:?} is not allowed in a version: use letters, digits and . + - ~")]
    Character(char),
}

impl Version {
    /// Reads a version.
    ///
    /// A version that begins with a letter is accepted, as dpkg accepts it (with a warning): an installed package
    /// must not disappear from a scan because of it.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        if text.is_empty() {
            return Err(VersionError::Empty);
        }
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        if text.len() > MAX_LENGTH {
            return Err(VersionError::TooLong(text.len()));
        }
        let (epoch, start) = match text.find(':') {
            None => (0, 0),
            Some(at) => {
                let digits = &text[..at];
                if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(VersionError::Epoch);
                }
                let epoch: u32 = digits.parse().map_err(|_| VersionError::Epoch)?;
                if epoch > i32::MAX.unsigned_abs() {
                    return Err(VersionError::Epoch);
                }
                (epoch, at + 1)
            }
        };
        let rest = &text[start..];
        let end = match rest.rfind('-') {
            None => text.len(),
            Some(at) if at + 1 == rest.len() => return Err(VersionError::NoRevision),
            Some(at) => start + at,
        };
        if start == end {
            return Err(VersionError::NoUpstream);
        }
        let wrong = |c: &char, extra: &str| !c.is_ascii_alphanumeric() && !extra.contains(*c);
        if let Some(c) = text[start..end].chars().find(|c| wrong(c, ".-+~:")) {
            return Err(VersionError::Character(c));
        }
        if let Some(c) = text[end..].chars().skip(1).find(|c| wrong(c, ".+~")) {
            return Err(VersionError::Character(c));
        }
        let offset = |at: usize| u16::try_from(at).unwrap_or(length);
        Ok(Self { text: text.into(), epoch, upstream: (offset(start), offset(end)) })
    }

    /// The version as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The epoch; 0 when none is written.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The part between epoch and revision.
    pub fn upstream(&self) -> &str {
        &self.text[usize::from(self.upstream.0)..usize::from(self.upstream.1)]
    }

    /// The part after the last hyphen; empty when there is none.
    pub fn revision(&self) -> &str {
        self.text.get(usize::from(self.upstream.1) + 1..).unwrap_or("")
    }
}

/// Weight of a byte among non-digits: a tilde is before the end, letters are before everything else.
fn weight(byte: Option<u8>) -> i32 {
    match byte {
        None => 0,
        Some(b'~') => -1,
        Some(b) if b.is_ascii_digit() => 0,
        Some(b) if b.is_ascii_alphabetic() => i32::from(b),
        Some(b) => i32::from(b) + 256,
    }
}

fn take_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let length = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(length);
    let zeros = digits.iter().take_while(|b| **b == b'0').count();
    (&digits[zeros..], rest)
}

fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        loop {
            let is_text = |part: &[u8]| part.first().is_some_and(|b| !b.is_ascii_digit());
            if !is_text(a) && !is_text(b) {
                break;
            }
            let order = weight(a.first().copied()).cmp(&weight(b.first().copied()));
            if order != Ordering::Equal {
                return order;
            }
            a = a.get(1..).unwrap_or_default();
            b = b.get(1..).unwrap_or_default();
        }
        let (digits_a, rest_a) = take_digits(a);
        let (digits_b, rest_b) = take_digits(b);
        // Without leading zeros the longer number is the greater one; numbers have no size limit.
        let order = digits_a.len().cmp(&digits_b.len()).then_with(|| digits_a.cmp(digits_b));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| compare_part(self.upstream().as_bytes(), other.upstream().as_bytes()))
            .then_with(|| compare_part(self.revision().as_bytes(), other.revision().as_bytes()))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        Self::parse(text)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({})", self.text)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn order_of_known_pairs() {
        for (low, high) in [
            ("1.0~rc1-1", "1.0-1"),
            ("1.0-1", "1.0-1+b1"),
            ("1.0-1~deb12u1", "1.0-1"),
            ("1.9", "1.10"),
            ("9999", "1:0"),
            ("1.0a", "1.0+"),
            ("1~~", "1~"),
            ("1~~", "1~~a"),
            ("1", "1a"),
            ("2147483646:1", "2147483647:0"),
        ] {
            assert!(v(low) < v(high), "{low} < {high}");
        }
        for (a, b) in [("1.0", "0:1.0-0"), ("1.01", "1.1"), ("1.0-0", "1.0"), ("1-00", "1")] {
            assert_eq!(v(a), v(b));
        }
        assert_eq!((v("3:1-2-3").epoch(), v("3:1-2-3").upstream(), v("3:1-2-3").revision()), (3, "1-2", "3"));
    }

    /// reliability.md 4 #52.
    #[test]
    fn bad_input_52_is_refused() {
        for (text, error) in [
            ("", VersionError::Empty),
            ("1:", VersionError::NoUpstream),
            (":1", VersionError::Epoch),
            ("x:1", VersionError::Epoch),
            ("-1:1", VersionError::Epoch),
            ("2147483648:1", VersionError::Epoch),
            ("99999999999999999999:1", VersionError::Epoch),
            ("1-", VersionError::NoRevision),
            ("1:-1", VersionError::NoUpstream),
            ("1_0", VersionError::Character('_')),
            ("1 0", VersionError::Character(' ')),
            ("1\u{e9}", VersionError::Character('\u{e9}')),
            ("1-1:1", VersionError::Epoch),
        ] {
            assert_eq!(Version::parse(text).unwrap_err(), error, "{text}");
        }
        assert_eq!(Version::parse(&"1".repeat(1000)).unwrap_err(), VersionError::TooLong(1000));
    }

    pub(super) fn any_version() -> impl Strategy<Value = String> {
        ("([0-9]{1,3}:)?", "[0-9][0-9a-cA~.+:]{0,6}(-[0-9a~.+]{1,3}){0,2}").prop_map(|(epoch, rest)| {
            // A colon in the upstream part needs an epoch before it.
            if epoch.is_empty() { rest.replace(':', ".") } else { epoch + &rest }
        })
    }

    proptest! {
        #[test]
        fn order_is_total(a in any_version(), b in any_version(), c in any_version()) {
            let (a, b, c) = (v(&a), v(&b), v(&c));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
        }

        #[test]
        fn never_panics(text in "\\PC{0,40}") {
            if let Ok(version) = Version::parse(&text) {
                prop_assert_eq!(version.as_str(), text);
                prop_assert!(version == version.clone());
            }
        }
    }
}
