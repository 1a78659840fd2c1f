//! Debian archives: a suite and component of one archive is a product line, a source package at a version in it an
//! update, the binary packages built from it the leaves.
//!
//! # Trust
//! `InRelease` is believed when a key of the source's keyring signed exactly its text, it is neither expired, from the
//! future, nor older than the last one accepted; an index when its size and hash stand there; a pool file when its size
//! and hash stand in the index. TLS is not needed for that, and does not replace it.
//!
//! # Use
//! A [`Run`] yields one line after the other, so that only one is in memory, and one failing line never loses the
//! rest. What has been stored durably is told to [`Run::accept`]; [`Run::into_state`] is kept for the next run.
//!
//! ```no_run
//! # async fn doc(source: patchtide_catalog::apt::AptSource, now: jiff::Timestamp) -> Result<(), Box<dyn std::error::Error>> {
//! use patchtide_catalog::apt::{AptState, LineResult, Mode, Run, RunOptions};
//! use patchtide_catalog::http::{Fetcher, HttpOptions};
//!
//! let fetcher = Fetcher::new(HttpOptions::default())?;
//! let mut run = Run::new(fetcher, source, AptState::default(), Mode::Full, now, RunOptions::default())?;
//! while let Some(event) = run.next().await {
//!     match event.result {
//!         Ok(LineResult::Changed(snapshot)) => {
//!             // store snapshot.updates durably, then:
//!             run.accept(&event.line);
//!         }
//!         Ok(LineResult::Unchanged { .. } | LineResult::Filtered { .. }) => {}
//!         Err(error) => eprintln!("{} {}: {error}", error.code(), event.line),
//!     }
//! }
//! let state = run.into_state();
//! # drop(state); Ok(()) }
//! ```

mod bundle;
mod error;
mod index;
mod release;
mod rules;
mod run;
mod state;

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::SignedDuration;
use url::Url;

pub use bundle::{BadStanza, compare_versions};
pub use error::SyncError;
pub use index::Compression;
pub use rules::{ClassificationRule, ProductRule, Rules, SuiteInfo, UpdateRule};
pub use run::{LineEvent, LineResult, LineSnapshot, Run};
pub use state::{AptState, LineState, SuiteState};

use crate::openpgp::Keyring;
use crate::progress::Progress;

/// One archive and what is wanted of it.
#[derive(Debug, Clone)]
pub struct AptSource {
    /// First part of the lines' names, for example `debian`.
    pub name: String,
    /// Address of the archive, below which `dists/` and `pool/` are.
    pub url: Url,
    /// Suites, for example `bookworm`, `bookworm-security`.
    pub suites: Vec<String>,
    /// Components, for example `main`.
    pub components: Vec<String>,
    /// Architectures, for example `amd64`; packages for `all` come with each.
    pub architectures: BTreeSet<String>,
    /// Keys that may sign the archive.
    pub keyring: Keyring,
    /// Products, classifications and what is wanted of them.
    pub rules: Rules,
    /// What is required of dates.
    pub dates: DatePolicy,
    /// What an admin has approved although it looks wrong.
    pub approvals: Approvals,
}

/// What is required of the dates of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatePolicy {
    /// Whether a release is refused after its `Valid-Until`. Only frozen copies of an archive need `false`.
    pub check_valid_until: bool,
    /// Whether a release that does not say its end is refused.
    pub require_valid_until: bool,
    /// A release older than this is refused although it says nothing about its end, or a later one.
    pub max_age: Option<SignedDuration>,
    /// How far ahead of our clock a release may be dated.
    pub future_tolerance: SignedDuration,
}

impl Default for DatePolicy {
    fn default() -> Self {
        Self {
            check_valid_until: true,
            require_valid_until: false,
            max_age: None,
            future_tolerance: SignedDuration::from_mins(5),
        }
    }
}

/// Approvals of what is held otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Approvals {
    /// Origin, Label, Suite or Codename may change.
    pub info_change: bool,
    /// A line may lose more than half of its updates at once.
    pub shrink: bool,
}

/// What a synchronisation looks for (R-SYNC-18, -19, -20).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Mode {
    /// Only what is new. A line without a change upstream is not read.
    Delta,
    /// New, revised and expired. A line is read again if the last accepted run of it was a delta.
    Full,
}

/// Limits and places of a run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Where compressed indices are kept while they are read; files there have no name and vanish with the process.
    pub scratch: PathBuf,
    /// Order in which compressions are preferred; one that is not named is not used.
    pub compressions: Vec<Compression>,
    /// Largest `InRelease`, in bytes.
    pub release_limit: u64,
    /// Largest index as it is sent, in bytes.
    pub compressed_limit: u64,
    /// Largest index decompressed, in bytes.
    pub uncompressed_limit: u64,
    /// Progress is written here.
    pub progress: Progress,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            scratch: std::env::temp_dir(),
            compressions: vec![Compression::Zstd, Compression::Xz, Compression::Gzip, Compression::None],
            release_limit: 32 << 20,
            compressed_limit: 1 << 30,
            uncompressed_limit: 4 << 30,
            progress: Progress::default(),
        }
    }
}
