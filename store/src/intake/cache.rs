//! What the writer remembers from one transaction to the next, so that a report is compared with memory and not with a
//! question to the database. Dropped whole when a transaction fails or another process wrote.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasherDefault, Hasher},
};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, SiteName,
    catalogue::LeafRef,
    client::ClientState,
    state::{Scan, StateError},
};
use uuid::Uuid;

/// Clients remembered at most, in all sites.
const CLIENTS: usize = 30_000;
/// Leaf sets remembered at most, per site.
const LEAF_SETS: usize = 100_000;

/// What the writer remembers.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    pub(crate) sites: HashMap<SiteName, SiteCache>,
    pub(crate) segments: Segments,
}

/// What it remembers of a site.
#[derive(Debug, Default)]
pub(crate) struct SiteCache {
    pub(crate) clients: HashMap<ClientId, ClientEntry>,
    pub(crate) lines: HashMap<String, LineEntry>,
    /// Ids of leaf sets; the sets are sorted.
    pub(crate) leaf_sets: HashMap<Vec<LeafRef>, i64>,
    /// Number and hash of the last history row.
    pub(crate) history: Option<(i64, Vec<u8>)>,
}

/// All segments.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    pub(crate) loaded: bool,
    pub(crate) line_of: HashMap<i64, i64>,
    /// For each line the segment that still has room, with its used slots.
    pub(crate) open: HashMap<i64, (i64, i64)>,
    pub(crate) last: i64,
}

impl Cache {
    /// Forgets some of it when it grew too large; to be called between transactions.
    pub(crate) fn trim(&mut self) {
        let clients: usize = self.sites.values().map(|site| site.clients.len()).sum();
        for site in self.sites.values_mut() {
            if clients > CLIENTS {
                let mut keep = false;
                site.clients.retain(|_, _| {
                    keep = !keep;
                    keep
                });
            }
            if site.leaf_sets.len() > LEAF_SETS {
                site.leaf_sets.clear();
            }
        }
    }
}

impl Segments {
    /// The next free slot of `line`.
    pub(crate) fn allocate(&mut self, line: i64) -> i64 {
        let (segment, used) = match self.open.get(&line) {
            Some((segment, used)) if *used < SLOTS => (*segment, *used),
            _ => {
                self.last += 1;
                self.line_of.insert(self.last, line);
                (self.last, 0)
            }
        };
        self.open.insert(line, (segment, used + 1));
        segment * SLOTS + used
    }
}

/// A line, and what is known of its updates.
#[derive(Debug)]
pub(crate) struct LineEntry {
    pub(crate) id: i64,
    pub(crate) version: u64,
    /// Places in `entries` by source, with the version.
    updates: HashMap<String, Vec<(String, u32)>, BuildHasherDefault<NameHasher>>,
    entries: Vec<UpdateEntry>,
}

/// A place that is none: the catalogue does not have the update.
pub(crate) const NOWHERE: u32 = u32::MAX;

impl LineEntry {
    pub(crate) fn new(id: i64, version: u64) -> Self {
        Self { id, version, updates: HashMap::default(), entries: Vec::new() }
    }

    /// The place of an update, or [`NOWHERE`]. Places stay as they are as long as the line is remembered.
    pub(crate) fn place(&self, source: &str, version: &str) -> u32 {
        let versions = self.updates.get(source).map_or(&[][..], Vec::as_slice);
        versions.iter().find(|(known, _)| known == version).map_or(NOWHERE, |(_, place)| *place)
    }

    pub(crate) fn at(&self, place: u32) -> Option<UpdateEntry> {
        self.entries.get(usize::try_from(place).ok()?).copied()
    }

    pub(crate) fn set_slot(&mut self, place: u32, slot: i64) {
        if let Some(entry) = usize::try_from(place).ok().and_then(|place| self.entries.get_mut(place)) {
            entry.slot = Some(slot);
        }
    }

    pub(crate) fn put(&mut self, source: &str, version: &str, entry: UpdateEntry) {
        if self.place(source, version) == NOWHERE
            && let Ok(place) = u32::try_from(self.entries.len())
        {
            self.entries.push(entry);
            self.updates.entry(source.to_owned()).or_default().push((version.to_owned(), place));
        }
    }
}

/// A quick hash of names. Only names of the catalogue are in the map, so nobody can choose them to collide.
#[derive(Debug, Default)]
pub(crate) struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0xf135_7aea_2e62_a9c5);
        }
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

/// An update.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UpdateEntry {
    pub(crate) id: i64,
    pub(crate) slot: Option<i64>,
    /// Catalogue version in which its applicability changed last.
    pub(crate) since: u64,
}

/// A client and everything it reported.
#[derive(Debug, Clone)]
pub(crate) struct ClientEntry {
    pub(crate) id: i64,
    pub(crate) state: ClientState,
    pub(crate) facts: String,
    pub(crate) sequence: u64,
    pub(crate) session: Option<Session>,
    /// Watermarks by line.
    pub(crate) lines: BTreeMap<i64, Watermark>,
    /// States by segment, trailing zeros cut.
    pub(crate) segments: BTreeMap<i64, Vec<u8>>,
    /// Of those, the ones that are rows of `seg_state`; the others are rows of `sparse_state`.
    pub(crate) dense: BTreeSet<i64>,
    pub(crate) details: BTreeMap<i64, Detail>,
    pub(crate) parts: BTreeMap<String, Parts>,
    pub(crate) parked: BTreeSet<(String, String, String)>,
    pub(crate) deployments: BTreeSet<String>,
}

/// What changes seldom about a client's reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) incarnation: Uuid,
    pub(crate) boot: Uuid,
    /// Incarnations and boots before these, the latest last.
    pub(crate) earlier: Vec<Uuid>,
    /// Since when messages are missing.
    pub(crate) gap_since: Option<Timestamp>,
    /// The acknowledgement with which a resync was asked.
    pub(crate) asked: Option<u64>,
    pub(crate) policy: Option<(u64, u64)>,
    pub(crate) scan: Scan,
    pub(crate) scan_error: Option<StateError>,
}

/// A complete scan of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watermark {
    pub(crate) version: u64,
    pub(crate) scanned_at: Timestamp,
    pub(crate) needs: Option<i64>,
}

/// More about a required or failed update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Detail {
    pub(crate) since: Timestamp,
    pub(crate) leaf_set: Option<i64>,
    pub(crate) early: bool,
    pub(crate) error: Option<String>,
}

/// Parts of a scan whose last part has not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) version: u64,
    pub(crate) count: u16,
    /// The states and needs of each, a JSON document a line.
    pub(crate) body: Vec<u8>,
}

impl ClientEntry {
    /// The byte of `slot`.
    pub(crate) fn byte(&self, slot: i64) -> u8 {
        let (segment, ordinal) = split(slot);
        self.segments.get(&segment).and_then(|states| states.get(ordinal)).copied().unwrap_or(0)
    }

    /// Sets the byte of `slot`.
    pub(crate) fn set_byte(&mut self, slot: i64, byte: u8) {
        let (segment, ordinal) = split(slot);
        let states = self.segments.entry(segment).or_default();
        if states.len() <= ordinal {
            if byte == 0 {
                return;
            }
            states.resize(ordinal + 1, 0);
        }
        states[ordinal] = byte;
        let used = states.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        states.truncate(used);
    }
}

/// Slots in a segment.
pub(crate) const SLOTS: i64 = 256;

/// Segment and ordinal of a slot.
pub(crate) fn split(slot: i64) -> (i64, usize) {
    (slot / SLOTS, usize::try_from(slot % SLOTS).unwrap_or(0))
}

/// The slot at a place of a segment.
pub(crate) fn slot_at(segment: i64, ordinal: usize) -> i64 {
    segment * SLOTS + crate::sql::len(ordinal)
}
