//! The whole history and future of a zone's offset as one sorted list, so that a conversion is a search and no parsing
//! of rules.
//!
//! A zone's rules repeat: the Gregorian calendar does after 400 years (146,097 days, which are also whole weeks), and a
//! rule such as *last Sunday in March* says nothing but month, week and weekday. What is not a rule but a list (Morocco
//! until 2087) ends long before [`REGULAR`]. So the list is kept for one cycle after it, and every later time is looked
//! up in that cycle. `tables_agree_with_jiff_everywhere` holds this against every zone of the database.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, OnceLock, PoisonError, RwLock},
};

use jiff::{Timestamp, tz::TimeZone};

use super::{proof::Direction, zone::time_zone};

/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;

/// Seconds of 400 years.
pub(super) const CYCLE: i64 = 146_097 * DAY;

/// From here on only rules: 1 January 2100, in seconds since 1970.
pub(super) const REGULAR: i64 = 4_102_444_800;

/// Half a year, so that no search ends at the edge of the list.
const MARGIN: i64 = 183 * DAY;

/// Zones that are remembered besides those of the database: more than these are worked out again.
const REMEMBERED: usize = 64;

/// The offsets of one zone.
#[derive(Debug)]
pub(super) struct Table {
    /// The first second of each stretch with one offset; the first stretch begins before all time.
    starts: Vec<i64>,
    /// What the zone's clock is ahead of UTC in that stretch, in seconds.
    offsets: Vec<i64>,
    /// The latest reading of the clock, exclusive, up to the end of that stretch.
    read: Vec<i64>,
    /// What its changes look like, worked out when it is first asked for.
    looks: OnceLock<Vec<Look>>,
}

/// Changes of the offset that look alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// One of them, and the last of them.
    pub one: i64,
    pub last: i64,
    /// The offset after each.
    pub offset: i64,
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        (&self.starts, &self.offsets) == (&other.starts, &other.offsets)
    }
}

impl Eq for Table {}

impl Table {
    /// A zone that never changes.
    pub(super) fn fixed(offset: i64) -> Self {
        Self { starts: vec![i64::MIN], offsets: vec![offset], read: vec![i64::MAX], looks: OnceLock::new() }
    }

    fn new(zone: &TimeZone) -> Self {
        let mut starts = vec![i64::MIN];
        let mut offsets = vec![i64::from(zone.to_offset(Timestamp::MIN).seconds())];
        for transition in zone.following(Timestamp::MIN) {
            let at = transition.timestamp().as_second();
            if at > REGULAR + CYCLE + 2 * MARGIN {
                break;
            }
            let offset = i64::from(transition.offset().seconds());
            if offsets.last() != Some(&offset) {
                starts.push(at);
                offsets.push(offset);
            }
        }
        let mut read = Vec::with_capacity(starts.len());
        let mut latest = i64::MIN;
        for (index, offset) in offsets.iter().enumerate() {
            latest = starts.get(index + 1).map_or(i64::MAX, |end| latest.max(end + offset));
            read.push(latest);
        }
        Self { starts, offsets, read, looks: OnceLock::new() }
    }

    /// The table of a zone, worked out once for each.
    pub(super) fn of(zone: &TimeZone) -> Arc<Self> {
        static TABLES: RwLock<Vec<(TimeZone, Arc<Table>)>> = RwLock::new(Vec::new());
        if let Some(fixed) = zone.to_fixed_offset().ok().map(|offset| i64::from(offset.seconds())) {
            return Arc::new(Self::fixed(fixed));
        }
        {
            let known = TABLES.read().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, table)) = known.iter().find(|(other, _)| other == zone) {
                return Arc::clone(table);
            }
        }
        let table = Arc::new(Self::new(zone));
        let mut known = TABLES.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < REMEMBERED {
            known.push((zone.clone(), Arc::clone(&table)));
        }
        table
    }

    /// The table of a zone of the database; none: there is no such zone.
    pub(super) fn named(name: &str) -> Option<Arc<Self>> {
        static TABLES: LazyLock<RwLock<BTreeMap<String, Arc<Table>>>> = LazyLock::new(RwLock::default);
        {
            let known = TABLES.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(table) = known.get(name) {
                return Some(Arc::clone(table));
            }
        }
        let zone = time_zone(name)?;
        let table = Arc::new(Self::new(&zone));
        let mut known = TABLES.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), Arc::clone(&table));
        Some(table)
    }

    /// The changes of the offset in `[from, to)`, and the offset after each; `to` lies at most one cycle after
    /// [`REGULAR`].
    pub(super) fn changes(&self, from: i64, to: i64) -> impl Iterator<Item = (i64, i64)> + '_ {
        let first = self.starts.partition_point(|start| *start < from).max(1);
        let changes = self.starts.iter().copied().zip(self.offsets.iter().copied());
        changes.skip(first).take_while(move |(at, _)| *at < to)
    }

    /// The different looks of all its changes, as `work_out` finds them.
    pub(super) fn looks(&self, work_out: impl FnOnce() -> Vec<Look>) -> &[Look] {
        self.looks.get_or_init(work_out)
    }

    /// From when on (or up to when) the zone only repeats, and after how many days it does: its first or last change of
    /// all, or 400 years where changes never end.
    pub(super) fn settles(&self, direction: Direction) -> (i64, i64) {
        let changes = self.starts.get(1..).unwrap_or_default();
        match (direction, changes.first(), changes.last()) {
            (Direction::Backward, Some(first), _) => (first - DAY, 1),
            (Direction::Forward, _, Some(last)) if *last >= REGULAR => (REGULAR, CYCLE / DAY),
            (Direction::Forward, _, Some(last)) => (last + DAY, 1),
            (Direction::Backward, None, _) => (i64::MAX, 1),
            (Direction::Forward, _, None) => (i64::MIN, 1),
        }
    }

    /// The offset at an instant.
    pub(super) fn offset(&self, at: i64) -> i64 {
        let (at, _) = within_cycle(at);
        let index = self.starts.partition_point(|start| *start <= at).saturating_sub(1);
        self.offsets.get(index).copied().unwrap_or_default()
    }

    /// The latest civil time that the clock has shown up to an instant: what it shows, or, after it was put back, what
    /// it showed right before. Civil times are in seconds like instants, read as if they were in UTC.
    pub(super) fn latest_reading(&self, at: i64) -> i64 {
        let (at, cycles) = within_cycle(at);
        let index = self.starts.partition_point(|start| *start <= at).saturating_sub(1);
        let now = at.saturating_add(self.offsets.get(index).copied().unwrap_or_default());
        let before = index.checked_sub(1).and_then(|index| self.read.get(index)).map(|end| end - 1);
        before.unwrap_or(now).max(now).saturating_add(cycles)
    }

    /// The first instant at which the clock shows a civil time or has passed it: in a fold the first of the two, in a gap
    /// the end of the gap.
    pub(super) fn instant(&self, civil: i64) -> i64 {
        let (civil, cycles) = within_cycle(civil);
        let index = self.read.partition_point(|end| *end <= civil);
        let start = self.starts.get(index).copied().unwrap_or(i64::MIN);
        let offset = self.offsets.get(index).copied().unwrap_or_default();
        (civil - offset).max(start).saturating_add(cycles)
    }
}

/// A time in the cycle that the tables cover, and how far that is from the time itself.
fn within_cycle(at: i64) -> (i64, i64) {
    let first = REGULAR + MARGIN;
    if at < first + CYCLE {
        return (at, 0);
    }
    let cycles = (at - first) / CYCLE * CYCLE;
    (at - cycles, cycles)
}

#[cfg(test)]
mod tests {
    use jiff::civil;

    use super::{
        super::zone::{first_instant, time_zone_names},
        *,
    };

    /// Around every change of every zone, and at instants far apart, until the end of time: the table says what jiff
    /// says. Half of the changes of the regular cycle, so that it does not take a minute.
    #[test]
    fn tables_agree_with_jiff_everywhere() {
        let mut seen = 0;
        for name in time_zone_names() {
            let zone = time_zone(&name).unwrap();
            let table = Table::named(&name).unwrap();
            let mut instants: Vec<i64> = (0..40).map(|n| -60_000_000_000 + n * 7_777_777_777).collect();
            for (index, at) in table.starts.iter().enumerate().skip(1) {
                if *at < REGULAR || index % 101 == 0 {
                    instants.extend([-90_000, -1800, -1, 0, 1, 1800, 5400, 90_000].map(|by| at + by));
                }
            }
            for at in instants {
                let Ok(instant) = Timestamp::from_second(at) else { continue };
                assert_eq!(
                    table.offset(at),
                    i64::from(zone.to_offset(instant).seconds()),
                    "{name} {instant}"
                );
                let civil = zone.to_datetime(instant);
                let read = civil.duration_since(civil::date(1970, 1, 1).at(0, 0, 0, 0)).as_secs();
                let expected = first_instant(civil, &zone).unwrap().as_second();
                assert_eq!(table.instant(read), expected, "{name} {civil}");
                // What the clock jumped over.
                let skipped = civil.checked_add(jiff::SignedDuration::from_mins(31)).unwrap();
                let expected = first_instant(skipped, &zone).unwrap().as_second();
                assert_eq!(table.instant(read + 31 * 60), expected, "{name} {skipped}");
                let latest = table.latest_reading(at);
                assert!(table.instant(latest) <= at && table.instant(latest + 1) > at, "{name} {instant}");
                seen += 1;
            }
        }
        assert!(seen > 100_000, "{seen}");
    }
}
