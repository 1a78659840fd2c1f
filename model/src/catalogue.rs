//! The catalogue: software updates (bundles) and their leaves, as the site holds them.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Digest, LineId, UpdateId};

/// Update classifications of the seeds (R-SUP, domain.md section 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Classification {
    /// A fix of a critical, not security-related bug.
    CriticalUpdates,
    /// Signatures and other definition files.
    DefinitionUpdates,
    /// New functions.
    FeaturePacks,
    /// A fix of a vulnerability.
    SecurityUpdates,
    /// A cumulative set of fixes.
    ServicePacks,
    /// A tool.
    Tools,
    /// Several updates in one.
    UpdateRollups,
    /// Any other fix.
    Updates,
}

/// Severity with the published codes 0, 2, 6, 8, 10 (domain.md section 0).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// Not rated.
    #[default]
    None,
    /// Low.
    Low,
    /// Moderate.
    Moderate,
    /// Important.
    Important,
    /// Critical.
    Critical,
}

impl Severity {
    /// The published number.
    pub const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Low => 2,
            Self::Moderate => 6,
            Self::Important => 8,
            Self::Critical => 10,
        }
    }
}

/// What an update asks of the system after it was installed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RestartRule {
    /// A rule of the software update point marks it: always restart.
    Always,
    /// Never restart because of this update, whatever the system says.
    Never,
    /// When the system says so (`/run/reboot-required`, kernel older than installed, process 1 maps deleted files).
    #[default]
    Auto,
}

/// How updates are put on a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Installer {
    /// All that go together are one transaction of apt.
    #[default]
    Apt,
    /// An installer of its own for each, one after the other (Windows, custom updates).
    Sequential,
}

impl Installer {
    /// Whether it is apt's transaction, as it is where nothing is said.
    pub const fn is_apt(&self) -> bool {
        matches!(self, Self::Apt)
    }
}

/// A file of a leaf as its verified index names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContentFile {
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// Path below the archive's root, for example `pool/updates/main/o/openssl/x.deb`; validated, never absolute.
    pub path: String,
}

/// A leaf update: one binary package at one version for one architecture.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Leaf {
    /// Binary package name.
    pub package: String,
    /// Version of the binary package; may differ from the source's (binary rebuilds).
    pub version: String,
    /// `amd64`, `all`, ...
    pub architecture: String,
    /// Its file.
    pub file: ContentFile,
    /// The stanza of the verified index, verbatim: what apt is given on the client.
    pub stanza: String,
}

impl Leaf {
    /// What a client calls it.
    pub fn reference(&self) -> LeafRef {
        LeafRef {
            package: self.package.clone(),
            architecture: self.architecture.clone(),
            version: self.version.clone(),
        }
    }
}

/// A software update (bundle).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Identity.
    pub id: UpdateId,
    /// For people; here the source's name and its summary.
    pub title: String,
    /// Classification, from the rules of the software update point.
    pub classification: Classification,
    /// Product, for example `Debian bookworm`.
    pub product: String,
    /// Severity from advisories or rules.
    pub severity: Severity,
    /// CVE ids from advisories.
    pub cves: BTreeSet<String>,
    /// Bulletin or advisory ids, for example `DSA-5000-1`.
    pub bulletins: BTreeSet<String>,
    /// First seen by this site, or the index's own date where it has one.
    pub posted: Timestamp,
    /// Binary packages, sorted by package and architecture.
    pub leaves: Vec<Leaf>,
    /// Longest time its installer may run (update rules; apt default 10 min a transaction base is the planner's).
    pub maximum_run_time: Option<SignedDuration>,
    /// Must be installed apart from all others.
    pub exclusive: bool,
    /// Restart rule.
    pub restart: RestartRule,
    /// The newer update of the same source in the line.
    pub superseded_by: Option<UpdateId>,
    /// Withdrawn, or superseded and expired by rule: not for new deployments.
    pub expired: bool,
}

impl Update {
    /// A digest over everything but `posted`, `superseded_by` and `expired`: same identity with another digest is a
    /// *revised* update.
    pub fn revision_digest(&self) -> Digest {
        let mut copy = self.clone();
        copy.posted = Timestamp::UNIX_EPOCH;
        copy.superseded_by = None;
        copy.expired = false;
        Digest::of(&serde_json::to_vec(&copy).unwrap_or_default())
    }
}

/// What clients scan against: one line at one catalogue version, only current (not superseded, not withdrawn) updates.
/// Stored and served as zstd-compressed JSON, named by the digest of the compressed bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineCatalogue {
    /// The line.
    pub line: LineId,
    /// Rises by one whenever the content changes.
    pub version: u64,
    /// Its updates with their leaves' names, versions and architectures.
    pub updates: Vec<ScanUpdate>,
}

/// An update as a scan needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanUpdate {
    /// The site's number of this update, from 1, the same in all its catalogues: what a client reports it by. 0: the site
    /// knows no numbers (an older one).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub number: u64,
    /// Source name.
    pub source: String,
    /// Source version.
    pub version: String,
    /// Leaves.
    pub leaves: Vec<ScanLeaf>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A leaf as a scan needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanLeaf {
    /// Binary package.
    pub package: String,
    /// Version.
    pub version: String,
    /// Architecture.
    pub architecture: String,
    /// The index's `Depends` and `Pre-Depends`, joined with a comma: lets a client name what it would newly need.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub depends: String,
    /// The index's `Provides`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub provides: String,
}

/// A leaf named by a client: what it requires, or what it would newly depend on. Its texts may be borrowed: a report has
/// hundreds of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeafRef<S = String> {
    /// Binary package.
    pub package: S,
    /// Architecture.
    pub architecture: S,
    /// Version.
    pub version: S,
}

impl<S: AsRef<str>> LeafRef<S> {
    /// With texts of its own.
    pub fn owned(&self) -> LeafRef {
        LeafRef {
            package: self.package.as_ref().to_owned(),
            architecture: self.architecture.as_ref().to_owned(),
            version: self.version.as_ref().to_owned(),
        }
    }
}
