//! What a decision says.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    Digest, UpdateId,
    catalogue::{ContentFile, LeafRef, RestartRule},
    state::{Compliance, DeploymentEnforcement, Detection, Evaluation, StateError, UpdateEnforcement},
    window::Span,
};
use serde::{Deserialize, Serialize};

use super::{
    context::Words,
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

/// One gate of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Which.
    pub kind: GateKind,
    /// Open or closed.
    pub status: GateStatus,
    /// The object that set it, for example `MaintenanceWindow/sat-night`; empty when the machine itself did.
    pub object: String,
    /// Its field, for example `spec.duration`.
    pub field: String,
    /// Where the object has the value from, when it is not its own: `DeploymentTemplate/monthly`, or `default`. Told by
    /// [`crate::why`] alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// In words: what it waits for, or why it is open.
    pub reason: String,
    /// For a gate that opens [`Opens::OnEvent`]: what has to happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
    /// For such a gate: the client decides again at the latest then, whether it happened or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looks: Option<Timestamp>,
    /// For a closed `hold` gate: what holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
}

/// What opens a gate that no instant opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Another policy: somebody changes an object, or the site approves what is missing.
    Policy,
    /// A scan finds something else.
    Scan,
    /// A download ends.
    Download,
    /// A distribution point that may be used is in reach.
    DistributionPoint,
    /// What is being installed has ended.
    TransactionEnds,
    /// The machine restarts.
    Restart,
    /// A person at the machine asks for it.
    PersonAsks,
    /// The client is heard of.
    Contact,
}

/// What holds an update that could go otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Holder {
    /// Every deployment of it is suspended.
    Suspended,
    /// It failed, and is left alone for a while.
    Failed {
        /// Failures in a row.
        count: u32,
        /// The last one.
        at: Timestamp,
    },
    /// It was installed and fell below again: the re-evaluation heals it.
    FellBelow {
        /// Seen at.
        since: Timestamp,
    },
    /// The machine's clock is not believed.
    Clock,
    /// A transaction of this agent runs.
    Transaction {
        /// Since.
        since: Timestamp,
        /// Number of its updates.
        updates: usize,
    },
    /// An interrupted dpkg comes first.
    Recovery {
        /// Since.
        since: Timestamp,
    },
    /// Another program has the package system's lock.
    Lock {
        /// Which, as far as it can be told.
        holder: String,
        /// Seen at.
        since: Timestamp,
    },
    /// Detection is repeated, or the scan before the batch is not done.
    Detection,
    /// Another update: its batch goes first, its content is waited for, or it has to come along and is not ready.
    Update {
        /// Which.
        update: UpdateId,
    },
    /// Other updates go first.
    Batch {
        /// How many.
        updates: usize,
    },
}

/// The gates, in the order in which they are passed (design section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateKind {
    /// The site has taken the client in. Known to the site alone.
    Enrolled,
    /// The client's policy is the one the site compiles now. Known to the site alone.
    Policy,
    /// A deployment reaches this client.
    Targeted,
    /// The machine needs it.
    Applicable,
    /// Its files are here.
    Content,
    /// Its available time has come.
    Available,
    /// Its deadline has come, or a person asked.
    Deadline,
    /// A window is open and long enough.
    Window,
    /// No restart has to come first, or (for a restart) it may happen.
    Restart,
    /// Nothing holds it: suspension, back-off after a failure, another installation, an untrusted clock.
    Hold,
    /// The client is in contact, so that what is seen here is what is. Known to the site alone.
    Contact,
}

impl GateKind {
    /// Its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Policy => "policy",
            Self::Targeted => "targeted",
            Self::Applicable => "applicable",
            Self::Content => "content",
            Self::Available => "available",
            Self::Deadline => "deadline",
            Self::Window => "window",
            Self::Restart => "restart",
            Self::Hold => "hold",
            Self::Contact => "contact",
        }
    }
}

/// Whether a gate is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateStatus {
    /// Open.
    Open,
    /// Closed, and when it can open.
    Closed(Opens),
}

/// When a closed gate can open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opens {
    /// At that instant.
    At(Timestamp),
    /// When something happens, whenever that is.
    OnEvent,
    /// Never, as things stand. For a window: the longest opening there is, if any.
    Never {
        /// Longest opening.
        longest: Option<Span>,
    },
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

impl Gate {
    /// An open gate.
    pub fn open(kind: GateKind, reason: impl Into<String>) -> Self {
        Self::new(kind, GateStatus::Open, reason)
    }

    /// A closed gate.
    pub fn closed(kind: GateKind, opens: Opens, reason: impl Into<String>) -> Self {
        Self::new(kind, GateStatus::Closed(opens), reason)
    }

    /// A gate that this event opens.
    pub(crate) fn waiting(kind: GateKind, event: Event, reason: impl Into<String>) -> Self {
        Self { event: Some(event), ..Self::closed(kind, Opens::OnEvent, reason) }
    }

    pub(crate) fn new(kind: GateKind, status: GateStatus, reason: impl Into<String>) -> Self {
        let (object, field) = (String::new(), String::new());
        Self {
            kind,
            status,
            object,
            field,
            from: None,
            reason: reason.into(),
            event: None,
            looks: None,
            holder: None,
        }
    }

    /// The same gate, set by `field` of `object`.
    #[must_use]
    pub fn by(mut self, object: impl Into<String>, field: &str) -> Self {
        self.object = object.into();
        field.clone_into(&mut self.field);
        self
    }

    /// The same gate, set by `field` of an object, when somebody reads that.
    pub(super) fn set_by(self, words: Words, object: impl FnOnce() -> String, field: &str) -> Self {
        if words.0 { self.by(object(), field) } else { self }
    }

    /// The same gate, held by that.
    pub(crate) fn held_by(mut self, holder: Holder) -> Self {
        self.holder = Some(holder);
        self
    }

    /// When it can open: an instant, for an event the next time the client looks; none: never, or it is open.
    pub const fn next(&self) -> Option<Timestamp> {
        match self.status {
            GateStatus::Closed(Opens::At(at)) => Some(at),
            GateStatus::Closed(Opens::OnEvent) => self.looks,
            GateStatus::Open | GateStatus::Closed(Opens::Never { .. }) => None,
        }
    }

    /// Whether it is open.
    pub const fn is_open(&self) -> bool {
        matches!(self.status, GateStatus::Open)
    }
}

impl UpdateVerdict {
    /// The first closed gate: what it waits for.
    pub fn waits_for(&self) -> Option<&Gate> {
        self.gates.iter().find(|gate| !gate.is_open())
    }
}
