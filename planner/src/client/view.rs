//! What a client knows about itself: the facts that a decision is made from. The agent keeps this and persists it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::{
    Digest, LineId, UpdateId,
    catalogue::{LeafRef, RestartRule},
    state::{Detection, StateError},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    decision::{InstallBatch, ScanRequest},
    people::People,
};

/// The facts of one client. Everything survives a restart of the agent except [`ClientView::running`], which the
/// agent clears when it starts (an interrupted dpkg becomes [`ClientView::recovery`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientView {
    /// Random id of this boot. Installed records of another boot need no restart any more.
    pub boot: Uuid,
    /// Fact `role` is `workstation`: which of the two restart suppressions counts.
    pub workstation: bool,
    /// Scans.
    #[serde(default)]
    pub scan: ScanFacts,
    /// What the last complete scan found: every update of the scanned lines that is required or installed, and every
    /// update of the policy of that time, also one that the catalogue no longer holds (compare its leaves in the policy
    /// with dpkg). An update of the policy that is absent is *unknown*: it is scanned for at once.
    #[serde(default)]
    pub detected: BTreeMap<UpdateId, Detected>,
    /// Files in the cache, each verified against its digest.
    #[serde(default)]
    pub present: BTreeSet<Digest>,
    /// Files whose last download failed.
    #[serde(default)]
    pub content_problems: BTreeMap<Digest, ContentProblem>,
    /// How the distribution points of the last location answer are reached; empty: none known.
    #[serde(default)]
    pub distribution_points: BTreeSet<Locality>,
    /// What this client installed.
    #[serde(default)]
    pub installed: BTreeMap<UpdateId, InstalledRecord>,
    /// Last failed attempts; gone when the update is installed.
    #[serde(default)]
    pub failed: BTreeMap<UpdateId, Attempt>,
    /// Installed updates after which a service that ran before does not run, with what it is.
    #[serde(default)]
    pub unwell: BTreeMap<UpdateId, StateError>,
    /// Why the system itself says that a restart is needed; empty: it does not.
    #[serde(default)]
    pub restart_reasons: BTreeSet<RestartReason>,
    /// Another process holds the package system's lock.
    #[serde(default)]
    pub lock: Option<LockFact>,
    /// dpkg was interrupted (agent killed, power lost): it is recovered before anything else.
    #[serde(default)]
    pub recovery: Option<Recovery>,
    /// Updates that a person at the machine asked to install now, before their deadline.
    #[serde(default)]
    pub requested: BTreeSet<UpdateId>,
    /// A person asked for a scan.
    #[serde(default)]
    pub scan_requested: Option<Timestamp>,
    /// A person asked for an evaluation of all deployments.
    #[serde(default)]
    pub evaluation_requested: Option<Timestamp>,
    /// What people at the machine were told and asked for otherwise.
    #[serde(default)]
    pub people: People,
    /// Why the time by which is decided is not believed; none: it is. Nothing is installed or restarted by such a time.
    #[serde(default)]
    pub clock_doubt: Option<String>,
    /// When the machine was last switched on or came back from sleep; a restart that this client asked for is neither.
    #[serde(default)]
    pub awoke: Option<Timestamp>,
    /// What runs right now.
    #[serde(default)]
    pub running: Running,
}

/// Scans so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanFacts {
    /// End of the last scan of any kind that covered what it set out to.
    pub last: Option<Timestamp>,
    /// End of the last forced online scan: what the time to live counts from.
    pub last_online: Option<Timestamp>,
    /// End of the last scan of the scan cycle or at a person's word.
    pub last_cycle: Option<Timestamp>,
    /// End of the last full evaluation of deployments.
    pub last_evaluation: Option<Timestamp>,
    /// Catalogue version covered by the last complete scan, per line: the watermark.
    pub covered: BTreeMap<LineId, u64>,
    /// Catalogue versions that are on this machine, verified: an offline scan can use them.
    pub cached: BTreeMap<LineId, u64>,
    /// When a scan last found other needs than the one before: the site may still be approving them.
    #[serde(default)]
    pub changed: Option<Timestamp>,
    /// What happened since the last scan that makes its result doubtful.
    pub stale: Option<StaleReason>,
    /// Set by a failed scan, cleared by the next good one.
    pub failure: Option<ScanFailure>,
}

/// Why detection has to be repeated before anything is reported or installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StaleReason {
    /// The package database changed by another hand.
    PackagesChanged,
    /// A batch ended.
    Installed,
    /// The machine booted.
    Booted,
    /// An interrupted dpkg was recovered.
    Recovered,
    /// The machine's time was put back, or it was found to be a copy of an earlier state.
    TimeMoved,
}

/// A failed scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanFailure {
    /// When.
    pub at: Timestamp,
    /// Failures in a row.
    pub count: u32,
    /// Why.
    pub error: StateError,
}

/// What a scan found for one update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detected {
    /// State.
    pub state: Detection,
    /// For *required*: the leaves this machine needs (those whose installed package is older).
    pub leaves: BTreeSet<LeafRef>,
    /// For *required*: packages that would newly be needed, or needed newer, as this machine resolves them.
    pub needs: BTreeSet<LeafRef>,
}

impl Detected {
    /// Nothing of it is installed here.
    pub const fn not_required() -> Self {
        Self { state: Detection::NotRequired, leaves: BTreeSet::new(), needs: BTreeSet::new() }
    }
}

/// A file that could not be downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentProblem {
    /// Last try.
    pub at: Timestamp,
    /// Failures in a row.
    pub count: u32,
    /// No reachable distribution point has it yet: waiting, not failed.
    pub not_offered: bool,
    /// Why.
    pub error: StateError,
}

/// How a client reaches a distribution point (R-DEPL-17, R-DEPL-18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Locality {
    /// Inside a fast boundary of it.
    Fast,
    /// Inside a slow or unreliable boundary of it.
    Slow,
    /// In none of its boundaries; it is not protected.
    Fallback,
}

/// An update that this client installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledRecord {
    /// End of its batch.
    pub at: Timestamp,
    /// Boot in which it was installed.
    pub boot: Uuid,
    /// Its restart rule when it was installed.
    pub restart: RestartRule,
    /// What was installed ([`InstallBatch::basis`]): another offer may be installed at once.
    #[serde(default)]
    pub basis: Option<Digest>,
    /// A scan found it required again, first then: the re-evaluation heals it.
    #[serde(default)]
    pub missing_since: Option<Timestamp>,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// End of the last one.
    pub at: Timestamp,
    /// Failures in a row.
    pub count: u32,
    /// What was tried ([`InstallBatch::basis`]): something else may be tried at once.
    pub basis: Digest,
    /// Why.
    pub error: StateError,
}

/// Why the system says that it needs a restart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RestartReason {
    /// `/run/reboot-required` exists.
    RequiredFile,
    /// The running kernel is older than the newest installed one of its flavour.
    Kernel {
        /// Running release.
        running: String,
        /// Installed release.
        installed: String,
    },
    /// Process 1 maps files that were deleted.
    InitOutdated,
}

/// Who holds the package system's lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockFact {
    /// Seen at.
    pub at: Timestamp,
    /// Process, as far as it can be told.
    pub holder: String,
}

/// An interrupted dpkg.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Found at.
    pub since: Timestamp,
    /// Failed tries.
    pub failures: u32,
    /// Last failed try.
    pub last: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<StateError>,
}

/// What runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// A scan.
    pub scan: Option<ScanRequest>,
    /// Files being downloaded.
    pub download: BTreeSet<Digest>,
    /// A transaction. Never killed.
    pub install: Option<RunningInstall>,
    /// The transaction is still being checked: dpkg was not started, and may not be.
    #[serde(default)]
    pub checking: bool,
    /// A recovery of dpkg.
    pub recovery: bool,
    /// A restart was announced for this instant.
    pub restart_at: Option<Timestamp>,
    /// The machine is switched off then: the next boot is not that restart.
    #[serde(default)]
    pub power_off: bool,
}

/// A running transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningInstall {
    /// What was started.
    pub batch: InstallBatch,
    /// Since when.
    pub since: Timestamp,
}
