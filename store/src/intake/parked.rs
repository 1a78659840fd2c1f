//! States of updates that the catalogue does not have: kept, bounded, until it has them.

use jiff::Timestamp;
use patchtide_model::{catalogue::LeafRef, state::UpdateEnforcement};

use super::{
    DetectedUpdate,
    apply::{Apply, DETECTION},
    cache::Detail,
    counts::{EARLY, INSTALLED, REQUIRED},
    dirty::ParkedState,
    names::set_key,
};

impl Apply<'_> {
    pub(super) fn park_detection(&mut self, line: &str, state: &DetectedUpdate, at: Timestamp) {
        let mut parked = ParkedState::at(at);
        parked.detection = Some(i64::from(state.state.id()));
        parked.leaves =
            (!state.leaves.is_empty()).then(|| serde_json::to_string(&state.leaves).unwrap_or_default());
        self.park(line, &state.source, &state.version, parked);
    }

    /// Keeps a state until the catalogue has its update; beyond the bound it is dropped.
    pub(super) fn park(&mut self, line: &str, source: &str, version: &str, state: ParkedState) {
        let key = (line.to_owned(), source.to_owned(), version.to_owned());
        if !self.entry.parked.contains(&key) && self.entry.parked.len() >= self.parked_limit {
            return;
        }
        self.entry.parked.insert(key.clone());
        self.dirty.park(self.entry.id, key, state);
    }

    /// A scan replaces what was parked of its line.
    pub(super) fn unpark(&mut self, line: &str) {
        let old: Vec<_> = self.entry.parked.iter().filter(|(known, ..)| known == line).cloned().collect();
        for key in old {
            self.entry.parked.remove(&key);
            self.dirty.unpark(self.entry.id, key);
        }
    }

    /// The catalogue has the update now, in `slot`: what was parked takes effect.
    pub(crate) fn apply_parked(&mut self, key: (String, String, String), state: &ParkedState, slot: i64) {
        let detection = state.detection.and_then(|id| u8::try_from(id).ok());
        let detection = detection.filter(|id| matches!(*id, REQUIRED | INSTALLED)).unwrap_or(0);
        let since = self.claimed(state.at);
        let was = self.entry.byte(slot) & DETECTION;
        if detection != 0 && was == 0 {
            self.set_byte(slot, self.entry.byte(slot) & !DETECTION | detection);
            self.count(slot, detection, 1);
            self.count(slot, EARLY, 1);
            let leaves: Vec<LeafRef> =
                state.leaves.as_ref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
            let mut key = Vec::new();
            set_key(&leaves, &mut key);
            let leaf_set = if leaves.is_empty() { None } else { self.sets.get(&key) };
            self.set_detail(slot, Some(Detail { since, leaf_set, early: true, error: None }));
        }
        if let Some(state_id) = state.enforcement.and_then(|id| u8::try_from(id).ok())
            && let Some(enforcement) = UpdateEnforcement::from_id(state_id)
        {
            self.set_enforcement(slot, enforcement, state.error.clone(), state.at);
        }
        self.entry.parked.remove(&key);
        self.dirty.unpark(self.entry.id, key);
    }
}
