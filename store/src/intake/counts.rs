//! The kept counts: every transaction appends what it changed, one folder adds that up in memory, exact, and flushes the
//! totals now and then.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use crate::{
    Result,
    codec::{Decoder, Encoder},
    sql::Row,
};

/// What is counted: (slot, [`REQUIRED`], [`INSTALLED`] or [`EARLY`]), (slot, -leaf set) for who requires just these leaves,
/// or (-line, catalogue version of the watermark).
pub(crate) type Key = (i64, i64);

/// One step of a quick hash; its best bits are the upper ones.
pub(crate) const fn mix(state: u64, word: u64) -> u64 {
    (state.rotate_left(5) ^ word).wrapping_mul(0xf135_7aea_2e62_a9c5)
}

/// A quick hash of keys: slots are ours to give, so nobody can choose them to collide.
#[derive(Debug, Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_i64(i64::from(*byte));
        }
    }

    fn write_i64(&mut self, value: i64) {
        self.0 = mix(self.0, value.cast_unsigned());
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

type Numbers = HashMap<Key, i64, BuildHasherDefault<KeyHasher>>;

/// Detection bits of *required*.
pub(crate) const REQUIRED: u8 = 2;
/// Detection bits of *installed*.
pub(crate) const INSTALLED: u8 = 3;
/// Reported before the catalogue had it: counted in addition to its state.
pub(crate) const EARLY: u8 = 4;

/// Changes of the counts by one transaction.
#[derive(Debug, Default)]
pub(crate) struct Deltas(Numbers);

impl Deltas {
    /// One client more or less in `state` of `slot`.
    pub(crate) fn slot(&mut self, slot: i64, state: u8, by: i64) {
        *self.0.entry((slot, i64::from(state))).or_default() += by;
    }

    /// One client more or less that requires the leaves of `set` of what is in `slot`.
    pub(crate) fn set(&mut self, slot: i64, set: i64, by: i64) {
        *self.0.entry((slot, -set)).or_default() += by;
    }

    /// One client more or less whose watermark of `line` is `version`.
    pub(crate) fn line(&mut self, line: i64, version: u64, by: i64) {
        *self.0.entry((-line, crate::sql::int(version))).or_default() += by;
    }

    /// Takes another one's changes over.
    pub(crate) fn merge(&mut self, other: Self) {
        if self.0.is_empty() {
            self.0 = other.0;
            return;
        }
        for (key, by) in other.0 {
            *self.0.entry(key).or_default() += by;
        }
    }

    /// The changes so far in the form of `count_delta`, when there are any.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        let mut changes: Vec<(Key, i64)> = self.0.drain().filter(|(_, n)| *n != 0).collect();
        if changes.is_empty() {
            return None;
        }
        changes.sort_unstable();
        let mut encoder = Encoder::default();
        for ((scope, state), n) in changes {
            encoder.signed(scope);
            encoder.signed(state);
            encoder.signed(n);
        }
        Some(encoder.bytes)
    }
}

/// The counts of the whole database, and what of them is not flushed.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    totals: Numbers,
    watermarks: HashMap<i64, BTreeMap<i64, i64>>,
    /// Clients by slot and leaf set.
    sets: HashMap<i64, BTreeMap<i64, i64>>,
    dirty: HashSet<Key, BuildHasherDefault<KeyHasher>>,
    seen: i64,
}

impl Counts {
    /// The counts that the rows of [`crate::core::COUNTS`] give.
    pub(crate) fn read(rows: &[Row]) -> Result<Self> {
        let mut counts = Self::default();
        let mut deltas = BTreeMap::new();
        for row in rows {
            match row.int(0)? {
                0 => counts.set((row.int(1)?, row.int(2)?), row.int(3)?),
                1 => {
                    deltas.insert(row.int(1)?, row.blob(4)?);
                }
                _ => counts.start(row.int(1)?),
            }
        }
        for (id, body) in deltas {
            counts.apply(id, &body)?;
        }
        Ok(counts)
    }

    /// Id of the last delta in it.
    pub(crate) const fn seen(&self) -> i64 {
        self.seen
    }

    /// Says which delta the totals contain.
    pub(crate) const fn start(&mut self, folded: i64) {
        self.seen = folded;
    }

    /// Sets a total while loading.
    pub(crate) fn set(&mut self, key: Key, n: i64) {
        self.index(key, n);
        self.totals.insert(key, n);
    }

    fn index(&mut self, key: Key, n: i64) {
        if key.0 < 0 {
            self.watermarks.entry(-key.0).or_default().insert(key.1, n);
        } else if key.1 < 0 {
            self.sets.entry(key.0).or_default().insert(-key.1, n);
        }
    }

    /// Adds the delta `id`, when it is the next one; others are left to [`crate::core::Core::catch_up_counts`].
    pub(crate) fn apply(&mut self, id: i64, body: &[u8]) -> Result<()> {
        if id != self.seen + 1 {
            return Ok(());
        }
        let mut changes = Vec::with_capacity(body.len() / 4);
        let mut decoder = Decoder::new("count delta", body);
        while !decoder.is_empty() {
            changes.push(((decoder.signed()?, decoder.signed()?), decoder.signed()?));
        }
        for (key, by) in changes {
            let total = self.totals.entry(key).or_default();
            *total += by;
            let n = *total;
            self.index(key, n);
            self.dirty.insert(key);
        }
        self.seen = id;
        Ok(())
    }

    /// A count.
    pub(crate) fn get(&self, key: Key) -> i64 {
        self.totals.get(&key).copied().unwrap_or(0)
    }

    /// Clients whose watermark of `line` is at least `version`.
    pub(crate) fn scanned(&self, line: i64, version: u64) -> i64 {
        let from = crate::sql::int(version);
        self.watermarks.get(&line).map_or(0, |versions| versions.range(from..).map(|(_, n)| n).sum())
    }

    /// Leaf sets that any client requires of what is in `slot`.
    pub(crate) fn sets(&self, slot: i64) -> impl Iterator<Item = i64> + '_ {
        self.sets.get(&slot).into_iter().flatten().filter(|(_, n)| **n > 0).map(|(set, _)| *set)
    }

    /// Everything that is not zero.
    pub(crate) fn all(&self) -> BTreeMap<Key, i64> {
        self.totals.iter().filter(|(_, n)| **n != 0).map(|(key, n)| (*key, *n)).collect()
    }

    /// What the database's totals do not contain: the id of the last delta, and the totals that changed.
    pub(crate) fn unflushed(&self) -> (i64, Vec<(Key, i64)>) {
        let mut totals: Vec<_> = self.dirty.iter().map(|key| (*key, self.get(*key))).collect();
        totals.sort_unstable();
        (self.seen, totals)
    }

    /// Totals that the database's do not contain.
    pub(crate) fn unflushed_totals(&self) -> usize {
        self.dirty.len()
    }

    /// The totals up to delta `seen` are in the database.
    pub(crate) fn flushed(&mut self, seen: i64) {
        if self.seen == seen {
            self.dirty.clear();
            self.totals.retain(|_, n| *n != 0);
            for map in [&mut self.watermarks, &mut self.sets] {
                map.retain(|_, numbers| {
                    numbers.retain(|_, n| *n != 0);
                    !numbers.is_empty()
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_add_up_once_each_and_in_order() {
        let mut deltas = Deltas::default();
        deltas.slot(7, REQUIRED, 2);
        deltas.slot(7, INSTALLED, 1);
        deltas.slot(7, INSTALLED, -1);
        deltas.line(3, 5, 2);
        deltas.set(7, 9, 2);
        let body = deltas.take().unwrap();
        assert!(deltas.take().is_none());
        let mut counts = Counts::default();
        counts.apply(1, &body).unwrap();
        counts.apply(1, &body).unwrap();
        counts.apply(3, &body).unwrap();
        assert_eq!((counts.get((7, 2)), counts.get((7, 3)), counts.seen()), (2, 0, 1));
        assert_eq!((counts.scanned(3, 5), counts.scanned(3, 6), counts.scanned(4, 0)), (2, 0, 0));
        assert_eq!(counts.unflushed(), (1, vec![((-3, 5), 2), ((7, -9), 2), ((7, 2), 2)]));
        assert!(counts.sets(7).eq([9]) && counts.sets(8).next().is_none());
    }
}
