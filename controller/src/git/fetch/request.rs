//! What is fetched, with what, by which rules and limits.

use std::time::Duration;

use git2::Oid;
use jiff::Timestamp;

/// What to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A branch by its short name.
    Branch(String),
    /// A tag by its short name.
    Tag(String),
    /// A commit that some branch or tag reaches.
    Commit(String),
}

/// Credentials of a source, from its Secret. Never shown.
#[derive(Clone, Default)]
pub struct Credentials {
    /// User for https.
    pub username: Option<String>,
    /// Password or token for https; the passphrase of the key for ssh.
    pub password: Option<String>,
    /// Private key, PEM, for ssh.
    pub identity: Option<String>,
    /// `known_hosts` lines for ssh; without them no ssh host is trusted.
    pub known_hosts: Option<String>,
    /// Certificate authorities for https, PEM; with them those of the system do not count.
    pub authorities: Option<String>,
}

/// Limits of one fetch (reliability.md 3.9).
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes received.
    pub bytes: usize,
    /// Objects received.
    pub objects: usize,
    /// References that the server may offer.
    pub references: usize,
    /// Bytes in which it may offer them: they are held in memory before they can be counted.
    pub advertised: usize,
    /// Bytes of the commit or tag that is named, with its message.
    pub commit_bytes: usize,
    /// Wall clock.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 500 << 20,
            objects: 200_000,
            references: 100_000,
            advertised: 32 << 20,
            commit_bytes: 1 << 20,
            time: Duration::from_mins(2),
        }
    }
}

/// What is fetched, and by which rules.
#[derive(Clone)]
pub struct Request {
    /// Repository.
    pub url: String,
    /// What of it.
    pub reference: Reference,
    /// Credentials.
    pub credentials: Credentials,
    /// Limits.
    pub limits: Limits,
    /// The commit in force, from which a branch must descend.
    pub applied: Option<Oid>,
    /// Whether it need not.
    pub allow_rewrite: bool,
    /// The time, for certificates.
    pub now: Timestamp,
}

/// A revision in the object database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The commit.
    pub commit: Oid,
    /// What the reference names: the commit, or the annotated tag that leads to it.
    pub object: Oid,
    /// As Flux writes it (RFC-0005): `main@sha1:<hex>`.
    pub revision: String,
}
