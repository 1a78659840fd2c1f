//! Content: what is wanted, what is here, what each distribution point has.

mod distribution;
mod integrity;
mod scrub;
mod wanted;

use std::collections::BTreeMap;

use jiff::Timestamp;
use patchtide_model::{Digest, ObjectName, UpdateId};

pub use scrub::{Scrub, ScrubPace};

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

/// A file that a distribution point shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DpFile {
    /// Bytes, when the site knows the file.
    pub size: Option<u64>,
    /// Whether it counts as being there.
    pub present: bool,
}

/// A file that was found damaged on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// On which distribution point; none: in the site's library.
    pub dp: Option<ObjectName>,
    /// The file.
    pub digest: Digest,
    /// What was wrong with it, for people: `is gone from the disk`.
    pub detail: String,
    /// When that was found.
    pub found_at: Timestamp,
    /// Since when it is sound again.
    pub repaired_at: Option<Timestamp>,
    /// Where the archive has it; none for what is not of an archive.
    pub url: Option<String>,
    /// The update it belongs to.
    pub update: Option<UpdateId>,
}

/// How far the check of a library's files is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckState {
    /// Files before it were read in the round under way; none between rounds.
    pub position: Option<Digest>,
    /// When the last round began.
    pub started_at: Timestamp,
    /// When one was last complete.
    pub completed_at: Option<Timestamp>,
}
