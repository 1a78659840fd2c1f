//! What messages do to what is known of a client: pure, on the writer's memory. What changed is noted for the write.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, UpdateId,
    client::{ClientState, Facts},
    state::{StateError, UpdateEnforcement},
};

use super::{
    cache::{ClientEntry, Detail, LineEntry, Segments, split},
    counts::{Deltas, EARLY, REQUIRED},
    dirty::{Dirty, ParkedState},
    load::slots,
    names::Sets,
    scan::Union,
};

/// Bits of the detection state in a slot's byte.
pub(super) const DETECTION: u8 = 0b11;
/// Facts of a client at most (limits of [`Facts`]).
const FACTS: usize = 200;
/// Deployments a client may report about at most.
const DEPLOYMENTS: usize = 1_000;

/// Adds (`by` = 1) or takes away (-1) everything a client counts for.
pub(crate) fn count_client(entry: &ClientEntry, counts: &mut Deltas, by: i64) {
    for (slot, byte) in slots(entry) {
        if byte & DETECTION >= REQUIRED {
            counts.slot(slot, byte & DETECTION, by);
        }
    }
    for (slot, detail) in &entry.details {
        if detail.early {
            counts.slot(*slot, EARLY, by);
        }
        if let Some(set) = detail.leaf_set {
            counts.set(*slot, set, by);
        }
    }
    for (line, watermark) in &entry.lines {
        counts.line(*line, watermark.version, by);
    }
}

/// Where messages are applied.
pub(crate) struct Apply<'a> {
    pub(crate) client: ClientId,
    pub(crate) entry: &'a mut ClientEntry,
    pub(crate) lines: &'a mut HashMap<String, LineEntry>,
    pub(crate) sets: &'a Sets,
    pub(crate) segments: &'a mut Segments,
    pub(crate) counts: &'a mut Deltas,
    pub(crate) dirty: &'a mut Dirty,
    pub(crate) unions: &'a mut Vec<Union>,
    /// Facts beyond the limits.
    pub(crate) dropped_facts: u64,
    pub(crate) received_at: Timestamp,
    pub(crate) parked_limit: usize,
}

impl Apply<'_> {
    pub(super) fn active(&self) -> bool {
        self.entry.state == ClientState::Active
    }

    pub(super) fn count(&mut self, slot: i64, state: u8, by: i64) {
        if state >= REQUIRED && self.active() {
            self.counts.slot(slot, state, by);
        }
    }

    /// A time the client claims, never in our future.
    pub(super) fn claimed(&self, at: Timestamp) -> Timestamp {
        at.min(self.received_at)
    }

    /// The client was installed anew: nothing it reported is true any more.
    pub(crate) fn forget(&mut self) {
        if self.active() {
            count_client(self.entry, self.counts, -1);
        }
        self.dirty.forget(self.entry);
        self.entry.lines.clear();
        self.entry.segments.clear();
        self.entry.dense.clear();
        self.entry.details.clear();
        self.entry.detail_rows.clear();
        self.entry.parts.clear();
        self.entry.parked.clear();
        self.entry.deployments.clear();
    }

    /// Another standing.
    pub(crate) fn set_state(&mut self, state: ClientState) {
        let (was, is) = (self.active(), state == ClientState::Active);
        if was != is {
            count_client(self.entry, self.counts, if is { 1 } else { -1 });
        }
        if self.entry.state != state {
            self.entry.state = state;
            self.dirty.client(self.entry.id).state = true;
        }
    }

    /// All facts of the client; those beyond the limits are left out and counted (`CARDINALITY`).
    pub(crate) fn facts(&mut self, facts: &Facts) {
        let good = facts
            .iter()
            .filter(|(key, value)| (1..=63).contains(&key.chars().count()) && value.chars().count() <= 256);
        let kept: BTreeMap<&String, &String> = good.take(FACTS).collect();
        let dropped = facts.len() - kept.len();
        if dropped > 0 {
            self.dropped_facts += dropped as u64;
            tracing::warn!(client = self.entry.id, dropped, "CARDINALITY: facts beyond the limits");
        }
        let Ok(text) = serde_json::to_string(&kept) else { return };
        if text != self.entry.facts {
            self.entry.facts = text;
            self.dirty.client(self.entry.id).facts = true;
        }
    }

    /// Topic 402.
    pub(crate) fn enforcement(
        &mut self,
        update: &UpdateId,
        state: UpdateEnforcement,
        error: Option<&StateError>,
        at: Timestamp,
    ) {
        let error = error.and_then(|error| serde_json::to_string(error).ok());
        let name = update.line.as_str();
        let place = self.lines.get(name).map(|line| line.names.place(&update.source, &update.version));
        let (Some(place), Some(line)) = (place, self.lines.get_mut(name)) else {
            return self.park_enforcement(update, state, error, at);
        };
        let Some((named, slot)) = line.at(place) else {
            return self.park_enforcement(update, state, error, at);
        };
        let slot = slot.unwrap_or_else(|| {
            let slot = self.segments.allocate(line.id);
            line.set_slot(place, slot);
            self.dirty.slot(slot, named.id, line.id);
            slot
        });
        self.set_enforcement(slot, state, error, at);
    }

    fn park_enforcement(
        &mut self,
        update: &UpdateId,
        state: UpdateEnforcement,
        error: Option<String>,
        at: Timestamp,
    ) {
        let mut parked = ParkedState::at(at);
        parked.enforcement = Some(i64::from(state.id()));
        parked.error = error;
        self.park(update.line.as_str(), &update.source, &update.version, parked);
    }

    pub(super) fn set_enforcement(
        &mut self,
        slot: i64,
        state: UpdateEnforcement,
        error: Option<String>,
        at: Timestamp,
    ) {
        let since = self.claimed(at);
        self.set_byte(slot, self.entry.byte(slot) & DETECTION | state.id() << 2);
        let required = self.entry.byte(slot) & DETECTION == REQUIRED;
        let before = self.entry.details.get(&slot).cloned();
        let detail = match (before, error) {
            (Some(detail), error) if required || error.is_some() || detail.early => {
                let since = if error.is_some() && detail.error != error { since } else { detail.since };
                Some(Detail { since, error, ..detail })
            }
            (None, Some(error)) => Some(Detail { since, leaf_set: None, early: false, error: Some(error) }),
            _ => None,
        };
        self.set_detail(slot, detail);
    }

    pub(super) fn set_byte(&mut self, slot: i64, byte: u8) {
        if self.entry.byte(slot) == byte {
            return;
        }
        let (segment, _) = split(slot);
        let before = self.entry.segments.get(&segment).cloned().unwrap_or_default();
        self.dirty.segment(self.entry.id, segment, &before);
        self.entry.set_byte(slot, byte);
    }

    /// Whether this client may report about `uid`; false beyond the bounds.
    pub(crate) fn deployment(&mut self, uid: &str) -> bool {
        if uid.is_empty() || uid.len() > 64 {
            return false;
        }
        if !self.entry.deployments.contains(uid) {
            if self.entry.deployments.len() >= DEPLOYMENTS {
                return false;
            }
            self.entry.deployments.insert(uid.to_owned());
        }
        true
    }
}
