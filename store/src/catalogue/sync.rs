//! Taking a verified sync in.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use patchtide_model::{ClientId, SiteName, UpdateId, catalogue::LeafRef};

use super::{
    LineSync, SyncOutcome,
    revision::{Prepared, blocking, document, parallel},
};
use crate::{
    Result, SiteStore,
    core::Signal,
    intake::{
        apply::Apply,
        batch,
        cache::{Segments, SiteCache},
        counts::Deltas,
        dirty::{Dirty, ParkedState},
        load,
    },
    sql::{Many, Value, int, parse, sql},
    writer::Tx,
};

const UPDATES: Many = Many {
    head: "INSERT INTO software_update (id, line, source, version, title, classification, product, severity, posted, \
           superseded_by, superseded_at, expired, since_version, revision, applicability, body) VALUES ",
    columns: 16,
    tail: " ON CONFLICT (id) DO UPDATE SET title = excluded.title, classification = excluded.classification, \
            product = excluded.product, severity = excluded.severity, superseded_by = excluded.superseded_by, \
            superseded_at = excluded.superseded_at, expired = excluded.expired, \
            since_version = excluded.since_version, revision = excluded.revision, \
            applicability = excluded.applicability, body = excluded.body",
};
const LEAVES: Many = Many {
    head: "INSERT INTO leaf (package, architecture, version, update_id) VALUES ",
    columns: 4,
    tail: " ON CONFLICT DO NOTHING",
};
pub(super) const NO_LEAVES: Many =
    Many { head: "DELETE FROM leaf WHERE update_id IN (VALUES ", columns: 1, tail: ")" };
pub(super) const NO_SLOT: Many =
    Many { head: "UPDATE slot SET update_id = NULL WHERE update_id IN (VALUES ", columns: 1, tail: ")" };
const STANDING: Many = Many {
    head: "UPDATE software_update SET superseded_by = v.column2, superseded_at = v.column3, expired = v.column4 \
           FROM (VALUES ",
    columns: 4,
    tail: ") AS v WHERE software_update.id = v.column1",
};

const GONE: Many = Many {
    head: "UPDATE software_update SET gone_at = v.column2 FROM (VALUES ",
    columns: 2,
    tail: ") AS v WHERE software_update.id = v.column1",
};

/// An update as it is kept.
#[derive(Debug, Clone)]
struct Known {
    id: i64,
    source: String,
    version: String,
    revision: Vec<u8>,
    applicability: Vec<u8>,
    superseded_by: Option<String>,
    superseded_at: Option<i64>,
    expired: bool,
    since: u64,
    gone: bool,
}

/// A change of standing alone.
type Standing = (i64, Option<String>, Option<i64>, bool);

/// What a sync changes.
#[derive(Debug, Default)]
struct Plan {
    outcome: SyncOutcome,
    /// New and revised: id, the update, its standing, the version it is applicable since.
    write: Vec<(i64, Prepared, Standing, u64)>,
    revised: Vec<i64>,
    /// Of those, the ones that decide anew on which clients they are required.
    reslot: Vec<i64>,
    standing: Vec<Standing>,
    /// Newly not in the index, and in it again.
    gone: Vec<i64>,
    back: Vec<i64>,
}

impl SiteStore {
    /// Takes a verified sync in, in one transaction. The version rises only when something changed.
    pub async fn apply_line_sync(&self, sync: LineSync, now: Timestamp) -> Result<SyncOutcome> {
        let LineSync { line, release_date, updates, full } = sync;
        let mut updates = blocking(move || Ok(parallel(updates, Prepared::new))).await?;
        // Of several rows with one identity the last one holds.
        updates.reverse();
        let mut seen = HashSet::new();
        updates.retain(|one| seen.insert((one.update.id.source.clone(), one.update.id.version.clone())));
        drop(seen);

        let mut tx = self.begin("a catalogue").await?;
        let query = sql("SELECT id, version FROM line WHERE site = $1 AND name = $2");
        let row = tx.row(query.bind(self.site.as_str()).bind(line.as_str())).await?;
        let (line_id, version) = if let Some(row) = row {
            (row.int(0)?, row.unsigned(1)?)
        } else {
            let id = next_id(&mut tx, sql("SELECT COALESCE(MAX(id), 0) FROM line")).await?;
            let put = sql("INSERT INTO line (id, site, name, version, release_date, synced_at) \
                               VALUES ($1, $2, $3, 0, $4, $5)");
            let put = put.bind(id).bind(self.site.as_str()).bind(line.as_str());
            tx.execute(put.bind(release_date).bind(now)).await?;
            (id, 0)
        };
        let known = known(&mut tx, line_id).await?;
        let first_id = next_id(&mut tx, sql("SELECT COALESCE(MAX(id), 0) FROM software_update")).await?;
        let plan = plan(known, updates, full, version, first_id, now);
        let gone = plan.gone.iter().map(|id| (*id, now.as_microsecond()));
        let marks = gone.chain(plan.back.iter().map(|id| (*id, 0)));
        tx.execute_many(GONE, marks.flat_map(|(id, at)| [Value::from(id), at.into()]).collect()).await?;
        let mut outcome = plan.outcome;
        outcome.changed =
            version == 0 || outcome.new + outcome.revised + outcome.expired + outcome.superseded > 0;
        outcome.version = version + u64::from(outcome.changed);
        let state = sql("UPDATE line SET version = $2, release_date = $3, synced_at = $4 WHERE id = $1");
        tx.execute(state.bind(line_id).bind(int(outcome.version)).bind(release_date).bind(now)).await?;
        if outcome.changed {
            let new: BTreeSet<(String, String)> = plan
                .write
                .iter()
                .map(|(_, one, ..)| (one.update.id.source.clone(), one.update.id.version.clone()))
                .collect();
            write(&mut tx, line_id, plan).await?;
            let mut cache = std::mem::take(tx.cache());
            let known = SiteCache::of(&mut cache.sites, &self.site, &self.core().shared(&self.site));
            known.lines.remove(line.as_str());
            let place = (line.as_str(), line_id);
            unpark(&mut tx, &self.site, known, &mut cache.segments, place, &new, now).await?;
            *tx.cache() = cache;
            tx.raise(&self.site, Signal::Site);
        }
        tx.commit().await?;
        Ok(outcome)
    }
}

async fn next_id(tx: &mut Tx, query: crate::sql::Sql) -> Result<i64> {
    Ok(tx.row(query).await?.map_or(Ok(0), |row| row.int(0))? + 1)
}

async fn known(tx: &mut Tx, line: i64) -> Result<HashMap<(String, String), Known>> {
    let query =
        sql("SELECT id, source, version, revision, applicability, superseded_by, superseded_at, expired, \
                     since_version, gone_at FROM software_update WHERE line = $1");
    let mut known = HashMap::new();
    for row in tx.rows(query.bind(line)).await? {
        let one = Known {
            id: row.int(0)?,
            source: row.text(1)?,
            version: row.text(2)?,
            revision: row.blob(3)?,
            applicability: row.blob(4)?,
            superseded_by: row.text_option(5)?,
            superseded_at: row.int_option(6)?,
            expired: row.flag(7)?,
            since: row.unsigned(8)?,
            gone: row.int(9)? > 0,
        };
        known.insert((one.source.clone(), one.version.clone()), one);
    }
    Ok(known)
}

/// Compares what is known with what was found. Pure.
fn plan(
    mut known: HashMap<(String, String), Known>,
    updates: Vec<Prepared>,
    full: bool,
    version: u64,
    first_id: i64,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    let mut ids = first_id..;
    // Current updates of the sync by source: identity, whether new, and what it was superseded by before.
    let mut current: HashMap<String, (UpdateId, bool, Option<String>)> = HashMap::new();
    for one in updates {
        let found = known.remove(&(one.update.id.source.clone(), one.update.id.version.clone()));
        let by = one.update.superseded_by.as_ref().map(ToString::to_string);
        if by.is_none() {
            let before = found.as_ref().and_then(|found| found.superseded_by.clone());
            current.insert(one.update.id.source.clone(), (one.update.id.clone(), found.is_none(), before));
        }
        let Some(found) = found else {
            plan.outcome.new += 1;
            plan.outcome.superseded += u64::from(by.is_some());
            let at = by.is_some().then(|| now.as_microsecond());
            let id = ids.next().unwrap_or(i64::MAX);
            plan.write.push((id, one, (id, by, at, false), version + 1));
            continue;
        };
        if found.gone {
            plan.back.push(found.id);
        }
        let at = by.is_some().then(|| found.superseded_at.unwrap_or_else(|| now.as_microsecond()));
        // Back in the index and not superseded: it is not withdrawn any more.
        let expired = found.expired && by.is_some();
        let newly = by.is_some() && found.superseded_by.is_none();
        let standing_changed = by != found.superseded_by || expired != found.expired;
        if full && one.revision != found.revision {
            plan.outcome.revised += 1;
            plan.outcome.superseded += u64::from(newly);
            let same = one.applicability == found.applicability;
            if !same {
                plan.reslot.push(found.id);
            }
            plan.revised.push(found.id);
            let since = if same { found.since } else { version + 1 };
            plan.write.push((found.id, one, (found.id, by, at, expired), since));
        } else if standing_changed && (full || newly) {
            plan.outcome.superseded += u64::from(newly);
            plan.outcome.revised += u64::from(!newly);
            plan.standing.push((found.id, by, at, expired));
        } else {
            plan.outcome.unchanged += 1;
        }
    }
    let mut gone: Vec<Known> = known.into_values().collect();
    gone.sort_unstable_by_key(|one| one.id);
    for one in gone {
        if full && !one.gone {
            plan.gone.push(one.id);
        }
        if one.expired || one.superseded_by.is_some() {
            continue;
        }
        match current.get(&one.source) {
            // A delta looks only at what is new.
            Some((_, false, _)) if !full => {}
            // What it superseded before is current again: it was taken back, not followed by something newer.
            Some((next, _, before)) if !before.as_ref().is_some_and(|before| names(before, next, &one)) => {
                plan.outcome.superseded += 1;
                plan.standing.push((one.id, Some(next.to_string()), Some(now.as_microsecond()), false));
            }
            Some(_) | None if full => {
                plan.outcome.expired += 1;
                plan.standing.push((one.id, None, None, true));
            }
            Some(_) | None => {}
        }
    }
    plan
}

/// Whether `text` names the update `one` of the line of `next`.
fn names(text: &str, next: &UpdateId, one: &Known) -> bool {
    let id = UpdateId { line: next.line.clone(), source: one.source.clone(), version: one.version.clone() };
    text == id.to_string()
}

async fn write(tx: &mut Tx, line: i64, plan: Plan) -> Result<()> {
    let ids = |ids: &[i64]| ids.iter().map(|id| (*id).into()).collect::<Vec<Value>>();
    tx.execute_many(NO_SLOT, ids(&plan.reslot)).await?;
    tx.execute_many(NO_LEAVES, ids(&plan.revised)).await?;
    let standing = plan
        .standing
        .into_iter()
        .flat_map(|(id, by, at, expired)| [id.into(), by.into(), at.into(), Value::from(expired)]);
    tx.execute_many(STANDING, standing.collect()).await?;
    let rows = blocking(move || {
        parallel(plan.write, |(id, one, standing, since)| row(line, id, one, standing, since))
            .into_iter()
            .collect()
    });
    let rows: Vec<(Vec<Value>, Vec<Value>)> = rows.await?;
    let (updates, leaves): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    tx.execute_many(UPDATES, updates.into_iter().flatten().collect()).await?;
    tx.execute_many(LEAVES, leaves.into_iter().flatten().collect()).await.map(drop)
}

/// The rows of an update and of its leaves.
fn row(
    line: i64,
    id: i64,
    one: Prepared,
    standing: Standing,
    since: u64,
) -> Result<(Vec<Value>, Vec<Value>)> {
    let Prepared { update, revision, applicability } = one;
    let body = document(&update)?;
    let classification = super::classification(update.classification);
    let (_, superseded_by, superseded_at, expired) = standing;
    let values = vec![
        id.into(),
        line.into(),
        update.id.source.into(),
        update.id.version.into(),
        update.title.into(),
        classification.into(),
        update.product.into(),
        update.severity.code().into(),
        update.posted.into(),
        superseded_by.into(),
        superseded_at.into(),
        expired.into(),
        int(since).into(),
        revision.into(),
        applicability.into(),
        body.into(),
    ];
    let leaves = update
        .leaves
        .into_iter()
        .flat_map(|leaf| {
            [leaf.package.into(), leaf.architecture.into(), leaf.version.into(), Value::from(id)]
        })
        .collect();
    Ok((values, leaves))
}

const NEW: Many = Many {
    // A join, because SQLite would read the whole index for `IN` here.
    head: "SELECT u.source, u.version, u.id, s.slot FROM (VALUES ",
    columns: 3,
    tail: ") AS v JOIN software_update u ON u.line = v.column1 AND u.source = v.column2 AND u.version = v.column3 \
            LEFT JOIN slot s ON s.update_id = u.id",
};

/// States that were reported before the catalogue had their update take effect.
async fn unpark(
    tx: &mut Tx,
    site: &SiteName,
    known: &mut SiteCache,
    segments: &mut Segments,
    (line, line_id): (&str, i64),
    new: &BTreeSet<(String, String)>,
    now: Timestamp,
) -> Result<()> {
    let query =
        sql("SELECT c.uuid, p.source, p.version, p.detection, p.enforcement, p.leaves, p.error, p.at \
                     FROM parked p JOIN client c ON c.id = p.client WHERE c.site = $1 AND p.line = $2");
    let mut parked: Vec<(ClientId, (String, String), ParkedState)> = Vec::new();
    for row in tx.rows(query.bind(site.as_str()).bind(line)).await? {
        let key = (row.text(1)?, row.text(2)?);
        if !new.contains(&key) {
            continue;
        }
        let state = ParkedState {
            detection: row.int_option(3)?,
            enforcement: row.int_option(4)?,
            leaves: row.text_option(5)?,
            error: row.text_option(6)?,
            at: row.time(7)?,
        };
        parked.push((ClientId(parse(&row.text(0)?, "client id")?), key, state));
    }
    if parked.is_empty() {
        return Ok(());
    }
    load::segments(tx, segments).await?;
    load::clients(tx, site, known, parked.iter().map(|(client, ..)| *client)).await?;
    let mut sets: BTreeSet<Vec<LeafRef>> = BTreeSet::new();
    sets.extend(parked.iter().filter_map(|(.., state)| serde_json::from_str(state.leaves.as_ref()?).ok()));
    load::leaf_sets(tx, site, known, sets.iter().map(Vec::as_slice).collect()).await?;
    let named: BTreeSet<&(String, String)> = parked.iter().map(|(_, key, _)| key).collect();
    let keys = named.iter().flat_map(|(source, version)| {
        [line_id.into(), source.as_str().into(), Value::from(version.as_str())]
    });
    let (mut dirty, mut counts, mut unions) = (Dirty::default(), Deltas::default(), Vec::new());
    let mut slots: HashMap<(String, String), i64> = HashMap::new();
    for row in tx.rows_many(NEW, keys.collect()).await? {
        let slot = row.int_option(3)?.unwrap_or_else(|| segments.allocate(line_id));
        if row.int_option(3)?.is_none() {
            dirty.slot(slot, row.int(2)?, line_id);
        }
        slots.insert((row.text(0)?, row.text(1)?), slot);
    }
    let clients = parked.iter().map(|(client, ..)| *client).collect();
    for (client, key, state) in parked {
        let Some(entry) = known.clients.get_mut(&client) else { continue };
        let Some(slot) = slots.get(&key) else { continue };
        let mut apply = Apply {
            client,
            entry,
            lines: &mut known.lines,
            sets: &known.sets,
            segments,
            counts: &mut counts,
            dirty: &mut dirty,
            unions: &mut unions,
            dropped_facts: 0,
            received_at: now,
            parked_limit: 0,
        };
        apply.apply_parked((line.to_owned(), key.0, key.1), &state, *slot);
    }
    batch::finish(tx, known, segments, &clients, dirty, counts, now).await
}
