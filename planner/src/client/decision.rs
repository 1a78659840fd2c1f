//! What a decision says.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    Digest, UpdateId,
    catalogue::{ContentFile, LeafRef, RestartRule},
    state::{Compliance, DeploymentEnforcement, Detection, Evaluation, StateError, UpdateEnforcement},
};
use serde::{Deserialize, Serialize};

use super::{
    gate::Gate,
    notices::{Notice, Offer, Scheduled},
    view::Locality,
};

/// What to do now, what waits for what, and which states to report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// To be started now, in this order; empty: wait. A download already running is not named again. A restart is
    /// named until it happened: one that was announced and is no longer named is called off.
    pub actions: Vec<Action>,
    /// Files that may be downloaded; a running download of any other file is stopped.
    pub wanted: BTreeSet<Digest>,
    /// Every update of the policy.
    pub updates: BTreeMap<UpdateId, UpdateVerdict>,
    /// Every deployment of the policy, by uid.
    pub deployments: BTreeMap<String, DeploymentVerdict>,
    /// Gates of the machine as a whole: clock, recovery, restart.
    pub machine: Vec<Gate>,
    /// What people are told now; then [`super::ClientView::told`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
    /// The updates that people can choose, of all deployments together (R-UX-04).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub offers: BTreeMap<UpdateId, Offer>,
    /// The time of the user schedule has come: for [`super::ClientView::told`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Scheduled>,
    /// Detection is being repeated: of what this decision says nothing, what was reported stays.
    #[serde(default)]
    pub repeating: bool,
    /// Updates in the transaction that runs, also those that the policy no longer names: what was reported of them stays.
    #[serde(default)]
    pub installing: BTreeSet<UpdateId>,
    /// Something is being downloaded or installed that is due, or a restart counts down: the machine is kept from sleeping
    /// (R-SCHED-07).
    #[serde(default)]
    pub keep_awake: bool,
    /// Decide again at the latest then; always after `now`. None: only when something happens.
    pub next_wake: Option<Timestamp>,
}

/// Something the agent does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Action {
    /// `dpkg --configure -a` after an interruption, then tell [`super::ClientView::recovery_finished`].
    Recover,
    /// Scan.
    Scan(ScanRequest),
    /// Download.
    Download {
        /// Files, smallest first.
        files: Vec<Fetch>,
    },
    /// Install one batch in one transaction.
    Install(InstallBatch),
    /// Restart at that instant (now plus the countdown); decide again right before.
    Restart {
        /// When.
        at: Timestamp,
        /// Updates and system reasons that call for it.
        because: Vec<String>,
        /// The machine was woken for updates and is switched off instead (R-RST-10).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        power_off: bool,
    },
}

/// A file and the ways it may come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fetch {
    /// The file.
    pub file: ContentFile,
    /// Which distribution points may be used.
    pub localities: BTreeSet<Locality>,
}

/// A scan to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanRequest {
    /// Row of the seeds' table 3, as it came out: a non-forced online scan whose time to live ran out is
    /// [`ScanKind::ForcedOnline`].
    pub kind: ScanKind,
    /// What it is for.
    pub purpose: ScanPurpose,
}

/// The four kinds of scan (R-SCAN-08 to R-SCAN-11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ScanKind {
    /// Needs the software update point: fetch the catalogues that the policy names.
    ForcedOnline,
    /// Online scan within the time to live: the catalogues on the machine do.
    NonForcedOnline,
    /// After an installation or a boot: the catalogues on the machine, whatever their age.
    ForcedOffline,
    /// Right before a batch: the catalogues on the machine, within their time to live.
    NonForcedOffline,
}

impl ScanKind {
    /// Whether the software update point is needed.
    pub const fn needs_software_update_point(self) -> bool {
        matches!(self, Self::ForcedOnline)
    }
}

/// What a scan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ScanPurpose {
    /// This client never scanned.
    First,
    /// Scan cycle.
    Cycle,
    /// A person asked for a scan.
    ScanRequested,
    /// Re-evaluation cycle of deployments.
    Evaluation,
    /// A person asked for an evaluation.
    EvaluationRequested,
    /// The policy names a newer catalogue or updates of a line that was not scanned (R-SCAN-07).
    PolicyChanged,
    /// One consolidated scan before a batch (R-SCAN-14).
    BeforeInstall,
    /// After an installation, a recovery or a boot.
    Validation,
}

/// One transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallBatch {
    /// Its updates and what each asks of the system afterwards.
    pub updates: BTreeMap<UpdateId, RestartRule>,
    /// Leaves to be upgraded: `package:architecture=version` each.
    pub leaves: BTreeSet<LeafRef>,
    /// Files that the transaction may use: those of the leaves and of approved dependencies. All are present.
    pub files: BTreeSet<Digest>,
    /// Packages may be removed; otherwise `--no-remove`.
    pub allow_remove: bool,
    /// Longest time it is expected to take.
    pub expected: SignedDuration,
    /// End of the opening it fits in; none: not bound to a window.
    pub window_end: Option<Timestamp>,
    /// What is tried, per update: kept with a failed attempt, so that a changed offer is tried at once.
    pub basis: BTreeMap<UpdateId, Digest>,
}

/// An update of the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateVerdict {
    /// Detection (topic 500) as this decision read it.
    pub detection: Detection,
    /// Enforcement (topic 402) to report; none: nothing to enforce here, or detection is being repeated: what was
    /// reported stays.
    pub state: Option<UpdateEnforcement>,
    /// Error of a failed state.
    pub error: Option<StateError>,
    /// The chain of gates, in order; the first closed one is what it waits for.
    pub gates: Vec<Gate>,
    /// For a state that is not final, also one that stays while detection is repeated: by when it must move.
    pub lease: Option<Lease>,
}

/// A deployment of the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentVerdict {
    /// Object name.
    pub name: String,
    /// Compliance (topic 300) to report; none: detection is being repeated, what was reported stays.
    pub compliance: Option<Compliance>,
    /// Evaluation (topic 302).
    pub evaluation: Evaluation,
    /// Enforcement (topic 301) to report; none: nothing to enforce here, or detection is being repeated: what was
    /// reported stays.
    pub enforcement: Option<DeploymentEnforcement>,
    /// For a waiting state: until when, as far as known.
    pub until: Option<Timestamp>,
    /// Error of a failed state.
    pub error: Option<StateError>,
    /// Resolved available time; none: never.
    pub available: Option<Timestamp>,
    /// Resolved deadline without the spread; none: optional, or never.
    pub deadline: Option<Timestamp>,
    /// For a state that is not final: by when it must move.
    pub lease: Option<Lease>,
    /// The same for an evaluation that is going on.
    #[serde(default)]
    pub evaluation_lease: Option<Lease>,
}

/// By when a state that is not final must move, and what happens then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The instant.
    pub by: Timestamp,
    /// What happens then.
    pub then: String,
    /// Reckoned from the instant of the decision, because nothing else says when it ends: the first one holds until it
    /// runs out, later ones do not put it off.
    #[serde(default)]
    pub rolling: bool,
}

impl Lease {
    /// A lease until an instant that facts give.
    pub fn until(by: Timestamp, then: impl Into<String>) -> Self {
        Self { by, then: then.into(), rolling: false }
    }

    /// A lease of so much time from now on.
    pub fn rolling(now: Timestamp, span: SignedDuration, then: impl Into<String>) -> Self {
        Self { by: now.checked_add(span).unwrap_or(Timestamp::MAX), then: then.into(), rolling: true }
    }
}

impl UpdateVerdict {
    /// The first closed gate: what it waits for.
    pub fn waits_for(&self) -> Option<&Gate> {
        self.gates.iter().find(|gate| !gate.is_open())
    }
}
