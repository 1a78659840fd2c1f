//! Questions about what clients reported.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, LineId, UpdateId,
    catalogue::LeafRef,
    state::{Compliance, DeploymentEnforcement, Detection, Evaluation, Scan, StateError, UpdateEnforcement},
};

use crate::{Result, SiteStore, StoreError};

/// Active clients by detection state of one update; the four add up to the active clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DetectionCounts {
    /// Introduced or changed after the client's last complete scan, or never scanned.
    pub unknown: u64,
    /// Not required.
    pub not_required: u64,
    /// Required.
    pub required: u64,
    /// Installed.
    pub installed: u64,
}

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

impl SiteStore {
    /// Active clients by detection state, for each of `updates` that the catalogue has.
    pub async fn required_counts(&self, updates: &[UpdateId]) -> Result<BTreeMap<UpdateId, DetectionCounts>> {
        let _ = updates;
        Err(StoreError::NotBuilt("required_counts"))
    }

    /// The leaves that any active client requires of each of `updates`.
    pub async fn required_leaves(&self, updates: &BTreeSet<UpdateId>) -> Result<BTreeMap<UpdateId, BTreeSet<LeafRef>>> {
        let _ = updates;
        Err(StoreError::NotBuilt("required_leaves"))
    }

    /// Packages that required updates would newly depend on, on any active client.
    pub async fn needed_leaves(&self) -> Result<BTreeSet<LeafRef>> {
        Err(StoreError::NotBuilt("needed_leaves"))
    }

    /// Clients that require `update`, by identity.
    pub async fn requiring_clients(&self, update: &UpdateId) -> Result<Vec<ClientId>> {
        let _ = update;
        Err(StoreError::NotBuilt("requiring_clients"))
    }

    /// What clients reported about a deployment, by client.
    pub async fn deployment_clients(&self, uid: &str) -> Result<Vec<DeploymentClientState>> {
        let _ = uid;
        Err(StoreError::NotBuilt("deployment_clients"))
    }

    /// What a client reported other than *not required*, by update.
    pub async fn client_states(&self, client: ClientId) -> Result<Vec<ClientUpdateState>> {
        let _ = client;
        Err(StoreError::NotBuilt("client_states"))
    }

    /// The state of one update on one client: *unknown* beyond its watermark.
    pub async fn client_update(&self, client: ClientId, update: &UpdateId) -> Result<Option<ClientUpdateState>> {
        let _ = (client, update);
        Err(StoreError::NotBuilt("client_update"))
    }

    /// Complete scans of a client: line, catalogue version, when it came in.
    pub async fn client_scans(&self, client: ClientId) -> Result<Vec<(LineId, u64, Timestamp)>> {
        let _ = client;
        Err(StoreError::NotBuilt("client_scans"))
    }

    /// What every client that ever reported says about itself, by client.
    pub async fn client_reports(&self) -> Result<Vec<ClientReport>> {
        Err(StoreError::NotBuilt("client_reports"))
    }

    /// Compares the kept counts of the whole database with a recount from the states: no differences, ever.
    pub async fn verify(&self) -> Result<Vec<Difference>> {
        Err(StoreError::NotBuilt("verify"))
    }

    /// Replaces the kept counts by a recount; returns what differed.
    pub async fn recount(&self) -> Result<Vec<Difference>> {
        Err(StoreError::NotBuilt("recount"))
    }
}
