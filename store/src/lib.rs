//! The site database: the only place with SQL. The same tables and code on SQLite and PostgreSQL.
//!
//! [`Store`] is one database; [`SiteStore`] is one site in it, and everything else hangs on that. Time comes in as a
//! value and is kept in microseconds.

mod codec;
mod core;
mod durability;
mod error;
mod metrics;
mod moment;
mod objects;
mod open;
mod reader;
pub mod roles;
mod signal;
mod sql;
mod values;
mod writer;

pub mod answers;
pub mod catalogue;
pub mod clients;
pub mod content;
pub mod intake;
pub mod library;
pub mod register;
pub mod reports;
pub mod site;

use std::sync::Arc;

use patchtide_model::SiteName;

use crate::{core::Core, moment::Moment, writer::Tx};

pub use error::{Result, StoreError};
pub use objects::ObjectRow;
pub use open::OpenOptions;

/// An open site database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    core: Arc<Core>,
}

/// One site in a database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SiteStore {
    store: Store,
    site: SiteName,
    /// None: every question is answered from what is committed when it is asked.
    moment: Option<Arc<Moment>>,
}

impl Store {
    /// The site named `site`.
    pub fn site(&self, site: &SiteName) -> SiteStore {
        SiteStore { store: self.clone(), site: site.clone(), moment: None }
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

    fn core(&self) -> &Arc<Core> {
        &self.store.core
    }

    async fn begin(&self, what: &'static str) -> Result<Tx> {
        self.core().begin(what).await
    }
}
