//! State messages on their way in: [`queue`] collects what waits, [`batch`] makes one commit of it, [`sequence`] judges a
//! report, [`apply`] changes what is remembered, [`write`](mod@write) writes it.

pub(crate) mod apply;
pub(crate) mod batch;
pub(crate) mod cache;
pub(crate) mod counts;
pub(crate) mod dirty;
mod history;
pub(crate) mod load;
mod parked;
pub(crate) mod queue;
mod sequence;
mod write;

use jiff::Timestamp;
use patchtide_model::{
    ClientId, LineId, UpdateId,
    catalogue::LeafRef,
    client::Facts,
    state::{Compliance, DeploymentEnforcement, Detection, Evaluation, Scan, StateError, UpdateEnforcement},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Result, SiteStore};

/// Messages of one client. `client` is what its certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntakeReport {
    /// Who.
    pub client: ClientId,
    /// Made when the agent's state was created; another one restarts the sequence and forgets the client's states.
    pub incarnation: Uuid,
    /// Made at each boot.
    pub boot: Uuid,
    /// By the client's clock; a claim.
    pub sent_at: Timestamp,
    /// By ours.
    pub received_at: Timestamp,
    /// Policy in force there: epoch and number.
    pub policy: Option<(u64, u64)>,
    /// Messages; any order.
    pub messages: Vec<IntakeMessage>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntakeMessage {
    /// Place in the client's sequence, from 1.
    pub seq: u64,
    /// When the state was entered, by the client's clock.
    pub at: Timestamp,
    /// What.
    pub body: IntakeBody,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntakeBody {
    /// The client's facts, all of them.
    Facts(Facts),
    /// Topic 501.
    Scan {
        /// State.
        state: Scan,
        /// Error of a failed scan.
        error: Option<StateError>,
    },
    /// Topic 500 for one line.
    Detection(DetectionReport),
    /// Topic 402.
    Update {
        /// The update.
        update: UpdateId,
        /// State.
        state: UpdateEnforcement,
        /// Error of a failed state.
        error: Option<StateError>,
    },
    /// Topic 301.
    Enforcement {
        /// Uid of the deployment.
        deployment: String,
        /// State.
        state: DeploymentEnforcement,
        /// Until when it waits.
        until: Option<Timestamp>,
        /// Error of a failed state.
        error: Option<StateError>,
    },
    /// Topic 302.
    Evaluation {
        /// Uid of the deployment.
        deployment: String,
        /// State.
        state: Evaluation,
    },
    /// Topic 300.
    Compliance {
        /// Uid of the deployment.
        deployment: String,
        /// State.
        state: Compliance,
    },
    /// Topic 701.
    Heartbeat,
}

/// What a scan found in one line, or a part of it; takes effect with the last part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectionReport {
    /// The line.
    pub line: LineId,
    /// Catalogue version scanned against: the watermark.
    pub catalogue_version: u64,
    /// Number of this part, from 0.
    pub part: u16,
    /// Whether this is the last part.
    pub last: bool,
    /// States other than *not required*.
    pub states: Vec<DetectedUpdate>,
    /// Packages that the required updates would newly depend on.
    pub needs: Vec<LeafRef>,
}

/// One update as a scan found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetectedUpdate {
    /// Source name within the line.
    pub source: String,
    /// Source version.
    pub version: String,
    /// *Required* or *installed*.
    pub state: Detection,
    /// For *required*: the leaves that this client needs.
    pub leaves: Vec<LeafRef>,
}

/// The answer to a report, given after the durable commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntakeAck {
    /// All messages up to this number are kept; the client may forget them.
    pub acknowledged: u64,
    /// Messages are missing: the client is to send every current state anew.
    pub resync: bool,
    /// The client is quarantined; nothing of the report was kept.
    pub quarantined: bool,
}

impl SiteStore {
    /// Takes a report in; returns after the durable commit. [`StoreError::Busy`] when the queue is full,
    /// [`StoreError::UnknownClient`] and [`StoreError::NotActive`] when the client may not report (a quarantined one is
    /// answered with `quarantined`).
    pub async fn intake(&self, report: IntakeReport) -> Result<IntakeAck> {
        queue::submit(self.core(), self.site.clone(), report).await
    }
}

/// Brings a report into the form that the rest expects: messages by number, each once; leaf sets sorted.
fn prepare(report: &mut IntakeReport) {
    report.messages.sort_by_key(|message| message.seq);
    report.messages.dedup_by_key(|message| message.seq);
    for message in &mut report.messages {
        if let IntakeBody::Detection(detection) = &mut message.body {
            normalise(&mut detection.needs);
            for state in &mut detection.states {
                normalise(&mut state.leaves);
            }
        }
    }
}

/// Sorts a leaf set.
fn normalise(leaves: &mut Vec<LeafRef>) {
    leaves.sort_unstable();
    leaves.dedup();
}
