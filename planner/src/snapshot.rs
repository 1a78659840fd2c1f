//! A site at one instant, as data: what `kubectl patchtide plan`, `why` and the simulator start from. The aggregated API
//! reads it from the site database in one transaction; nothing in it can be written back.
//!
//! It names every machine of the site with its facts and what it lacks: keep it as you would keep that list.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, LineId, ObjectName, UpdateId,
    catalogue::{LeafRef, Update},
    search::DetectionCounts,
    state::{Detection, Scan, StateError, UpdateEnforcement},
};
use serde::{Deserialize, Serialize};

use crate::site::{SiteInput, status::ReportedState};

/// Form of the document. A reader refuses another one and says which program writes it.
pub const SNAPSHOT_VERSION: u32 = 1;

/// A site at one instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SNAPSHOT_VERSION`].
    pub version: u32,
    /// When it was read, by the site's clock.
    pub taken_at: Timestamp,
    /// What policy is compiled from: objects in force, clients, lines, deployed updates.
    pub input: SiteInput,
    /// What deployments have pinned, by name, as the site database keeps it.
    #[serde(default)]
    pub pinned: BTreeMap<ObjectName, serde_json::Value>,
    /// What update lists hold, by name, as the site database keeps it.
    #[serde(default)]
    pub lists: BTreeMap<ObjectName, serde_json::Value>,
    /// Per client what it reported. A client without an entry never reported.
    #[serde(default)]
    pub reports: BTreeMap<ClientId, ClientReport>,
    /// The whole catalogue, when it was asked for: what searches and new lists are resolved against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalogue: Option<Vec<CatalogueEntry>>,
    /// The custom resources of the site: `apiVersion`, `kind`, `metadata`, `spec`. Empty unless the reader of the cluster
    /// added them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<serde_json::Value>,
}

/// An update of the catalogue with what clients said of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CatalogueEntry {
    /// The update. Its leaves are there when some client requires one of them, with an empty stanza.
    pub update: Update,
    /// Active clients by detection state.
    #[serde(default)]
    pub counts: DetectionCounts,
}

/// What a client reported, and what the site knows of its contact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientReport {
    /// Policy that was compiled for it last: epoch and number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<(u64, u64)>,
    /// When that policy was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_issued_at: Option<Timestamp>,
    /// Topic 501 of its last scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<Scan>,
    /// End of its last complete scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scan: Option<Timestamp>,
    /// Catalogue version that its last complete scan covered, per line.
    #[serde(default)]
    pub covered: BTreeMap<LineId, u64>,
    /// Updates that are required or installed, or have an enforcement state. Within the watermark any other is not
    /// required; beyond it, unknown.
    #[serde(default)]
    pub updates: BTreeMap<UpdateId, UpdateReport>,
    /// Deployments, by uid.
    #[serde(default)]
    pub deployments: BTreeMap<String, ReportedState>,
}

/// What a client reported of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateReport {
    /// Topic 500.
    pub detection: Detection,
    /// Topic 402; none: it never reported one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<UpdateEnforcement>,
    /// Error of a failed state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StateError>,
    /// Since when it is required or failed, by the site's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// For *required*: the leaves that the client named.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub leaves: BTreeSet<LeafRef>,
}

impl Snapshot {
    /// A site of which nothing is known but what policy is compiled from.
    pub const fn new(input: SiteInput, taken_at: Timestamp) -> Self {
        Self {
            version: SNAPSHOT_VERSION,
            taken_at,
            input,
            pinned: BTreeMap::new(),
            lists: BTreeMap::new(),
            reports: BTreeMap::new(),
            catalogue: None,
            resources: Vec::new(),
        }
    }
}
