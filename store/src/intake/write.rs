//! Writing what a batch changed: a handful of statements, each over many rows, sorted as their tables are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::{
    cache::{ClientEntry, SLOTS, Segments, slot_at, split},
    details,
    dirty::{Dirty, DirtyClient},
    load::{bound, state_code},
};
use crate::{
    Result,
    signal::next_change,
    sql::{Many, Value, int, json},
    writer::Tx,
};

/// A row of `seg_state` costs about as much as this many bytes beside its states, and a row of `sparse_state` in all.
const ROW: usize = 20;
/// Single rows are smaller for more than these, but each takes as long to write as a segment does.
const SPARSE_ROWS: usize = 4;

macro_rules! forget {
    ($($table:literal),*) => {
        [$(Many { head: concat!("DELETE FROM ", $table, " WHERE client IN (VALUES "), columns: 1, tail: ")" }),*]
    };
}

const FORGET: [Many; 8] = forget!(
    "client_line",
    "scan_part",
    "seg_state",
    "sparse_state",
    "update_detail",
    "client_required",
    "parked",
    "deployment_client"
);
const SEGMENTS: Many = Many {
    head: "INSERT INTO segment (id, line, used) VALUES ",
    columns: 3,
    tail: " ON CONFLICT (id) DO UPDATE SET used = excluded.used",
};
const SLOT: Many = Many { head: "INSERT INTO slot (slot, update_id) VALUES ", columns: 2, tail: "" };
const DENSE: Many = Many {
    head: "INSERT INTO seg_state (segment, client, changed_at, states) VALUES ",
    columns: 4,
    tail: " ON CONFLICT (segment, client) DO UPDATE SET changed_at = excluded.changed_at, states = excluded.states",
};
const NO_DENSE: Many =
    Many { head: "DELETE FROM seg_state WHERE (segment, client) IN (VALUES ", columns: 2, tail: ")" };
const SPARSE: Many = Many {
    head: "INSERT INTO sparse_state (slot, client, state) VALUES ",
    columns: 3,
    tail: " ON CONFLICT (slot, client) DO UPDATE SET state = excluded.state",
};
const NO_SPARSE: Many =
    Many { head: "DELETE FROM sparse_state WHERE (slot, client) IN (VALUES ", columns: 2, tail: ")" };
const DETAIL: Many = Many {
    head: "INSERT INTO update_detail (slot, client, since, leaf_set, early, error) VALUES ",
    columns: 6,
    tail: " ON CONFLICT (slot, client) DO UPDATE SET since = excluded.since, leaf_set = excluded.leaf_set, \
            early = excluded.early, error = excluded.error",
};
const NO_DETAIL: Many =
    Many { head: "DELETE FROM update_detail WHERE (slot, client) IN (VALUES ", columns: 2, tail: ")" };
const REQUIRED: Many = Many {
    head: "INSERT INTO client_required (client, line, body) VALUES ",
    columns: 3,
    tail: " ON CONFLICT (client, line) DO UPDATE SET body = excluded.body",
};
const NO_REQUIRED: Many =
    Many { head: "DELETE FROM client_required WHERE (client, line) IN (VALUES ", columns: 2, tail: ")" };
const WATERMARK: Many = Many {
    head: "INSERT INTO client_line (client, line, version, scanned_at, needs) VALUES ",
    columns: 5,
    tail: " ON CONFLICT (client, line) DO UPDATE SET version = excluded.version, scanned_at = excluded.scanned_at, \
            needs = excluded.needs",
};
const PARTS: Many = Many {
    head: "INSERT INTO scan_part (client, line, version, parts, body) VALUES ",
    columns: 5,
    tail: " ON CONFLICT (client, line) DO UPDATE SET version = excluded.version, parts = excluded.parts, \
            body = excluded.body",
};
const NO_PARTS: Many =
    Many { head: "DELETE FROM scan_part WHERE (client, line) IN (VALUES ", columns: 2, tail: ")" };
const PARKED: Many = Many {
    head: "INSERT INTO parked (client, line, source, version, detection, enforcement, leaves, error, at) VALUES ",
    columns: 9,
    tail: " ON CONFLICT (client, line, source, version) DO UPDATE SET \
            detection = COALESCE(excluded.detection, parked.detection), \
            enforcement = COALESCE(excluded.enforcement, parked.enforcement), \
            leaves = COALESCE(excluded.leaves, parked.leaves), error = excluded.error, at = excluded.at",
};
const NO_PARKED: Many = Many {
    head: "DELETE FROM parked WHERE (client, line, source, version) IN (VALUES ",
    columns: 4,
    tail: ")",
};
const SEQUENCE: Many = Many {
    head: "INSERT INTO client_sequence (client, sequence, reported_at, skew) VALUES ",
    columns: 4,
    tail: " ON CONFLICT (client) DO UPDATE SET sequence = excluded.sequence, reported_at = excluded.reported_at, \
            skew = excluded.skew",
};
const SESSION: Many = Many {
    head: "INSERT INTO client_session (client, incarnation, boot, earlier, gap_since, asked, policy_epoch, \
           policy_number, scan, scan_error) VALUES ",
    columns: 10,
    tail: " ON CONFLICT (client) DO UPDATE SET incarnation = excluded.incarnation, boot = excluded.boot, \
            earlier = excluded.earlier, gap_since = excluded.gap_since, asked = excluded.asked, \
            policy_epoch = excluded.policy_epoch, policy_number = excluded.policy_number, scan = excluded.scan, \
            scan_error = excluded.scan_error",
};
const CLIENT: Many = Many {
    head: concat!(
        "UPDATE client SET state = v.column2, facts = v.column3, changed = ",
        next_change!("client.site"),
        " FROM (VALUES "
    ),
    columns: 3,
    tail: ") AS v WHERE client.id = v.column1",
};
const DEPLOYMENT: Many = Many {
    head: "INSERT INTO deployment_client AS d (uid, client, enforcement, compliance, evaluation, until, error, changed_at) \
           VALUES ",
    columns: 8,
    tail: " ON CONFLICT (uid, client) DO UPDATE SET \
            enforcement = COALESCE(excluded.enforcement, d.enforcement), \
            compliance = COALESCE(excluded.compliance, d.compliance), \
            evaluation = COALESCE(excluded.evaluation, d.evaluation), \
            until = CASE WHEN excluded.enforcement IS NULL THEN d.until ELSE excluded.until END, \
            error = CASE WHEN excluded.enforcement IS NULL THEN d.error ELSE excluded.error END, \
            changed_at = CASE WHEN COALESCE(excluded.enforcement, d.enforcement, -1) = COALESCE(d.enforcement, -1) \
              AND COALESCE(excluded.compliance, d.compliance, -1) = COALESCE(d.compliance, -1) \
              AND COALESCE(excluded.evaluation, d.evaluation, -1) = COALESCE(d.evaluation, -1) \
              THEN d.changed_at ELSE excluded.changed_at END",
};

/// Rows of each statement, in the order in which they are run.
#[derive(Default)]
struct Rows {
    statements: Vec<(Many, Vec<Value>)>,
}

impl Rows {
    fn row(&mut self, many: Many, row: impl IntoIterator<Item = Value>) {
        match self.statements.iter_mut().find(|(known, _)| known.head == many.head) {
            Some((_, values)) => values.extend(row),
            None => self.statements.push((many, row.into_iter().collect())),
        }
    }
}

/// Writes `dirty`; `entries` are the clients it names, as they are now.
pub(crate) async fn write(
    tx: &mut Tx,
    dirty: Dirty,
    entries: &HashMap<i64, &ClientEntry>,
    known: &Segments,
    now: Timestamp,
) -> Result<()> {
    let mut forget = Rows::default();
    let mut rows = Rows::default();
    for many in [SEGMENTS, SLOT, NO_DENSE, NO_SPARSE, DENSE, SPARSE] {
        rows.statements.push((many, Vec::new()));
    }
    let mut segments: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (slot, update, line) in &dirty.slots {
        let used = slot % SLOTS + 1;
        let known = segments.entry(slot / SLOTS).or_insert((*line, used));
        known.1 = known.1.max(used);
        rows.row(SLOT, [(*slot).into(), (*update).into()]);
    }
    for (segment, (line, used)) in segments {
        rows.row(SEGMENTS, [segment.into(), line.into(), used.into()]);
    }
    for (id, client) in &dirty.clients {
        let Some(entry) = entries.get(id) else { continue };
        if client.forgotten {
            for many in FORGET {
                forget.row(many, [(*id).into()]);
            }
        }
        states(&mut rows, client, entry);
        details(&mut rows, client, entry, known);
        reports(&mut rows, client, entry)?;
    }
    // Sorted by segment, then client: neighbours in the table are written together.
    dense(&mut rows, &dirty, entries, now);
    for ((client, (line, source, version)), state) in dirty.parked {
        let key = [client.into(), line.into(), source.into(), version.into()];
        match state {
            None => rows.row(NO_PARKED, key),
            Some(state) => {
                let state = [
                    state.detection.into(),
                    state.enforcement.into(),
                    state.leaves.into(),
                    state.error.into(),
                    state.at.into(),
                ];
                rows.row(PARKED, key.into_iter().chain(state));
            }
        }
    }
    for ((uid, client), change) in dirty.deployments {
        let (state, until, error) = match change.enforcement {
            Some((state, until, error)) => (Some(state), until, error),
            None => (None, None, None),
        };
        let row: [Value; 8] = [
            uid.into(),
            client.into(),
            state.into(),
            change.compliance.into(),
            change.evaluation.into(),
            until.into(),
            error.into(),
            change.at.into(),
        ];
        rows.row(DEPLOYMENT, row);
    }
    for (many, mut values) in forget.statements.into_iter().chain(rows.statements) {
        if [SPARSE.head, NO_SPARSE.head, DETAIL.head, NO_DETAIL.head].contains(&many.head) {
            values = sorted(values, many.columns);
        }
        tx.execute_many(many, values).await?;
    }
    Ok(())
}

/// Rows by slot, then client, as they lie in their table: a B-tree is filled faster in its own order.
fn sorted(values: Vec<Value>, columns: usize) -> Vec<Value> {
    let key = |value: &Value| if let Value::Int(Some(key)) = value { *key } else { 0 };
    let mut rows = Vec::with_capacity(values.len() / columns);
    let mut values = values.into_iter();
    while let Some(first) = values.next() {
        let row: Vec<Value> = std::iter::once(first).chain(values.by_ref().take(columns - 1)).collect();
        rows.push(((row.first().map_or(0, key), row.get(1).map_or(0, key)), row));
    }
    rows.sort_unstable_by_key(|(key, _)| *key);
    rows.into_iter().flat_map(|(_, row)| row).collect()
}

/// Whether a client has so little in a segment that single rows are smaller, and few.
pub(crate) fn is_sparse(states: &[u8]) -> bool {
    let used = states.iter().filter(|byte| **byte != 0).count();
    used <= SPARSE_ROWS && used * ROW < ROW + states.len()
}

/// Segments in which a client has only a few states, and the change from one form to the other.
fn states(rows: &mut Rows, client: &DirtyClient, entry: &ClientEntry) {
    for (segment, before) in &client.segments {
        let after = entry.segments.get(segment).map_or(&[][..], Vec::as_slice);
        let (was_sparse, sparse) = (!entry.dense.contains(segment), is_sparse(after));
        if !was_sparse && sparse {
            rows.row(NO_DENSE, [(*segment).into(), entry.id.into()]);
        }
        if !was_sparse && !sparse {
            continue;
        }
        for ordinal in 0..before.len().max(after.len()) {
            let was = before.get(ordinal).copied().unwrap_or(0);
            let is = after.get(ordinal).copied().unwrap_or(0);
            let slot = slot_at(*segment, ordinal);
            if was_sparse && was != 0 && (is == 0 || !sparse) {
                rows.row(NO_SPARSE, [slot.into(), entry.id.into()]);
            }
            if sparse && is != 0 && (is != was || !was_sparse) {
                rows.row(SPARSE, [slot.into(), entry.id.into(), is.into()]);
            }
        }
    }
}

fn dense(rows: &mut Rows, dirty: &Dirty, entries: &HashMap<i64, &ClientEntry>, now: Timestamp) {
    let mut order: Vec<(i64, i64)> = dirty
        .clients
        .iter()
        .flat_map(|(client, dirty)| dirty.segments.keys().map(move |segment| (*segment, *client)))
        .collect();
    order.sort_unstable();
    for (segment, client) in order {
        let (Some(entry), Some(changed)) = (entries.get(&client), dirty.clients.get(&client)) else {
            continue;
        };
        let states = entry.segments.get(&segment).map_or(&[][..], Vec::as_slice);
        if states.is_empty()
            || is_sparse(states)
            || changed.segments.get(&segment).is_some_and(|old| old == states)
        {
            continue;
        }
        rows.row(DENSE, [segment.into(), client.into(), now.into(), states.to_vec().into()]);
    }
}

/// Since when what is required, and what failed.
fn details(rows: &mut Rows, client: &DirtyClient, entry: &ClientEntry, known: &Segments) {
    let mut lines: BTreeSet<i64> = BTreeSet::new();
    for slot in &client.details {
        lines.extend(known.line_of.get(&split(*slot).0));
        match entry.details.get(slot).filter(|detail| detail.is_row()) {
            None if entry.detail_rows.contains(slot) => {
                rows.row(NO_DETAIL, [(*slot).into(), entry.id.into()]);
            }
            None => {}
            Some(detail) => {
                let row = [
                    (*slot).into(),
                    entry.id.into(),
                    detail.since.into(),
                    detail.leaf_set.into(),
                    detail.early.into(),
                    detail.error.clone().into(),
                ];
                rows.row(DETAIL, row);
            }
        }
    }
    for line in lines {
        match details::document(entry, known, line) {
            None => rows.row(NO_REQUIRED, [entry.id.into(), line.into()]),
            Some(body) => rows.row(REQUIRED, [entry.id.into(), line.into(), body.into()]),
        }
    }
}

/// Everything about a client but its states.
fn reports(rows: &mut Rows, client: &DirtyClient, entry: &ClientEntry) -> Result<()> {
    let id = Value::from(entry.id);
    for line in &client.lines {
        if let Some(mark) = entry.lines.get(line) {
            let row = [
                id.clone(),
                (*line).into(),
                int(mark.version).into(),
                mark.scanned_at.into(),
                mark.needs.into(),
            ];
            rows.row(WATERMARK, row);
        }
    }
    for line in &client.parts {
        match entry.parts.get(line) {
            None => rows.row(NO_PARTS, [id.clone(), line.as_str().into()]),
            Some(parts) => {
                let row = [
                    id.clone(),
                    line.as_str().into(),
                    int(parts.version).into(),
                    i64::from(parts.count).into(),
                    parts.body.clone().into(),
                ];
                rows.row(PARTS, row);
            }
        }
    }
    if client.state || client.facts {
        rows.row(CLIENT, [id.clone(), state_code(entry.state).into(), entry.facts.as_str().into()]);
    }
    if let Some((reported_at, skew)) = client.report {
        rows.row(SEQUENCE, [id.clone(), int(entry.sequence).into(), reported_at.into(), skew.into()]);
    }
    if client.session
        && let Some(session) = &entry.session
    {
        let scan_error = session.scan_error.as_ref().map(|error| json("scan error", error)).transpose()?;
        let row = [
            id,
            session.incarnation.to_string().into(),
            session.boot.to_string().into(),
            json("earlier boots", &session.earlier)?.into(),
            session.gap_since.into(),
            bound(session.asked).into(),
            bound(session.policy.map(|policy| policy.0)).into(),
            bound(session.policy.map(|policy| policy.1)).into(),
            session.scan.id().into(),
            scan_error.into(),
        ];
        rows.row(SESSION, row);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_states_in_a_segment_are_rows() {
        assert!(is_sparse(&[]) && is_sparse(&[0, 0, 0, 0, 0, 0, 0, 3]));
        let mut states = vec![0; 255];
        states.push(2);
        states[100] = 2;
        assert!(is_sparse(&states));
        for byte in states.iter_mut().step_by(16) {
            *byte = 3;
        }
        assert!(!is_sparse(&states) && !is_sparse(&[3; 4]));
    }
}
