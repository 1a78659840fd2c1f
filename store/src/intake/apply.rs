//! What messages do to what is known of a client: pure, on the writer's memory. What changed is noted for the write.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::{
    UpdateId,
    catalogue::LeafRef,
    client::{ClientState, Facts},
    state::{Detection, StateError, UpdateEnforcement},
};

use super::{
    DetectedUpdate, DetectionReport, IntakeBody,
    cache::{
        ClientEntry, Detail, LineEntry, NOWHERE, Parts, Segments, SiteCache, UpdateEntry, Watermark, slot_at,
        split,
    },
    counts::{Deltas, EARLY, INSTALLED, REQUIRED},
    dirty::{Dirty, ParkedState},
    load::slots,
};

/// Bits of the detection state in a slot's byte.
pub(super) const DETECTION: u8 = 0b11;
/// Facts of a client at most (limits of [`Facts`]).
const FACTS: usize = 200;
/// Bytes of the parts of one scan at most.
const PART_BYTES: usize = 8 * 1024 * 1024;
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
    }
    for (line, watermark) in &entry.lines {
        counts.line(*line, watermark.version, by);
    }
}

/// Where messages are applied.
pub(crate) struct Apply<'a> {
    pub(crate) entry: &'a mut ClientEntry,
    pub(crate) lines: &'a mut std::collections::HashMap<String, LineEntry>,
    pub(crate) leaf_sets: &'a std::collections::HashMap<Vec<LeafRef>, i64>,
    pub(crate) segments: &'a mut Segments,
    pub(crate) counts: &'a mut Deltas,
    pub(crate) dirty: &'a mut Dirty,
    pub(crate) received_at: Timestamp,
    pub(crate) parked_limit: usize,
}

impl Apply<'_> {
    fn active(&self) -> bool {
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

    /// All facts of the client.
    pub(crate) fn facts(&mut self, facts: &Facts) {
        let mut facts = facts.clone();
        let given = facts.len();
        facts.retain(|key, value| (1..=63).contains(&key.chars().count()) && value.chars().count() <= 256);
        while facts.len() > FACTS {
            facts.pop_last();
        }
        if facts.len() < given {
            tracing::warn!(
                client = self.entry.id,
                dropped = given - facts.len(),
                "CARDINALITY: facts beyond the limits"
            );
        }
        let Ok(text) = serde_json::to_string(&facts) else { return };
        if text != self.entry.facts {
            self.entry.facts = text;
            self.dirty.client(self.entry.id).facts = true;
        }
    }

    /// A scan of a line, or a part of one.
    pub(crate) fn detection(&mut self, report: &DetectionReport, places: &[u32], at: Timestamp) {
        let line = report.line.as_str().to_owned();
        if report.part == 0 && report.last {
            if self.entry.parts.remove(&line).is_some() {
                self.dirty.client(self.entry.id).parts.insert(line);
            }
            self.scan(report, &report.states, places, &report.needs, at);
            return;
        }
        self.dirty.client(self.entry.id).parts.insert(line.clone());
        let known = self.entry.parts.remove(&line);
        let mut parts = match known {
            _ if report.part == 0 => Parts { version: report.catalogue_version, count: 0, body: Vec::new() },
            Some(parts) if parts.version == report.catalogue_version && parts.count == report.part => parts,
            // A part is missing: the scan does not count, and the client stays where it was.
            _ => return,
        };
        let Ok(mut body) = serde_json::to_vec(&(&report.states, &report.needs)) else { return };
        body.push(b'\n');
        if parts.body.len() + body.len() > PART_BYTES {
            tracing::warn!(client = self.entry.id, line, "a scan in parts is larger than a line can be");
            return;
        }
        parts.body.append(&mut body);
        parts.count += 1;
        if !report.last {
            self.entry.parts.insert(line, parts);
            return;
        }
        let (mut states, mut needs) = (Vec::new(), Vec::new());
        for part in parts.body.split(|byte| *byte == b'\n').filter(|part| !part.is_empty()) {
            let Ok((mut more, mut leaves)) =
                serde_json::from_slice::<(Vec<DetectedUpdate>, Vec<LeafRef>)>(part)
            else {
                return;
            };
            states.append(&mut more);
            needs.append(&mut leaves);
        }
        super::normalise(&mut needs);
        let places = places_of(&states, self.lines.get(&line));
        self.scan(report, &states, &places, &needs, at);
    }

    /// A complete scan: what is not named is not required.
    fn scan(
        &mut self,
        report: &DetectionReport,
        states: &[DetectedUpdate],
        places: &[u32],
        needs: &[LeafRef],
        at: Timestamp,
    ) {
        let name = report.line.as_str();
        self.unpark(name);
        let Some(line) = self.lines.get(name) else {
            for state in states {
                self.park_detection(name, state, at);
            }
            return;
        };
        let (id, current) = (line.id, line.version);
        let updates: Vec<Option<UpdateEntry>> = places.iter().map(|place| line.at(*place)).collect();
        // A client cannot have scanned what this site has not published (it may have, before the site was restored).
        let version = report.catalogue_version.min(current);
        // Enforcement stays; detection starts from nothing.
        let mut after: BTreeMap<i64, Vec<u8>> = self
            .entry
            .segments
            .iter()
            .filter(|(segment, _)| self.segments.line_of.get(segment) == Some(&id))
            .map(|(segment, states)| (*segment, states.iter().map(|byte| byte & !DETECTION).collect()))
            .collect();
        let since = self.claimed(at);
        let mut required: BTreeMap<i64, Option<i64>> = BTreeMap::new();
        for ((state, place), update) in states.iter().zip(places).zip(updates) {
            let bits = match state.state {
                Detection::Required => REQUIRED,
                Detection::Installed => INSTALLED,
                Detection::Unknown | Detection::NotRequired => continue,
            };
            let Some(update) = update else {
                self.park_detection(name, state, at);
                continue;
            };
            // Scanned by what it was before: unknown until the next scan.
            if update.since > version {
                continue;
            }
            let slot = self.slot(name, *place, update);
            let (segment, ordinal) = split(slot);
            let bytes = after.entry(segment).or_default();
            if bytes.len() <= ordinal {
                bytes.resize(ordinal + 1, 0);
            }
            bytes[ordinal] = bytes[ordinal] & !DETECTION | bits;
            if bits == REQUIRED {
                required.insert(slot, self.leaf_sets.get(&state.leaves).copied());
            } else {
                required.remove(&slot);
            }
        }
        self.clear_early(id);
        for (segment, bytes) in after {
            self.replace(segment, bytes);
        }
        for (slot, leaf_set) in required {
            let (id, detail) = (self.entry.id, self.entry.details.get(&slot));
            let changed = match detail {
                Some(detail) => detail.leaf_set != leaf_set,
                None => true,
            };
            if changed {
                let old = self.entry.details.remove(&slot);
                let detail = Detail {
                    since: old.as_ref().map_or(since, |old| old.since),
                    leaf_set,
                    early: false,
                    error: old.and_then(|old| old.error),
                };
                self.entry.details.insert(slot, detail);
                self.dirty.client(id).details.insert(slot);
            }
        }
        let watermark = Watermark {
            version,
            scanned_at: self.received_at,
            needs: if needs.is_empty() { None } else { self.leaf_sets.get(needs).copied() },
        };
        let old = self.entry.lines.insert(id, watermark);
        if self.active() && old.is_none_or(|old| old.version != version) {
            if let Some(old) = old {
                self.counts.line(id, old.version, -1);
            }
            self.counts.line(id, version, 1);
        }
        self.dirty.client(self.entry.id).lines.insert(id);
    }

    /// Replaces the detection states of a segment.
    fn replace(&mut self, segment: i64, mut bytes: Vec<u8>) {
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(used);
        let before = self.entry.segments.get(&segment).cloned().unwrap_or_default();
        if before == bytes {
            return;
        }
        self.dirty.segment(self.entry.id, segment, &before);
        for ordinal in 0..before.len().max(bytes.len()) {
            let was = before.get(ordinal).copied().unwrap_or(0) & DETECTION;
            let is = bytes.get(ordinal).copied().unwrap_or(0) & DETECTION;
            if was == is {
                continue;
            }
            let slot = slot_at(segment, ordinal);
            self.count(slot, was, -1);
            self.count(slot, is, 1);
            if was == REQUIRED {
                self.no_longer_required(slot);
            }
        }
        self.entry.segments.insert(segment, bytes);
    }

    fn no_longer_required(&mut self, slot: i64) {
        let Some(detail) = self.entry.details.get_mut(&slot) else { return };
        detail.leaf_set = None;
        if detail.error.is_none() && !detail.early {
            self.entry.details.remove(&slot);
        }
        self.dirty.client(self.entry.id).details.insert(slot);
    }

    /// What was reported before the catalogue had it is from now on what the scan says.
    fn clear_early(&mut self, line: i64) {
        let early: Vec<i64> = self
            .entry
            .details
            .iter()
            .filter(|(slot, detail)| {
                detail.early && self.segments.line_of.get(&split(**slot).0) == Some(&line)
            })
            .map(|(slot, _)| *slot)
            .collect();
        for slot in early {
            self.count(slot, EARLY, -1);
            let keep = self.entry.byte(slot) & DETECTION == REQUIRED;
            if let Some(detail) = self.entry.details.get_mut(&slot) {
                detail.early = false;
                if !keep && detail.error.is_none() {
                    self.entry.details.remove(&slot);
                }
            }
            self.dirty.client(self.entry.id).details.insert(slot);
        }
    }

    /// The slot of an update, given now when it has none.
    pub(super) fn slot(&mut self, line: &str, place: u32, update: UpdateEntry) -> i64 {
        if let Some(slot) = update.slot {
            return slot;
        }
        let Some(entry) = self.lines.get_mut(line) else { return 0 };
        // Named twice in one scan: given a moment ago.
        if let Some(slot) = entry.at(place).and_then(|update| update.slot) {
            return slot;
        }
        let slot = self.segments.allocate(entry.id);
        entry.set_slot(place, slot);
        self.dirty.slot(slot, update.id, entry.id);
        slot
    }

    /// Topic 402.
    pub(crate) fn enforcement(
        &mut self,
        update: &UpdateId,
        state: UpdateEnforcement,
        error: Option<&StateError>,
        at: Timestamp,
    ) {
        let line = update.line.as_str();
        let place = self.lines.get(line).map_or(NOWHERE, |line| line.place(&update.source, &update.version));
        let Some(known) = self.lines.get(line).and_then(|line| line.at(place)) else {
            let mut parked = ParkedState::at(at);
            parked.enforcement = Some(i64::from(state.id()));
            parked.error = error.and_then(|error| serde_json::to_string(error).ok());
            self.park(line, &update.source, &update.version, parked);
            return;
        };
        let slot = self.slot(line, place, known);
        self.set_enforcement(slot, state, error.and_then(|error| serde_json::to_string(error).ok()), at);
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
        let detail = match (before.clone(), error) {
            (Some(detail), error) if required || error.is_some() || detail.early => {
                let since = if error.is_some() && detail.error != error { since } else { detail.since };
                Some(Detail { since, error, ..detail })
            }
            (None, Some(error)) => Some(Detail { since, leaf_set: None, early: false, error: Some(error) }),
            _ => None,
        };
        if detail != before {
            match detail {
                Some(detail) => drop(self.entry.details.insert(slot, detail)),
                None => drop(self.entry.details.remove(&slot)),
            }
            self.dirty.client(self.entry.id).details.insert(slot);
        }
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

/// Where the catalogue has each of `states`; [`NOWHERE`] where it does not.
fn places_of(states: &[DetectedUpdate], line: Option<&LineEntry>) -> Vec<u32> {
    states
        .iter()
        .map(|state| line.map_or(NOWHERE, |line| line.place(&state.source, &state.version)))
        .collect()
}

/// A message, and where the catalogue has what it names; looked up once, because a scan names hundreds.
pub(crate) struct Located<'a> {
    body: &'a IntakeBody,
    pub(crate) places: Vec<u32>,
}

impl<'a> Located<'a> {
    pub(crate) fn new(body: &'a IntakeBody, cache: &SiteCache) -> Self {
        let mut located = Self { body, places: Vec::new() };
        located.locate(cache);
        located
    }

    fn locate(&mut self, cache: &SiteCache) {
        if let IntakeBody::Detection(report) = self.body {
            self.places = places_of(&report.states, cache.lines.get(report.line.as_str()));
        }
    }

    /// Looks again for what was not remembered before.
    pub(crate) fn again(&mut self, cache: &SiteCache) {
        if self.places.contains(&NOWHERE) {
            self.locate(cache);
        }
    }
}

/// Sources and versions by line.
pub(crate) type Names<'a> = BTreeMap<&'a str, BTreeSet<(&'a str, &'a str)>>;

/// What messages name and the writer does not remember: updates, and leaf sets.
pub(crate) fn names<'a>(bodies: &[Located<'a>], cache: &SiteCache) -> (Names<'a>, BTreeSet<&'a [LeafRef]>) {
    let mut updates = Names::new();
    let mut sets = BTreeSet::new();
    for located in bodies {
        match located.body {
            IntakeBody::Detection(report) => {
                let unknown = updates.entry(report.line.as_str()).or_default();
                for (state, place) in report.states.iter().zip(&located.places) {
                    if *place == NOWHERE {
                        unknown.insert((&state.source, &state.version));
                    }
                    if !state.leaves.is_empty() && !cache.leaf_sets.contains_key(&state.leaves) {
                        sets.insert(&state.leaves[..]);
                    }
                }
                if !report.needs.is_empty() && !cache.leaf_sets.contains_key(&report.needs) {
                    sets.insert(&report.needs[..]);
                }
            }
            IntakeBody::Update { update, .. } => {
                updates.entry(update.line.as_str()).or_default().insert((&update.source, &update.version));
            }
            _ => {}
        }
    }
    (updates, sets)
}
