//! The distribution point: content-addressed files over HTTPS, from memory-mapped bytes, and a loop that keeps its
//! library equal to what the site wants there.
//!
//! Architecture Invariant: a request names a digest or nothing; no other text of a request ever reaches the file system.

#[expect(unsafe_code, reason = "maps immutable files into memory; the argument is in the module")]
mod mapping;
mod metrics;
mod serve;
mod sync;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use patchtide_endpoint::{Clock, standing::Standings};
use patchtide_model::ObjectName;
use patchtide_protocol::path;
use patchtide_store::{
    SiteStore,
    library::{Library, LibraryError},
};

pub use metrics::Metrics;
pub use serve::Shelf;

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
    ) -> Result<Arc<Self>, LibraryError> {
        let shelf = Arc::new(Shelf::new(Library::open(folder)?));
        let asked = store.clone();
        let lookup = move |id| {
            let store = asked.clone();
            async move { store.client(id).await.map(|client| client.map(|client| client.state)) }
        };
        let standings = Standings::new(lookup, Duration::from_secs(5));
        Ok(Arc::new(Self { store, names, source, shelf, standings, clock, metrics }))
    }

    /// What it serves from.
    pub fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }
}
