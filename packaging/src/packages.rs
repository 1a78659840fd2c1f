//! One stanza of a `Packages` index: a binary package.

use serde::{Deserialize, Serialize};

use crate::deb822::Stanza;
use crate::hash::Sha256;
use crate::relation::{RelationError, Relations};
use crate::release::{parse_size, path_is_safe};
use crate::version::{Version, VersionError};

/// How a package may be mixed with packages of other architectures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MultiArch {
    /// It satisfies relations of its own architecture only.
    #[default]
    No,
    /// Several architectures of it can be installed together.
    Same,
    /// It satisfies relations of every architecture.
    Foreign,
    /// It satisfies relations of another architecture that ask for `:any`.
    Allowed,
}

impl MultiArch {
    /// Reads the value of the field; unknown words count as [`MultiArch::No`], as in dpkg.
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            Some("same") => Self::Same,
            Some("foreign") => Self::Foreign,
            Some("allowed") => Self::Allowed,
            _ => Self::No,
        }
    }
}

/// The source package that a binary package was built from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRef {
    /// Name of the source package.
    pub name: String,
    /// Version of the source package; differs from the binary's after a binary rebuild.
    pub version: Version,
}

/// A binary package of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinaryPackage {
    /// Name.
    pub package: String,
    /// Version of the binary.
    pub version: Version,
    /// Architecture, or `all`.
    pub architecture: String,
    /// Source package.
    pub source: SourceRef,
    /// Path of the file below the archive's address; checked, without a leading `./`.
    pub filename: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// Hash of the file.
    pub sha256: Sha256,
    /// Field `Depends` as written, empty when absent; see [`BinaryPackage::relations`].
    pub depends: String,
    /// Field `Pre-Depends` as written, empty when absent.
    pub pre_depends: String,
    /// Field `Provides` as written, empty when absent.
    pub provides: String,
    /// Whether the system cannot do without it.
    pub essential: bool,
    /// Mixing of architectures.
    pub multi_arch: MultiArch,
    /// Section, for example `libs` or `non-free/libs`.
    pub section: String,
    /// Priority, for example `optional`.
    pub priority: String,
    /// First line of the description.
    pub description_short: String,
    /// Space that it takes on the disk, in KiB, as its builder estimated it.
    pub installed_size: u64,
    /// The stanza as it was written.
    pub stanza: String,
}

/// Why a well-formed stanza is not a binary package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// A field that every package has is missing or empty (reliability.md 4 #50).
    #[error("the field {0} is missing")]
    Missing(&'static str),
    /// A name that no package can have.
    #[error("{field} {value:?} is not a valid name")]
    Name {
        /// The field.
        field: &'static str,
        /// Its value, cut to 120 characters.
        value: String,
    },
    /// A version that cannot be ordered.
    #[error("the version {value:?} is not valid")]
    Version {
        /// What was given, cut to 120 characters.
        value: String,
        /// Why.
        #[source]
        source: VersionError,
    },
    /// A size that is not a number of bytes.
    #[error("the size {0:?} is not a number of bytes")]
    Size(String),
    /// No SHA-256 hash, or something else in its place (reliability.md 4 #47).
    #[error("there is no SHA256 hash of the file, which the archive must publish")]
    WeakHash,
    /// A file name that leaves the archive (reliability.md 4 #51).
    #[error("the Filename {0:?} does not stay below the archive's address")]
    Path(String),
}

impl PackageError {
    /// The code under which this is reported (reliability.md 4).
    pub fn code(&self) -> &'static str {
        match self {
            Self::Path(_) => "APT-PATH",
            Self::WeakHash => "APT-WEAKHASH",
            _ => "APT-STANZA",
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(120).collect()
}

/// Whether dpkg would take this as the name of a package, with a bound of 256 bytes.
pub fn name_is_valid(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=256).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.' | b'_'))
}

/// Whether this is the name of an architecture, with a bound of 64 bytes.
pub fn architecture_is_valid(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
}

pub(crate) fn parse_version(text: &str) -> Result<Version, PackageError> {
    Version::parse(text).map_err(|source| PackageError::Version { value: cut(text), source })
}

/// Reads a `Source` field, `name` or `name (version)`; what it leaves out is the binary's own.
pub fn parse_source(
    field: Option<&str>,
    package: &str,
    version: &Version,
) -> Result<SourceRef, PackageError> {
    let text = field.unwrap_or(package);
    let (name, version) = match text.split_once('(') {
        None => (text.trim(), version.clone()),
        Some((name, rest)) => {
            let written = rest.trim_end().strip_suffix(')').unwrap_or(rest);
            (name.trim_end(), parse_version(written.trim())?)
        }
    };
    if !name_is_valid(name) {
        return Err(PackageError::Name { field: "Source", value: cut(name) });
    }
    Ok(SourceRef { name: name.to_owned(), version })
}

impl BinaryPackage {
    /// Reads a stanza of a `Packages` index.
    pub fn parse(stanza: &Stanza<'_>) -> Result<Self, PackageError> {
        let required = |name| stanza.get(name).filter(|v| !v.is_empty()).ok_or(PackageError::Missing(name));
        let text = |name| stanza.get(name).unwrap_or_default();
        let package = required("Package")?;
        if !name_is_valid(package) {
            return Err(PackageError::Name { field: "Package", value: cut(package) });
        }
        let version = parse_version(required("Version")?)?;
        let architecture = required("Architecture")?;
        if !architecture_is_valid(architecture) {
            return Err(PackageError::Name { field: "Architecture", value: cut(architecture) });
        }
        let written = required("Filename")?;
        let filename = written.strip_prefix("./").unwrap_or(written);
        if !path_is_safe(filename) {
            return Err(PackageError::Path(cut(written)));
        }
        let size = required("Size")?;
        let source = parse_source(stanza.get("Source").filter(|v| !v.is_empty()), package, &version)?;
        Ok(Self {
            package: package.to_owned(),
            architecture: architecture.to_owned(),
            source,
            filename: filename.to_owned(),
            size: parse_size(size).ok_or_else(|| PackageError::Size(cut(size)))?,
            sha256: text("SHA256").parse().map_err(|_| PackageError::WeakHash)?,
            depends: text("Depends").to_owned(),
            pre_depends: text("Pre-Depends").to_owned(),
            provides: text("Provides").to_owned(),
            essential: text("Essential").eq_ignore_ascii_case("yes"),
            multi_arch: MultiArch::parse(stanza.get("Multi-Arch")),
            section: text("Section").to_owned(),
            priority: text("Priority").to_owned(),
            description_short: text("Description").lines().next().unwrap_or_default().trim().to_owned(),
            installed_size: parse_size(text("Installed-Size")).unwrap_or(0),
            stanza: stanza.text().to_owned(),
            version,
        })
    }

    /// What must be there before it can be configured: `Pre-Depends` and `Depends` together.
    pub fn relations(&self) -> Result<Relations, RelationError> {
        let mut all = Relations::parse(&self.pre_depends)?;
        all.0.extend(Relations::parse(&self.depends)?.0);
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb822::StanzaReader;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str) -> Result<BinaryPackage, PackageError> {
        let mut reader = StanzaReader::new(text.as_bytes());
        let Some(Ok(stanza)) = reader.next_stanza() else { panic!("not a stanza: {text}") };
        BinaryPackage::parse(&stanza)
    }

    fn stanza(change: &[(&str, Option<&str>)]) -> String {
        let mut fields = std::collections::BTreeMap::from([
            ("Package", "libssl3"),
            ("Source", "openssl (3.0.17-1~deb12u2)"),
            ("Version", "3.0.17-1~deb12u2+b1"),
            ("Architecture", "amd64"),
            ("Multi-Arch", "same"),
            ("Depends", "libc6 (>= 2.34), debconf (>= 0.5) | debconf-2.0"),
            ("Filename", "pool/updates/main/o/openssl/libssl3_3.0.17-1~deb12u2_amd64.deb"),
            ("Size", "2032112"),
            ("SHA256", HASH),
            ("Installed-Size", "6024"),
            ("Description", "Secure Sockets Layer toolkit - shared libraries\n long text"),
        ]);
        for (name, value) in change {
            match value {
                Some(value) => fields.insert(name, value),
                None => fields.remove(name),
            };
        }
        fields.iter().flat_map(|(name, value)| [name, ": ", value, "\n"]).collect()
    }

    #[test]
    fn a_package_is_read() {
        let text = stanza(&[]);
        let package = parse(&text).unwrap();
        assert_eq!(package.source.name, "openssl");
        assert_eq!(package.source.version.as_str(), "3.0.17-1~deb12u2");
        assert_eq!(package.version.as_str(), "3.0.17-1~deb12u2+b1");
        assert_eq!(package.multi_arch, MultiArch::Same);
        assert_eq!(package.description_short, "Secure Sockets Layer toolkit - shared libraries");
        assert_eq!((package.size, package.installed_size), (2_032_112, 6024));
        assert_eq!(package.relations().unwrap().0.len(), 2);
        assert_eq!(package.stanza, text);
        let own = parse(&stanza(&[("Source", None)])).unwrap();
        assert_eq!((own.source.name.as_str(), own.source.version), ("libssl3", own.version));
        assert_eq!(parse(&stanza(&[("Filename", Some("./a_1.deb"))])).unwrap().filename, "a_1.deb");
    }

    /// reliability.md 4 #51.
    #[test]
    fn bad_input_51_file_names_that_leave_the_archive() {
        for path in [
            "../../etc/passwd",
            "pool/../../etc/passwd",
            "/etc/passwd",
            "//other.example/x.deb",
            "http://other.example/x.deb",
            "file:/etc/passwd",
            "pool/%2e%2e/x.deb",
            "pool/%2E%2E/x.deb",
            "pool\\..\\x.deb",
            "pool/./x.deb",
            "./../x.deb",
            "pool/x.deb?y",
            "pool/x.deb#y",
            "pool/a b.deb",
            "pool/",
        ] {
            let error = parse(&stanza(&[("Filename", Some(path))])).unwrap_err();
            assert_eq!(error.code(), "APT-PATH", "{path}");
        }
    }

    /// reliability.md 4 #47, #50, #52.
    #[test]
    fn bad_input_50_missing_and_wrong_fields() {
        for field in ["Package", "Version", "Architecture", "Filename", "Size"] {
            assert_eq!(parse(&stanza(&[(field, None)])).unwrap_err(), PackageError::Missing(field));
        }
        assert_eq!(parse(&stanza(&[("SHA256", None)])).unwrap_err().code(), "APT-WEAKHASH");
        assert!(matches!(parse(&stanza(&[("Size", Some("1e9"))])), Err(PackageError::Size(_))));
        assert!(matches!(parse(&stanza(&[("Size", Some("-1"))])), Err(PackageError::Size(_))));
        assert!(matches!(parse(&stanza(&[("Version", Some("1:"))])), Err(PackageError::Version { .. })));
        for name in ["../x", "-x", "a b", "\u{e9}"] {
            assert!(
                matches!(parse(&stanza(&[("Package", Some(name))])), Err(PackageError::Name { .. })),
                "{name}"
            );
        }
        assert!(matches!(parse(&stanza(&[("Source", Some("a/b"))])), Err(PackageError::Name { .. })));
        assert!(matches!(parse(&stanza(&[("Architecture", Some("../x"))])), Err(PackageError::Name { .. })));
    }
}
