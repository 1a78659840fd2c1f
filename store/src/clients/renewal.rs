//! New certificates for clients.

use jiff::Timestamp;
use patchtide_model::{ClientId, client::ClientState};

use crate::{Result, SiteStore, StoreError, core::Signal, intake::load::state_of, sql::sql};

/// A client's request for a new certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// Who.
    pub client: ClientId,
    /// PKCS#10, PEM.
    pub csr_pem: String,
    /// When it was asked.
    pub requested_at: Timestamp,
}

impl SiteStore {
    /// Keeps a client's request for a new certificate; the newest one of each client. [`StoreError::NotActive`] for a
    /// client that is revoked or quarantined.
    pub async fn put_renewal(&self, client: ClientId, csr_pem: &str, now: Timestamp) -> Result<()> {
        let mut tx = self.begin("a renewal").await?;
        let query = sql("SELECT id, state FROM client WHERE site = $1 AND uuid = $2");
        let row = tx.row(query.bind(self.site.as_str()).bind(client)).await?;
        let Some(row) = row else { return Err(StoreError::UnknownClient(client)) };
        let state = state_of(row.int(1)?)?;
        if state != ClientState::Active {
            return Err(StoreError::NotActive { client, state });
        }
        let put = sql("INSERT INTO renewal (client, csr, requested_at) VALUES ($1, $2, $3) \
                       ON CONFLICT (client) DO UPDATE SET csr = excluded.csr, requested_at = excluded.requested_at");
        tx.execute(put.bind(row.int(0)?).bind(csr_pem).bind(now)).await?;
        tx.raise(&self.site, Signal::Site);
        tx.commit().await
    }

    /// Requests of active clients that wait, oldest first.
    pub async fn open_renewals(&self) -> Result<Vec<Renewal>> {
        let query =
            sql("SELECT c.uuid, r.csr, r.requested_at FROM renewal r JOIN client c ON c.id = r.client \
                         WHERE c.site = $1 AND c.state = 1 ORDER BY r.requested_at, c.uuid");
        let rows = self.core().rows("renewals", query.bind(self.site.as_str())).await?;
        rows.iter()
            .map(|row| {
                Ok(Renewal {
                    client: row.parse(0, "client id")?,
                    csr_pem: row.text(1)?,
                    requested_at: row.time(2)?,
                })
            })
            .collect()
    }

    /// Keeps a client's new certificate, which its enrolment answers from now on, and closes its request.
    pub async fn renew_client(
        &self,
        id: ClientId,
        certificate_pem: &str,
        not_after: Timestamp,
    ) -> Result<()> {
        let mut tx = self.begin("a certificate").await?;
        let put = sql("UPDATE client SET certificate = $3, not_after = $4 WHERE site = $1 AND uuid = $2");
        let put = put.bind(self.site.as_str()).bind(id).bind(certificate_pem).bind(not_after);
        if tx.execute(put).await? == 0 {
            return Err(StoreError::UnknownClient(id));
        }
        let close =
            sql("DELETE FROM renewal WHERE client IN (SELECT id FROM client WHERE site = $1 AND uuid = $2)");
        tx.execute(close.bind(self.site.as_str()).bind(id)).await?;
        tx.raise(&self.site, Signal::Site);
        tx.commit().await
    }
}
