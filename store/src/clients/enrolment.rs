//! Requests of machines for an identity.

use std::net::IpAddr;

use jiff::Timestamp;
use patchtide_model::{
    ClientId, Digest,
    client::{ClientState, Facts},
};

use crate::{
    Result, SiteStore, StoreError,
    core::Signal,
    intake::load::state_code,
    signal::next_change,
    sql::{Row, json, parse, sql},
};

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

const PENDING: i64 = 0;
const APPROVED: i64 = 1;
const REFUSED: i64 = 2;

const COLUMNS: &str = "SELECT e.id, e.csr, e.token, e.name, e.facts, e.address, e.requested_at, e.state, e.client, e.reason, \
                       c.certificate, c.not_after FROM enrolment e \
                       LEFT JOIN client c ON c.site = e.site AND c.uuid = e.client WHERE e.site = $1 AND e.id = $2";

impl SiteStore {
    /// Keeps a request and says where it stands. Asking again refreshes name, facts, address, token and CSR while it is
    /// pending or refused with another token (then it is pending again), and changes nothing once it is approved.
    /// [`StoreError::Limit`] when too many are pending.
    pub async fn put_enrolment(&self, row: EnrolmentRow) -> Result<EnrolmentState> {
        if let Some(known) = self.enrolment(row.id).await? {
            let unchanged =
                EnrolmentRow { requested_at: known.request.requested_at, ..row.clone() } == known.request;
            let stays = match known.state {
                EnrolmentState::Approved { .. } => true,
                EnrolmentState::Refused { .. } => row.token_digest == known.request.token_digest,
                EnrolmentState::Pending => unchanged,
            };
            if stays {
                return Ok(known.state);
            }
        }
        let site = self.site_limits().await?;
        let mut tx = self.begin("an enrolment").await?;
        let address = row.address.map(|address| address.to_string());
        let count = sql(
            "SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN address = $3 THEN 1 ELSE 0 END), 0) AS BIGINT), \
                         (SELECT COUNT(*) FROM client WHERE site = $1 AND state <> $4) \
                         FROM enrolment WHERE site = $1 AND state = 0 AND id <> $2",
        );
        let count = count
            .bind(self.site.as_str())
            .bind(row.id)
            .bind(address.clone().unwrap_or_default())
            .bind(state_code(ClientState::Revoked));
        if let Some(pending) = tx.row(count).await? {
            let options = &self.core().options;
            let open = pending.unsigned(0)?;
            let of_site = site.as_ref().map_or(options.pending_per_site, |limits| limits.pending_clients);
            let clients = site.as_ref().map_or(u32::MAX, |limits| limits.clients);
            for (what, n, limit) in [
                (
                    "clients of this site, pending ones included (Site.spec.limits.clients),",
                    open + pending.unsigned(2)?,
                    clients,
                ),
                ("pending enrolments of this site (Site.spec.limits.pendingClients)", open, of_site),
                ("pending enrolments of this address", pending.unsigned(1)?, options.pending_per_address),
            ] {
                if n >= u64::from(limit) {
                    return Err(StoreError::Limit { what, limit: u64::from(limit) });
                }
            }
        }
        // Approved meanwhile: that stays.
        let put = sql("INSERT INTO enrolment (site, id, csr, token, name, facts, address, requested_at, state) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0) \
                       ON CONFLICT (site, id) DO UPDATE SET csr = excluded.csr, token = excluded.token, \
                       name = excluded.name, facts = excluded.facts, address = excluded.address, state = 0, reason = NULL \
                       WHERE enrolment.state <> 1")
        .bind(self.site.as_str())
        .bind(row.id)
        .bind(row.csr_pem)
        .bind(row.token_digest.map(|digest| digest.to_string()))
        .bind(row.name)
        .bind(json("facts", &row.facts)?)
        .bind(address)
        .bind(row.requested_at);
        tx.execute(put).await?;
        tx.raise(&self.site, Signal::Site);
        tx.commit().await?;
        Ok(self.enrolment(row.id).await?.map_or(EnrolmentState::Pending, |known| known.state))
    }

    /// One request.
    pub async fn enrolment(&self, id: Digest) -> Result<Option<Enrolment>> {
        let query = sql(COLUMNS).bind(self.site.as_str()).bind(id);
        let Some(row) = self.row("an enrolment", query).await? else { return Ok(None) };
        let state = match row.int(7)? {
            PENDING => EnrolmentState::Pending,
            REFUSED => EnrolmentState::Refused { reason: row.text_option(9)?.unwrap_or_default() },
            APPROVED => EnrolmentState::Approved {
                client: row.parse(8, "client id")?,
                certificate_pem: row.text(10)?,
                not_after: row.time(11)?,
            },
            other => return Err(StoreError::Damaged { what: "enrolment state", detail: other.to_string() }),
        };
        Ok(Some(Enrolment { request: request(&row)?, state }))
    }

    /// Pending requests, oldest first.
    pub async fn open_enrolments(&self) -> Result<Vec<EnrolmentRow>> {
        let query = sql("SELECT id, csr, token, name, facts, address, requested_at FROM enrolment \
                         WHERE site = $1 AND state = 0 ORDER BY requested_at, id");
        self.rows("enrolments", query.bind(self.site.as_str())).await?.iter().map(request).collect()
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
        let Some(known) = self.enrolment(id).await? else { return Err(missing(id)) };
        let request = known.request;
        let mut tx = self.begin("an approval").await?;
        let exists =
            sql("SELECT id FROM client WHERE site = $1 AND uuid = $2").bind(self.site.as_str()).bind(client);
        if tx.row(exists).await?.is_none() {
            let last = tx.row(sql("SELECT COALESCE(MAX(id), 0) FROM client")).await?;
            let number = last.map_or(Ok(0), |row| row.int(0))? + 1;
            let put = sql(concat!(
                "INSERT INTO client (id, site, uuid, name, state, facts, address, last_contact, certificate, \
                           not_after, changed) VALUES ($1, $2, $3, $4, 1, $5, $6, $7, $8, $9, ",
                next_change!("$2"),
                ")"
            ))
            .bind(number)
            .bind(self.site.as_str())
            .bind(client)
            .bind(request.name)
            .bind(json("facts", &request.facts)?)
            .bind(request.address.map(|address| address.to_string()))
            .bind(now)
            .bind(certificate_pem)
            .bind(not_after);
            tx.execute(put).await?;
        } else {
            let put = sql(concat!(
                "UPDATE client SET name = $3, certificate = $4, not_after = $5, changed = ",
                next_change!("$1"),
                " WHERE site = $1 AND uuid = $2"
            ));
            let put = put.bind(self.site.as_str()).bind(client).bind(request.name);
            tx.execute(put.bind(certificate_pem).bind(not_after)).await?;
            self.change_state(&mut tx, client, ClientState::Active).await?;
        }
        let put =
            sql("UPDATE enrolment SET state = 1, client = $3, reason = NULL WHERE site = $1 AND id = $2");
        if tx.execute(put.bind(self.site.as_str()).bind(id).bind(client)).await? == 0 {
            return Err(missing(id));
        }
        tx.raise(&self.site, Signal::Site);
        tx.commit().await
    }

    /// Refuses a request that is not approved.
    pub async fn refuse_enrolment(&self, id: Digest, reason: &str) -> Result<()> {
        let mut tx = self.begin("a refusal").await?;
        let put =
            sql("UPDATE enrolment SET state = 2, reason = $3 WHERE site = $1 AND id = $2 AND state <> 1");
        if tx.execute(put.bind(self.site.as_str()).bind(id).bind(reason)).await? == 0 {
            return Err(missing(id));
        }
        tx.raise(&self.site, Signal::Site);
        tx.commit().await
    }

    /// Forgets pending and refused requests from before `before`. Returns how many.
    pub async fn expire_enrolments(&self, before: Timestamp) -> Result<u64> {
        let mut tx = self.begin("enrolments").await?;
        let delete = sql("DELETE FROM enrolment WHERE site = $1 AND state <> 1 AND requested_at < $2");
        let expired = tx.execute(delete.bind(self.site.as_str()).bind(before)).await?;
        tx.commit().await?;
        Ok(expired)
    }
}

fn missing(id: Digest) -> StoreError {
    StoreError::Missing { what: "open enrolment", name: id.to_string() }
}

fn request(row: &Row) -> Result<EnrolmentRow> {
    let address = row.text_option(5)?.map(|text| parse(&text, "address")).transpose()?;
    Ok(EnrolmentRow {
        id: row.parse(0, "digest")?,
        csr_pem: row.text(1)?,
        token_digest: row.text_option(2)?.map(|text| parse(&text, "digest")).transpose()?,
        name: row.text(3)?,
        facts: row.json(4, "facts")?,
        address,
        requested_at: row.time(6)?,
    })
}
