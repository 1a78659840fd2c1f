//! What each distribution point shall have, and has.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::{Digest, ObjectName, SiteName};

use super::DpStates;
use crate::{
    Result, SiteStore,
    core::Signal,
    sql::{Many, Value, sql},
    writer::Tx,
};

const PUT: Many = Many {
    head: "INSERT INTO dp_content (site, dp, digest, wanted, present) VALUES ",
    columns: 5,
    tail: " ON CONFLICT (site, dp, digest) DO UPDATE SET wanted = excluded.wanted",
};
const WITH: Many = Many {
    head: "SELECT digest, dp FROM dp_content WHERE present = 1 AND (site, digest) IN (VALUES ",
    columns: 2,
    tail: ")",
};

impl SiteStore {
    /// Says what a distribution point shall have, all of it. True when that changed anything.
    pub async fn set_dp_wanted(&self, dp: &ObjectName, wanted: BTreeSet<Digest>) -> Result<bool> {
        let mut tx = self.begin("wanted content").await?;
        let query = sql("SELECT digest FROM dp_content WHERE site = $1 AND dp = $2 AND wanted = 1");
        let mut before = BTreeSet::new();
        for row in tx.rows(query.bind(self.site.as_str()).bind(dp.as_str())).await? {
            before.insert(row.parse::<Digest>(0, "digest")?);
        }
        let row = |digest: &Digest, wanted: bool| -> [Value; 5] {
            [self.site.as_str().into(), dp.as_str().into(), (*digest).into(), wanted.into(), false.into()]
        };
        let rows: Vec<Value> = wanted
            .difference(&before)
            .flat_map(|digest| row(digest, true))
            .chain(before.difference(&wanted).flat_map(|digest| row(digest, false)))
            .collect();
        let changed = !rows.is_empty();
        if changed {
            tx.execute_many(PUT, rows).await?;
            let forget =
                sql("DELETE FROM dp_content WHERE site = $1 AND dp = $2 AND wanted = 0 AND present = 0");
            tx.execute(forget.bind(self.site.as_str()).bind(dp.as_str())).await?;
            tx.raise(&self.site, Signal::Site);
        }
        tx.commit().await?;
        Ok(changed)
    }

    /// What a distribution point shall have.
    pub async fn dp_wanted(&self, dp: &ObjectName) -> Result<BTreeSet<Digest>> {
        let query = sql("SELECT digest FROM dp_content WHERE site = $1 AND dp = $2 AND wanted = 1");
        let rows = self.rows("wanted content", query.bind(self.site.as_str()).bind(dp.as_str())).await?;
        rows.iter().map(|row| row.parse(0, "digest")).collect()
    }

    /// A distribution point has a file (again: what was damaged is repaired), or failed to take it, or gave up one that is not
    /// wanted any more.
    pub async fn set_dp_present(
        &self,
        dp: &ObjectName,
        digest: Digest,
        outcome: Result<(), String>,
        now: Timestamp,
    ) -> Result<()> {
        let mut tx = self.begin("distributed content").await?;
        let put = sql("INSERT INTO dp_content (site, dp, digest, wanted, present, message, changed_at) \
                       VALUES ($1, $2, $3, 0, $4, $5, $6) ON CONFLICT (site, dp, digest) DO UPDATE \
                       SET present = excluded.present, message = excluded.message, changed_at = excluded.changed_at")
        .bind(self.site.as_str())
        .bind(dp.as_str())
        .bind(digest)
        .bind(outcome.is_ok())
        .bind(outcome.as_ref().err().cloned())
        .bind(now);
        tx.execute(put).await?;
        if outcome.is_ok() {
            repaired(&mut tx, &self.site, dp.as_str(), digest, now).await?;
        }
        let forget = sql(
            "DELETE FROM dp_content WHERE site = $1 AND dp = $2 AND digest = $3 AND wanted = 0 AND present = 0",
        );
        tx.execute(forget.bind(self.site.as_str()).bind(dp.as_str()).bind(digest)).await?;
        tx.raise(&self.site, Signal::Site);
        tx.commit().await
    }

    /// How far a distribution point is.
    pub async fn dp_states(&self, dp: &ObjectName) -> Result<DpStates> {
        let query = sql("SELECT d.digest, d.present, d.message, COALESCE(c.size, 0) FROM dp_content d \
                         LEFT JOIN content c ON c.site = d.site AND c.digest = d.digest \
                         WHERE d.site = $1 AND d.dp = $2 AND d.wanted = 1");
        let mut states = DpStates::default();
        for row in self.rows("distributed content", query.bind(self.site.as_str()).bind(dp.as_str())).await? {
            let size = row.unsigned(3)?;
            states.wanted += 1;
            states.wanted_bytes += size;
            if row.flag(1)? {
                states.present += 1;
                states.bytes += size;
            } else if let Some(message) = row.text_option(2)? {
                states.errors.insert(row.parse(0, "digest")?, message);
            }
        }
        Ok(states)
    }

    /// Whether some distribution point shall have a file that it has not got yet. What it failed to take counts, too: it
    /// is tried again.
    pub async fn content_on_its_way(&self) -> Result<bool> {
        let query = sql("SELECT 1 FROM dp_content WHERE site = $1 AND wanted = 1 AND present = 0 LIMIT 1");
        Ok(self.row("content on its way", query.bind(self.site.as_str())).await?.is_some())
    }

    /// For each of `digests` the distribution points that have it (every digest of the input has an entry).
    pub async fn dps_with(&self, digests: &[Digest]) -> Result<BTreeMap<Digest, BTreeSet<ObjectName>>> {
        let mut found: BTreeMap<Digest, BTreeSet<ObjectName>> =
            digests.iter().map(|digest| (*digest, BTreeSet::new())).collect();
        let keys = found.keys().flat_map(|digest| [self.site.as_str().into(), (*digest).into()]).collect();
        for row in self.rows_many("distributed content", WITH, keys).await? {
            found.entry(row.parse(0, "digest")?).or_default().insert(row.parse(1, "object name")?);
        }
        Ok(found)
    }
}

/// A file is sound in a place.
pub(super) async fn repaired(
    tx: &mut Tx,
    site: &SiteName,
    place: &str,
    digest: Digest,
    now: Timestamp,
) -> Result<()> {
    let put = sql("UPDATE content_damage SET repaired_at = $4 \
                   WHERE site = $1 AND place = $2 AND digest = $3 AND repaired_at IS NULL");
    tx.execute(put.bind(site.as_str()).bind(place).bind(digest).bind(now)).await.map(drop)
}
