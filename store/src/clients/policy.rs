//! The signed policy of each client, and the parts that policies name, each kept once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::{ClientId, Digest};

use crate::{
    Result, SiteStore, StoreError,
    core::Signal,
    sql::{Many, Row, Value, int, sql},
    writer::Tx,
};

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
    /// Name of the part that says what to do.
    pub orders: Digest,
    /// Name of the part that says what may be installed.
    pub updates: Digest,
    /// The signed statement that names both.
    pub statement: Vec<u8>,
    /// When it was compiled.
    pub issued_at: Timestamp,
}

/// Parts of policies by the SHA-256 of their bytes.
pub type PolicyParts = BTreeMap<Digest, Vec<u8>>;

const PARTS: Many =
    Many { head: "SELECT digest FROM policy_part WHERE (site, digest) IN (VALUES ", columns: 2, tail: ")" };
const PUT: Many = Many {
    head: "INSERT INTO policy (client, epoch, number, body_digest, issued_at, orders, updates, statement) VALUES ",
    columns: 8,
    tail: " ON CONFLICT (client) DO UPDATE SET epoch = excluded.epoch, number = excluded.number, \
            body_digest = excluded.body_digest, issued_at = excluded.issued_at, orders = excluded.orders, \
            updates = excluded.updates, statement = excluded.statement \
            WHERE excluded.epoch > policy.epoch \
            OR (excluded.epoch = policy.epoch AND excluded.number > policy.number)",
};

impl SiteStore {
    /// A client's policy; none when there is none that can be served.
    pub async fn policy(&self, client: ClientId) -> Result<Option<StoredPolicy>> {
        let query =
            sql("SELECT p.epoch, p.number, p.body_digest, p.issued_at, p.orders, p.updates, p.statement \
                         FROM policy p JOIN client c ON c.id = p.client \
                         WHERE c.site = $1 AND c.uuid = $2 AND LENGTH(p.orders) = 32");
        let row = self.row("a policy", query.bind(self.site.as_str()).bind(client)).await?;
        row.map(|row| {
            Ok(StoredPolicy {
                client,
                epoch: row.unsigned(0)?,
                number: row.unsigned(1)?,
                body_digest: row.parse(2, "digest")?,
                issued_at: row.time(3)?,
                orders: digest(&row, 4)?,
                updates: digest(&row, 5)?,
                statement: row.blob(6)?,
            })
        })
        .transpose()
    }

    /// The bytes of a part, if the client's policy names it.
    pub async fn policy_part(&self, client: ClientId, part: Digest) -> Result<Option<Vec<u8>>> {
        let query = sql("SELECT t.body FROM policy_part t JOIN client c ON c.site = t.site \
                         JOIN policy p ON p.client = c.id \
                         WHERE c.site = $1 AND c.uuid = $2 AND t.digest = $3 \
                         AND (p.orders = t.digest OR p.updates = t.digest)");
        let query = query.bind(self.site.as_str()).bind(client).bind(bytes(part));
        let row = self.row("a part of a policy", query).await?;
        row.map(|row| row.blob(0)).transpose()
    }

    /// For each client with a policy: epoch, number, digest of the body.
    pub async fn policy_digests(&self) -> Result<BTreeMap<ClientId, (u64, u64, Digest)>> {
        let query = sql("SELECT c.uuid, p.epoch, p.number, p.body_digest FROM policy p \
                         JOIN client c ON c.id = p.client WHERE c.site = $1");
        let rows = self.rows("policies", query.bind(self.site.as_str())).await?;
        rows.iter()
            .map(|row| {
                Ok((
                    row.parse(0, "client id")?,
                    (row.unsigned(1)?, row.unsigned(2)?, row.parse(3, "digest")?),
                ))
            })
            .collect()
    }

    /// For each client with a policy that can be served: epoch and number.
    pub async fn policy_numbers(&self) -> Result<BTreeMap<ClientId, (u64, u64)>> {
        let query = sql("SELECT c.uuid, p.epoch, p.number FROM policy p \
                         JOIN client c ON c.id = p.client WHERE c.site = $1 AND LENGTH(p.orders) = 32");
        let rows = self.rows("policies", query.bind(self.site.as_str())).await?;
        let number = |row: &Row| Ok((row.parse(0, "client id")?, (row.unsigned(1)?, row.unsigned(2)?)));
        rows.iter().map(number).collect()
    }

    /// Keeps policies and the parts that they name, in one transaction; parts that are kept already need not be given. One
    /// that is not newer (epoch, number) than what is kept is left out, so that two compilers cannot turn a client back; so
    /// is one of a client that is not known. Returns how many were kept.
    pub async fn put_policies(&self, policies: Vec<StoredPolicy>, parts: PolicyParts) -> Result<u64> {
        let mut tx = self.begin("policies").await?;
        self.put_parts(&mut tx, &policies, parts).await?;
        let numbers = self.numbers(&mut tx, policies.iter().map(|policy| policy.client)).await?;
        // One row a client: a statement may not change a row twice.
        let mut newest: BTreeMap<i64, StoredPolicy> = BTreeMap::new();
        for policy in policies {
            let Some(number) = numbers.get(&policy.client) else { continue };
            let known = newest.entry(*number).or_insert_with(|| policy.clone());
            if (policy.epoch, policy.number) > (known.epoch, known.number) {
                *known = policy;
            }
        }
        let rows = newest
            .into_iter()
            .flat_map(|(client, policy)| -> [Value; 8] {
                [
                    client.into(),
                    int(policy.epoch).into(),
                    int(policy.number).into(),
                    policy.body_digest.into(),
                    policy.issued_at.into(),
                    bytes(policy.orders).into(),
                    bytes(policy.updates).into(),
                    policy.statement.into(),
                ]
            })
            .collect();
        let kept = tx.execute_many(PUT, rows).await?;
        if kept > 0 {
            tx.raise(&self.site, Signal::Policy);
        }
        tx.commit().await?;
        Ok(kept)
    }

    /// Keeps the parts that are not kept yet. A policy whose part is nowhere is not kept either: nobody could obey it.
    async fn put_parts(&self, tx: &mut Tx, policies: &[StoredPolicy], mut parts: PolicyParts) -> Result<()> {
        let mut missing: BTreeSet<Digest> =
            policies.iter().flat_map(|policy| [policy.orders, policy.updates]).collect();
        let keys = missing.iter().flat_map(|part| [self.site.as_str().into(), bytes(*part).into()]).collect();
        for row in tx.rows_many(PARTS, keys).await? {
            missing.remove(&digest(&row, 0)?);
        }
        for part in missing {
            let Some(body) = parts.remove(&part) else {
                return Err(StoreError::Missing { what: "the part of a policy", name: part.to_string() });
            };
            let put = sql("INSERT INTO policy_part (site, digest, body) VALUES ($1, $2, $3)");
            tx.execute(put.bind(self.site.as_str()).bind(bytes(part)).bind(body)).await?;
        }
        Ok(())
    }

    /// Deletes parts that no policy names. Returns how many. Safe beside [`Self::put_policies`] of this and other processes:
    /// writes are one after the other, and each of those looks anew for what is kept.
    pub async fn collect_policy_parts(&self) -> Result<u64> {
        let mut tx = self.begin("parts of policies").await?;
        let delete = sql("DELETE FROM policy_part WHERE site = $1 \
                          AND NOT EXISTS (SELECT 1 FROM policy p WHERE p.orders = policy_part.digest) \
                          AND NOT EXISTS (SELECT 1 FROM policy p WHERE p.updates = policy_part.digest)");
        let deleted = tx.execute(delete.bind(self.site.as_str())).await?;
        tx.commit().await?;
        Ok(deleted)
    }
}

fn bytes(digest: Digest) -> Vec<u8> {
    digest.as_bytes().to_vec()
}

fn digest(row: &Row, index: usize) -> Result<Digest> {
    let found = row.blob(index)?;
    let damaged = |found: Vec<u8>| StoreError::Damaged {
        what: "digest",
        detail: format!("it has {} bytes", found.len()),
    };
    found.try_into().map(Digest::from_bytes).map_err(damaged)
}
