//! Finding updates and leaves.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use patchtide_model::{
    LineId, UpdateId,
    catalogue::{Leaf, LeafRef, Update},
    search::Criteria,
};

use super::revision::{blocking, parallel, read};
use crate::{
    Result, SiteStore,
    intake::counts::REQUIRED,
    sql::{Many, Row, Value, len, sql},
};

const BY_NAME: Many = Many {
    head: "SELECT u.id, u.line, u.posted, u.superseded_by, u.expired, u.body FROM (VALUES ",
    columns: 3,
    tail: ") AS v JOIN software_update u ON u.line = v.column1 AND u.source = v.column2 AND u.version = v.column3",
};
const BY_ID: Many = Many {
    head: "SELECT id, line, posted, superseded_by, expired, body FROM software_update WHERE id IN (VALUES ",
    columns: 1,
    tail: ")",
};
const LEAVES: Many = Many {
    head: "SELECT f.update_id, f.package, f.architecture, f.version, u.line, u.superseded_by, u.expired \
           FROM leaf f JOIN software_update u ON u.id = f.update_id \
           WHERE (f.package, f.architecture, f.version) IN (VALUES ",
    columns: 3,
    tail: ")",
};
const NUMBERS: Many = Many {
    head: "SELECT u.id, u.line, u.source, u.version FROM (VALUES ",
    columns: 3,
    tail: ") AS v JOIN software_update u ON u.line = v.column1 AND u.source = v.column2 AND u.version = v.column3",
};
const PLACES: Many = Many {
    head: "SELECT u.line, u.source, u.version, s.slot, u.since_version FROM (VALUES ",
    columns: 3,
    tail: ") AS v JOIN software_update u ON u.line = v.column1 AND u.source = v.column2 AND u.version = v.column3 \
            LEFT JOIN slot s ON s.update_id = u.id",
};

/// Where the states of an update are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) line: i64,
    pub(crate) slot: Option<i64>,
    /// Catalogue version in which its applicability changed last.
    pub(crate) since: u64,
}

impl SiteStore {
    /// The site's lines by their numbers.
    pub(crate) async fn line_names(&self) -> Result<HashMap<i64, LineId>> {
        let query = sql("SELECT id, name FROM line WHERE site = $1").bind(self.site.as_str());
        let rows = self.rows("the lines", query).await?;
        rows.iter().map(|row| Ok((row.int(0)?, row.parse(1, "line")?))).collect()
    }

    async fn keys<'a>(
        &self,
        ids: impl Iterator<Item = &'a UpdateId>,
    ) -> Result<(HashMap<i64, LineId>, Vec<Value>)> {
        let names = self.line_names().await?;
        let lines: HashMap<&LineId, i64> = names.iter().map(|(id, name)| (name, *id)).collect();
        let mut seen = BTreeSet::new();
        let keys = ids
            .filter(|id| seen.insert(*id))
            .filter_map(|id| Some((*lines.get(&id.line)?, id)))
            .flat_map(|(line, id)| [line.into(), id.source.as_str().into(), Value::from(id.version.as_str())])
            .collect();
        Ok((names, keys))
    }

    /// Where the states of `ids` are; of those that exist.
    pub(crate) async fn places<'a>(
        &self,
        ids: impl Iterator<Item = &'a UpdateId>,
    ) -> Result<BTreeMap<UpdateId, Place>> {
        let (names, keys) = self.keys(ids).await?;
        let mut places = BTreeMap::new();
        for row in self.rows_many("updates", PLACES, keys).await? {
            let line = row.int(0)?;
            let Some(name) = names.get(&line) else { continue };
            let id = UpdateId { line: name.clone(), source: row.text(1)?, version: row.text(2)? };
            places.insert(id, Place { line, slot: row.int_option(3)?, since: row.unsigned(4)? });
        }
        Ok(places)
    }

    /// The numbers by which rows name these updates; of those that exist.
    pub(crate) async fn update_numbers<'a>(
        &self,
        ids: impl Iterator<Item = &'a UpdateId>,
    ) -> Result<HashMap<UpdateId, i64>> {
        let (names, keys) = self.keys(ids).await?;
        let mut numbers = HashMap::new();
        for row in self.rows_many("updates", NUMBERS, keys).await? {
            let Some(line) = names.get(&row.int(1)?) else { continue };
            let id = UpdateId { line: line.clone(), source: row.text(2)?, version: row.text(3)? };
            numbers.insert(id, row.int(0)?);
        }
        Ok(numbers)
    }

    /// One update with its leaves.
    pub async fn update(&self, id: &UpdateId) -> Result<Option<Update>> {
        Ok(self.updates(std::slice::from_ref(id)).await?.remove(id))
    }

    /// Those of `ids` that exist, with their leaves.
    pub async fn updates(&self, ids: &[UpdateId]) -> Result<BTreeMap<UpdateId, Update>> {
        let (_, keys) = self.keys(ids.iter()).await?;
        let rows = self.rows_many("updates", BY_NAME, keys).await?;
        Ok(updates(rows).await?.into_values().map(|update| (update.id.clone(), update)).collect())
    }

    /// Updates that meet `criteria`, by identity, at most `limit`, each with the number of active clients that require it.
    /// Their leaves come without stanzas.
    pub async fn search(&self, criteria: &Criteria, limit: usize) -> Result<Vec<(Update, u64)>> {
        let names = self.line_names().await?;
        let flag = |wanted: Option<bool>| wanted.map_or(-1, i64::from);
        let bound = |at: Option<jiff::Timestamp>, open: i64| at.map_or(open, jiff::Timestamp::as_microsecond);
        let query = sql("SELECT u.id, u.line, u.source, u.version, u.title, u.classification, u.product, u.severity, s.slot \
                         FROM software_update u LEFT JOIN slot s ON s.update_id = u.id \
                         WHERE u.line IN (SELECT id FROM line WHERE site = $1) \
                         AND ($2 = 0 OR s.slot IS NOT NULL) \
                         AND ($3 < 0 OR $3 = CASE WHEN u.superseded_by IS NULL THEN 0 ELSE 1 END) \
                         AND ($4 < 0 OR $4 = u.expired) AND u.posted >= $5 AND u.posted < $6")
        .bind(self.site.as_str())
        .bind(criteria.required_by_at_least.is_some_and(|n| n > 0))
        .bind(flag(criteria.superseded))
        .bind(flag(criteria.expired))
        .bind(bound(criteria.posted_after, i64::MIN))
        .bind(bound(criteria.posted_before, i64::MAX));
        // What the narrow columns can tell; the rest is asked of the documents.
        let narrow = Criteria {
            bulletins: BTreeSet::new(),
            cves: BTreeSet::new(),
            superseded: None,
            expired: None,
            posted_after: None,
            posted_before: None,
            ..criteria.clone()
        };
        let mut candidates = Vec::new();
        for row in self.rows("the catalogue", query).await? {
            let Some(line) = names.get(&row.int(1)?) else { continue };
            candidates.push((super::narrow(&row, line)?, row.int(0)?, row.int_option(8)?));
        }
        let mut found: Vec<(UpdateId, i64, u64)> = self
            .with_counts(|counts| {
                let counted = |(update, id, slot): (Update, i64, Option<i64>)| {
                    let required = slot.map_or(0, |slot| counts.get((slot, i64::from(REQUIRED))));
                    let required = required.max(0).cast_unsigned();
                    narrow.matches(&update, required).then_some((update.id, id, required))
                };
                candidates.into_iter().filter_map(counted).collect()
            })
            .await?;
        found.sort_unstable();
        let mut matches = Vec::new();
        for chunk in found.chunks(limit.clamp(1, 1_000)) {
            let keys = chunk.iter().map(|(_, id, _)| (*id).into()).collect();
            let mut documents = updates(self.rows_many("updates", BY_ID, keys).await?).await?;
            for (_, id, required) in chunk {
                if matches.len() >= limit {
                    return Ok(matches);
                }
                let Some(mut update) =
                    documents.remove(id).filter(|update| criteria.matches(update, *required))
                else {
                    continue;
                };
                update.leaves.iter_mut().for_each(|leaf| leaf.stanza = String::new());
                matches.push((update, *required));
            }
        }
        Ok(matches)
    }

    /// The updates of the site after the number `after` (0: from the beginning), at most `limit` of them, and the number of
    /// the last one; none: there are no more.
    pub async fn updates_after(&self, after: i64, limit: usize) -> Result<(Vec<Update>, Option<i64>)> {
        let query = sql("SELECT id, line, posted, superseded_by, expired, body FROM software_update \
                         WHERE id > $2 AND line IN (SELECT id FROM line WHERE site = $1) ORDER BY id LIMIT $3");
        let query = query.bind(self.site.as_str()).bind(after).bind(len(limit));
        let rows = self.rows("the catalogue", query).await?;
        let last = rows.last().map(|row| row.int(0)).transpose()?;
        let found: BTreeMap<i64, Update> = updates(rows).await?.into_iter().collect();
        Ok((found.into_values().collect(), last))
    }

    /// A leaf by its name; of several with the same name, one of a current update.
    pub async fn find_leaf(&self, leaf: &LeafRef) -> Result<Option<(UpdateId, Leaf)>> {
        Ok(self.find_leaves(std::slice::from_ref(leaf)).await?.remove(leaf))
    }

    /// Those of `leaves` that exist.
    pub async fn find_leaves(&self, leaves: &[LeafRef]) -> Result<BTreeMap<LeafRef, (UpdateId, Leaf)>> {
        let mut best: BTreeMap<LeafRef, (bool, i64)> = BTreeMap::new();
        for holder in self.holders(leaves).await? {
            let rank = (!holder.superseded && !holder.expired, holder.update);
            let known = best.entry(holder.leaf).or_insert(rank);
            *known = (*known).max(rank);
        }
        let documents = self.documents(best.values().map(|(_, id)| *id).collect()).await?;
        Ok(best
            .into_iter()
            .filter_map(|(name, (_, id))| {
                let found = leaf_of(documents.get(&id)?, &name)?;
                Some((name, found))
            })
            .collect())
    }

    /// Every update of the site that has one of `leaves`.
    pub(super) async fn holders(&self, leaves: &[LeafRef]) -> Result<Vec<Holder>> {
        let names = self.line_names().await?;
        let asked: BTreeSet<&LeafRef> = leaves.iter().collect();
        let keys = asked
            .iter()
            .flat_map(|leaf| [leaf.package.as_str(), leaf.architecture.as_str(), leaf.version.as_str()])
            .map(Into::into)
            .collect();
        let mut holders = Vec::new();
        for row in self.rows_many("leaves", LEAVES, keys).await? {
            if names.contains_key(&row.int(4)?) {
                holders.push(Holder {
                    update: row.int(0)?,
                    leaf: LeafRef {
                        package: row.text(1)?,
                        architecture: row.text(2)?,
                        version: row.text(3)?,
                    },
                    superseded: row.text_option(5)?.is_some(),
                    expired: row.flag(6)?,
                });
            }
        }
        Ok(holders)
    }

    /// Updates by their numbers.
    pub(super) async fn documents(&self, ids: BTreeSet<i64>) -> Result<HashMap<i64, Update>> {
        let keys = ids.into_iter().map(Into::into).collect();
        updates(self.rows_many("updates", BY_ID, keys).await?).await
    }
}

/// An update that has a leaf.
pub(super) struct Holder {
    pub(super) update: i64,
    pub(super) leaf: LeafRef,
    superseded: bool,
    pub(super) expired: bool,
}

/// The leaf of this name, with the update it is of.
pub(super) fn leaf_of(update: &Update, name: &LeafRef) -> Option<(UpdateId, Leaf)> {
    let leaf = update.leaves.iter().find(|leaf| {
        leaf.package == name.package && leaf.architecture == name.architecture && leaf.version == name.version
    })?;
    Some((update.id.clone(), leaf.clone()))
}

/// Rows of [`BY_NAME`] or [`BY_ID`] as updates, by their numbers.
async fn updates(rows: Vec<Row>) -> Result<HashMap<i64, Update>> {
    let mut parts = Vec::with_capacity(rows.len());
    for row in rows {
        let by =
            row.text_option(3)?.map(|text| crate::sql::parse::<UpdateId>(&text, "update id")).transpose()?;
        parts.push((row.int(0)?, row.time(2)?, by, row.flag(4)?, row.blob(5)?));
    }
    blocking(move || {
        parallel(parts, |(id, posted, superseded_by, expired, body)| {
            Ok((id, Update { posted, superseded_by, expired, ..read(&body)? }))
        })
        .into_iter()
        .collect()
    })
    .await
}
