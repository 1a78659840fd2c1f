//! The signed policy of each client.

use std::collections::BTreeMap;

use jiff::Timestamp;
use patchtide_model::{ClientId, Digest};

use crate::{Result, SiteStore, StoreError};

/// A signed policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPolicy {
    /// For whom.
    pub client: ClientId,
    /// Epoch.
    pub epoch: u64,
    /// Number within the epoch.
    pub number: u64,
    /// Digest of the body it was compiled to.
    pub body_digest: Digest,
    /// The signed envelope.
    pub envelope: Vec<u8>,
    /// When it was compiled.
    pub issued_at: Timestamp,
}

impl SiteStore {
    /// A client's policy.
    pub async fn policy(&self, client: ClientId) -> Result<Option<StoredPolicy>> {
        let _ = client;
        Err(StoreError::NotBuilt("policy"))
    }

    /// For each client with a policy: epoch, number, digest of the body.
    pub async fn policy_digests(&self) -> Result<BTreeMap<ClientId, (u64, u64, Digest)>> {
        Err(StoreError::NotBuilt("policy_digests"))
    }

    /// Keeps policies, in one transaction. One that is not newer (epoch, number) than what is kept is left out, so that two
    /// compilers cannot turn a client back. Returns how many were kept.
    pub async fn put_policies(&self, policies: Vec<StoredPolicy>) -> Result<u64> {
        let _ = policies;
        Err(StoreError::NotBuilt("put_policies"))
    }
}
