//! The signed policy of each client.

use std::collections::BTreeMap;

use jiff::Timestamp;
use patchtide_model::{ClientId, Digest};

use crate::{
    Result, SiteStore,
    core::Signal,
    sql::{Many, Value, int, sql},
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
    /// The signed envelope.
    pub envelope: Vec<u8>,
    /// When it was compiled.
    pub issued_at: Timestamp,
}

const NUMBERS: Many =
    Many { head: "SELECT uuid, id FROM client WHERE (site, uuid) IN (VALUES ", columns: 2, tail: ")" };
const PUT: Many = Many {
    head: "INSERT INTO policy (client, epoch, number, body_digest, issued_at, envelope) VALUES ",
    columns: 6,
    tail: " ON CONFLICT (client) DO UPDATE SET epoch = excluded.epoch, number = excluded.number, \
            body_digest = excluded.body_digest, issued_at = excluded.issued_at, envelope = excluded.envelope \
            WHERE excluded.epoch > policy.epoch \
            OR (excluded.epoch = policy.epoch AND excluded.number > policy.number)",
};

impl SiteStore {
    /// A client's policy.
    pub async fn policy(&self, client: ClientId) -> Result<Option<StoredPolicy>> {
        let query = sql("SELECT p.epoch, p.number, p.body_digest, p.issued_at, p.envelope FROM policy p \
                         JOIN client c ON c.id = p.client WHERE c.site = $1 AND c.uuid = $2");
        let row = self.row("a policy", query.bind(self.site.as_str()).bind(client)).await?;
        row.map(|row| {
            Ok(StoredPolicy {
                client,
                epoch: row.unsigned(0)?,
                number: row.unsigned(1)?,
                body_digest: row.parse(2, "digest")?,
                issued_at: row.time(3)?,
                envelope: row.blob(4)?,
            })
        })
        .transpose()
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

    /// Keeps policies, in one transaction. One that is not newer (epoch, number) than what is kept is left out, so that two
    /// compilers cannot turn a client back; so is one of a client that is not known. Returns how many were kept.
    pub async fn put_policies(&self, policies: Vec<StoredPolicy>) -> Result<u64> {
        let mut tx = self.begin("policies").await?;
        let keys =
            policies.iter().flat_map(|policy| [self.site.as_str().into(), policy.client.into()]).collect();
        let mut numbers: BTreeMap<ClientId, i64> = BTreeMap::new();
        for row in tx.rows_many(NUMBERS, keys).await? {
            numbers.insert(row.parse(0, "client id")?, row.int(1)?);
        }
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
            .flat_map(|(client, policy)| -> [Value; 6] {
                [
                    client.into(),
                    int(policy.epoch).into(),
                    int(policy.number).into(),
                    policy.body_digest.into(),
                    policy.issued_at.into(),
                    policy.envelope.into(),
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
}
