//! What can go wrong with the site database.

use std::{sync::Arc, time::Duration};

use patchtide_model::{ClientId, client::ClientState};

/// An operation on the site database that did not happen. Nothing of it is stored, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The URL names no database we know.
    #[error("{url:?} names no database: write sqlite:///absolute/path.db or postgres://user@host/database")]
    Url {
        /// What was given, without a password.
        url: String,
    },
    /// No connection to the database.
    #[error("cannot open the site database {url}: check that the folder is writable or the server reachable")]
    Open {
        /// The URL, without a password.
        url: String,
        /// Cause.
        #[source]
        source: sqlx::Error,
    },
    /// The schema could not be brought up to date.
    #[error(
        "cannot bring the site database {url} to this version's schema: was it written by a newer version?"
    )]
    Migrate {
        /// The URL, without a password.
        url: String,
        /// Cause.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// A read failed.
    #[error("cannot read {what} from the site database: try again; when it stays, check the database")]
    Read {
        /// What was to be read.
        what: &'static str,
        /// Cause.
        #[source]
        source: sqlx::Error,
    },
    /// A write failed; whether it was committed is unknown only when the connection broke during the commit, and
    /// every operation may be repeated.
    #[error(
        "cannot write {what} to the site database: try again; when it stays, check disk space and the database"
    )]
    Write {
        /// What was to be written.
        what: &'static str,
        /// Cause.
        #[source]
        source: sqlx::Error,
    },
    /// The disk did not take what was committed; whether it is kept is known when the process starts anew.
    #[error("the disk did not take the site database's log: check the disk, then restart the process")]
    Durable {
        /// Cause.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The commit that a report was part of failed; the client is to send it again.
    #[error("the report was not kept: send it again")]
    Intake(#[source] Arc<StoreError>),
    /// The intake queue is full.
    #[error("the site database has more state messages waiting than it takes: send again in {retry_after:?}")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// A bound is reached.
    #[error("{what} would exceed {limit}: remove some, or let them expire")]
    Limit {
        /// What is bounded.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// No such client in the site.
    #[error("client {0} is not known to this site: enrol it")]
    UnknownClient(ClientId),
    /// The client may not do this in its standing.
    #[error("client {client} is {state:?}: approve it anew before it can report")]
    NotActive {
        /// The client.
        client: ClientId,
        /// Its standing.
        state: ClientState,
    },
    /// Something to change does not exist.
    #[error("{what} {name:?} does not exist in this site")]
    Missing {
        /// Kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A stored document cannot be read back.
    #[error("the stored {what} cannot be read: restore the site database or sync again")]
    Document {
        /// Kind of document.
        what: &'static str,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
    /// A stored value is outside its domain.
    #[error("the stored {what} is damaged ({detail}): restore the site database or sync again")]
    Damaged {
        /// What.
        what: &'static str,
        /// How.
        detail: String,
    },
    /// Another process wrote the same thing meanwhile.
    #[error("another process wrote {what} meanwhile: look again at what is there, and try again")]
    Overtaken {
        /// What was to be written.
        what: &'static str,
    },
    /// SQLite has no roles.
    #[error("SQLite has no roles: whoever may read the file reads it, for example with `sqlite3 -readonly`")]
    NoRoles,
    /// A role that cannot be given the rights of a reader.
    #[error(
        "{name:?} cannot be a reading role: give a name of a-z, 0-9 and _, of a role that is neither a superuser nor the site's own"
    )]
    RoleName {
        /// What was given.
        name: String,
    },
    /// The store was closed.
    #[error("the site database is closed")]
    Closed,
    /// Not part of this version.
    #[error("{0} is not built yet")]
    NotBuilt(&'static str),
}

impl StoreError {
    /// Whether the same operation may succeed a moment later without anything being changed by a person.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Busy { .. } => true,
            Self::Intake(source) => source.is_transient(),
            Self::Open { source, .. } | Self::Read { source, .. } | Self::Write { source, .. } => {
                match source {
                    sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_) => true,
                    // PostgreSQL: serialisation, deadlock, connection classes; SQLite: busy, locked, full.
                    sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                        matches!(
                            code.as_ref(),
                            "40001" | "40P01" | "53300" | "57P01" | "57P03" | "5" | "6" | "13"
                        ) || code.starts_with("08")
                    }),
                    _ => false,
                }
            }
            _ => false,
        }
    }
}

/// Result of an operation on the site database.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
