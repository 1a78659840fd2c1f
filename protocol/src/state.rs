//! State messages: what a client reports, in one sequence per client (R-STMSG, domain.md section 1).

use jiff::Timestamp;
use patchtide_model::{
    Digest, LineId, UpdateId,
    catalogue::LeafRef,
    client::Facts,
    state::{Compliance, DeploymentEnforcement, Detection, Evaluation, Scan, StateError, UpdateEnforcement},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use crate::text::Text;

/// Messages of one client, sent together. Who it is says only the certificate. The names of updates may be borrowed: a scan
/// has hundreds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateReport<S = String> {
    /// Random, made when the agent's state was created. A new one restarts the sequence (re-installed client).
    pub incarnation: Uuid,
    /// Random per boot. Two that interleave mean two machines with one identity.
    pub boot: Uuid,
    /// The client's clock when it sent this; a claim.
    pub sent_at: Timestamp,
    /// Policy in force: epoch and number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<(u64, u64)>,
    /// Messages, by rising sequence number, at most [`crate::limits::STATE_ITEMS`].
    pub messages: Vec<StateMessage<S>>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateMessage<S = String> {
    /// 1 for the first of an incarnation, then one more each; kept by the client until acknowledged.
    pub seq: u64,
    /// When the state was entered, by the client's clock.
    pub at: Timestamp,
    /// What.
    pub body: StateBody<S>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum StateBody<S = String> {
    /// The client's facts, all of them.
    Facts {
        /// Facts.
        facts: Facts,
    },
    /// Topic 501.
    Scan {
        /// State.
        state: Scan,
        /// Error of a failed scan.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<StateError>,
    },
    /// Topic 500 for one line: what a scan found. Updates that are not named are *not required*.
    Detection(DetectionReport<S>),
    /// Topic 402.
    Update {
        /// The update.
        update: UpdateId,
        /// State.
        state: UpdateEnforcement,
        /// Error of a failed state.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<StateError>,
    },
    /// Topic 301.
    Enforcement {
        /// Uid of the deployment.
        deployment: String,
        /// State.
        state: DeploymentEnforcement,
        /// For a waiting state: until when, as far as the client knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// Error of a failed state.
        #[serde(default, skip_serializing_if = "Option::is_none")]
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
    /// Topic 701: nothing new, still there.
    Heartbeat {},
}

/// What a scan found in one line; may come in parts, and counts only when the last one arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectionReport<S = String> {
    /// The line.
    pub line: LineId,
    /// Catalogue version scanned against: the watermark.
    pub catalogue_version: u64,
    /// Number of this part, from 0.
    pub part: u16,
    /// Whether this is the last part.
    pub last: bool,
    /// States other than *not required*, of updates by name.
    pub states: Vec<DetectedUpdate<S>>,
    /// Packages that the required updates would newly depend on, as this client resolves them.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<LeafRef<S>>,
    /// States other than *not required*, of updates by number; a tenth of the bytes, and nothing to look up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numbered: Option<Numbered>,
}

/// States of updates by the numbers that one catalogue gives them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbered {
    /// Digest of that catalogue, as the policy names it. To a site that does not know it the numbers say nothing.
    pub catalogue: Digest,
    /// The states; numbers rise.
    pub states: Vec<NumberedUpdate>,
}

/// One update as a scan found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumberedUpdate {
    /// [`patchtide_model::catalogue::ScanUpdate::number`].
    pub number: u64,
    /// *Required* or *installed*.
    pub state: Detection,
    /// For *required*: places, from 0 and rising, of the leaves that this client needs in the catalogue's list of this
    /// update's leaves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaves: Vec<u16>,
}

/// One update as a scan found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectedUpdate<S = String> {
    /// Source name within the line.
    pub source: S,
    /// Source version.
    pub version: S,
    /// *Required* or *installed*.
    pub state: Detection,
    /// For *required*: the leaves that this client needs.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub leaves: Vec<LeafRef<S>>,
}

/// The site's answer to a report, given only after a durable write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// All messages up to this sequence number are kept; the client may forget them.
    pub acknowledged: u64,
    /// The site misses messages: send every current state anew (topic 700).
    pub resync: bool,
    /// A catalogue of this report is not known to the site (its database was restored): its numbers counted for nothing.
    /// Send the current detections anew, by name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_name: bool,
    /// This incarnation, or this boot, was replaced by a later one: the client's state is an old copy of itself, or a copy of it
    /// is at work elsewhere. Nothing of the report was kept: take a new incarnation and send every current state anew. Messages
    /// of an earlier incarnation are not answered so: they mean two machines.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
}
