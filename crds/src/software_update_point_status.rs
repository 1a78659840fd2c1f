//! Status of a SoftwareUpdatePoint.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    conditions::{Condition, Time, status_contract},
    schema::leave_description_to_field,
};

/// What is true of the software update point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SoftwareUpdatePointStatus {
    /// Last generation of the spec that ended ready or stalled; -1 before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled and the conditions of this kind. Ready=True means that this generation is accepted,
    /// resolved and in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 24))]
    pub conditions: Vec<Condition>,
    /// Value of the last `reconcile.patchtide.dev/requestedAt` annotation that was carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,
    /// The synchronisation under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<SyncProgress>,
    /// End of the last successful synchronisation of either kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,
    /// End of the last successful delta synchronisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_delta_sync_time: Option<Time>,
    /// End of the last successful full synchronisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_full_sync_time: Option<Time>,
    /// Start of the next synchronisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_sync_time: Option<Time>,
    /// Kind of the next one: full or delta.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_sync_kind: Option<SyncKind>,
    /// Failures in a row since the last success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures_in_a_row: Option<u32>,
    /// Counts of updates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updates: Option<UpdateCounts>,
    /// Version of the catalogue that clients scan against; rises by one with every change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalogue_version: Option<u64>,
    /// Each source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub sources: Vec<SourceStatus>,
    /// Last error with its cause and remedy; stays until the next success.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub last_error: Option<String>,
}

status_contract!(SoftwareUpdatePointStatus);

/// Kind of a synchronisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = leave_description_to_field)]
pub enum SyncKind {
    /// New, revised and withdrawn updates.
    Full,
    /// New updates only.
    Delta,
}

/// A synchronisation under way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncProgress {
    /// Kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<SyncKind>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// For people, for example `debian bookworm/main: 41 of 54 MiB, 30112 updates`.
    #[schemars(length(max = 256))]
    pub summary: String,
    /// Source being read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub source: Option<String>,
    /// Update or file being read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub current: Option<String>,
    /// Files read.
    pub files_done: u64,
    /// Files to read, as far as known.
    pub files_total: u64,
    /// Bytes read.
    pub bytes_done: u64,
    /// Bytes to read, as far as known.
    pub bytes_total: u64,
    /// Updates read.
    pub updates: u64,
}

/// Counts of updates. The counts below `total` are those of the last synchronisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateCounts {
    /// Updates in the site now, expired ones included.
    pub total: u64,
    /// Of these, not superseded and not expired.
    pub current: u64,
    /// Seen for the first time.
    pub new: u64,
    /// Same identity, changed content or metadata.
    pub revised: u64,
    /// Newly superseded by a newer one.
    pub superseded: u64,
    /// Newly expired.
    pub expired: u64,
    /// Entries that could not be read and were left out.
    pub malformed: u64,
}

/// One source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Its name.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Whether its last synchronisation succeeded.
    pub ok: bool,
    /// Last success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,
    /// Its product lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub lines: Vec<LineStatus>,
    /// What failed, why, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub error: Option<String>,
}

/// One product line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LineStatus {
    /// `<source>/<suite>/<component>`.
    #[schemars(length(max = 200))]
    pub line: String,
    /// Updates in it.
    pub updates: u64,
    /// Date of the accepted InRelease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release_date: Option<Time>,
    /// Its Valid-Until.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
    /// Entries that could not be read.
    pub malformed: u64,
    /// The first malformed entry: where and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub first_malformed: Option<String>,
}
