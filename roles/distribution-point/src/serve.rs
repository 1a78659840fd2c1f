//! Answering requests for content.

use std::{
    collections::HashMap,
    fs::File,
    io,
    sync::{Arc, PoisonError, RwLock},
};

use axum::{Router, extract::State, response::Response, routing::get};
use bytes::Bytes;
use patchtide_endpoint::{
    AuthenticatedClient, Refusal,
    immutable::{Absent, Asked},
    unknown_path, wrong_method,
};
use patchtide_model::Digest;
use patchtide_protocol::path;
use patchtide_store::library::Library;

use crate::{DistributionPoint, mapping};

/// The library with its mapped files. A mapping costs address space and no descriptor; what is mapped stays so until it
/// is removed from the library.
#[derive(Debug)]
pub struct Shelf {
    library: Library,
    mapped: RwLock<HashMap<Digest, Bytes>>,
}

/// Files mapped at once; the kernel's own limit is 65,530 mappings.
const MOST: usize = 30_000;

impl Shelf {
    /// A shelf with nothing mapped yet.
    pub fn new(library: Library) -> Self {
        Self { library, mapped: RwLock::default() }
    }

    /// The library.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// The bytes of a file, or none when it is not here. Opening is one system call on a name that is known well-formed;
    /// it is not worth a trip to another thread.
    pub fn get(&self, digest: Digest) -> io::Result<Option<Bytes>> {
        if let Some(bytes) = self.mapped.read().unwrap_or_else(PoisonError::into_inner).get(&digest) {
            return Ok(Some(bytes.clone()));
        }
        let file = match File::open(self.library.path(digest)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = mapping::map(&file)?;
        let mut mapped = self.mapped.write().unwrap_or_else(PoisonError::into_inner);
        if !self.library.contains(digest) {
            // Removed and forgotten since it was opened: keeping it now would keep it for good.
            return Ok(Some(bytes));
        }
        if mapped.len() >= MOST {
            // Rare and cheap to repair: the next request of each maps it again.
            mapped.clear();
        }
        mapped.insert(digest, bytes.clone());
        Ok(Some(bytes))
    }

    /// Forgets a file that is removed from the library; answers under way keep their bytes.
    pub(crate) fn forget(&self, digest: Digest) {
        self.mapped.write().unwrap_or_else(PoisonError::into_inner).remove(&digest);
    }
}

impl DistributionPoint {
    /// Its interface, for a [`patchtide_endpoint::Listener`].
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route(&format!("{}/{{digest}}", path::BLOBS), get(blob).fallback(wrong_method))
            .fallback(unknown_path)
            .with_state(Arc::clone(self))
    }
}

const ABSENT: Absent = Absent {
    code: "CONTENT-ABSENT",
    detail: "this distribution point does not have that content",
    remedy: "try the next distribution point; this one may get it soon",
};

async fn blob(
    State(point): State<Arc<DistributionPoint>>,
    client: AuthenticatedClient,
    asked: Asked,
) -> Result<Response, Refusal> {
    point.standings.check(&client).await?;
    let find = async |digest| {
        point.shelf.get(digest).map_err(|error| {
            tracing::error!(%digest, %error, "content cannot be read");
            Refusal::unavailable("the content cannot be read now")
        })
    };
    asked.answer(ABSENT, find).await
}
