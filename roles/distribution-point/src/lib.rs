//! The distribution point: content-addressed files over HTTPS, from memory-mapped bytes, and a loop that keeps its
//! library equal to what the site wants there.
//!
//! Architecture Invariant: a request names a digest or nothing; no other text of a request ever reaches the file system.

#[expect(unsafe_code, reason = "maps immutable files into memory; the argument is in the module")]
mod mapping;
mod metrics;
mod scrub;
mod serve;
mod sync;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use patchtide_endpoint::{Clock, standing::Standings};
use patchtide_model::{Digest, ObjectName};
use patchtide_protocol::path;
use patchtide_store::{
    SiteStore,
    content::ScrubPace,
    library::{Library, LibraryError},
};

pub use metrics::Metrics;
pub use serve::Shelf;
pub use sync::{Reported, Round, SyncError};

/// Path prefixes for the listener's metrics.
pub const ROUTES: &[&str] = &[path::BLOBS];

/// Under which names a distribution point serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Every distribution point object of the site: the embedded default, one library for all.
    All,
    /// These.
    These(BTreeSet<ObjectName>),
}

/// A distribution point.
pub struct DistributionPoint {
    store: SiteStore,
    names: Names,
    /// The site's content, filled by the controller.
    source: Library,
    shelf: Arc<Shelf>,
    standings: Standings,
    clock: Clock,
    metrics: Metrics,
    /// When the site was asked to look after a file.
    doubted: Mutex<BTreeMap<Digest, Timestamp>>,
    /// How fast and how often all files are read.
    pace: ScrubPace,
}

impl DistributionPoint {
    /// A distribution point that takes content from `source`, the site's library, into the one in `folder`. Blocking: it
    /// opens the library.
    pub fn new(
        store: SiteStore,
        names: Names,
        source: Library,
        folder: &std::path::Path,
        clock: Clock,
        metrics: Metrics,
        pace: ScrubPace,
    ) -> Result<Arc<Self>, LibraryError> {
        let shelf = Arc::new(Shelf::new(Library::open(folder)?));
        let asked = store.clone();
        let lookup = move |id| {
            let store = asked.clone();
            async move { store.client(id).await.map(|client| client.map(|client| client.state)) }
        };
        let standings = Standings::new(lookup, Duration::from_secs(5));
        Ok(Arc::new(Self {
            store,
            names,
            source,
            shelf,
            standings,
            clock,
            metrics,
            doubted: Mutex::default(),
            pace,
        }))
    }

    /// What it serves from.
    pub fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }
}
