//! Reading what the writer does not remember about the clients, lines and updates of a batch.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use patchtide_model::{
    ClientId, Digest, SiteName,
    catalogue::LeafRef,
    client::ClientState,
    state::{Scan, StateError},
};

use super::{
    cache::{ClientEntry, Detail, LineEntry, Parts, Segments, Session, SiteCache, Watermark, slot_at},
    details,
    names::{Names, set_key},
};
use crate::{
    Result, StoreError,
    sql::{Many, Row, Value, int, json, parse, sql},
    writer::Tx,
};

/// A standing as a number.
pub(crate) const fn state_code(state: ClientState) -> i64 {
    match state {
        ClientState::Pending => 0,
        ClientState::Active => 1,
        ClientState::Revoked => 2,
        ClientState::Quarantined => 3,
    }
}

/// A number as a standing.
pub(crate) fn state_of(code: i64) -> Result<ClientState> {
    Ok(match code {
        0 => ClientState::Pending,
        1 => ClientState::Active,
        2 => ClientState::Revoked,
        3 => ClientState::Quarantined,
        other => return Err(StoreError::Damaged { what: "client state", detail: other.to_string() }),
    })
}

/// The whole of what is known of segments.
pub(crate) async fn segments(tx: &mut Tx, segments: &mut Segments) -> Result<()> {
    if segments.loaded {
        return Ok(());
    }
    for row in tx.rows(sql("SELECT id, line, used FROM segment ORDER BY id")).await? {
        let (id, line, used) = (row.int(0)?, row.int(1)?, row.int(2)?);
        segments.line_of.insert(id, line);
        segments.open.insert(line, (id, used));
        segments.last = id;
    }
    segments.loaded = true;
    Ok(())
}

macro_rules! by_client {
    ($head:literal) => {
        Many { head: concat!($head, " WHERE client IN (VALUES "), columns: 1, tail: ")" }
    };
}

const CLIENTS: Many = Many {
    head: "SELECT id, uuid, state, facts FROM client WHERE (site, uuid) IN (VALUES ",
    columns: 2,
    tail: ")",
};
const SEQUENCES: Many = by_client!("SELECT client, sequence FROM client_sequence");
const SESSIONS: Many = by_client!(
    "SELECT client, incarnation, boot, earlier, gap_since, asked, policy_epoch, policy_number, scan, scan_error \
     FROM client_session"
);
const WATERMARKS: Many = by_client!("SELECT client, line, version, scanned_at, needs FROM client_line");
const STATES: Many = by_client!("SELECT client, segment, states FROM seg_state");
const SPARSE: Many = by_client!("SELECT client, slot, state FROM sparse_state");
const DETAILS: Many = by_client!("SELECT client, slot, since, leaf_set, early, error FROM update_detail");
const REQUIRED: Many = by_client!("SELECT client, body FROM client_required");
const PARTS: Many = by_client!("SELECT client, line, version, parts, body FROM scan_part");
const PARKED: Many = by_client!("SELECT client, line, source, version FROM parked");
const DEPLOYMENTS: Many = by_client!("SELECT client, uid FROM deployment_client");

/// Makes sure that those of `ids` that exist are remembered.
pub(crate) async fn clients(
    tx: &mut Tx,
    site: &SiteName,
    cache: &mut SiteCache,
    ids: impl IntoIterator<Item = ClientId>,
) -> Result<()> {
    let missing: BTreeSet<ClientId> = ids.into_iter().filter(|id| !cache.clients.contains_key(id)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let keys = missing.iter().flat_map(|id| [site.as_str().into(), (*id).into()]).collect();
    let mut found: BTreeMap<i64, (ClientId, ClientEntry)> = BTreeMap::new();
    for row in tx.rows_many(CLIENTS, keys).await? {
        let id = ClientId(parse(&row.text(1)?, "client id")?);
        let entry = ClientEntry {
            id: row.int(0)?,
            state: state_of(row.int(2)?)?,
            facts: row.text(3)?,
            sequence: 0,
            session: None,
            lines: BTreeMap::new(),
            segments: BTreeMap::new(),
            dense: BTreeSet::new(),
            details: BTreeMap::new(),
            detail_rows: BTreeSet::new(),
            parts: BTreeMap::new(),
            parked: BTreeSet::new(),
            deployments: BTreeSet::new(),
        };
        found.insert(entry.id, (id, entry));
    }
    let mut keys: Vec<Value> = found.keys().map(|id| (*id).into()).collect();
    let all =
        [SEQUENCES, SESSIONS, WATERMARKS, STATES, SPARSE, DETAILS, REQUIRED, PARTS, PARKED, DEPLOYMENTS];
    for many in all {
        let rows = tx.rows_many(many, keys.clone()).await?;
        if many.head == SEQUENCES.head {
            // Every report writes this row: without it there is nothing else, as for every client of a first rollout.
            keys = rows.iter().map(|row| Ok(row.int(0)?.into())).collect::<Result<_>>()?;
        }
        for row in rows {
            if let Some((_, entry)) = found.get_mut(&row.int(0)?) {
                add(entry, many.head, &row)?;
            }
        }
    }
    cache.clients.extend(found.into_values());
    Ok(())
}

fn add(entry: &mut ClientEntry, head: &str, row: &Row) -> Result<()> {
    if head == SEQUENCES.head {
        entry.sequence = row.unsigned(1)?;
    } else if head == SESSIONS.head {
        entry.session = Some(session(row)?);
    } else if head == WATERMARKS.head {
        let watermark =
            Watermark { version: row.unsigned(2)?, scanned_at: row.time(3)?, needs: row.int_option(4)? };
        entry.lines.insert(row.int(1)?, watermark);
    } else if head == STATES.head {
        let segment = row.int(1)?;
        entry.segments.insert(segment, row.blob(2)?);
        entry.dense.insert(segment);
    } else if head == SPARSE.head {
        entry.set_byte(row.int(1)?, u8::try_from(row.int(2)?).unwrap_or(0));
    } else if head == DETAILS.head {
        let detail = Detail {
            since: row.time(2)?,
            leaf_set: row.int_option(3)?,
            early: row.flag(4)?,
            error: row.text_option(5)?,
        };
        let slot = row.int(1)?;
        entry.details.insert(slot, detail);
        entry.detail_rows.insert(slot);
    } else if head == REQUIRED.head {
        entry.details.extend(details::read(&row.text(1)?)?);
    } else if head == PARTS.head {
        let parts = Parts {
            version: row.unsigned(2)?,
            count: u16::try_from(row.int(3)?).unwrap_or(u16::MAX),
            body: row.blob(4)?,
        };
        entry.parts.insert(row.text(1)?, parts);
    } else if head == PARKED.head {
        entry.parked.insert((row.text(1)?, row.text(2)?, row.text(3)?));
    } else {
        entry.deployments.insert(row.text(1)?);
    }
    Ok(())
}

fn session(row: &Row) -> Result<Session> {
    Ok(Session {
        incarnation: row.parse(1, "incarnation")?,
        boot: row.parse(2, "boot")?,
        earlier: row.json(3, "earlier boots")?,
        gap_since: row.time_option(4)?,
        asked: row.int_option(5)?.and_then(|n| u64::try_from(n).ok()),
        policy: match (row.int_option(6)?, row.int_option(7)?) {
            (Some(epoch), Some(number)) => Some((epoch.cast_unsigned(), number.cast_unsigned())),
            _ => None,
        },
        scan: u8::try_from(row.int(8)?).ok().and_then(Scan::from_id).unwrap_or(Scan::Unknown),
        scan_error: row.json_option::<StateError>(9, "scan error")?,
    })
}

const LINES: Many = Many {
    head: "SELECT id, name, version, cleaned FROM line WHERE (site, name) IN (VALUES ",
    columns: 2,
    tail: ")",
};

/// Makes sure that those of the lines `names` that exist are remembered, whole.
pub(crate) async fn lines(
    tx: &mut Tx,
    site: &SiteName,
    cache: &mut SiteCache,
    names: BTreeSet<&str>,
) -> Result<()> {
    let missing = names.into_iter().filter(|name| !cache.lines.contains_key(*name));
    let keys = missing.flat_map(|name| [site.as_str().into(), name.into()]).collect();
    for row in tx.rows_many(LINES, keys).await? {
        let (id, name, version, cleaned) = (row.int(0)?, row.text(1)?, row.unsigned(2)?, row.int(3)?);
        let shared = cache.sets.shared.line(&name);
        let known = shared.filter(|names| names.edition() == (id, version, cleaned));
        let names = if let Some(names) = known {
            names
        } else {
            let mut names = Names::new(id, version, cleaned);
            catalogue(tx, &mut names).await?;
            let names = Arc::new(names);
            cache.sets.shared.put_line(&name, &names);
            names
        };
        let mut entry = LineEntry::new(names);
        let slots =
            sql("SELECT s.update_id, s.slot FROM segment g JOIN slot s ON s.slot BETWEEN g.id * 256 \
                         AND g.id * 256 + 255 WHERE g.line = $1 AND s.update_id IS NOT NULL");
        for row in tx.rows(slots.bind(id)).await? {
            entry.set_slot(entry.names.place_of(row.int(0)?), row.int(1)?);
        }
        cache.lines.insert(name, entry);
    }
    Ok(())
}

async fn catalogue(tx: &mut Tx, names: &mut Names) -> Result<()> {
    let query =
        sql("SELECT id, since_version, source, version FROM software_update WHERE line = $1 ORDER BY id");
    for row in tx.rows(query.bind(names.line)).await? {
        names.push(row.int(0)?, row.unsigned(1)?, &row.text(2)?, &row.text(3)?);
    }
    Ok(())
}

const FIND_SETS: Many = Many {
    head: "SELECT id, digest, epoch FROM leaf_set WHERE (site, digest) IN (VALUES ",
    columns: 2,
    tail: ")",
};
const PUT_SETS: Many =
    Many { head: "INSERT INTO leaf_set (id, site, digest, leaves, epoch) VALUES ", columns: 5, tail: "" };
const GIVEN_OUT: Many = Many {
    head: "UPDATE leaf_set SET epoch = (SELECT set_epoch FROM writer) WHERE id IN (VALUES ",
    columns: 1,
    tail: ")",
};

/// Makes sure that each of `sets` (sorted) has an id.
pub(crate) async fn leaf_sets(
    tx: &mut Tx,
    site: &SiteName,
    cache: &mut SiteCache,
    sets: BTreeSet<&[LeafRef]>,
) -> Result<()> {
    let mut missing: BTreeMap<Vec<u8>, (Vec<u8>, String)> = BTreeMap::new();
    for set in sets {
        let mut key = Vec::new();
        set_key(set, &mut key);
        if cache.sets.get(&key).is_none() {
            let text = json("leaf set", set)?;
            missing.insert(Digest::of(text.as_bytes()).as_bytes().to_vec(), (key, text));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let keys = missing.keys().flat_map(|digest| [site.as_str().into(), digest.clone().into()]).collect();
    let epoch = tx.set_epoch();
    let mut given_out = Vec::new();
    for row in tx.rows_many(FIND_SETS, keys).await? {
        if let Some((key, _)) = missing.remove(&row.blob(1)?) {
            cache.sets.put(key, row.int(0)?);
            if row.int(2)? < epoch {
                given_out.push(row.int(0)?.into());
            }
        }
    }
    tx.execute_many(GIVEN_OUT, given_out).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let last = tx.row(sql("SELECT COALESCE(MAX(id), 0) FROM leaf_set")).await?;
    let mut id = last.map_or(Ok(0), |row| row.int(0))?;
    let mut values = Vec::with_capacity(missing.len() * 5);
    for (digest, (key, text)) in missing {
        id += 1;
        values.extend([id.into(), site.as_str().into(), digest.into(), Value::from(text), epoch.into()]);
        cache.sets.put(key, id);
    }
    tx.execute_many(PUT_SETS, values).await.map(drop)
}

/// Every slot of a client that is not zero, with its byte.
pub(crate) fn slots(entry: &ClientEntry) -> impl Iterator<Item = (i64, u8)> + '_ {
    entry.segments.iter().flat_map(|(segment, states)| {
        states
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte != 0)
            .map(move |(ordinal, byte)| (slot_at(*segment, ordinal), *byte))
    })
}

/// A version as it is bound.
pub(crate) fn bound(version: Option<u64>) -> Option<i64> {
    version.map(int)
}
