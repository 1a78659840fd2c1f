//! Content: what is wanted, what is here, what each distribution point has.

mod distribution;
mod wanted;

use std::collections::BTreeMap;

use jiff::Timestamp;
use patchtide_model::{Digest, UpdateId};

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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
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
