//! Which clients are told the same: everything that tells clients apart is a layer, and clients that lie in the same layers
//! share one verdict.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use patchtide_model::ObjectName;

use super::{
    Verdict,
    bits::{Bits, ones},
};

/// What can be true of a client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    /// It gets no new policy, for this reason.
    Withheld(String),
    /// These client settings apply.
    Settings(String),
    /// The window selects it.
    Window(ObjectName),
    /// The deployment reaches it.
    Deployment(ObjectName),
}

/// Clients that are told the same.
#[derive(Debug)]
pub(super) struct Group {
    /// Number of the points that they reach, then their layers by number.
    key: Box<[u32]>,
    clients: u32,
    pub(super) verdict: Verdict,
}

/// No group.
const NONE: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(super) struct Layers {
    /// Layers by number; a number is never given away again.
    known: Vec<Layer>,
    numbers: BTreeMap<Layer, u32>,
    /// Who lies in each.
    bits: BTreeMap<u32, Bits>,
    groups: Vec<Option<Group>>,
    by_key: HashMap<Box<[u32]>, u32>,
    free: Vec<u32>,
    /// The group of each place.
    of: Vec<u32>,
    /// The points that each place reaches, by number.
    points: Vec<u32>,
}

impl Layers {
    fn number(&mut self, layer: Layer) -> u32 {
        if let Some(number) = self.numbers.get(&layer) {
            return *number;
        }
        let number = u32::try_from(self.known.len()).unwrap_or(NONE);
        self.known.push(layer.clone());
        self.numbers.insert(layer, number);
        number
    }

    /// Says who lies in a layer; adds those to `touched` who did not or no longer do.
    pub(super) fn put(&mut self, layer: Layer, bits: Bits, touched: &mut Bits) {
        let number = self.number(layer);
        let old = if bits.is_empty() { self.bits.remove(&number) } else { self.bits.insert(number, bits) };
        let (old, nobody) = (old.unwrap_or_default(), Bits::default());
        touched.unite(&old.differing(self.bits.get(&number).unwrap_or(&nobody)));
    }

    /// Who lies in a layer.
    pub(super) fn get(&self, layer: &Layer) -> Option<&Bits> {
        self.bits.get(self.numbers.get(layer)?)
    }

    /// The layers in which somebody lies.
    pub(super) fn inhabited(&self) -> impl Iterator<Item = &Layer> {
        self.bits.keys().filter_map(|number| self.known.get(*number as usize))
    }

    /// Says which points somebody reaches.
    pub(super) fn reach(&mut self, place: u32, points: u32, touched: &mut Bits) {
        let at = place as usize;
        if at >= self.points.len() {
            self.points.resize(at + 1, NONE);
        }
        if self.points[at] != points {
            self.points[at] = points;
            touched.insert(place);
        }
    }

    /// Puts everybody `touched` into the right group; `active` are those who belong into one. `make` gives the verdict of a
    /// new group from its points and layers.
    pub(super) fn regroup(
        &mut self,
        touched: &Bits,
        active: &Bits,
        mut make: impl FnMut(u32, &[&Layer]) -> Verdict,
    ) {
        let mut rows: [Vec<u32>; 64] = std::array::from_fn(|_| Vec::new());
        for n in 0..touched.words() {
            let word = touched.word(n);
            if word == 0 {
                continue;
            }
            let base = u32::try_from(n * 64).unwrap_or(NONE);
            for bit in ones(word) {
                let row = &mut rows[bit as usize];
                row.clear();
                row.push(self.points.get((base + bit) as usize).copied().unwrap_or_default());
            }
            for (number, bits) in &self.bits {
                for bit in ones(bits.word(n) & word) {
                    rows[bit as usize].push(*number);
                }
            }
            for bit in ones(word) {
                let place = base + bit;
                let group =
                    if active.contains(place) { self.join(&rows[bit as usize], &mut make) } else { NONE };
                self.set_group(place, group);
            }
        }
    }

    fn join(&mut self, key: &[u32], make: &mut impl FnMut(u32, &[&Layer]) -> Verdict) -> u32 {
        if let Some(group) = self.by_key.get(key) {
            return *group;
        }
        let group = Group { key: key.into(), clients: 0, verdict: self.verdict(key, make) };
        let number = self.free.pop().unwrap_or_else(|| {
            self.groups.push(None);
            u32::try_from(self.groups.len() - 1).unwrap_or(NONE)
        });
        self.groups[number as usize] = Some(group);
        self.by_key.insert(key.into(), number);
        number
    }

    fn verdict(&self, key: &[u32], make: &mut impl FnMut(u32, &[&Layer]) -> Verdict) -> Verdict {
        let (points, numbers) = key.split_first().map_or((0, key), |(points, numbers)| (*points, numbers));
        let layers: Vec<&Layer> =
            numbers.iter().filter_map(|number| self.known.get(*number as usize)).collect();
        make(points, &layers)
    }

    fn set_group(&mut self, place: u32, group: u32) {
        let at = place as usize;
        if at >= self.of.len() {
            self.of.resize(at + 1, NONE);
        }
        let old = std::mem::replace(&mut self.of[at], group);
        if old == group {
            return;
        }
        if let Some(Some(group)) = self.groups.get_mut(group as usize) {
            group.clients += 1;
        }
        if let Some(slot) = self.groups.get_mut(old as usize)
            && let Some(left) = slot
        {
            left.clients -= 1;
            if left.clients == 0 {
                self.by_key.remove(&left.key);
                *slot = None;
                self.free.push(old);
            }
        }
    }

    /// Makes the verdicts of all groups anew that lie in one of `stale`, or of all; returns who is told something else.
    pub(super) fn renew(
        &mut self,
        stale: &BTreeSet<Layer>,
        all: bool,
        mut make: impl FnMut(u32, &[&Layer]) -> Verdict,
    ) -> Bits {
        let numbers: BTreeSet<u32> =
            stale.iter().filter_map(|layer| self.numbers.get(layer)).copied().collect();
        if numbers.is_empty() && !all {
            return Bits::default();
        }
        let mut other: BTreeSet<u32> = BTreeSet::new();
        for (n, slot) in (0_u32..).zip(0..self.groups.len()) {
            let Some(group) = &self.groups[slot] else { continue };
            let is_stale = all || group.key.iter().skip(1).any(|number| numbers.contains(number));
            if !is_stale {
                continue;
            }
            let verdict = self.verdict(&group.key, &mut make);
            if let Some(group) = &mut self.groups[slot]
                && group.verdict != verdict
            {
                group.verdict = verdict;
                other.insert(n);
            }
        }
        (0_u32..).zip(&self.of).filter(|(_, group)| other.contains(group)).map(|(place, _)| place).collect()
    }

    /// The group that a place is in.
    pub(super) fn group(&self, place: u32) -> Option<&Group> {
        let group = self.of.get(place as usize)?;
        self.groups.get(*group as usize)?.as_ref()
    }

    /// How many groups there are.
    pub(super) fn groups(&self) -> usize {
        self.by_key.len()
    }
}
