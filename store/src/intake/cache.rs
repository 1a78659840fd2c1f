//! What the writer remembers from one transaction to the next, so that a report is compared with memory and not with a
//! question to the database. Dropped whole when a transaction fails or another process wrote.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, SiteName,
    client::ClientState,
    state::{Scan, StateError},
};
use uuid::Uuid;

use super::names::{Named, Names, Sets, Shared};

/// Clients remembered at most, in all sites.
const CLIENTS: usize = 30_000;

/// What the writer remembers.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    pub(crate) sites: HashMap<SiteName, SiteCache>,
    pub(crate) segments: Segments,
}

/// What it remembers of a site.
#[derive(Debug)]
pub(crate) struct SiteCache {
    pub(crate) clients: HashMap<ClientId, ClientEntry>,
    pub(crate) lines: HashMap<String, LineEntry>,
    pub(crate) sets: Sets,
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
    /// Shows others what is committed, and forgets some of it when it grew too large; to be called between transactions.
    pub(crate) fn settle(&mut self) {
        let clients: usize = self.sites.values().map(|site| site.clients.len()).sum();
        for site in self.sites.values_mut() {
            if clients > CLIENTS {
                let mut keep = false;
                site.clients.retain(|_, _| {
                    keep = !keep;
                    keep
                });
            }
            site.sets.publish();
        }
    }
}

impl SiteCache {
    /// What is remembered of `site`.
    pub(crate) fn of<'a>(
        sites: &'a mut HashMap<SiteName, Self>,
        site: &SiteName,
        shared: &Arc<Shared>,
    ) -> &'a mut Self {
        sites.entry(site.clone()).or_insert_with(|| Self {
            clients: HashMap::new(),
            lines: HashMap::new(),
            sets: Sets::new(Arc::clone(shared)),
            history: None,
        })
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

/// A line, and where the states of its updates are.
#[derive(Debug)]
pub(crate) struct LineEntry {
    pub(crate) id: i64,
    pub(crate) version: u64,
    pub(crate) names: Arc<Names>,
    /// Slots by place; 0: none yet.
    slots: Vec<i64>,
}

impl LineEntry {
    pub(crate) fn new(names: Arc<Names>) -> Self {
        Self { id: names.line, version: names.version, slots: vec![0; names.len()], names }
    }

    /// An update and its slot.
    pub(crate) fn at(&self, place: u32) -> Option<(Named, Option<i64>)> {
        let named = self.names.at(place)?;
        let slot = self.slots.get(usize::try_from(place).ok()?).copied().filter(|slot| *slot != 0);
        Some((named, slot))
    }

    pub(crate) fn set_slot(&mut self, place: u32, slot: i64) {
        if let Some(entry) = usize::try_from(place).ok().and_then(|place| self.slots.get_mut(place)) {
            *entry = slot;
        }
    }
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
    /// Of those, the ones that are rows of `update_detail`; the others are in `client_required`.
    pub(crate) detail_rows: BTreeSet<i64>,
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

impl Detail {
    /// Whether it has a row of its own: failures and early ones are few, and asked for one by one.
    pub(crate) const fn is_row(&self) -> bool {
        self.early || self.error.is_some()
    }
}

/// Parts of a scan whose last part has not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) version: u64,
    pub(crate) count: u16,
    /// One after the other, as [`super::parts`] writes them.
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
/// Bytes of a full one.
pub(crate) const SEGMENT_BYTES: usize = 256;

/// Segment and ordinal of a slot.
pub(crate) fn split(slot: i64) -> (i64, usize) {
    (slot / SLOTS, usize::try_from(slot % SLOTS).unwrap_or(0))
}

/// The slot at a place of a segment.
pub(crate) fn slot_at(segment: i64, ordinal: usize) -> i64 {
    segment * SLOTS + crate::sql::len(ordinal)
}
