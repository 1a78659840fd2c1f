//! The catalogue of a site: lines, updates, leaves.

mod cleanup;
mod conflict;
mod dependencies;
pub(crate) mod find;
mod lines;
pub(crate) mod revision;
mod sync;

pub use cleanup::CleanUp;
pub use dependencies::Dependencies;

use std::collections::BTreeSet;

use jiff::Timestamp;
use patchtide_model::{
    Digest, LineId, UpdateId,
    catalogue::{Classification, RestartRule, Severity, Update},
};

use crate::{Result, StoreError, sql::Row};

/// What a verified sync found in one line.
#[derive(Debug, Clone)]
pub struct LineSync {
    /// The line.
    pub line: LineId,
    /// `Date` of the release file: what a replay is recognised by.
    pub release_date: Timestamp,
    /// Every update of the verified index. `superseded_by` orders several versions of one source within the sync; of
    /// what was known before and is gone now, the current update of the same source is the successor, and without one it
    /// is withdrawn. `posted` of a known update and `expired` are ignored.
    pub updates: Vec<Update>,
    /// Full: new, revised, gone. Otherwise delta: new ones, and what they supersede, alone.
    pub full: bool,
}

/// What a sync changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncOutcome {
    /// Updates not known before.
    pub new: u64,
    /// Same identity, changed metadata.
    pub revised: u64,
    /// Withdrawn.
    pub expired: u64,
    /// Newly superseded.
    pub superseded: u64,
    /// As before.
    pub unchanged: u64,
    /// Catalogue version of the line now.
    pub version: u64,
    /// Whether that version is new.
    pub changed: bool,
}

/// A line as the site knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineState {
    /// The line.
    pub line: LineId,
    /// Catalogue version; 0 before the first sync.
    pub version: u64,
    /// The catalogue that clients scan with (it may be older than `version` until it is written): version, digest and
    /// bytes of the compressed document.
    pub catalogue: Option<PublishedCatalogue>,
    /// `Date` of the last accepted release file.
    pub release_date: Timestamp,
    /// Last sync.
    pub synced_at: Timestamp,
}

/// The compressed catalogue of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedCatalogue {
    /// Catalogue version it holds.
    pub version: u64,
    /// Digest of the compressed bytes.
    pub digest: Digest,
    /// Compressed bytes.
    pub size: u64,
}

/// Numbers of updates in a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Neither superseded nor expired.
    pub current: u64,
    /// Superseded, not expired.
    pub superseded: u64,
    /// Expired.
    pub expired: u64,
}

/// A classification as the column keeps it: its name.
pub(crate) fn classification(classification: Classification) -> String {
    format!("{classification:?}")
}

const CLASSIFICATIONS: [Classification; 8] = [
    Classification::CriticalUpdates,
    Classification::DefinitionUpdates,
    Classification::FeaturePacks,
    Classification::SecurityUpdates,
    Classification::ServicePacks,
    Classification::Tools,
    Classification::UpdateRollups,
    Classification::Updates,
];

/// What the narrow columns (from the third on: source, version, title, classification, product, severity) say of an update.
pub(crate) fn narrow(row: &Row, line: &LineId) -> Result<Update> {
    let name = row.text(5)?;
    let classification = CLASSIFICATIONS
        .into_iter()
        .find(|one| classification(*one) == name)
        .ok_or(StoreError::Damaged { what: "classification", detail: name })?;
    let severity = match row.int(7)? {
        2 => Severity::Low,
        6 => Severity::Moderate,
        8 => Severity::Important,
        10 => Severity::Critical,
        _ => Severity::None,
    };
    Ok(Update {
        id: UpdateId { line: line.clone(), source: row.text(2)?, version: row.text(3)? },
        title: row.text(4)?,
        classification,
        product: row.text(6)?,
        severity,
        cves: BTreeSet::new(),
        bulletins: BTreeSet::new(),
        posted: Timestamp::UNIX_EPOCH,
        leaves: Vec::new(),
        maximum_run_time: None,
        exclusive: false,
        restart: RestartRule::Auto,
        superseded_by: None,
        expired: false,
    })
}
