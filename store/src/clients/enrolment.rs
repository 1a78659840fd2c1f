//! Requests of machines for an identity.

use std::net::IpAddr;

use jiff::Timestamp;
use patchtide_model::{ClientId, Digest, client::Facts};

use crate::{Result, SiteStore, StoreError};

/// A machine's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentRow {
    /// SHA-256 of the public key.
    pub id: Digest,
    /// PKCS#10, PEM.
    pub csr_pem: String,
    /// SHA-256 of the token it came with.
    pub token_digest: Option<Digest>,
    /// Host name, for people.
    pub name: String,
    /// Facts.
    pub facts: Facts,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// When it was asked first.
    pub requested_at: Timestamp,
}

/// A request and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The request.
    pub request: EnrolmentRow,
    /// Its state.
    pub state: EnrolmentState,
}

/// Where a request stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnrolmentState {
    /// Waits.
    Pending,
    /// Became this client.
    Approved {
        /// The client.
        client: ClientId,
        /// The chain, PEM, leaf first.
        certificate_pem: String,
        /// End of the certificate.
        not_after: Timestamp,
    },
    /// Refused.
    Refused {
        /// Why.
        reason: String,
    },
}

impl SiteStore {
    /// Keeps a request and says where it stands. Asking again refreshes name, facts, address, token and CSR while it is
    /// pending or refused with another token (then it is pending again), and changes nothing once it is approved.
    /// [`StoreError::Limit`] when too many are pending.
    pub async fn put_enrolment(&self, row: EnrolmentRow) -> Result<EnrolmentState> {
        let _ = row;
        Err(StoreError::NotBuilt("put_enrolment"))
    }

    /// One request.
    pub async fn enrolment(&self, id: Digest) -> Result<Option<Enrolment>> {
        let _ = id;
        Err(StoreError::NotBuilt("enrolment"))
    }

    /// Pending requests, oldest first.
    pub async fn open_enrolments(&self) -> Result<Vec<EnrolmentRow>> {
        Err(StoreError::NotBuilt("open_enrolments"))
    }

    /// Approves a request: the client exists from now on and is active.
    pub async fn approve_enrolment(
        &self,
        id: Digest,
        client: ClientId,
        certificate_pem: &str,
        not_after: Timestamp,
        now: Timestamp,
    ) -> Result<()> {
        let _ = (id, client, certificate_pem, not_after, now);
        Err(StoreError::NotBuilt("approve_enrolment"))
    }

    /// Refuses a request.
    pub async fn refuse_enrolment(&self, id: Digest, reason: &str) -> Result<()> {
        let _ = (id, reason);
        Err(StoreError::NotBuilt("refuse_enrolment"))
    }

    /// Forgets pending and refused requests from before `before`. Returns how many.
    pub async fn expire_enrolments(&self, before: Timestamp) -> Result<u64> {
        let _ = before;
        Err(StoreError::NotBuilt("expire_enrolments"))
    }
}
