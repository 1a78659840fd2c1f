//! The software update point towards clients: serves the compressed catalogue of each product line by its digest. The
//! digest comes from the client's signed policy, so what is served here needs no trust.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Path, State},
    response::Response,
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use patchtide_endpoint::{
    AuthenticatedClient, Refusal, immutable,
    standing::{Standing, Standings},
    unknown_path, wrong_method,
};
use patchtide_model::Digest;
use patchtide_protocol::path;
use patchtide_store::{
    SiteStore,
    library::{Library, LibraryError},
};

/// Path prefixes for the listener's metrics.
pub const ROUTES: &[&str] = &[path::CATALOGUES];

/// Bytes of catalogues that are kept in memory.
const KEPT_BYTES: usize = 256 * 1024 * 1024;
/// The site database is asked for new catalogues at most this often.
const ASK: Duration = Duration::from_millis(20);
/// Who would have to wait longer is sent away.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A software update point.
pub struct SoftwareUpdatePoint {
    store: SiteStore,
    library: Library,
    standings: Standings,
    catalogues: Mutex<Catalogues>,
}

/// Catalogues that were published since this process runs. One that is not the newest any more stays: a client may
/// still hold the policy that names it. Nothing else of the site's library is served: packages are the distribution
/// points' to give.
#[derive(Default)]
struct Catalogues {
    published: HashMap<Digest, Option<Bytes>>,
    bytes: usize,
    asked: Option<Instant>,
}

impl SoftwareUpdatePoint {
    /// Serves from `library`, the site's library.
    pub fn new(store: SiteStore, library: Library) -> Arc<Self> {
        let asked = store.clone();
        let lookup: patchtide_endpoint::standing::Lookup = Arc::new(move |id| {
            let store = asked.clone();
            Box::pin(async move {
                let client = store.client(id).await.map_err(|error| error.to_string())?;
                Ok(Standing::from(client.map(|client| client.state)))
            })
        });
        let standings = Standings::new(lookup, Duration::from_secs(5));
        Arc::new(Self { store, library, standings, catalogues: Mutex::default() })
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
        let known = self.catalogues().published.get(&digest).cloned();
        match known {
            Some(Some(bytes)) => return Ok(Some(bytes)),
            None if !self.ask(digest).await? => return Ok(None),
            _ => {}
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
                Err(Refusal::unavailable("the catalogue cannot be read now"))
            }
            Err(_) => Err(Refusal::unavailable("the software update point is stopping")),
        }
    }

    /// Whether a line is published under `digest`, by the site database. Who asks for what does not exist waits, so that
    /// the database is not asked faster than it should be.
    async fn ask(&self, digest: Digest) -> Result<bool, Refusal> {
        let wait = {
            let mut catalogues = self.catalogues();
            let now = Instant::now();
            let next = catalogues.asked.map_or(now, |asked| (asked + ASK).max(now));
            catalogues.asked = Some(next);
            next - now
        };
        if wait > LONGEST_WAIT {
            return Err(Refusal::unavailable("too many ask for catalogues that do not exist"));
        }
        tokio::time::sleep(wait).await;
        let lines = self.store.lines().await.map_err(|error| {
            tracing::warn!(%error, "the published catalogues cannot be read");
            Refusal::unavailable("the site database does not answer")
        })?;
        let mut catalogues = self.catalogues();
        for published in lines.into_iter().filter_map(|line| line.catalogue) {
            catalogues.published.entry(published.digest).or_insert(None);
        }
        Ok(catalogues.published.contains_key(&digest))
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
    }
}

async fn catalogue(
    State(point): State<Arc<SoftwareUpdatePoint>>,
    client: AuthenticatedClient,
    Path(digest): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    point.standings.check(&client).await?;
    let absent = || {
        Refusal::new(
            StatusCode::NOT_FOUND,
            "CATALOGUE-ABSENT",
            "no product line has a catalogue of that digest here",
            "fetch the policy again and take the digest from it",
        )
    };
    let name: Digest = digest.parse().map_err(|_| absent())?;
    let bytes = point.get(name).await?.ok_or_else(absent)?;
    immutable::respond(&method, &headers, &digest, &bytes)
}
