//! What a report means that names updates by number: which catalogues were published, and which leaves their updates have.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use patchtide_model::{
    Digest,
    catalogue::{Leaf, LeafRef},
};

use super::{
    Numbered,
    counts::REQUIRED,
    found::{Found, State, bits_of, set_of},
    names::{NOWHERE, Named, Names, Shared},
};
use crate::{
    Result,
    catalogue::revision,
    codec::Encoder,
    core::Core,
    sql::{Many, sql},
};

/// Updates whose leaves are remembered at most, per site.
const UPDATES: usize = 20_000;
/// Catalogues remembered at most, per site.
const CATALOGUES: usize = 10_000;

const BODIES: Many = Many {
    head: "SELECT id, since_version, body FROM software_update WHERE id IN (VALUES ",
    columns: 1,
    tail: ")",
};

/// In which catalogue version an update's applicability changed last, and its leaves.
type Leaves = (u64, Arc<[LeafRef]>);

/// What the tasks of reports look numbers up in.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// Versions of published catalogues, by line and digest.
    published: RwLock<HashMap<(i64, Digest), u64>>,
    /// By the update's id.
    leaves: RwLock<HashMap<i64, Leaves>>,
    /// Held by who reads leaves: the others wait for it.
    reading: tokio::sync::Mutex<()>,
}

impl Numbers {
    /// The version of a published catalogue of a line.
    fn version(&self, line: i64, digest: Digest) -> Option<u64> {
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        published.get(&(line, digest)).copied()
    }

    /// Leaves that are newer than `named` stand in a catalogue that this one is stale to: the writer will not take it.
    fn leaves(&self, named: Named) -> Option<Arc<[LeafRef]>> {
        let leaves = self.leaves.read().unwrap_or_else(PoisonError::into_inner);
        leaves.get(&named.id).filter(|(since, _)| *since >= named.since).map(|(_, leaves)| Arc::clone(leaves))
    }
}

/// What could not be looked up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lacking {
    /// The catalogue was not published by this site.
    Catalogue,
    /// The leaves of these updates are to be read first: ids, and since when their applicability is what it is.
    Leaves(BTreeMap<i64, u64>),
}

impl Shared {
    /// Makes sure that the version of a published catalogue of a line is here. A line without updates has no numbers.
    pub(super) async fn read_published(&self, core: &Core, line: &str, digest: Digest) -> Result<()> {
        let Some(names) = self.line(line) else { return Ok(()) };
        if self.numbers.version(names.line, digest).is_some() {
            return Ok(());
        }
        let query = sql("SELECT version FROM published_catalogue WHERE line = $1 AND digest = $2");
        let row = core.row("a catalogue", query.bind(names.line).bind(digest)).await?;
        let Some(row) = row else { return Ok(()) };
        let mut published = self.numbers.published.write().unwrap_or_else(PoisonError::into_inner);
        if published.len() > CATALOGUES {
            published.clear();
        }
        published.insert((names.line, digest), row.unsigned(0)?);
        Ok(())
    }

    /// Reads the leaves of updates.
    pub(super) async fn read_leaves(&self, core: &Core, mut lacking: BTreeMap<i64, u64>) -> Result<()> {
        let _reading = self.numbers.reading.lock().await;
        {
            let known = self.numbers.leaves.read().unwrap_or_else(PoisonError::into_inner);
            lacking.retain(|id, since| known.get(id).is_none_or(|(known, _)| *known < *since));
        }
        let ids = lacking.keys().map(|id| (*id).into()).collect();
        let rows = core.rows_many("a catalogue", BODIES, ids).await?;
        // What is not there any more was cleaned up; the writer knows that, and has it looked up anew.
        let mut read: HashMap<i64, Leaves> =
            lacking.into_iter().map(|(id, since)| (id, (since, Arc::default()))).collect();
        for row in rows {
            let update = revision::read(&row.blob(2)?)?;
            let leaves = update.leaves.iter().map(Leaf::reference).collect();
            read.insert(row.int(0)?, (row.unsigned(1)?, leaves));
        }
        let mut known = self.numbers.leaves.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() > UPDATES {
            known.clear();
        }
        known.extend(read);
        Ok(())
    }
}

impl Found {
    /// Adds what a report says by number. `catalogue` is the line's of now, of which the one that the client had may be
    /// an earlier version: an id stays what it is, and what was revised since is left out by who writes it.
    pub(super) fn add_numbered(
        &mut self,
        numbered: &Numbered,
        shared: &Shared,
        catalogue: Option<&Names>,
    ) -> Result<(), Lacking> {
        let version = catalogue.and_then(|names| shared.numbers.version(names.line, numbered.catalogue));
        let (Some(catalogue), Some(version)) = (catalogue, version) else { return Err(Lacking::Catalogue) };
        self.catalogue_version = version;
        self.states.reserve(numbered.states.len());
        let (mut near, mut lacking) = (0, BTreeMap::new());
        let mut key = Encoder::default();
        for state in &numbered.states {
            let Some(bits) = bits_of(state.state) else { continue };
            let place = i64::try_from(state.number).map_or(NOWHERE, |id| catalogue.place_after(near, id));
            let Some(named) = catalogue.at(place) else { continue };
            near = place;
            // Scanned by what it was before it was revised: its places are not those of now.
            if named.since > version {
                continue;
            }
            let mut set = 0;
            if bits == REQUIRED && !state.leaves.is_empty() {
                number_key(named, &state.leaves, &mut key);
                let known = shared.sets().ids.get(key.bytes.as_slice()).copied();
                set = known.unwrap_or_else(|| {
                    let Some(leaves) = shared.numbers.leaves(named) else {
                        lacking.insert(named.id, named.since);
                        return 0;
                    };
                    self.new_set(&leaves, &state.leaves, shared, &key.bytes)
                });
            }
            self.states.push(State { place, bits, set });
        }
        if lacking.is_empty() { Ok(()) } else { Err(Lacking::Leaves(lacking)) }
    }

    /// The set of the leaves at `places`; remembered by number when its id is known.
    fn new_set(&mut self, leaves: &[LeafRef], places: &[u16], shared: &Shared, number: &[u8]) -> i64 {
        let mut chosen: Vec<LeafRef> =
            places.iter().filter_map(|place| leaves.get(usize::from(*place)).cloned()).collect();
        chosen.sort_unstable();
        chosen.dedup();
        let set = set_of(&chosen, &shared.sets().ids, &mut Vec::new(), &mut self.new_sets);
        if set > 0 {
            shared.put_alias(self.set_epoch, number, set);
        }
        set
    }
}

/// By which a leaf set is looked up that is given by places. No set that is given by names has such a key: it would begin
/// with the length of a text.
fn number_key(named: Named, places: &[u16], key: &mut Encoder) {
    key.bytes.clear();
    key.number(u64::MAX);
    key.signed(named.id);
    key.number(named.since);
    for place in places {
        key.number(u64::from(*place));
    }
}
