//! A gate: what an update or a restart has to pass, who set it, and when it can open.

use jiff::Timestamp;
use patchtide_model::{UpdateId, window::Span};
use serde::{Deserialize, Serialize};

use super::words::Words;

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
