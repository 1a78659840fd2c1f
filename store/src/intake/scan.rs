//! What a scan of a line changes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use patchtide_model::client::ClientState;

use super::{
    DetectedUpdate,
    apply::{Apply, DETECTION},
    cache::{Detail, Parts, SEGMENT_BYTES, Watermark, slot_at, split},
    counts::{EARLY, REQUIRED},
    found::{Found, State},
};
use crate::Result;

/// Needs of several parts, to be made one leaf set: client, line, the sets.
pub(crate) type Union = (patchtide_model::ClientId, i64, Vec<i64>);

impl Apply<'_> {
    /// A scan of a line, or a part of one.
    pub(super) fn detection(&mut self, found: &Found, at: Timestamp) -> Result<()> {
        let line = found.line.as_str();
        if found.part == 0 && found.last {
            if self.entry.parts.remove(line).is_some() {
                self.dirty.client(self.entry.id).parts.insert(line.to_owned());
            }
            self.scan(found, &found.states, &found.unknown, &[found.needs], at);
            return Ok(());
        }
        self.dirty.client(self.entry.id).parts.insert(line.to_owned());
        let known = self.entry.parts.remove(line);
        let mut parts = match known {
            _ if found.part == 0 => Parts { version: found.catalogue_version, count: 0, body: Vec::new() },
            Some(parts) if parts.version == found.catalogue_version && parts.count == found.part => parts,
            // A part is missing: the scan does not count, and the client stays where it was.
            _ => return Ok(()),
        };
        if !parts.add(found)? {
            tracing::warn!(client = self.entry.id, line, "a scan in parts is larger than a line can be");
            return Ok(());
        }
        if !found.last {
            self.entry.parts.insert(line.to_owned(), parts);
            return Ok(());
        }
        let (states, unknown, needs) = parts.read(found.names.as_deref())?;
        self.scan(found, &states, &unknown, &needs, at);
        Ok(())
    }

    /// A complete scan: what is not named is not required.
    fn scan(
        &mut self,
        found: &Found,
        states: &[State],
        unknown: &[DetectedUpdate],
        needs: &[i64],
        at: Timestamp,
    ) {
        let name = found.line.as_str();
        self.unpark(name);
        for state in unknown {
            self.park_detection(name, state, at);
        }
        let Some(line) = self.lines.get_mut(name) else { return };
        let (id, current) = (line.id, line.version);
        // A client cannot have scanned what this site has not published (it may have, before the site was restored).
        let version = found.catalogue_version.min(current);
        // Enforcement stays; detection starts from nothing.
        let mut after: Vec<(i64, Vec<u8>)> = self
            .entry
            .segments
            .iter()
            .filter(|(segment, _)| self.segments.line_of.get(segment) == Some(&id))
            .map(|(segment, states)| (*segment, states.iter().map(|byte| byte & !DETECTION).collect()))
            .collect();
        let mut required: BTreeMap<i64, Option<i64>> = BTreeMap::new();
        let mut last = 0;
        for state in states {
            let Some((named, slot)) = line.at(state.place) else { continue };
            // Scanned by what it was before: unknown until the next scan.
            if named.since > version {
                continue;
            }
            let slot = slot.unwrap_or_else(|| {
                let slot = self.segments.allocate(id);
                line.set_slot(state.place, slot);
                self.dirty.slot(slot, named.id, id);
                slot
            });
            let (segment, ordinal) = split(slot);
            // Neighbours in the catalogue are often neighbours here.
            if after.get(last).is_none_or(|(known, _)| *known != segment) {
                last = after.iter().position(|(known, _)| *known == segment).unwrap_or(after.len());
            }
            if last == after.len() {
                after.push((segment, Vec::with_capacity(SEGMENT_BYTES)));
            }
            let Some((_, bytes)) = after.get_mut(last) else { continue };
            if bytes.len() <= ordinal {
                bytes.resize(ordinal + 1, 0);
            }
            bytes[ordinal] = bytes[ordinal] & !DETECTION | state.bits;
            if state.bits == REQUIRED {
                required.insert(slot, (state.set > 0).then_some(state.set));
            } else if !required.is_empty() {
                required.remove(&slot);
            }
        }
        self.clear_early(id);
        for (segment, bytes) in after {
            self.replace(segment, bytes);
        }
        let since = self.claimed(at);
        for (slot, leaf_set) in required {
            let old = self.entry.details.get(&slot);
            let detail = Detail {
                since: old.map_or(since, |old| old.since),
                leaf_set,
                early: false,
                error: old.and_then(|old| old.error.clone()),
            };
            self.set_detail(slot, Some(detail));
        }
        self.watermark(id, version, needs);
    }

    fn watermark(&mut self, line: i64, version: u64, needs: &[i64]) {
        let mut needs = needs.iter().copied().filter(|set| *set > 0);
        let (first, more) = (needs.next(), needs.collect::<Vec<_>>());
        if let Some(first) = first
            && more.iter().any(|set| *set != first)
        {
            let all = std::iter::once(first).chain(more).collect();
            self.unions.push((self.client, line, all));
        }
        let watermark = Watermark { version, scanned_at: self.received_at, needs: first };
        let old = self.entry.lines.insert(line, watermark);
        if self.active() && old.is_none_or(|old| old.version != version) {
            if let Some(old) = old {
                self.counts.line(line, old.version, -1);
            }
            self.counts.line(line, version, 1);
        }
        self.dirty.client(self.entry.id).lines.insert(line);
    }

    /// Replaces the detection states of a segment.
    fn replace(&mut self, segment: i64, mut bytes: Vec<u8>) {
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(used);
        let before = self.entry.segments.get(&segment).map_or(&[][..], Vec::as_slice);
        if before == bytes {
            return;
        }
        self.dirty.segment(self.entry.id, segment, before);
        let before = self.entry.segments.insert(segment, bytes).unwrap_or_default();
        let after = self.entry.segments.get(&segment).map_or(&[][..], Vec::as_slice);
        let active = self.entry.state == ClientState::Active;
        let mut gone = Vec::new();
        for ordinal in 0..before.len().max(after.len()) {
            let was = before.get(ordinal).copied().unwrap_or(0) & DETECTION;
            let is = after.get(ordinal).copied().unwrap_or(0) & DETECTION;
            if was == is {
                continue;
            }
            let slot = slot_at(segment, ordinal);
            for (state, by) in [(was, -1), (is, 1)] {
                if active && state >= REQUIRED {
                    self.counts.slot(slot, state, by);
                }
            }
            if was == REQUIRED {
                gone.push(slot);
            }
        }
        for slot in gone {
            self.no_longer_required(slot);
        }
    }

    fn no_longer_required(&mut self, slot: i64) {
        let Some(mut detail) = self.entry.details.get(&slot).cloned() else { return };
        detail.leaf_set = None;
        let keep = detail.is_row();
        self.set_detail(slot, keep.then_some(detail));
    }

    /// What was reported before the catalogue had it is from now on what the scan says.
    fn clear_early(&mut self, line: i64) {
        let rows = self.entry.detail_rows.iter();
        let of_line = rows.filter(|slot| self.segments.line_of.get(&split(**slot).0) == Some(&line));
        let early: Vec<(i64, Detail)> = of_line
            .filter_map(|slot| Some((*slot, self.entry.details.get(slot)?.clone())))
            .filter(|(_, detail)| detail.early)
            .collect();
        for (slot, mut detail) in early {
            self.count(slot, EARLY, -1);
            detail.early = false;
            let keep = detail.error.is_some() || self.entry.byte(slot) & DETECTION == REQUIRED;
            self.set_detail(slot, keep.then_some(detail));
        }
    }
}
