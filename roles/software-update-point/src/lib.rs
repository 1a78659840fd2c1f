//! The software update point towards clients: serves the compressed catalogue of each product line by its digest. The
//! digest comes from the client's signed policy, so what is served here needs no trust.

mod metrics;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{Router, extract::State, response::Response, routing::get};
use bytes::Bytes;
use patchtide_endpoint::{
    AuthenticatedClient, Clock, Refusal,
    immutable::{Absent, Asked},
    standing::Standings,
    unknown_path, wrong_method,
};
use patchtide_model::Digest;
use patchtide_protocol::path;
use patchtide_store::{
    SiteStore,
    library::{Library, LibraryError},
};

pub use metrics::Metrics;

/// Path prefixes for the listener's metrics.
pub const ROUTES: &[&str] = &[path::CATALOGUES];

/// Bytes of catalogues that are kept in memory.
const KEPT_BYTES: usize = 256 * 1024 * 1024;
/// The site database is asked for new catalogues at most this often.
const ASK: Duration = Duration::from_millis(20);

/// A software update point.
pub struct SoftwareUpdatePoint {
    store: SiteStore,
    library: Library,
    standings: Standings,
    catalogues: Mutex<Catalogues>,
    /// When the site database was last asked what is published.
    looked: tokio::sync::Mutex<Option<Instant>>,
    /// Held while a catalogue is read: a thousand clients that want the same new one read it once.
    reading: tokio::sync::Mutex<()>,
    clock: Clock,
    metrics: Metrics,
}

/// Catalogues that were published since this process runs. One that is not the newest any more stays: a client may
/// still hold the policy that names it. Nothing else of the site's library is served: packages are the distribution
/// points' to give.
#[derive(Default)]
struct Catalogues {
    published: HashMap<Digest, Option<Bytes>>,
    bytes: usize,
}

impl SoftwareUpdatePoint {
    /// Serves from `library`, the site's library.
    pub fn new(store: SiteStore, library: Library, clock: Clock, metrics: Metrics) -> Arc<Self> {
        let asked = store.clone();
        let lookup = move |id| {
            let store = asked.clone();
            async move { store.client(id).await.map(|client| client.map(|client| client.state)) }
        };
        let standings = Standings::new(lookup, Duration::from_secs(5));
        let (catalogues, looked, reading) = Default::default();
        Arc::new(Self { store, library, standings, catalogues, looked, reading, clock, metrics })
    }

    /// Its interface, for a [`patchtide_endpoint::Listener`].
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route(&format!("{}/{{digest}}", path::CATALOGUES), get(catalogue).fallback(wrong_method))
            .fallback(unknown_path)
            .with_state(Arc::clone(self))
    }

    fn catalogues(&self) -> std::sync::MutexGuard<'_, Catalogues> {
        self.catalogues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The catalogue's bytes; none when no line was ever published under that digest.
    async fn get(&self, digest: Digest) -> Result<Option<Bytes>, Refusal> {
        let known = || self.catalogues().published.get(&digest).cloned();
        match known() {
            Some(Some(bytes)) => return Ok(Some(bytes)),
            None if !self.ask(digest).await? => return Ok(None),
            _ => {}
        }
        let _reading = self.reading.lock().await;
        if let Some(Some(bytes)) = known() {
            return Ok(Some(bytes));
        }
        let library = self.library.clone();
        let read = tokio::task::spawn_blocking(move || library.read(digest)).await;
        match read {
            Ok(Ok(bytes)) => {
                let bytes = Bytes::from(bytes);
                self.keep(digest, &bytes);
                Ok(Some(bytes))
            }
            Ok(Err(LibraryError::Missing(_))) => Ok(None),
            Ok(Err(error)) => {
                tracing::error!(%digest, %error, "a catalogue cannot be read");
                self.metrics.unreadable.inc();
                if matches!(error, LibraryError::WrongDigest { .. }) {
                    self.discard(digest).await;
                }
                Err(Refusal::unavailable("the catalogue cannot be read now"))
            }
            Err(_) => Err(Refusal::unavailable("the software update point is stopping")),
        }
    }

    /// Whether a line is published under `digest`, by the site database. One look that began after a request came answers
    /// it and all that wait with it, so that asking for what does not exist costs the database no more than [`ASK`] allows.
    async fn ask(&self, digest: Digest) -> Result<bool, Refusal> {
        let came = Instant::now();
        let mut looked = self.looked.lock().await;
        if looked.is_none_or(|looked| looked < came) {
            if let Some(looked) = *looked {
                tokio::time::sleep_until((looked + ASK).into()).await;
            }
            let now = Instant::now();
            let lines = self.store.lines().await.map_err(|error| {
                tracing::warn!(%error, "the published catalogues cannot be read");
                Refusal::unavailable("the site database does not answer")
            })?;
            let mut catalogues = self.catalogues();
            for published in lines.into_iter().filter_map(|line| line.catalogue) {
                catalogues.published.entry(published.digest).or_insert(None);
            }
            *looked = Some(now);
        }
        drop(looked);
        Ok(self.catalogues().published.contains_key(&digest))
    }

    /// A damaged catalogue is taken out: the controller misses it at its next look, and publishes it anew.
    async fn discard(&self, digest: Digest) {
        let library = self.library.clone();
        let removed = tokio::task::spawn_blocking(move || library.remove(digest)).await;
        if !matches!(removed, Ok(Ok(true))) {
            // Not ours to write to, perhaps: the controller finds it by reading.
            return;
        }
        let detail = "has other bytes on disk than it was published with";
        if let Err(error) = self.store.content_damaged(None, digest, detail, (self.clock)()).await {
            tracing::warn!(%digest, %error, "that a catalogue was damaged is not kept");
        }
    }

    fn keep(&self, digest: Digest, bytes: &Bytes) {
        let mut catalogues = self.catalogues();
        if catalogues.bytes + bytes.len() > KEPT_BYTES {
            catalogues.published.values_mut().for_each(|kept| *kept = None);
            catalogues.bytes = 0;
        }
        if catalogues.published.insert(digest, Some(bytes.clone())).flatten().is_none() {
            catalogues.bytes += bytes.len();
        }
        let kept = catalogues.published.values().flatten().count();
        self.metrics.catalogues.set(i64::try_from(kept).unwrap_or(i64::MAX));
        self.metrics.bytes.set(i64::try_from(catalogues.bytes).unwrap_or(i64::MAX));
    }
}

const ABSENT: Absent = Absent {
    code: "CATALOGUE-ABSENT",
    detail: "no product line has a catalogue of that digest here",
    remedy: "fetch the policy again and take the digest from it",
};

async fn catalogue(
    State(point): State<Arc<SoftwareUpdatePoint>>,
    client: AuthenticatedClient,
    asked: Asked,
) -> Result<Response, Refusal> {
    point.standings.check(&client).await?;
    asked.answer(ABSENT, async |digest| point.get(digest).await).await
}
