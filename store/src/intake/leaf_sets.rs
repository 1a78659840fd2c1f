//! Collecting leaf sets that nothing refers to any more.
//!
//! What refers to a set is in four places of a client: the needs of its watermarks, its `client_required` documents, its
//! `update_detail` rows, and parts of scans that wait for their last one. A search through all clients takes a while, and
//! reports come in meanwhile, in this process and in others. So a collection begins by raising the *epoch* in a write of
//! its own. From then on every id that anybody had looked up before is forgotten, reports that carry one are looked up
//! anew (see [`super::batch`]), and whatever set is given out to be referred to is marked with the new epoch, known or new
//! ([`super::load::leaf_sets`]). What has an older mark when it is deleted was not given out since the collection began;
//! so if any client referred to it now it did so then, and the search, one statement a page of clients, has seen it: within
//! one client a reference moves from place to place, but only in one commit.
//!
//! Whoever remembers ids of leaf sets in another place than [`super::names::SetIds`] has to forget them with the epoch too.

use std::collections::HashSet;

use super::{cache::Parts, details};
use crate::{
    Result, SiteStore,
    sql::{Many, sql},
};

/// Clients searched at once.
const CLIENTS: i64 = 1_000;
/// Rows looked at, and deleted, at once.
const ROWS: i64 = 1_000;

const DELETE: Many = Many {
    head: "DELETE FROM leaf_set WHERE epoch < (SELECT set_epoch FROM writer) AND id IN (VALUES ",
    columns: 1,
    tail: ")",
};

impl SiteStore {
    /// Deletes leaf sets that no client of the site refers to. Returns how many. Reports are taken in meanwhile; the
    /// writer is held for a thousand rows at a time. For once a day: what reports name is looked up anew after it.
    pub async fn collect_leaf_sets(&self) -> Result<u64> {
        let epoch = self.begin_collection().await?;
        let referred = self.referred_sets().await?;
        self.delete_sets(epoch, &referred).await
    }

    /// Raises the epoch.
    async fn begin_collection(&self) -> Result<i64> {
        let mut tx = self.begin("leaf sets").await?;
        let epoch = tx.set_epoch() + 1;
        tx.execute(sql("UPDATE writer SET set_epoch = $1 WHERE id = 1").bind(epoch)).await?;
        tx.sets_are_collected(epoch);
        tx.commit().await?;
        Ok(epoch)
    }

    /// Deletes what is not `referred` to and was not given out since `epoch`. Returns how many.
    async fn delete_sets(&self, epoch: i64, referred: &HashSet<i64>) -> Result<u64> {
        let what = "leaf sets";
        // The last one stays, so that no number is given twice.
        let most = self.row(what, sql("SELECT COALESCE(MAX(id), 0) FROM leaf_set")).await?;
        let most = most.map_or(Ok(0), |row| row.int(0))?;
        let (mut last, mut deleted) = (0, 0);
        loop {
            let page = sql("SELECT id FROM leaf_set WHERE site = $1 AND id > $2 AND id < $3 AND epoch < $4 \
                            ORDER BY id LIMIT $5");
            let page = page.bind(self.site.as_str()).bind(last).bind(most).bind(epoch).bind(ROWS);
            let rows = self.rows(what, page).await?;
            let ids = rows.iter().map(|row| row.int(0)).collect::<Result<Vec<i64>>>()?;
            let Some(end) = ids.last() else { return Ok(deleted) };
            last = *end;
            let loose = ids.into_iter().filter(|id| !referred.contains(id)).map(Into::into).collect();
            let mut tx = self.begin(what).await?;
            if tx.set_epoch() != epoch {
                // Another process began anew; it goes on from here.
                return Ok(deleted);
            }
            deleted += tx.execute_many(DELETE, loose).await?;
            tx.commit().await?;
        }
    }

    /// Every leaf set that a client of the site refers to.
    async fn referred_sets(&self) -> Result<HashSet<i64>> {
        let what = "references to leaf sets";
        let mut referred = HashSet::new();
        let mut last = 0;
        loop {
            let page = sql(
                "SELECT MAX(id) FROM (SELECT id FROM client WHERE site = $1 AND id > $2 ORDER BY id LIMIT $3) AS p",
            );
            let row = self.row(what, page.bind(self.site.as_str()).bind(last).bind(CLIENTS)).await?;
            let Some(end) = row.map_or(Ok(None), |row| row.int_option(0))? else { return Ok(referred) };
            // One statement, hence one moment: a reference that moves is seen here or there.
            let all = sql("SELECT needs, CAST(NULL AS TEXT), CAST(NULL AS BYTEA) FROM client_line \
                 WHERE client > $1 AND client <= $2 AND needs IS NOT NULL \
                 UNION ALL SELECT leaf_set, NULL, NULL FROM update_detail \
                 WHERE client > $1 AND client <= $2 AND leaf_set IS NOT NULL \
                 UNION ALL SELECT NULL, body, NULL FROM client_required WHERE client > $1 AND client <= $2 \
                 UNION ALL SELECT NULL, NULL, body FROM scan_part WHERE client > $1 AND client <= $2");
            for row in self.rows(what, all.bind(last).bind(end)).await? {
                if let Some(set) = row.int_option(0)? {
                    referred.insert(set);
                } else if let Some(text) = row.text_option(1)? {
                    let all = details::read(&text)?;
                    referred.extend(all.into_iter().filter_map(|(_, detail)| detail.leaf_set));
                } else {
                    referred.extend(Parts { version: 0, count: 0, body: row.blob(2)? }.sets()?);
                }
            }
            last = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use patchtide_model::{SiteName, catalogue::LeafRef};

    use super::*;
    use crate::{
        OpenOptions, Store,
        intake::{cache::SiteCache, load},
    };

    /// Gives `sets` out as the writer does, each of one leaf.
    async fn give_out(site: &SiteStore, sets: &[&str]) {
        let leaf = |package: &&str| {
            let text = str::to_owned;
            vec![LeafRef { package: text(package), architecture: text("all"), version: text("1") }]
        };
        let sets: Vec<_> = sets.iter().map(leaf).collect();
        let mut tx = site.begin("leaf sets").await.unwrap();
        let mut sites = HashMap::new();
        let cache = SiteCache::of(&mut sites, &site.site, &site.core().shared(&site.site));
        load::leaf_sets(&mut tx, &site.site, cache, sets.iter().map(Vec::as_slice).collect()).await.unwrap();
        tx.commit().await.unwrap();
        cache.sets.publish();
    }

    /// A report that comes while clients are searched may refer to what the search will not find.
    #[tokio::test]
    async fn what_is_given_out_during_a_collection_stays() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/site.db", folder.path().display());
        let site =
            Store::open(&url, &OpenOptions::default()).await.unwrap().site(&SiteName::new("site").unwrap());
        give_out(&site, &["a", "b", "c", "last"]).await;
        let epoch = site.begin_collection().await.unwrap();
        let referred = site.referred_sets().await.unwrap();
        give_out(&site, &["b", "new"]).await;
        assert_eq!(site.delete_sets(epoch, &referred).await.unwrap(), 3);
        let rows = site.core().rows("rows", sql("SELECT leaves FROM leaf_set ORDER BY id")).await.unwrap();
        let left: BTreeSet<String> = rows.iter().map(|row| row.text(0).unwrap()).collect();
        assert!(left.len() == 2 && left.iter().any(|set| set.contains("\"b\"")), "{left:?}");
        // A collection that another one overtook deletes nothing.
        site.begin_collection().await.unwrap();
        assert_eq!(site.delete_sets(epoch, &referred).await.unwrap(), 0);
    }
}
