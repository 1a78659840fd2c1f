//! Content: what is wanted, what is here, what each distribution point has.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::{Digest, ObjectName, UpdateId};

use crate::{Result, SiteStore, StoreError};

/// A file that something resolved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedContent {
    /// Its SHA-256 in the verified index.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Where the archive has it.
    pub url: String,
    /// The update it belongs to.
    pub update: UpdateId,
}

/// Whether a file is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentState {
    /// To be fetched.
    Wanted,
    /// Being fetched.
    Fetching,
    /// In the site's library.
    Present,
    /// The last attempt failed with this message.
    Failed(String),
}

/// A file and whether it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The file.
    pub wanted: WantedContent,
    /// Its state.
    pub state: ContentState,
    /// Since when.
    pub changed_at: Option<Timestamp>,
}

/// How far a distribution point is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DpStates {
    /// Files it shall have.
    pub wanted: u64,
    /// Of those, files it has.
    pub present: u64,
    /// Bytes of the files it shall have.
    pub wanted_bytes: u64,
    /// Bytes of those it has.
    pub bytes: u64,
    /// Files it failed to take, with the message.
    pub errors: BTreeMap<Digest, String>,
}

impl SiteStore {
    /// Adds files to what is wanted; known ones keep their state, a failed one is wanted again when its URL changed.
    /// Returns how many were new.
    pub async fn put_content_wanted(&self, wanted: Vec<WantedContent>) -> Result<u64> {
        let _ = wanted;
        Err(StoreError::NotBuilt("put_content_wanted"))
    }

    /// One file.
    pub async fn content(&self, digest: Digest) -> Result<Option<Content>> {
        let _ = digest;
        Err(StoreError::NotBuilt("content"))
    }

    /// Files that are not present yet (wanted, being fetched, failed), by digest.
    pub async fn content_missing(&self) -> Result<Vec<Content>> {
        Err(StoreError::NotBuilt("content_missing"))
    }

    /// The states of those of `digests` that are known.
    pub async fn content_states(&self, digests: &[Digest]) -> Result<BTreeMap<Digest, ContentState>> {
        let _ = digests;
        Err(StoreError::NotBuilt("content_states"))
    }

    /// Changes the state of a file.
    pub async fn set_content_state(&self, digest: Digest, state: ContentState, now: Timestamp) -> Result<()> {
        let _ = (digest, state, now);
        Err(StoreError::NotBuilt("set_content_state"))
    }

    /// Says what a distribution point shall have, all of it. True when that changed anything.
    pub async fn set_dp_wanted(&self, dp: &ObjectName, wanted: BTreeSet<Digest>) -> Result<bool> {
        let _ = (dp, wanted);
        Err(StoreError::NotBuilt("set_dp_wanted"))
    }

    /// What a distribution point shall have.
    pub async fn dp_wanted(&self, dp: &ObjectName) -> Result<BTreeSet<Digest>> {
        let _ = dp;
        Err(StoreError::NotBuilt("dp_wanted"))
    }

    /// A distribution point has a file, or failed to take it.
    pub async fn set_dp_present(
        &self,
        dp: &ObjectName,
        digest: Digest,
        outcome: Result<(), String>,
        now: Timestamp,
    ) -> Result<()> {
        let _ = (dp, digest, outcome, now);
        Err(StoreError::NotBuilt("set_dp_present"))
    }

    /// How far a distribution point is.
    pub async fn dp_states(&self, dp: &ObjectName) -> Result<DpStates> {
        let _ = dp;
        Err(StoreError::NotBuilt("dp_states"))
    }

    /// For each of `digests` the distribution points that have it (every digest of the input has an entry).
    pub async fn dps_with(&self, digests: &[Digest]) -> Result<BTreeMap<Digest, BTreeSet<ObjectName>>> {
        let _ = digests;
        Err(StoreError::NotBuilt("dps_with"))
    }
}
