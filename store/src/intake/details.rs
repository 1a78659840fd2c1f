//! Since when an update is required, which leaves of it, and what failed: rows for what failed or came early, and one
//! document a client and line for what is only required, because that is nearly all of it.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;
use patchtide_model::{client::ClientState, state::StateError};

use super::{
    apply::Apply,
    cache::{ClientEntry, Detail, Segments, split},
};
use crate::{Result, StoreError};

impl Apply<'_> {
    /// Keeps `detail` about `slot`, or nothing any more; the counts follow.
    pub(super) fn set_detail(&mut self, slot: i64, detail: Option<Detail>) {
        let set = detail.as_ref().and_then(|detail| detail.leaf_set);
        if self.entry.details.get(&slot) == detail.as_ref() {
            return;
        }
        let before = match detail {
            Some(detail) => self.entry.details.insert(slot, detail),
            None => self.entry.details.remove(&slot),
        };
        self.dirty.client(self.entry.id).details.insert(slot);
        let old = before.and_then(|before| before.leaf_set);
        if old != set && self.entry.state == ClientState::Active {
            if let Some(old) = old {
                self.counts.set(slot, old, -1);
            }
            if let Some(set) = set {
                self.counts.set(slot, set, 1);
            }
        }
    }
}

/// What a client only requires of `line`, as `client_required` has it: slot to instant and leaf set. `None` for nothing.
pub(crate) fn document(entry: &ClientEntry, segments: &Segments, line: i64) -> Option<String> {
    let mut text = String::new();
    for (slot, detail) in &entry.details {
        if detail.is_row() || segments.line_of.get(&split(*slot).0) != Some(&line) {
            continue;
        }
        let sign = if text.is_empty() { '{' } else { ',' };
        let since = detail.since.as_microsecond();
        // Writing to a text cannot fail.
        let _ = match detail.leaf_set {
            Some(set) => write!(text, "{sign}\"{slot}\":[{since},{set}]"),
            None => write!(text, "{sign}\"{slot}\":[{since},null]"),
        };
    }
    if text.is_empty() {
        return None;
    }
    text.push('}');
    Some(text)
}

/// What is known of a state beside its byte.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) since: Option<Timestamp>,
    pub(crate) leaf_set: Option<i64>,
    pub(crate) error: Option<StateError>,
}

/// Reads such a document.
pub(crate) fn read(text: &str) -> Result<Vec<(i64, Detail)>> {
    let what = "client_required document";
    let all: BTreeMap<i64, (i64, Option<i64>)> =
        serde_json::from_str(text).map_err(|source| StoreError::Document { what, source })?;
    all.into_iter()
        .map(|(slot, (since, leaf_set))| {
            let since = Timestamp::from_microsecond(since)
                .map_err(|error| StoreError::Damaged { what, detail: error.to_string() })?;
            Ok((slot, Detail { since, leaf_set, early: false, error: None }))
        })
        .collect()
}
