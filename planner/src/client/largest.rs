//! The most updates that fit into a span: which of them go when not all can.
//!
//! Each unit is an update with all that has to come along, so a choice of units is always dependency-closed. Units that
//! share nothing are independent; those that overlap form groups. Of a group every union of its units is looked at, up to
//! [`EXACT`] of them, and of all groups together the best combination is found by dynamic programming: the choice has the
//! most updates there can be, and of equal size it needs least. A group with more unions than that is taken by the unit
//! that adds least first, which is good and not always best.

use std::collections::{BTreeMap, BTreeSet};

/// Unions of overlapping units that are looked at, per group.
pub(super) const EXACT: usize = 2048;

/// For each number of members the least weight, with the members.
type Front<T> = BTreeMap<usize, (i64, BTreeSet<T>)>;

/// The union of `units` with the most members whose weight is at most `room`; of equal ones the lightest.
pub(super) fn largest<T: Ord + Copy>(
    units: &[BTreeSet<T>],
    weight: impl Fn(&T) -> i64,
    room: i64,
) -> BTreeSet<T> {
    let of = |set: &BTreeSet<T>| set.iter().fold(0_i64, |sum, member| sum.saturating_add(weight(member)));
    let (alone, groups): (Vec<_>, Vec<_>) = groups(units)
        .into_iter()
        .partition(|group| group.len() == 1 && group.iter().all(|unit| unit.len() == 1));
    let fronts = groups.iter().map(|group| front(group, &of, room));
    let sum = fronts.fold(Front::from([(0, (0, BTreeSet::new()))]), |sum, next| combine(&sum, &next, room));
    let best = combine(&sum, &lightest(alone.iter().flatten().flatten().copied(), &weight, room), room);
    best.into_iter().next_back().map(|(_, (_, set))| set).unwrap_or_default()
}

/// Of members that share nothing with anyone the lightest go first.
fn lightest<T: Ord + Copy>(
    members: impl Iterator<Item = T>,
    weight: &impl Fn(&T) -> i64,
    room: i64,
) -> Front<T> {
    let sorted: BTreeSet<(i64, T)> = members.map(|member| (weight(&member), member)).collect();
    let (mut sum, mut set) = (0_i64, BTreeSet::new());
    let mut front = Front::from([(0, (0, BTreeSet::new()))]);
    for (weight, member) in sorted {
        sum = sum.saturating_add(weight);
        if sum > room {
            break;
        }
        set.insert(member);
        front.insert(set.len(), (sum, set.clone()));
    }
    front
}

/// Units that overlap, directly or by others.
fn groups<T: Ord + Copy>(units: &[BTreeSet<T>]) -> Vec<Vec<BTreeSet<T>>> {
    let mut groups: Vec<(BTreeSet<T>, Vec<BTreeSet<T>>)> = Vec::new();
    for unit in units.iter().collect::<BTreeSet<_>>() {
        let (touching, apart): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|(members, _)| !members.is_disjoint(unit));
        let mut joined = (unit.clone(), vec![unit.clone()]);
        for (members, of) in touching {
            joined.0.extend(members);
            joined.1.extend(of);
        }
        groups = apart;
        groups.push(joined);
    }
    groups.into_iter().map(|(_, units)| units).collect()
}

fn front<T: Ord + Copy>(group: &[BTreeSet<T>], of: &impl Fn(&BTreeSet<T>) -> i64, room: i64) -> Front<T> {
    let mut front = Front::from([(0, (0, BTreeSet::new()))]);
    for set in unions(group).unwrap_or_else(|| greedy(group, of)) {
        let weight = of(&set);
        let better = front.get(&set.len()).is_none_or(|(known, other)| (weight, &set) < (*known, other));
        if weight <= room && better {
            front.insert(set.len(), (weight, set));
        }
    }
    front
}

/// Every union of some units; none: there are too many.
fn unions<T: Ord + Copy>(group: &[BTreeSet<T>]) -> Option<BTreeSet<BTreeSet<T>>> {
    let mut found: BTreeSet<BTreeSet<T>> = BTreeSet::from([BTreeSet::new()]);
    for unit in group {
        let more: Vec<BTreeSet<T>> = found.iter().map(|set| set.union(unit).copied().collect()).collect();
        found.extend(more);
        if found.len() > EXACT {
            return None;
        }
    }
    Some(found)
}

fn greedy<T: Ord + Copy>(group: &[BTreeSet<T>], of: &impl Fn(&BTreeSet<T>) -> i64) -> BTreeSet<BTreeSet<T>> {
    let mut chosen = BTreeSet::new();
    let mut found = BTreeSet::from([chosen.clone()]);
    while let Some(next) = group
        .iter()
        .filter(|unit| !unit.is_subset(&chosen))
        .map(|unit| chosen.union(unit).copied().collect::<BTreeSet<T>>())
        .min_by(|a, b| of(a).cmp(&of(b)).then_with(|| a.cmp(b)))
    {
        chosen = next;
        found.insert(chosen.clone());
    }
    found
}

fn combine<T: Ord + Copy>(a: &Front<T>, b: &Front<T>, room: i64) -> Front<T> {
    let mut sum = Front::new();
    for (left, first) in a.values() {
        for (right, second) in b.values() {
            let weight = left.saturating_add(*right);
            let size = first.len() + second.len();
            if weight <= room && sum.get(&size).is_none_or(|(known, _): &(i64, _)| weight < *known) {
                sum.insert(size, (weight, first.union(second).copied().collect()));
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every choice of units there is.
    fn oracle(units: &[BTreeSet<u8>], weights: &[i64], room: i64) -> (usize, i64) {
        let weight = |set: &BTreeSet<u8>| set.iter().map(|member| weights[usize::from(*member)]).sum::<i64>();
        (0_u32..1 << units.len())
            .map(|choice| {
                let chosen = units.iter().enumerate().filter(|(index, _)| choice & (1 << index) != 0);
                chosen.flat_map(|(_, unit)| unit).copied().collect::<BTreeSet<u8>>()
            })
            .filter(|set| weight(set) <= room)
            .map(|set| (set.len(), weight(&set)))
            .max_by_key(|(size, weight)| (*size, -weight))
            .unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn no_choice_holds_more_and_none_as_large_needs_less(
            weights in prop::collection::vec(1_i64..30, 9),
            needs in prop::collection::vec((0_u8..9, 0_u8..9), 0..9),
            room in 0_i64..120,
        ) {
            let closure = |first: u8| {
                let mut set = BTreeSet::from([first]);
                while let Some((_, more)) = needs.iter().find(|(of, other)| set.contains(of) && !set.contains(other)) {
                    set.insert(*more);
                }
                set
            };
            let units: Vec<_> = (0..9).map(closure).collect();
            let found = largest(&units, |member| weights[usize::from(*member)], room);
            prop_assert!(found.iter().all(|member| units[usize::from(*member)].is_subset(&found)), "closed");
            let weight: i64 = found.iter().map(|member| weights[usize::from(*member)]).sum();
            prop_assert_eq!((found.len(), weight), oracle(&units, &weights, room));
        }
    }

    /// What the cheapest step first got wrong: three that share a heavy one are more than two light ones.
    #[test]
    fn a_heavy_root_with_many_leaves_beats_light_ones() {
        let unit = |members: &[u8]| members.iter().copied().collect::<BTreeSet<u8>>();
        let units = [unit(&[0]), unit(&[1]), unit(&[9, 2]), unit(&[9, 3]), unit(&[9, 4]), unit(&[9])];
        let weight = |member: &u8| match member {
            0 | 1 => 5,
            9 => 6,
            _ => 1,
        };
        assert_eq!(largest(&units, weight, 10), unit(&[2, 3, 4, 9]));
        assert_eq!(largest(&units, weight, 4), unit(&[]));
    }

    #[test]
    fn five_hundred_that_hang_together_are_answered_too() {
        let chain: Vec<BTreeSet<u16>> = (0..500).map(|last| (0..=last).collect()).collect();
        assert_eq!(largest(&chain, |_| 1, 120).len(), 120);
        let star: Vec<BTreeSet<u16>> = (1..500).map(|leaf| BTreeSet::from([0, leaf])).collect();
        assert_eq!(largest(&star, |_| 1, 100).len(), 100);
        let apart: Vec<BTreeSet<u16>> = (0..500).map(|one| BTreeSet::from([one])).collect();
        assert_eq!(largest(&apart, |member| i64::from(*member), 45).len(), 10);
    }
}
