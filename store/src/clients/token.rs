//! Enrolment tokens, by digest alone.

use jiff::Timestamp;
use patchtide_model::Digest;

use crate::{Result, SiteStore, StoreError};

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// SHA-256 of the trimmed token.
    pub digest: Digest,
    /// Good for one machine.
    pub one_time: bool,
    /// Until when.
    pub expires: Option<Timestamp>,
    /// The Secret it comes from.
    pub name: String,
}

/// A token and its use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// The token.
    pub token: TokenRow,
    /// When a one-time token was used.
    pub used_at: Option<Timestamp>,
}

impl SiteStore {
    /// Keeps a token; one that is known keeps its use.
    pub async fn put_token(&self, token: TokenRow) -> Result<()> {
        let _ = token;
        Err(StoreError::NotBuilt("put_token"))
    }

    /// A token.
    pub async fn token(&self, digest: Digest) -> Result<Option<StoredToken>> {
        let _ = digest;
        Err(StoreError::NotBuilt("token"))
    }

    /// Uses a token: true when it exists, has not expired and, if it is good for one machine, was not used before.
    pub async fn consume_token(&self, digest: Digest, now: Timestamp) -> Result<bool> {
        let _ = (digest, now);
        Err(StoreError::NotBuilt("consume_token"))
    }
}
