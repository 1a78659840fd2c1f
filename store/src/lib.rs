//! The site database: the only place with SQL. The same tables and code on SQLite and PostgreSQL.
//!
//! [`Store`] is one database; [`SiteStore`] is one site in it, and everything else hangs on that. Time comes in as a
//! value and is kept in microseconds.

mod error;
mod objects;
mod open;
mod signal;
mod values;

pub mod answers;
pub mod catalogue;
pub mod clients;
pub mod content;
pub mod intake;
pub mod library;

use patchtide_model::SiteName;

pub use error::{Result, StoreError};
pub use objects::ObjectRow;
pub use open::OpenOptions;

/// An open site database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {}

/// One site in a database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SiteStore {
    store: Store,
    site: SiteName,
}

impl Store {
    /// Opens the database at `url` (`sqlite:///absolute/path.db`, `sqlite::memory:` is refused; `postgres://...`), brings
    /// its schema up to date and starts the writer. Must be called inside a tokio runtime.
    pub async fn open(url: &str, options: &OpenOptions) -> Result<Self> {
        let _ = (url, options);
        Err(StoreError::NotBuilt("Store::open"))
    }

    /// The site named `site`.
    pub fn site(&self, site: &SiteName) -> SiteStore {
        SiteStore { store: self.clone(), site: site.clone() }
    }

    /// Commits what waits, flushes the counts and closes every connection. Later calls answer [`StoreError::Closed`].
    pub async fn close(&self) -> Result<()> {
        Err(StoreError::NotBuilt("Store::close"))
    }

    /// Whether the database answers: a read and the writer's liveness.
    pub async fn ping(&self) -> Result<()> {
        Err(StoreError::NotBuilt("Store::ping"))
    }
}

impl SiteStore {
    /// The site.
    pub fn name(&self) -> &SiteName {
        &self.site
    }

    /// The database it is in.
    pub fn store(&self) -> &Store {
        &self.store
    }
}
