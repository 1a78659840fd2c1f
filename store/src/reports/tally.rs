//! Clients and updates, counted both ways at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use patchtide_model::{UpdateId, search::DetectionCounts, state::UpdateEnforcement};

use super::Scope;
use crate::{
    Result, SiteStore,
    catalogue::find::Place,
    intake::{
        cache::{SLOTS, split},
        counts::{INSTALLED, REQUIRED},
    },
    sql::sql,
};

/// States of some clients and some updates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// By update; those that the catalogue does not have are left out.
    pub updates: BTreeMap<UpdateId, UpdateTally>,
    /// By client, by its number.
    pub clients: Vec<ClientTally>,
}

/// How many clients are in which state of an update.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpdateTally {
    /// By detection state; they add up to the clients that are meant.
    pub detection: DetectionCounts,
    /// Of those that require it by enforcement state, in the order of [`UpdateEnforcement::ALL`].
    pub enforcement: [u64; UpdateEnforcement::ALL.len()],
}

/// How many of the updates are in which state on a client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientTally {
    /// The client's number.
    pub client: i64,
    /// By detection state; they add up to the updates.
    pub detection: DetectionCounts,
    /// Of the required ones, those that failed.
    pub failed: u64,
}

impl UpdateTally {
    /// Clients that require it and are in `state`.
    pub fn enforced(&self, state: UpdateEnforcement) -> u64 {
        self.enforcement.get(usize::from(state.id())).copied().unwrap_or(0)
    }

    /// Clients that require it and on which it failed.
    pub fn failed(&self) -> u64 {
        self.sum(is_failure)
    }

    /// Clients that require it and are at it: neither failed nor without any enforcement state.
    pub fn pending(&self) -> u64 {
        self.sum(|state| !is_failure(state) && state != UpdateEnforcement::Unknown)
    }

    fn sum(&self, which: impl Fn(UpdateEnforcement) -> bool) -> u64 {
        UpdateEnforcement::ALL.iter().filter(|state| which(**state)).map(|state| self.enforced(*state)).sum()
    }
}

impl ClientTally {
    /// Whether nothing is missing and nothing is unknown.
    pub const fn is_compliant(&self) -> bool {
        self.detection.required == 0 && self.detection.unknown == 0
    }
}

pub(super) const fn is_failure(state: UpdateEnforcement) -> bool {
    use UpdateEnforcement::{DownloadFailed, GeneralFailure, InstallFailed};
    matches!(state, GeneralFailure | InstallFailed | DownloadFailed)
}

/// The updates of a line that are asked about.
#[derive(Debug, Default)]
struct Line {
    /// Catalogue versions since which they are what they are, sorted.
    since: Vec<u64>,
    /// Watermarks of the clients, by their place; none: never scanned.
    watermarks: HashMap<usize, u64>,
}

impl Line {
    /// How many of its updates a scan at `version` told of.
    fn told_at(&self, version: Option<u64>) -> u64 {
        version.map_or(0, |version| self.since.partition_point(|since| *since <= version) as u64)
    }
}

/// A tally in the making; clients and updates by their places.
struct Counting<'a> {
    clients: &'a [i64],
    places: Vec<Place>,
    lines: BTreeMap<i64, Line>,
    updates: Vec<UpdateTally>,
    by_client: Vec<ClientTally>,
    /// States within the watermark, by update: they are told of, but not as *not required*.
    within: Vec<u64>,
    /// The same by client.
    within_client: Vec<u64>,
}

impl Counting<'_> {
    fn state(&mut self, client: i64, update: usize, byte: u8) {
        let (detection, enforcement) = (byte & 3, usize::from(byte >> 2));
        if detection < REQUIRED {
            return;
        }
        let Ok(client) = self.clients.binary_search(&client) else { return };
        let (Some(tally), Some(place)) = (self.updates.get_mut(update), self.places.get(update)) else {
            return;
        };
        let Some(by_client) = self.by_client.get_mut(client) else { return };
        if detection == INSTALLED {
            tally.detection.installed += 1;
            by_client.detection.installed += 1;
        } else {
            tally.detection.required += 1;
            by_client.detection.required += 1;
            if let Some(count) = tally.enforcement.get_mut(enforcement) {
                *count += 1;
            }
            let state = u8::try_from(enforcement).ok().and_then(UpdateEnforcement::from_id);
            by_client.failed += u64::from(state.is_some_and(is_failure));
        }
        let watermark = self.lines.get(&place.line).and_then(|line| line.watermarks.get(&client));
        if watermark.is_some_and(|version| *version >= place.since) {
            self.within[update] += 1;
            self.within_client[client] += 1;
        }
    }

    /// What has no state is not required when the client's scan told of it, and unknown otherwise.
    fn finish(&mut self) {
        let (clients, updates) = (self.clients.len() as u64, self.places.len() as u64);
        let mut told = vec![0; self.clients.len()];
        let mut versions: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        for (number, line) in &self.lines {
            for (client, version) in &line.watermarks {
                told[*client] += line.told_at(Some(*version));
            }
            let mut all: Vec<u64> = line.watermarks.values().copied().collect();
            all.sort_unstable();
            versions.insert(*number, all);
        }
        for ((tally, place), within) in self.updates.iter_mut().zip(&self.places).zip(&self.within) {
            let told = versions
                .get(&place.line)
                .map_or(0, |all| (all.len() - all.partition_point(|version| *version < place.since)) as u64);
            complete(&mut tally.detection, clients, told, *within);
        }
        for ((tally, told), within) in self.by_client.iter_mut().zip(told).zip(&self.within_client) {
            complete(&mut tally.detection, updates, told, *within);
        }
    }
}

/// `told` of `all` are known, `within` of these to be required or installed.
fn complete(counts: &mut DetectionCounts, all: u64, told: u64, within: u64) {
    counts.not_required = told.saturating_sub(within);
    counts.unknown = all.saturating_sub(counts.required + counts.installed + counts.not_required);
}

impl SiteStore {
    /// Counts the states of `updates` on the clients of `scope`, by update and by client.
    pub async fn tally(&self, updates: &BTreeSet<UpdateId>, scope: Scope) -> Result<Tally> {
        let found = self.places(updates.iter()).await?;
        let clients = self.members(scope).await?;
        let (ids, places): (Vec<UpdateId>, Vec<Place>) = found.into_iter().unzip();
        let mut counting = Counting {
            clients: &clients,
            lines: self.watermarks(&places, &clients).await?,
            updates: vec![UpdateTally::default(); places.len()],
            by_client: clients
                .iter()
                .map(|client| ClientTally { client: *client, ..ClientTally::default() })
                .collect(),
            within: vec![0; places.len()],
            within_client: vec![0; clients.len()],
            places,
        };
        let mut segments: BTreeMap<i64, HashMap<usize, usize>> = BTreeMap::new();
        for (update, place) in counting.places.iter().enumerate() {
            if let Some(slot) = place.slot {
                let (segment, ordinal) = split(slot);
                segments.entry(segment).or_default().insert(ordinal, update);
            }
        }
        for (segment, columns) in segments {
            let mut columns: Vec<(usize, usize)> = columns.into_iter().collect();
            columns.sort_unstable();
            let dense = sql("SELECT client, states FROM seg_state WHERE segment = $1").bind(segment);
            for row in self.rows("states", dense).await? {
                let (client, states) = (row.int(0)?, row.blob(1)?);
                for (ordinal, update) in &columns {
                    match states.get(*ordinal) {
                        Some(byte) => counting.state(client, *update, *byte),
                        // Trailing zeros are cut.
                        None => break,
                    }
                }
            }
            let sparse = sql("SELECT client, slot, state FROM sparse_state WHERE slot >= $1 AND slot < $2");
            let from = segment * SLOTS;
            for row in self.rows("states", sparse.bind(from).bind(from + SLOTS)).await? {
                let (_, ordinal) = split(row.int(1)?);
                if let Ok(column) = columns.binary_search_by_key(&ordinal, |(ordinal, _)| *ordinal) {
                    let byte = u8::try_from(row.int(2)?).unwrap_or(0);
                    counting.state(row.int(0)?, columns[column].1, byte);
                }
            }
        }
        counting.finish();
        let Counting { updates, by_client, .. } = counting;
        Ok(Tally { updates: ids.into_iter().zip(updates).collect(), clients: by_client })
    }

    /// The lines of `places`, with the watermarks of `clients`.
    async fn watermarks(&self, places: &[Place], clients: &[i64]) -> Result<BTreeMap<i64, Line>> {
        let mut lines: BTreeMap<i64, Line> = BTreeMap::new();
        for place in places {
            lines.entry(place.line).or_default().since.push(place.since);
        }
        for (number, line) in &mut lines {
            line.since.sort_unstable();
            let query = sql("SELECT client, version FROM client_line WHERE line = $1").bind(*number);
            for row in self.rows("scans", query).await? {
                if let Ok(client) = clients.binary_search(&row.int(0)?) {
                    line.watermarks.insert(client, row.unsigned(1)?);
                }
            }
        }
        Ok(lines)
    }
}
