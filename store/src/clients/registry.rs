//! The clients of a site and their standing.

use std::net::IpAddr;

use jiff::Timestamp;
use patchtide_model::{
    ClientId,
    client::{Client, ClientState},
};

use crate::{Result, SiteStore, StoreError};

impl SiteStore {
    /// All clients, by identity.
    pub async fn clients(&self) -> Result<Vec<Client>> {
        Err(StoreError::NotBuilt("clients"))
    }

    /// One client.
    pub async fn client(&self, id: ClientId) -> Result<Option<Client>> {
        let _ = id;
        Err(StoreError::NotBuilt("client"))
    }

    /// Changes a client's standing; its states count only while it is active.
    pub async fn set_client_state(&self, id: ClientId, state: ClientState) -> Result<()> {
        let _ = (id, state);
        Err(StoreError::NotBuilt("set_client_state"))
    }

    /// Notes a contact; written at most once a minute per client, unless the address changed.
    pub async fn touch_client(&self, id: ClientId, address: IpAddr, now: Timestamp) -> Result<()> {
        let _ = (id, address, now);
        Err(StoreError::NotBuilt("touch_client"))
    }

    /// Keeps the certificate of a renewal.
    pub async fn renew_client(&self, id: ClientId, certificate_pem: &str, not_after: Timestamp) -> Result<()> {
        let _ = (id, certificate_pem, not_after);
        Err(StoreError::NotBuilt("renew_client"))
    }

    /// A client's certificate (PEM) and its end.
    pub async fn client_certificate(&self, id: ClientId) -> Result<Option<(String, Timestamp)>> {
        let _ = id;
        Err(StoreError::NotBuilt("client_certificate"))
    }
}
