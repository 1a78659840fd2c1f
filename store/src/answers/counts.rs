//! Counts, and the proof that they are right.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::UpdateId;

use super::{DetectionCounts, Difference};
use crate::{
    Result, SiteStore,
    catalogue::find::Place,
    core::lock,
    intake::{
        cache::slot_at,
        counts::{Counts, EARLY, INSTALLED, Key, REQUIRED},
        details,
    },
    sql::{Many, Value, sql},
    writer::Tx,
};

const TOTALS: Many = Many { head: "INSERT INTO count_total (scope, state, n) VALUES ", columns: 3, tail: "" };

impl SiteStore {
    /// Active clients of the site.
    pub async fn active_clients(&self) -> Result<u64> {
        let query = sql("SELECT COUNT(*) FROM client WHERE site = $1 AND state = 1").bind(self.site.as_str());
        self.row("the clients", query).await?.map_or(Ok(0), |row| row.unsigned(0))
    }

    /// Active clients by detection state, for each of `updates` that the catalogue has.
    pub async fn required_counts(&self, updates: &[UpdateId]) -> Result<BTreeMap<UpdateId, DetectionCounts>> {
        let places = self.places(updates.iter()).await?;
        let active = i64::try_from(self.active_clients().await?).unwrap_or(i64::MAX);
        self.with_counts(|counts| {
            let counted = |(id, place): (UpdateId, Place)| (id, detection(counts, place, active));
            places.into_iter().map(counted).collect()
        })
        .await
    }

    /// Compares the kept counts of the whole database with a recount from the states: no differences, ever.
    pub async fn verify(&self) -> Result<Vec<Difference>> {
        let mut tx = self.begin("a recount").await?;
        let recounted = recount(&mut tx).await?;
        // Nobody writes now: what is committed is what was recounted.
        self.core().catch_up_counts().await?;
        let kept = lock(&self.core().counts).all();
        let mut differences = compare(&kept, &recounted);
        differences.extend(leaves(&mut tx, &recounted).await?);
        tx.commit().await?;
        Ok(differences)
    }

    /// Replaces the kept counts by a recount; returns what differed.
    pub async fn recount(&self) -> Result<Vec<Difference>> {
        let mut tx = self.begin("a recount").await?;
        let recounted = recount(&mut tx).await?;
        self.core().catch_up_counts().await?;
        let kept = lock(&self.core().counts).all();
        let differences = compare(&kept, &recounted);
        if !differences.is_empty() {
            let rows: Vec<Value> = recounted
                .iter()
                .flat_map(|((scope, state), n)| [(*scope).into(), (*state).into(), (*n).into()])
                .collect();
            tx.execute(sql("DELETE FROM count_total")).await?;
            tx.execute(sql("DELETE FROM count_delta")).await?;
            tx.execute_many(TOTALS, rows).await?;
            // A number of its own, so that every process sees that it has to read anew.
            tx.execute(sql("UPDATE writer SET deltas = deltas + 1, folded = deltas + 1 WHERE id = 1"))
                .await?;
        }
        tx.commit().await?;
        self.core().catch_up_counts().await?;
        Ok(differences)
    }
}

/// The clients of an update by detection state.
pub(super) fn detection(counts: &Counts, place: Place, active: i64) -> DetectionCounts {
    let count = |state: u8| place.slot.map_or(0, |slot| counts.get((slot, i64::from(state))));
    let (required, installed, early) = (count(REQUIRED), count(INSTALLED), count(EARLY));
    // Whoever scanned since and has no state; a state from before does not count against them.
    let silent = counts.scanned(place.line, place.since) - (required + installed - early);
    let not_required = silent.clamp(0, (active - required - installed).max(0));
    let unknown = (active - required - installed - not_required).max(0);
    let n = |count: i64| u64::try_from(count).unwrap_or(0);
    DetectionCounts {
        unknown: n(unknown),
        not_required: n(not_required),
        required: n(required),
        installed: n(installed),
    }
}

/// Counts from the states alone.
async fn recount(tx: &mut Tx) -> Result<BTreeMap<Key, i64>> {
    let mut counts: BTreeMap<Key, i64> = BTreeMap::new();
    let mut add = |key: Key, n: i64| *counts.entry(key).or_default() += n;
    let mut segments = Vec::new();
    for row in tx.rows(sql("SELECT id FROM segment")).await? {
        segments.push(row.int(0)?);
    }
    for segment in segments {
        let query = sql("SELECT s.states FROM seg_state s JOIN client c ON c.id = s.client \
                         WHERE s.segment = $1 AND c.state = 1");
        for row in tx.rows(query.bind(segment)).await? {
            for (ordinal, byte) in row.blob(0)?.into_iter().enumerate() {
                if byte & 3 >= REQUIRED {
                    add((slot_at(segment, ordinal), i64::from(byte & 3)), 1);
                }
            }
        }
    }
    let sparse =
        sql("SELECT s.slot, s.state % 4, COUNT(*) FROM sparse_state s JOIN client c ON c.id = s.client \
                      WHERE c.state = 1 AND s.state % 4 >= 2 GROUP BY s.slot, s.state % 4");
    for row in tx.rows(sparse).await? {
        add((row.int(0)?, row.int(1)?), row.int(2)?);
    }
    let early = sql("SELECT d.slot, COUNT(*) FROM update_detail d JOIN client c ON c.id = d.client \
                     WHERE c.state = 1 AND d.early = 1 GROUP BY d.slot");
    for row in tx.rows(early).await? {
        add((row.int(0)?, i64::from(EARLY)), row.int(1)?);
    }
    let rows =
        sql("SELECT d.slot, d.leaf_set, COUNT(*) FROM update_detail d JOIN client c ON c.id = d.client \
                    WHERE c.state = 1 AND d.leaf_set IS NOT NULL GROUP BY d.slot, d.leaf_set");
    for row in tx.rows(rows).await? {
        add((row.int(0)?, -row.int(1)?), row.int(2)?);
    }
    for (slot, set) in required(tx).await? {
        if let Some(set) = set {
            add((slot, -set), 1);
        }
    }
    let scanned =
        sql("SELECT l.line, l.version, COUNT(*) FROM client_line l JOIN client c ON c.id = l.client \
                       WHERE c.state = 1 GROUP BY l.line, l.version");
    for row in tx.rows(scanned).await? {
        add((-row.int(0)?, row.int(1)?), row.int(2)?);
    }
    Ok(counts)
}

fn compare(kept: &BTreeMap<Key, i64>, recounted: &BTreeMap<Key, i64>) -> Vec<Difference> {
    let mut keys: Vec<&Key> = kept.keys().chain(recounted.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .map(|key| (key, kept.get(key).copied().unwrap_or(0), recounted.get(key).copied().unwrap_or(0)))
        .filter(|(_, kept, recounted)| kept != recounted)
        .map(|((scope, state), kept, recounted)| {
            let what = if *scope < 0 {
                format!("clients of line {} at catalogue version {state}", -scope)
            } else if *state < 0 {
                format!("clients that require leaf set {} of slot {scope}", -state)
            } else {
                format!("clients in state {state} of slot {scope}")
            };
            Difference { what, kept, recounted }
        })
        .collect()
}

/// What active clients only require: slot and leaf set.
async fn required(tx: &mut Tx) -> Result<Vec<(i64, Option<i64>)>> {
    let query =
        sql("SELECT r.client, r.line, r.body FROM client_required r JOIN client c ON c.id = r.client \
                     WHERE c.state = 1 AND (r.client > $1 OR r.client = $1 AND r.line > $2) \
                     ORDER BY r.client, r.line LIMIT 1000");
    let (mut last, mut found) = ((0, 0), Vec::new());
    loop {
        let rows = tx.rows(query.clone().bind(last.0).bind(last.1)).await?;
        let Some(row) = rows.last() else { return Ok(found) };
        last = (row.int(0)?, row.int(1)?);
        for row in &rows {
            found.extend(
                details::read(&row.text(2)?)?.into_iter().map(|(slot, detail)| (slot, detail.leaf_set)),
            );
        }
    }
}

/// What is required is in a document with its time, or has a row; compared slot by slot.
async fn leaves(tx: &mut Tx, recounted: &BTreeMap<Key, i64>) -> Result<Vec<Difference>> {
    let mut documents: BTreeMap<i64, i64> = BTreeMap::new();
    for (slot, _) in required(tx).await? {
        *documents.entry(slot).or_default() += 1;
    }
    let rows = sql("SELECT d.slot, COUNT(*) FROM update_detail d JOIN client c ON c.id = d.client \
                    WHERE c.state = 1 GROUP BY d.slot");
    let mut more: BTreeMap<i64, i64> = BTreeMap::new();
    for row in tx.rows(rows).await? {
        more.insert(row.int(0)?, row.int(1)?);
    }
    let counted = recounted.iter().filter(|((scope, state), _)| *scope > 0 && *state == i64::from(REQUIRED));
    let counted: BTreeMap<i64, i64> = counted.map(|((slot, _), n)| (*slot, *n)).collect();
    let slots: BTreeSet<&i64> = documents.keys().chain(counted.keys()).collect();
    let count = |map: &BTreeMap<i64, i64>, slot| map.get(slot).copied().unwrap_or(0);
    Ok(slots
        .into_iter()
        .map(|slot| (slot, count(&documents, slot), count(&counted, slot)))
        .filter(|(slot, kept, required)| kept > required || *required > kept + count(&more, slot))
        .map(|(slot, kept, recounted)| {
            let what = format!("documents about what is required of slot {slot}");
            Difference { what, kept, recounted }
        })
        .collect())
}
