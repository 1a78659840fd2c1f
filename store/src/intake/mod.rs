//! State messages on their way in: [`found`] looks up what a report names ([`numbered`]: by number), on the caller's task; [`queue`] collects what
//! waits, [`batch`] makes one commit of it, [`sequence`] judges a report, [`apply`] changes what is remembered,
//! [`write`](mod@write) writes it.

mod accepted;
pub(crate) mod apply;
pub(crate) mod batch;
pub(crate) mod cache;
pub(crate) mod counts;
pub(crate) mod details;
pub(crate) mod dirty;
pub(crate) mod found;
mod history;
mod leaf_sets;
pub(crate) mod load;
pub(crate) mod names;
mod numbered;
mod parked;
mod parts;
pub(crate) mod queue;
mod scan;
mod sequence;
mod write;

pub use accepted::Accepted;
use jiff::Timestamp;
use patchtide_model::{
    ClientId, Digest, LineId, UpdateId,
    catalogue::LeafRef,
    client::Facts,
    state::{Compliance, DeploymentEnforcement, Detection, Evaluation, Scan, StateError, UpdateEnforcement},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Result, SiteStore};

/// Messages of one client. `client` is what its certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntakeReport<D = DetectionReport> {
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
    pub messages: Vec<IntakeMessage<D>>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntakeMessage<D = DetectionReport> {
    /// Place in the client's sequence, from 1.
    pub seq: u64,
    /// When the state was entered, by the client's clock.
    pub at: Timestamp,
    /// What.
    pub body: IntakeBody<D>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntakeBody<D = DetectionReport> {
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
    Detection(D),
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
pub struct DetectionReport<S = String> {
    /// The line.
    pub line: LineId,
    /// Catalogue version scanned against: the watermark.
    pub catalogue_version: u64,
    /// Number of this part, from 0.
    pub part: u16,
    /// Whether this is the last part.
    pub last: bool,
    /// States other than *not required*.
    pub states: Vec<DetectedUpdate<S>>,
    /// Packages that the required updates would newly depend on.
    pub needs: Vec<LeafRef<S>>,
    /// States of updates by number.
    pub numbered: Option<Numbered>,
}

/// States of updates by the numbers that one published catalogue gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// Digest of that catalogue.
    pub catalogue: Digest,
    /// The states; numbers rise.
    pub states: Vec<NumberedUpdate>,
}

/// One update as a scan found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedUpdate {
    /// [`patchtide_model::catalogue::ScanUpdate::number`].
    pub number: u64,
    /// *Required* or *installed*.
    pub state: Detection,
    /// For *required*: places of the leaves that this client needs, rising.
    pub leaves: Vec<u16>,
}

/// One update as a scan found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetectedUpdate<S = String> {
    /// Source name within the line.
    pub source: S,
    /// Source version.
    pub version: S,
    /// *Required* or *installed*.
    pub state: Detection,
    /// For *required*: the leaves that this client needs.
    pub leaves: Vec<LeafRef<S>>,
}

/// The answer to a report, given after the durable commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntakeAck {
    /// All messages up to this number are kept; the client may forget them.
    pub acknowledged: u64,
    /// Messages are missing: the client is to send every current state anew.
    pub resync: bool,
    /// Who the site takes the sender for.
    pub sender: Sender,
    /// Facts beyond the limits, which were left out (`CARDINALITY`).
    pub dropped_facts: u64,
    /// Numbers of a catalogue that was never published here: those detections were left out, and are to come by name.
    pub by_name: bool,
}

/// Who the site takes the sender of a report for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The client as it is known.
    Known,
    /// Its incarnation or boot was replaced by a later one: the client's state was restored from a copy, or a copy of it is at
    /// work elsewhere. Nothing of the report was kept, and whoever reads the answer is to begin anew.
    Superseded,
    /// The client is quarantined; nothing of the report was kept.
    Quarantined,
}

impl SiteStore {
    /// Takes a report in; returns after the durable commit. [`StoreError::Busy`](crate::StoreError::Busy) when the queue is
    /// full, [`StoreError::UnknownClient`](crate::StoreError::UnknownClient) and
    /// [`StoreError::NotActive`](crate::StoreError::NotActive) when the client may not report (a quarantined one is answered
    /// with `quarantined`). Texts of the report may be borrowed.
    pub async fn intake<S>(&self, mut report: IntakeReport<DetectionReport<S>>) -> Result<IntakeAck>
    where
        S: AsRef<str> + Ord,
    {
        found::prepare(&mut report);
        queue::submit(self.core(), &self.site, &report).await
    }
}
