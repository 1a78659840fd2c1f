//! What a batch changed and has to write.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::cache::ClientEntry;

/// Line, source and version of an update the catalogue does not have.
pub(crate) type ParkedKey = (String, String, String);

/// Changes of a batch.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    pub(crate) clients: BTreeMap<i64, DirtyClient>,
    /// New slots: slot, update, line.
    pub(crate) slots: Vec<(i64, i64, i64)>,
    /// `None`: no longer parked.
    pub(crate) parked: BTreeMap<(i64, ParkedKey), Option<ParkedState>>,
    pub(crate) deployments: BTreeMap<(String, i64), DeploymentChange>,
}

/// Changes of a client.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each names a part that is written or not")]
pub(crate) struct DirtyClient {
    /// Everything it had is to be removed first.
    pub(crate) forgotten: bool,
    pub(crate) state: bool,
    pub(crate) facts: bool,
    pub(crate) session: bool,
    /// When it reported last, and its clock minus ours in microseconds.
    pub(crate) report: Option<(Timestamp, i64)>,
    /// Segments, with their states as the database has them.
    pub(crate) segments: BTreeMap<i64, Vec<u8>>,
    pub(crate) details: BTreeSet<i64>,
    pub(crate) lines: BTreeSet<i64>,
    pub(crate) parts: BTreeSet<String>,
}

/// A parked state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParkedState {
    pub(crate) detection: Option<i64>,
    pub(crate) enforcement: Option<i64>,
    pub(crate) leaves: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) at: Timestamp,
}

impl ParkedState {
    pub(crate) const fn at(at: Timestamp) -> Self {
        Self { detection: None, enforcement: None, leaves: None, error: None, at }
    }
}

/// What a client said about a deployment in this batch; the last word of each topic.
#[derive(Debug, Default)]
pub(crate) struct DeploymentChange {
    /// State, until when, error.
    pub(crate) enforcement: Option<(i64, Option<Timestamp>, Option<String>)>,
    pub(crate) compliance: Option<i64>,
    pub(crate) evaluation: Option<i64>,
    pub(crate) at: Timestamp,
}

impl Dirty {
    pub(crate) fn client(&mut self, client: i64) -> &mut DirtyClient {
        self.clients.entry(client).or_default()
    }

    /// Notes a segment before its first change.
    pub(crate) fn segment(&mut self, client: i64, segment: i64, before: &[u8]) {
        let dirty = self.client(client);
        // What is removed first is nothing to compare with.
        let before = if dirty.forgotten { &[] } else { before };
        dirty.segments.entry(segment).or_insert_with(|| before.to_vec());
    }

    pub(crate) fn slot(&mut self, slot: i64, update: i64, line: i64) {
        self.slots.push((slot, update, line));
    }

    pub(crate) fn park(&mut self, client: i64, key: ParkedKey, state: ParkedState) {
        let known = self.parked.entry((client, key)).or_insert(None);
        match known {
            // Detection and enforcement of one update come in different messages.
            Some(known) => {
                known.detection = state.detection.or(known.detection);
                known.enforcement = state.enforcement.or(known.enforcement);
                known.leaves = state.leaves.or_else(|| known.leaves.take());
                known.error = state.error.or_else(|| known.error.take());
                known.at = state.at;
            }
            None => *known = Some(state),
        }
    }

    pub(crate) fn unpark(&mut self, client: i64, key: ParkedKey) {
        self.parked.insert((client, key), None);
    }

    /// Everything of a client goes.
    pub(crate) fn forget(&mut self, entry: &ClientEntry) {
        let dirty = self.client(entry.id);
        dirty.forgotten = true;
        dirty.segments.clear();
        dirty.details.clear();
        dirty.lines.clear();
        dirty.parts.clear();
        self.parked.retain(|(client, _), _| *client != entry.id);
        self.deployments.retain(|(_, client), _| *client != entry.id);
    }
}
