//! The catalogue of a site: lines, updates, leaves.

use std::collections::BTreeMap;

use jiff::Timestamp;
use patchtide_model::{
    Digest, LineId, UpdateId,
    catalogue::{Leaf, LeafRef, LineCatalogue, Update},
    search::Criteria,
};

use crate::{Result, SiteStore, StoreError};

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

impl SiteStore {
    /// Takes a verified sync in, in one transaction. The version rises only when something changed.
    pub async fn apply_line_sync(&self, sync: LineSync, now: Timestamp) -> Result<SyncOutcome> {
        let _ = (sync, now);
        Err(StoreError::NotBuilt("apply_line_sync"))
    }

    /// Says which compressed catalogue clients of the line scan with.
    pub async fn set_line_catalogue(&self, line: &LineId, version: u64, digest: Digest, size: u64) -> Result<()> {
        let _ = (line, version, digest, size);
        Err(StoreError::NotBuilt("set_line_catalogue"))
    }

    /// All lines, by name.
    pub async fn lines(&self) -> Result<Vec<LineState>> {
        Err(StoreError::NotBuilt("lines"))
    }

    /// What clients scan against: the current updates of a line.
    pub async fn scan_catalogue(&self, line: &LineId) -> Result<LineCatalogue> {
        let _ = line;
        Err(StoreError::NotBuilt("scan_catalogue"))
    }

    /// Updates that meet `criteria`, by identity, at most `limit`, each with the number of active clients that require it.
    /// Their leaves come without stanzas.
    pub async fn search(&self, criteria: &Criteria, limit: usize) -> Result<Vec<(Update, u64)>> {
        let _ = (criteria, limit);
        Err(StoreError::NotBuilt("search"))
    }

    /// One update with its leaves.
    pub async fn update(&self, id: &UpdateId) -> Result<Option<Update>> {
        let _ = id;
        Err(StoreError::NotBuilt("update"))
    }

    /// Those of `ids` that exist, with their leaves.
    pub async fn updates(&self, ids: &[UpdateId]) -> Result<BTreeMap<UpdateId, Update>> {
        let _ = ids;
        Err(StoreError::NotBuilt("updates"))
    }

    /// A leaf by its name; of several with the same name, one of a current update.
    pub async fn find_leaf(&self, leaf: &LeafRef) -> Result<Option<(UpdateId, Leaf)>> {
        let _ = leaf;
        Err(StoreError::NotBuilt("find_leaf"))
    }

    /// Those of `leaves` that exist.
    pub async fn find_leaves(&self, leaves: &[LeafRef]) -> Result<BTreeMap<LeafRef, (UpdateId, Leaf)>> {
        let _ = leaves;
        Err(StoreError::NotBuilt("find_leaves"))
    }

    /// Expires what was superseded before `before`. Returns how many.
    pub async fn expire_superseded(&self, before: Timestamp) -> Result<u64> {
        let _ = before;
        Err(StoreError::NotBuilt("expire_superseded"))
    }

    /// Numbers of updates, by line.
    pub async fn catalogue_counts(&self) -> Result<BTreeMap<LineId, LineCounts>> {
        Err(StoreError::NotBuilt("catalogue_counts"))
    }
}
