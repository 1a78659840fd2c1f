//! What a line's catalogue calls its updates, shared by the writer and the tasks of reports.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use patchtide_model::{SiteName, catalogue::LeafRef};

use super::{counts::mix, numbered::Numbers};
use crate::{Result, codec::Encoder, core::Core, sql::sql};

/// Leaf sets remembered at most, per site.
const LEAF_SETS: usize = 100_000;

/// A place that is none: the catalogue does not have the update.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// The updates of a line at one version of its catalogue, in the order of their ids; never changed.
pub(crate) struct Names {
    /// Number of the line.
    pub(crate) line: i64,
    /// Version of its catalogue.
    pub(crate) version: u64,
    /// How often updates were removed from it, which is no other version.
    pub(crate) cleaned: i64,
    text: Vec<u8>,
    updates: Vec<Named>,
    /// Places by the hash of source and version.
    places: HashMap<u64, u32, BuildHasherDefault<Same>>,
    /// Places of names whose hash another name has.
    others: Vec<u32>,
}

/// An update.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named {
    pub(crate) id: i64,
    /// Catalogue version in which its applicability changed last.
    pub(crate) since: u64,
    /// Where its source begins in the text, where that ends and its version begins, and where that ends.
    text: (u32, u32, u32),
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names")
            .field("line", &self.line)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Names {
    pub(crate) fn new(line: i64, version: u64, cleaned: i64) -> Self {
        Self {
            line,
            version,
            cleaned,
            text: Vec::new(),
            updates: Vec::new(),
            places: HashMap::default(),
            others: Vec::new(),
        }
    }

    /// What tells it from the same line at another time.
    pub(crate) const fn edition(&self) -> (i64, u64, i64) {
        (self.line, self.version, self.cleaned)
    }

    /// Adds an update; ids rise.
    pub(crate) fn push(&mut self, id: i64, since: u64, source: &str, version: &str) {
        let end = |text: &[u8]| u32::try_from(text.len()).unwrap_or(u32::MAX);
        let Ok(place) = u32::try_from(self.updates.len()) else { return };
        let from = end(&self.text);
        self.text.extend_from_slice(source.as_bytes());
        let middle = end(&self.text);
        self.text.extend_from_slice(version.as_bytes());
        self.updates.push(Named { id, since, text: (from, middle, end(&self.text)) });
        if let Some(other) = self.places.insert(hash(source, version), place) {
            self.others.push(other);
        }
    }

    /// The place of an update, or [`NOWHERE`].
    pub(crate) fn place(&self, source: &str, version: &str) -> u32 {
        match self.places.get(&hash(source, version)) {
            None => NOWHERE,
            Some(place) if self.is(*place, source, version) => *place,
            Some(_) => {
                self.others.iter().copied().find(|place| self.is(*place, source, version)).unwrap_or(NOWHERE)
            }
        }
    }

    fn is(&self, place: u32, source: &str, version: &str) -> bool {
        let text = |from: u32, to: u32| self.text.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?);
        self.at(place).is_some_and(|Named { text: (from, middle, to), .. }| {
            text(from, middle) == Some(source.as_bytes()) && text(middle, to) == Some(version.as_bytes())
        })
    }

    /// The update at a place.
    pub(crate) fn at(&self, place: u32) -> Option<Named> {
        self.updates.get(usize::try_from(place).ok()?).copied()
    }

    /// The place of an update by its id; `near` is the place of one before it: most ids follow each other without a gap.
    pub(crate) fn place_after(&self, near: u32, id: i64) -> u32 {
        let gap = self.at(near).and_then(|named| u32::try_from(id - named.id).ok());
        gap.and_then(|gap| near.checked_add(gap))
            .filter(|guess| self.at(*guess).is_some_and(|named| named.id == id))
            .unwrap_or_else(|| self.place_of(id))
    }

    /// The place of an update by its id.
    pub(crate) fn place_of(&self, id: i64) -> u32 {
        let found = self.updates.binary_search_by_key(&id, |named| named.id);
        found.ok().and_then(|place| u32::try_from(place).ok()).unwrap_or(NOWHERE)
    }

    pub(crate) fn len(&self) -> usize {
        self.updates.len()
    }
}

/// A quick hash. Only names of the catalogue are in the map, so nobody can choose them to collide.
fn hash(source: &str, version: &str) -> u64 {
    let mut state = source.len() as u64;
    for text in [source, version] {
        let (words, rest) = text.as_bytes().as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        for word in words.iter().chain([&last]) {
            state = mix(state, u64::from_le_bytes(*word));
        }
    }
    state.rotate_left(26)
}

/// The hash of what is a hash already.
#[derive(Debug, Default)]
pub(crate) struct Same(u64);

impl Hasher for Same {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What the tasks of reports of one site look up. Only what is committed is in it.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    lines: RwLock<HashMap<String, Arc<Names>>>,
    sets: RwLock<SetIds>,
    pub(super) numbers: Numbers,
    /// Held by who reads a catalogue that is not in `lines`: the others wait for it.
    reading: tokio::sync::Mutex<()>,
}

impl Shared {
    /// Makes sure that the catalogue of a line that exists is here.
    pub(crate) async fn read(&self, core: &Core, site: &SiteName, line: &str) -> Result<()> {
        if self.line(line).is_some() {
            return Ok(());
        }
        let _reading = self.reading.lock().await;
        if self.line(line).is_some() {
            return Ok(());
        }
        // One statement: the version and the updates belong together.
        let query = sql(
            "SELECT l.id, l.version, u.id, u.since_version, u.source, u.version, l.cleaned FROM line l \
                         JOIN software_update u ON u.line = l.id WHERE l.site = $1 AND l.name = $2 ORDER BY u.id",
        );
        let rows = core.rows("a catalogue", query.bind(site.as_str()).bind(line)).await?;
        let Some(first) = rows.first() else { return Ok(()) };
        let mut names = Names::new(first.int(0)?, first.unsigned(1)?, first.int(6)?);
        for row in &rows {
            names.push(row.int(2)?, row.unsigned(3)?, &row.text(4)?, &row.text(5)?);
        }
        self.put_line(line, &Arc::new(names));
        Ok(())
    }

    pub(crate) fn line(&self, name: &str) -> Option<Arc<Names>> {
        self.lines.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(crate) fn put_line(&self, name: &str, names: &Arc<Names>) {
        let mut lines = self.lines.write().unwrap_or_else(PoisonError::into_inner);
        lines.insert(name.to_owned(), Arc::clone(names));
    }

    /// The ids of leaf sets by their keys, for several questions at once.
    pub(crate) fn sets(&self) -> RwLockReadGuard<'_, SetIds> {
        self.sets.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_sets(&self, fresh: impl IntoIterator<Item = (Vec<u8>, i64)>) {
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        if sets.ids.len() > LEAF_SETS {
            sets.ids.clear();
        }
        sets.ids.extend(fresh);
    }

    /// Remembers another key of a leaf set that was looked up in `epoch`; since then it may have been collected.
    pub(super) fn put_alias(&self, epoch: i64, key: &[u8], id: i64) {
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        if sets.epoch == epoch && sets.ids.len() <= LEAF_SETS {
            sets.ids.insert(key.to_vec(), id);
        }
    }

    /// Leaf sets are being collected: every id known so far may be gone. See [`super::leaf_sets`].
    pub(crate) fn forget_sets(&self, epoch: i64) {
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        *sets = SetIds { epoch, ids: HashMap::new() };
    }
}

/// Ids of leaf sets by their keys, and the collection since which they are known.
#[derive(Debug, Default)]
pub(crate) struct SetIds {
    pub(crate) epoch: i64,
    pub(crate) ids: HashMap<Vec<u8>, i64>,
}

/// Ids of leaf sets as the writer knows them: the shared ones, and those of its own last transactions.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    pub(crate) shared: Arc<Shared>,
    fresh: HashMap<Vec<u8>, i64>,
}

impl Sets {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, fresh: HashMap::new() }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<i64> {
        self.fresh.get(key).copied().or_else(|| self.shared.sets().ids.get(key).copied())
    }

    pub(crate) fn put(&mut self, key: Vec<u8>, id: i64) {
        self.fresh.insert(key, id);
    }

    /// Everything here is committed: others may see it.
    pub(crate) fn publish(&mut self) {
        if !self.fresh.is_empty() {
            self.shared.put_sets(self.fresh.drain());
        }
    }
}

/// By which a leaf set is looked up; `leaves` is sorted.
pub(crate) fn set_key<S: AsRef<str>>(leaves: &[LeafRef<S>], key: &mut Vec<u8>) {
    let mut encoder = Encoder { bytes: std::mem::take(key) };
    encoder.bytes.clear();
    for leaf in leaves {
        for text in [&leaf.package, &leaf.architecture, &leaf.version] {
            encoder.slice(text.as_ref().as_bytes());
        }
    }
    *key = encoder.bytes;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_text_and_by_id() {
        let mut names = Names::new(1, 2, 0);
        for (place, (source, version)) in
            [("a", "1"), ("a", "2"), ("ab", ""), ("", "ab"), ("b", "1")].iter().enumerate()
        {
            names.push(i64::try_from(place).unwrap() * 10, 1, source, version);
        }
        assert_eq!((names.place("a", "2"), names.place("ab", ""), names.place("", "ab")), (1, 2, 3));
        assert_eq!((names.place("b", "2"), names.place_of(40), names.place_of(41)), (NOWHERE, 4, NOWHERE));
        assert_eq!(names.at(names.place("b", "1")).unwrap().id, 40);
        assert!(names.at(NOWHERE).is_none());
    }

    #[test]
    fn names_of_one_hash_are_kept_apart() {
        let mut names = Names::new(1, 1, 0);
        names.push(1, 1, "a", "1");
        names.push(2, 1, "b", "1");
        // As if both had the hash of "a 1".
        names.places.insert(hash("b", "1"), 0);
        names.others.push(1);
        assert_eq!((names.place("a", "1"), names.place("b", "1"), names.place("c", "1")), (0, 1, NOWHERE));
    }
}
