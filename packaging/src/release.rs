//! `Release`: what a suite of an apt archive says about itself, and the hashes of its indices.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::deb822::{Encoding, Limits, ReadError, Stanza, StanzaError, StanzaReader};
use crate::hash::Sha256;

/// Largest `Release` body, in bytes; Debian's are below 2 MiB.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Most files in the list.
pub const MAX_FILES: usize = 200_000;

/// Size and hash of one file of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileEntry {
    /// Size in bytes.
    pub size: u64,
    /// Hash of the bytes.
    pub sha256: Sha256,
}

/// The body of a `Release` or, once its signature is verified, of an `InRelease` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Who publishes, for example `Debian`.
    pub origin: Option<String>,
    /// What is published, for example `Debian-Security`.
    pub label: Option<String>,
    /// The suite's role, which moves from release to release (`oldstable`).
    pub suite: Option<String>,
    /// The release's name, which stays (`bookworm`).
    pub codename: Option<String>,
    /// When it was made.
    pub date: Option<Timestamp>,
    /// From when on it must not be believed any more.
    pub valid_until: Option<Timestamp>,
    /// Architectures that have indices.
    pub architectures: Vec<String>,
    /// Components, as they are written here (Debian's security archive writes `updates/main` and means `main`).
    pub components: Vec<String>,
    /// Whether indices can be fetched by their hash.
    pub acquire_by_hash: bool,
    /// The index for the architecture `all` does not count, although one is there.
    pub no_support_for_architecture_all: bool,
    /// The files of the suite by path, relative to the directory of the `Release` file.
    pub files: BTreeMap<String, FileEntry>,
}

/// Why a body is not a usable `Release`.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Larger than [`MAX_BYTES`].
    #[error("the Release file has {0} bytes, at most {MAX_BYTES} are accepted")]
    TooLarge(usize),
    /// No stanza, or a second one.
    #[error("the Release file must be exactly one stanza")]
    Shape,
    /// The stanza itself is malformed.
    #[error("the Release file is malformed")]
    Malformed(#[source] StanzaError),
    /// Reading failed.
    #[error("the Release file could not be read")]
    Read(#[source] std::io::Error),
    /// A date that cannot be understood.
    #[error("{field} {value:?} is not a date of the form \"Sat, 11 Jul 2026 10:16:37 UTC\"")]
    Date {
        /// Name of the field.
        field: &'static str,
        /// What it says, cut to 120 characters.
        value: String,
    },
    /// Only hashes that are too weak, or none (reliability.md 4 #47).
    #[error("the Release file lists no SHA256 hashes{0}: the archive must publish them")]
    WeakHashes(&'static str),
    /// A line of the list of files.
    #[error("entry {number} of the SHA256 list, {line:?}, is wrong: {reason}")]
    Entry {
        /// Number of the entry, from 1.
        number: usize,
        /// The line, cut to 120 characters.
        line: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More than [`MAX_FILES`].
    #[error("the Release file lists more than {MAX_FILES} files")]
    TooManyFiles,
}

impl Release {
    /// Reads the body of a `Release` file.
    pub fn parse(body: &[u8]) -> Result<Self, ReleaseError> {
        if body.len() > MAX_BYTES {
            return Err(ReleaseError::TooLarge(body.len()));
        }
        let limits = Limits { field: MAX_BYTES, stanza: MAX_BYTES, fields: 256 };
        let mut reader = StanzaReader::with(body, limits, Encoding::Strict);
        let stanza = reader.next_stanza().ok_or(ReleaseError::Shape)?.map_err(read_error)?;
        let release = Self::from_stanza(&stanza)?;
        if reader.next_stanza().is_some() {
            return Err(ReleaseError::Shape);
        }
        Ok(release)
    }

    fn from_stanza(stanza: &Stanza<'_>) -> Result<Self, ReleaseError> {
        let text = |name| stanza.get(name).filter(|v| !v.is_empty()).map(str::to_owned);
        let words = |name| -> Vec<String> {
            stanza.get(name).unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect()
        };
        let date = |field: &'static str| match stanza.get(field) {
            None => Ok(None),
            Some(value) => parse_date(value)
                .map(Some)
                .ok_or_else(|| ReleaseError::Date { field, value: value.chars().take(120).collect() }),
        };
        let Some(list) = stanza.get("SHA256").filter(|list| !list.is_empty()) else {
            let weak = ["MD5Sum", "SHA1"].iter().any(|name| stanza.get(name).is_some());
            return Err(ReleaseError::WeakHashes(if weak { ", only MD5 or SHA-1" } else { "" }));
        };
        Ok(Self {
            origin: text("Origin"),
            label: text("Label"),
            suite: text("Suite"),
            codename: text("Codename"),
            date: date("Date")?,
            valid_until: date("Valid-Until")?,
            architectures: words("Architectures"),
            components: words("Components"),
            acquire_by_hash: stanza.get("Acquire-By-Hash").is_some_and(|v| v.eq_ignore_ascii_case("yes")),
            no_support_for_architecture_all: stanza
                .get("No-Support-for-Architecture-all")
                .is_some_and(|v| v.split_ascii_whitespace().any(|word| word == "Packages")),
            files: parse_files(list)?,
        })
    }

    /// Whether packages for all architectures have an index of their own, which then must be read beside the others;
    /// else they stand in each of the others. What is listed among the files without being announced does not count:
    /// archives leave such indices behind.
    pub fn has_index_for_all(&self) -> bool {
        !self.no_support_for_architecture_all && self.architectures.iter().any(|a| a == "all")
    }

    /// Whether the suite has this component, under its own name or Debian security's (`updates/main`).
    pub fn has_component(&self, component: &str) -> bool {
        self.components
            .iter()
            .any(|c| c == component || c.rsplit_once('/').is_some_and(|(_, last)| last == component))
    }
}

fn read_error(error: ReadError) -> ReleaseError {
    match error {
        ReadError::Input(error) => ReleaseError::Read(error),
        ReadError::Stanza(error) => ReleaseError::Malformed(error),
    }
}

fn parse_files(list: &str) -> Result<BTreeMap<String, FileEntry>, ReleaseError> {
    let mut files = BTreeMap::new();
    for (index, line) in list.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        let wrong = |reason| ReleaseError::Entry {
            number: index + 1,
            line: line.chars().take(120).collect(),
            reason,
        };
        if index == MAX_FILES {
            return Err(ReleaseError::TooManyFiles);
        }
        let mut words = line.split_ascii_whitespace();
        let (Some(hash), Some(size), Some(path), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(wrong("expected: hash, size, path"));
        };
        let sha256 = hash.parse().map_err(|_| wrong("the hash is not SHA-256 in hexadecimal"))?;
        let size = parse_size(size).ok_or_else(|| wrong("the size is not a number"))?;
        if !path_is_safe(path) {
            return Err(wrong("the path leaves the directory of the Release file"));
        }
        let entry = FileEntry { size, sha256 };
        if files.insert(path.to_owned(), entry).is_some_and(|other| other != entry) {
            return Err(wrong("the path is listed twice with different hashes"));
        }
    }
    Ok(files)
}

/// A size in bytes: digits only, below 2^63.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|size| good && *size <= i64::MAX.unsigned_abs())
}

/// Whether a path from an index can be joined to the address of the archive and stays below it: relative, no `.`,
/// `..` or empty parts, no percent escapes (a server would decode `%2e%2e`), no address, nothing but printable ASCII
/// (reliability.md 4 #51).
pub fn path_is_safe(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 1024
        && path
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'%' | b'\\' | b'?' | b'#' | b'"' | b'<' | b'>'))
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.split('/').next().is_some_and(|first| first.contains(':'))
}

/// A date as archives write it: RFC 5322 with a zone that is UTC by name or a numeric offset.
pub fn parse_date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let rest = match text.split_once(',') {
        Some(("Mon" | "Tue" | "Wed" | "Thu" | "Fri" | "Sat" | "Sun", rest)) => rest,
        Some(_) => return None,
        None => text,
    };
    let mut words = rest.split_ascii_whitespace();
    let day = number::<i8>(words.next()?, 2)?;
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let name = words.next()?;
    let month = i8::try_from(months.iter().position(|m| *m == name)?).ok()? + 1;
    let year = number::<i16>(words.next().filter(|y| y.len() == 4)?, 4)?;
    let mut time = words.next()?.split(':');
    let hour = number::<i8>(time.next()?, 2)?;
    let minute = number::<i8>(time.next()?, 2)?;
    let second = number::<i8>(time.next().unwrap_or("0"), 2)?;
    let offset = offset_seconds(words.next()?)?;
    if time.next().is_some() || words.next().is_some() {
        return None;
    }
    let civil = jiff::civil::DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    let utc = civil.to_zoned(TimeZone::UTC).ok()?.timestamp();
    utc.checked_sub(jiff::SignedDuration::from_secs(offset)).ok()
}

fn number<T: std::str::FromStr>(text: &str, digits: usize) -> Option<T> {
    let good = (1..=digits).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| good)
}

fn offset_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "UTC" | "GMT" | "UT" | "Z") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = zone.get(1..).filter(|d| d.len() == 4)?;
    let (hours, minutes) = (number::<i64>(digits.get(..2)?, 2)?, number::<i64>(digits.get(2..)?, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn body(extra: &str) -> String {
        format!(
            "Origin: Debian\nLabel: Debian-Security\nSuite: oldstable-security\nCodename: bookworm-security\n\
             Date: Wed, 18 Nov 2026 22:17:41 UTC\nValid-Until: Wed, 25 Nov 2026 22:17:41 UTC\n\
             Acquire-By-Hash: yes\nArchitectures: amd64 arm64\nComponents: updates/main updates/contrib\n{extra}"
        )
    }

    #[test]
    fn a_release_is_read() {
        let text = body(&format!("MD5Sum:\n x 1 y\nSHA256:\n {HASH}        0 main/binary-amd64/Packages\n"));
        let release = Release::parse(text.as_bytes()).unwrap();
        assert_eq!(release.label.as_deref(), Some("Debian-Security"));
        assert_eq!(release.date.unwrap().to_string(), "2026-11-18T22:17:41Z");
        assert_eq!(release.valid_until.unwrap().as_second() - release.date.unwrap().as_second(), 7 * 86_400);
        assert!(
            release.acquire_by_hash
                && !release.no_support_for_architecture_all
                && !release.has_index_for_all()
        );
        assert!(
            release.has_component("main")
                && !release.has_component("updates")
                && !release.has_component("non-free")
        );
        assert_eq!(release.files["main/binary-amd64/Packages"].size, 0);
    }

    /// reliability.md 4 #47.
    #[test]
    fn bad_input_47_md5_only_is_refused() {
        let text = body("MD5Sum:\n d41d8cd98f00b204e9800998ecf8427e 0 main/binary-amd64/Packages\n");
        let error = Release::parse(text.as_bytes()).unwrap_err();
        assert!(matches!(error, ReleaseError::WeakHashes(", only MD5 or SHA-1")), "{error}");
        assert!(matches!(Release::parse(body("").as_bytes()), Err(ReleaseError::WeakHashes(""))));
    }

    #[test]
    fn wrong_entries_are_named() {
        for line in [
            format!("{HASH} 1"),
            format!("{HASH} 1 a b"),
            format!("{HASH} -1 a"),
            format!("{HASH} 99999999999999999999 a"),
            "abc 1 a".to_owned(),
            format!("{HASH} 1 ../../etc/passwd"),
            format!("{HASH} 1 /etc/passwd"),
            format!("{HASH} 1 main/%2e%2e/x"),
        ] {
            let text = body(&format!("SHA256:\n {HASH} 0 fine\n {line}\n"));
            let Err(ReleaseError::Entry { number, .. }) = Release::parse(text.as_bytes()) else {
                panic!("{line}")
            };
            assert_eq!(number, 2);
        }
        let twice = body(&format!("SHA256:\n {HASH} 0 a\n {HASH} 1 a\n"));
        assert!(matches!(Release::parse(twice.as_bytes()), Err(ReleaseError::Entry { .. })));
        let second = body(&format!("SHA256:\n {HASH} 0 a\n\nOrigin: Other\n"));
        assert!(matches!(Release::parse(second.as_bytes()), Err(ReleaseError::Shape)));
        assert!(matches!(Release::parse(b""), Err(ReleaseError::Shape)));
        assert!(matches!(Release::parse(b"<!DOCTYPE html>\n<html>\n"), Err(ReleaseError::Malformed(_))));
    }

    #[test]
    fn dates() {
        let second = |text| parse_date(text).map(Timestamp::as_second);
        assert_eq!(second("Thu, 01 Jan 1970 00:00:00 UTC"), Some(0));
        assert_eq!(second("Thu, 1 Jan 1970 02:30:00 +0230"), Some(0));
        assert_eq!(second("01 Jan 1970 00:00:00 GMT"), Some(0));
        for bad in [
            "",
            "Xyz, 01 Jan 1970 00:00:00 UTC",
            "Thu, 31 Feb 2026 00:00:00 UTC",
            "2026-11-18T00:00:00Z",
            "Thu, 01 Jan 1970 25:00:00 UTC",
            "Thu, 01 Jan 1970 00:00:00 CET",
            "Thu, 01 Jan 1970 00:00:00",
            "Thu, 01 Jan 70 00:00:00 UTC",
        ] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn dates_round_trip(second in 0i64..4_000_000_000) {
            let time = Timestamp::from_second(second).unwrap();
            let text = time.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string();
            prop_assert_eq!(parse_date(&text), Some(time));
        }

        #[test]
        fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,40}") {
            let _ = Release::parse(&bytes);
            let _ = parse_date(&text);
            if path_is_safe(&text) {
                prop_assert!(!text.starts_with('/') && !text.contains("..") || !text.split('/').any(|p| p == ".."));
            }
        }
    }
}
