//! The clients of a site and their standing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use jiff::Timestamp;
use patchtide_model::{
    ClientId,
    client::{Client, ClientState},
};

use crate::{
    Result, SiteStore, StoreError,
    core::{Signal, lock},
    intake::{apply::Apply, batch, cache::SiteCache, counts::Deltas, dirty::Dirty, load},
    signal::next_change,
    sql::{Many, Row, int, parse, sql},
    writer::Tx,
};

/// A contact is written at most once in this time.
const CONTACT: Duration = Duration::from_mins(1);
/// Contacts remembered at most; beyond it all are forgotten, which only costs a write each.
const CONTACTS: usize = 200_000;

const NUMBERS: Many =
    Many { head: "SELECT uuid, id FROM client WHERE (site, uuid) IN (VALUES ", columns: 2, tail: ")" };

impl SiteStore {
    /// All clients, by identity.
    pub async fn clients(&self) -> Result<Vec<Client>> {
        let query = sql(
            "SELECT uuid, name, state, facts, address, last_contact FROM client WHERE site = $1 ORDER BY uuid",
        );
        self.rows("the clients", query.bind(self.site.as_str())).await?.iter().map(client).collect()
    }

    /// Clients that became other than they were when [`Self::change_number`] was `after`, by identity; a mere contact is no
    /// change, and no client ever disappears. Some may be as they were. Ask for the number first: what is written in between
    /// comes again the next time, and nothing is missed, because all writes of all processes come one after the other.
    pub async fn clients_changed_after(&self, after: u64) -> Result<Vec<Client>> {
        let query = sql("SELECT uuid, name, state, facts, address, last_contact FROM client \
                         WHERE site = $1 AND changed > $2 ORDER BY uuid");
        let query = query.bind(self.site.as_str()).bind(int(after));
        self.rows("the changed clients", query).await?.iter().map(client).collect()
    }

    /// Active clients that were not heard of after `since`.
    pub async fn silent_since(&self, since: Timestamp) -> Result<BTreeSet<ClientId>> {
        let query = sql("SELECT uuid FROM client WHERE site = $1 AND state = 1 \
                         AND (last_contact IS NULL OR last_contact <= $2)");
        let query = query.bind(self.site.as_str()).bind(since);
        self.rows("the silent clients", query).await?.iter().map(|row| row.parse(0, "client id")).collect()
    }

    /// The numbers by which rows name these clients; those that are not known are left out.
    pub(super) async fn numbers(
        &self,
        tx: &mut Tx,
        clients: impl Iterator<Item = ClientId>,
    ) -> Result<BTreeMap<ClientId, i64>> {
        let keys = clients.flat_map(|client| [self.site.as_str().into(), client.into()]).collect();
        let rows = tx.rows_many(NUMBERS, keys).await?;
        rows.iter().map(|row| Ok((row.parse(0, "client id")?, row.int(1)?))).collect()
    }

    /// One client.
    pub async fn client(&self, id: ClientId) -> Result<Option<Client>> {
        let query = sql(
            "SELECT uuid, name, state, facts, address, last_contact FROM client WHERE site = $1 AND uuid = $2",
        );
        let row = self.row("a client", query.bind(self.site.as_str()).bind(id)).await?;
        row.as_ref().map(client).transpose()
    }

    /// Changes a client's standing; its states count only while it is active.
    pub async fn set_client_state(&self, id: ClientId, state: ClientState) -> Result<()> {
        let mut tx = self.begin("a client").await?;
        self.change_state(&mut tx, id, state).await?;
        tx.raise(&self.site, Signal::Site);
        tx.commit().await
    }

    /// Changes a client's standing in a transaction.
    pub(crate) async fn change_state(&self, tx: &mut Tx, id: ClientId, state: ClientState) -> Result<()> {
        let mut cache = std::mem::take(tx.cache());
        load::segments(tx, &mut cache.segments).await?;
        let known = SiteCache::of(&mut cache.sites, &self.site, &self.core().shared(&self.site));
        load::clients(tx, &self.site, known, [id]).await?;
        let Some(entry) = known.clients.get_mut(&id) else { return Err(StoreError::UnknownClient(id)) };
        let (mut dirty, mut counts, mut unions) = (Dirty::default(), Deltas::default(), Vec::new());
        let mut apply = Apply {
            client: id,
            entry,
            lines: &mut known.lines,
            sets: &known.sets,
            segments: &mut cache.segments,
            counts: &mut counts,
            dirty: &mut dirty,
            unions: &mut unions,
            dropped_facts: 0,
            received_at: Timestamp::UNIX_EPOCH,
            parked_limit: 0,
        };
        apply.set_state(state);
        let clients = BTreeSet::from([id]);
        batch::finish(tx, known, &cache.segments, &clients, dirty, counts, Timestamp::UNIX_EPOCH).await?;
        *tx.cache() = cache;
        Ok(())
    }

    /// Notes a contact; written at most once a minute per client, unless the address changed.
    pub async fn touch_client(&self, id: ClientId, address: IpAddr, now: Timestamp) -> Result<()> {
        let moved = {
            let mut contacts = lock(&self.core().contacts);
            if contacts.len() > CONTACTS {
                contacts.clear();
            }
            let key = (self.site.clone(), id);
            let before = contacts.get(&key).copied();
            if before
                .is_some_and(|(at, from)| from == address && now.duration_since(at).unsigned_abs() < CONTACT)
            {
                return Ok(());
            }
            contacts.insert(key, (now, address));
            before.is_none_or(|(_, from)| from != address)
        };
        let mut tx = self.begin("a contact").await?;
        // Where a client is decides from which distribution point it loads.
        if moved {
            let put = sql(concat!(
                "UPDATE client SET address = $3, changed = ",
                next_change!("$1"),
                " WHERE site = $1 AND uuid = $2 AND (address IS NULL OR address <> $3)"
            ));
            if tx.execute(put.bind(self.site.as_str()).bind(id).bind(address.to_string())).await? > 0 {
                tx.raise(&self.site, Signal::Site);
            }
        }
        let put = sql("UPDATE client SET last_contact = $3 WHERE site = $1 AND uuid = $2");
        tx.execute(put.bind(self.site.as_str()).bind(id).bind(now)).await?;
        tx.commit().await
    }

    /// Keeps a client's new certificate, which its enrolment answers from now on.
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
        tx.raise(&self.site, Signal::Site);
        tx.commit().await
    }

    /// A client's certificate (PEM) and its end.
    pub async fn client_certificate(&self, id: ClientId) -> Result<Option<(String, Timestamp)>> {
        let query = sql("SELECT certificate, not_after FROM client WHERE site = $1 AND uuid = $2");
        let row = self.row("a certificate", query.bind(self.site.as_str()).bind(id)).await?;
        row.map(|row| Ok((row.text(0)?, row.time(1)?))).transpose()
    }
}

/// A client of its first six columns.
pub(crate) fn client(row: &Row) -> Result<Client> {
    let address = row.text_option(4)?.map(|text| parse(&text, "address")).transpose()?;
    Ok(Client {
        id: row.parse(0, "client id")?,
        name: row.text(1)?,
        state: load::state_of(row.int(2)?)?,
        facts: row.json(3, "facts")?,
        address,
        last_contact: row.time_option(5)?,
    })
}
