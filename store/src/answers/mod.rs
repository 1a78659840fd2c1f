//! Questions about what clients reported.

mod clients;
mod counts;
pub(crate) mod leaves;
mod pages;
pub mod select;

pub use pages::{ClientPage, SlotState, Slots};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, UpdateId,
    state::{Compliance, DeploymentEnforcement, Detection, Evaluation, Scan, StateError, UpdateEnforcement},
};

pub use patchtide_model::search::DetectionCounts;

/// A client and a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentClientState {
    /// The client.
    pub client: ClientId,
    /// Topic 301.
    pub enforcement: DeploymentEnforcement,
    /// Topic 300.
    pub compliance: Compliance,
    /// Topic 302.
    pub evaluation: Evaluation,
    /// Until when a waiting state waits.
    pub until: Option<Timestamp>,
    /// Error of a failed state.
    pub error: Option<StateError>,
    /// When any of it changed last, by the site's clock.
    pub changed_at: Timestamp,
    /// When the client was heard of last.
    pub heard: Option<Timestamp>,
}

/// A client and an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientUpdateState {
    /// The update.
    pub update: UpdateId,
    /// Topic 500.
    pub detection: Detection,
    /// Topic 402.
    pub enforcement: UpdateEnforcement,
    /// Error of a failed state.
    pub error: Option<StateError>,
    /// Since when it is required or failed.
    pub since: Option<Timestamp>,
}

/// What a client's reports say about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientReport {
    /// The client.
    pub client: ClientId,
    /// Last report, by the site's clock.
    pub reported_at: Timestamp,
    /// Its clock minus ours in that report, microseconds.
    pub skew_us: i64,
    /// Policy in force there: epoch and number.
    pub policy: Option<(u64, u64)>,
    /// Topic 501.
    pub scan: Scan,
    /// Error of a failed scan.
    pub scan_error: Option<StateError>,
    /// Highest sequence number kept.
    pub sequence: u64,
    /// Messages are missing, and a resync was or will be asked for.
    pub gap: bool,
}

/// A count that differs from a recount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What is counted.
    pub what: String,
    /// As kept.
    pub kept: i64,
    /// As recounted.
    pub recounted: i64,
}
