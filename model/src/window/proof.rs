//! Why an answer *never* is a proof.
//!
//! 1. **A horizon.** Every recurrence repeats: daily ones after `every` days, weekly ones after `7 * every`, monthly ones
//!    after 400 years (4,800 months; times what `every` does not share with them). Every zone repeats after 400 years from
//!    the year 2100 on (`table`). So once every window that has a first or a last day is past these, all windows together
//!    repeat after the least common multiple `p` of these periods, and an opening that begins later is the copy of one
//!    that began `p` earlier. Nothing has to be looked at beyond [`Tracks::horizon`]; where `p` is longer than
//!    time (daily every 31 days beside monthly every 11 months), the end of time, in the year 9999, is the horizon.
//! 2. **A bound.** Walking 400 years takes milliseconds. So before that, [`Tracks::bound`] looks for a number that no opening
//!    exceeds. Each allow window is replaced by one that opens at least as often (weekly, on every weekday on which it ever
//!    opens), and only those deny windows are kept that are weekly and have no first or last day: what was open
//!    stays open. This coarser calendar repeats every week, except where a zone changes its offset. So its longest opening
//!    is found by looking at one week for each combination of offsets that the zones ever have, and around each change of
//!    an offset; changes that fall on the same second of a week, with the same changes near them, look alike and are
//!    looked at once. Where the longest opening found so far reaches the bound, it is the longest there is; where the bound
//!    is zero, nothing ever opens.
//! 3. **Always open** is the same question turned round: nothing is left of all of time without the allow windows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    days::{self, gcd},
    sweep::{BEGIN, END, Tracks},
    table::{CYCLE, DAY, Look, REGULAR, Table},
    track::Track,
};

/// Where to look from an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    Backward,
}

const WEEK: i64 = 7 * DAY;

/// The longest opening a bound is given for. A longer one could meet two changes of an offset that were not looked at
/// together.
const LONGEST: i64 = 8 * DAY;

/// How long after a change of an offset openings may still show it: an occurrence of 24 hours that began before it, and a
/// day that was left out.
const AFTERMATH: i64 = 3 * DAY;

/// How long a window may begin or end beside its own day: zones are at most 26 hours away from UTC, and a day may be left
/// out.
const BESIDE: i64 = 5;

/// The second 0 of a week in the middle of nowhere: a Monday in 2001.
const SOME_MONDAY: i64 = 978_307_200;

impl Tracks {
    /// Beyond which instant nothing has to be looked at: what begins there has begun before, as long, in a place that was
    /// looked at.
    pub(super) fn horizon(&self, from: i64, direction: Direction) -> i64 {
        let (mut settled, mut period) = (from, 1_i64);
        for track in self.allow.iter().chain(&self.deny).filter(|track| track.goes_on(from, direction)) {
            let once = if let days::Days::Once(day) = track.days { Some(day) } else { None };
            let first = Some(track.first).filter(|first| *first != days::FIRST);
            let last = Some(track.last).filter(|last| *last != days::LAST);
            for limit in once.into_iter().chain(first).chain(last) {
                settled = match direction {
                    Direction::Forward => settled.max((limit + BESIDE) * DAY),
                    Direction::Backward => settled.min((limit - BESIDE) * DAY),
                };
            }
            let (zone_settled, zone_period) = track.table.settles(direction);
            settled = match direction {
                Direction::Forward => settled.max(zone_settled),
                Direction::Backward => settled.min(zone_settled),
            };
            let ends = if direction == Direction::Forward { last } else { first };
            // One that is over when all has settled does not have to repeat.
            if once.or(ends).is_some() {
                continue;
            }
            for repeats in track.days.period().into_iter().chain([zone_period]) {
                let together = repeats / gcd(period, repeats);
                period = period.saturating_mul(together).min(days::LAST - days::FIRST);
            }
        }
        // An opening that is under way when everything has settled is not yet regular itself.
        let span = period.saturating_add(2 * BESIDE).saturating_mul(DAY);
        match direction {
            Direction::Forward => settled.saturating_add(span),
            Direction::Backward => settled.saturating_sub(span),
        }
    }

    /// A length that no opening exceeds which lies after (or before) `at`, in seconds; zero: there is none. None: no bound
    /// is known.
    pub(super) fn bound(&self, at: i64, direction: Direction) -> Option<i64> {
        let coarse = Self {
            free: self.free,
            allow: self
                .allow
                .iter()
                .filter(|track| track.goes_on(at, direction))
                .map(|t| t.by_weekday().0)
                .collect(),
            deny: self
                .deny
                .iter()
                .filter(|track| track.goes_on_for_ever(at, direction))
                .map(Track::by_weekday)
                .filter_map(|(track, same)| same.then_some(track))
                .collect(),
        };
        if !coarse.free && coarse.allow.is_empty() {
            return Some(0);
        }
        coarse.weekly_bound(at, direction)
    }

    /// Whether the allow windows alone leave no gap after (or before) `at`.
    pub(super) fn covers(&self, at: i64, direction: Direction) -> bool {
        self.free
            || Self { free: true, allow: Vec::new(), deny: self.allow.clone() }.bound(at, direction)
                == Some(0)
    }

    /// Whether the opening that begins then and reaches the end of time is cut off by nothing but that: where windows go
    /// on for ever, the last opening of the year 9999 is an ordinary one.
    pub(super) fn is_endless(&self, start: i64) -> bool {
        let recurs = |track: &Track| track.last == days::LAST && !matches!(track.days, days::Days::Once(_));
        !self.deny.iter().any(recurs) && self.covers(start, Direction::Forward)
    }

    /// The longest opening of tracks that are all weekly without end.
    fn weekly_bound(&self, at: i64, direction: Direction) -> Option<i64> {
        let tables = self.tables();
        let (from, to) = match direction {
            Direction::Forward => (at.min(REGULAR), REGULAR + CYCLE),
            Direction::Backward => (BEGIN, at.min(REGULAR + CYCLE)),
        };
        let from = from.saturating_sub(AFTERMATH);
        let to = to.saturating_add(AFTERMATH);
        // With one zone, as nearly always, what its changes look like is known.
        if let ([table], Direction::Forward) = (&tables[..], direction) {
            let looks = table.looks(|| looks_of(table));
            let ahead = looks.iter().filter(|look| look.last >= from);
            let offsets = ahead.clone().map(|look| look.offset).chain([table.offset(from)]);
            let steady = offsets.map(|offset| vec![offset]).collect();
            return self.longest_of(&tables, steady, ahead.map(|look| look.one));
        }
        let mut changes: Vec<(i64, usize, i64)> = tables
            .iter()
            .enumerate()
            .flat_map(|(index, table)| table.changes(from, to).map(move |(at, offset)| (at, index, offset)))
            .collect();
        changes.sort_unstable();

        let start = changes.first().map_or(at, |(first, ..)| *first - 1);
        let mut offsets: Vec<i64> = tables.iter().map(|table| table.offset(start)).collect();
        let mut steady = BTreeSet::from([offsets.clone()]);
        let mut jumps: BTreeMap<Vec<i64>, i64> = BTreeMap::new();
        for (index, (instant, zone, offset)) in changes.iter().enumerate() {
            jumps.entry(looks(&changes, index, &offsets)).or_insert(*instant);
            if let Some(known) = offsets.get_mut(*zone) {
                *known = *offset;
            }
            if !steady.contains(&offsets) {
                steady.insert(offsets.clone());
            }
        }

        self.longest_of(&tables, steady, jumps.into_values())
    }

    /// The longest opening with each of these offsets for ever, and around each of these changes.
    fn longest_of(
        &self,
        tables: &[Arc<Table>],
        steady: BTreeSet<Vec<i64>>,
        jumps: impl Iterator<Item = i64>,
    ) -> Option<i64> {
        let mut longest = 0;
        for offsets in steady {
            let fixed = self.with_offsets(tables, &offsets);
            longest = longest.max(fixed.longest_between(SOME_MONDAY, SOME_MONDAY + WEEK)?);
        }
        for instant in jumps {
            longest = longest.max(self.longest_between(instant - DAY, instant + AFTERMATH)?);
        }
        Some(longest)
    }

    /// The longest opening that overlaps `[from, to)`; none when one is too long.
    fn longest_between(&self, from: i64, to: i64) -> Option<i64> {
        let mut sweep = self.plain_sweep(LONGEST);
        let (mut at, mut longest) = (from - LONGEST - DAY, 0);
        while let Some((start, end)) = sweep.forward(at, to) {
            if end.saturating_sub(start) > LONGEST {
                return None;
            }
            if end > from {
                longest = longest.max(end - start);
            }
            at = end;
        }
        Some(longest)
    }

    fn tables(&self) -> Vec<Arc<Table>> {
        let mut tables: Vec<Arc<Table>> = Vec::new();
        for track in self.allow.iter().chain(&self.deny) {
            if !tables.contains(&track.table) {
                tables.push(Arc::clone(&track.table));
            }
        }
        tables
    }

    fn with_offsets(&self, tables: &[Arc<Table>], offsets: &[i64]) -> Self {
        let fixed: Vec<Arc<Table>> = offsets.iter().map(|offset| Arc::new(Table::fixed(*offset))).collect();
        let place = |tracks: &[Track]| {
            tracks
                .iter()
                .map(|track| {
                    let place = tables.iter().position(|table| *table == track.table);
                    let table = place.and_then(|place| fixed.get(place)).unwrap_or(&track.table);
                    Track { table: Arc::clone(table), ..track.clone() }
                })
                .collect()
        };
        Self { free: self.free, allow: place(&self.allow), deny: place(&self.deny) }
    }
}

impl Track {
    /// Whether it opens after (or before) `at`, or reaches there.
    fn goes_on(&self, at: i64, direction: Direction) -> bool {
        match direction {
            Direction::Forward => self.next_begun(at.saturating_sub(BESIDE * DAY)).is_some(),
            Direction::Backward => self.last_begun(at).is_some(),
        }
    }

    /// Whether no first or last day matters after (or before) `at`.
    fn goes_on_for_ever(&self, at: i64, direction: Direction) -> bool {
        let day = at.div_euclid(DAY);
        match direction {
            Direction::Forward => self.last == days::LAST && self.first <= day - BESIDE,
            Direction::Backward => self.first == days::FIRST && self.last >= day + BESIDE,
        }
    }

    fn by_weekday(&self) -> (Self, bool) {
        let (days, same) = self.days.by_weekday();
        (Self { days, first: days::FIRST, last: days::LAST, ..self.clone() }, same)
    }
}

/// The looks of all changes of one zone.
fn looks_of(table: &Table) -> Vec<Look> {
    let changes: Vec<_> = table.changes(BEGIN, END).map(|(at, offset)| (at, 0, offset)).collect();
    let mut found: BTreeMap<Vec<i64>, Look> = BTreeMap::new();
    for (index, (at, _, offset)) in changes.iter().enumerate() {
        let before = table.offset(at - 1);
        let look = found.entry(looks(&changes, index, &[before])).or_insert(Look {
            one: *at,
            last: *at,
            offset: *offset,
        });
        look.last = *at;
    }
    found.into_values().collect()
}

/// What a change of an offset looks like: when in the week, from which offsets, and what other changes are near.
fn looks(changes: &[(i64, usize, i64)], index: usize, before: &[i64]) -> Vec<i64> {
    let Some((instant, ..)) = changes.get(index) else { return Vec::new() };
    let mut looks = vec![instant.rem_euclid(WEEK)];
    looks.extend(before);
    let reach = LONGEST + DAY + AFTERMATH;
    let near = |(at, ..): &&(i64, usize, i64)| (at - instant).abs() <= reach + LONGEST;
    let (past, ahead) = changes.split_at(index);
    for (at, zone, offset) in past.iter().rev().take_while(near).chain(ahead.iter().take_while(near)) {
        looks.extend([at - instant, i64::try_from(*zone).unwrap_or(i64::MAX), *offset]);
    }
    looks
}

#[cfg(test)]
mod tests {
    use super::{super::zone::time_zone_names, *};

    /// A proof may take one change for another only if nothing else changes within the longest opening it gives a bound
    /// for, what an opening shows of a change, and a day of margin.
    #[test]
    fn changes_look_alike_only_with_the_same_neighbours() {
        let near = 2 * LONGEST + DAY + AFTERMATH;
        let alone = looks(&[(0, 0, 3600)], 0, &[0]);
        for at in [-near, near] {
            let mut changes = [(0, 0, 3600), (at, 1, 7200)];
            changes.sort_unstable();
            let index = changes.iter().position(|(at, ..)| *at == 0).unwrap();
            let look = looks(&changes, index, &[0]);
            assert!(look != alone && look.windows(3).any(|part| part == [at, 1, 7200]), "{look:?}");
            let further: Vec<_> =
                changes.iter().map(|(at, zone, offset)| (at + at.signum(), *zone, *offset)).collect();
            assert_eq!(looks(&further, index, &[0]), alone);
        }
    }

    /// Every change of every zone is looked at where the same change, from one offset to another at the same second of the
    /// week, was seen: what comes before it counts too.
    #[test]
    fn a_change_is_taken_only_for_one_between_the_same_offsets() {
        let mut changes = 0;
        for name in time_zone_names() {
            let table = Table::named(&name).unwrap();
            let kind = |at: i64| (at.rem_euclid(WEEK), table.offset(at - 1), table.offset(at));
            let seen: BTreeSet<_> = looks_of(&table).iter().map(|look| kind(look.one)).collect();
            for (at, _) in table.changes(BEGIN, END) {
                assert!(seen.contains(&kind(at)), "{name} at {at}");
                changes += 1;
            }
        }
        assert!(changes > 100_000, "{changes}");
    }
}
