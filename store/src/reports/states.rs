//! The clients of one update, and what each said of it.

use std::collections::HashMap;

use jiff::Timestamp;
use patchtide_model::{
    UpdateId,
    state::{Detection, StateError, UpdateEnforcement},
};

use super::Scope;
use crate::{
    Result, SiteStore,
    intake::{cache::split, details},
    sql::{Many, sql},
};

/// A client and an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientState {
    /// The client's number.
    pub client: i64,
    /// Topic 500.
    pub detection: Detection,
    /// Topic 402; says something while the update is required.
    pub enforcement: UpdateEnforcement,
    /// Error of a failed state.
    pub error: Option<StateError>,
    /// Whether the client ever scanned for the line of the update.
    pub scanned: bool,
}

const REQUIRED: Many =
    Many { head: "SELECT client, body FROM client_required WHERE client IN (VALUES ", columns: 1, tail: ")" };
const DETAILS: Many = Many {
    head: "SELECT client, slot, since FROM update_detail WHERE client IN (VALUES ",
    columns: 1,
    tail: ")",
};

impl SiteStore {
    /// What each client of `scope` said of `update`; empty when the catalogue does not have it.
    pub async fn states_of(&self, update: &UpdateId, scope: Scope) -> Result<Vec<ClientState>> {
        let Some(place) = self.places(std::iter::once(update)).await?.remove(update) else {
            return Ok(Vec::new());
        };
        let clients = self.members(scope).await?;
        let scanned = self.scanned_versions(place.line).await?;
        let bytes = match place.slot {
            Some(slot) => self.bytes_of(slot).await?,
            None => HashMap::new(),
        };
        let mut errors = HashMap::new();
        let failed = sql("SELECT client, error FROM update_detail WHERE slot = $1 AND error IS NOT NULL");
        for row in self.rows("errors", failed.bind(place.slot)).await? {
            errors.insert(row.int(0)?, row.json(1, "error")?);
        }
        let state = |client: i64| {
            let byte = bytes.get(&client).copied().unwrap_or(0);
            let version = scanned.get(&client);
            let detection = match Detection::from_id(byte & 3) {
                Some(found @ (Detection::Required | Detection::Installed)) => found,
                _ if version.is_some_and(|version| *version >= place.since) => Detection::NotRequired,
                _ => Detection::Unknown,
            };
            ClientState {
                client,
                detection,
                enforcement: UpdateEnforcement::from_id(byte >> 2).unwrap_or(UpdateEnforcement::Unknown),
                error: errors.remove(&client),
                scanned: version.is_some(),
            }
        };
        Ok(clients.into_iter().map(state).collect())
    }

    /// The bytes of a slot by client.
    async fn bytes_of(&self, slot: i64) -> Result<HashMap<i64, u8>> {
        let (segment, ordinal) = split(slot);
        let mut bytes = HashMap::new();
        let dense = sql("SELECT client, states FROM seg_state WHERE segment = $1").bind(segment);
        for row in self.rows("states", dense).await? {
            if let Some(byte) = row.blob(1)?.get(ordinal) {
                bytes.insert(row.int(0)?, *byte);
            }
        }
        let sparse = sql("SELECT client, state FROM sparse_state WHERE slot = $1").bind(slot);
        for row in self.rows("states", sparse).await? {
            bytes.insert(row.int(0)?, u8::try_from(row.int(1)?).unwrap_or(0));
        }
        Ok(bytes)
    }

    /// Since when `update` is required, or failed, on those of `clients` of which that is known. It reads all that each of
    /// them requires: ask it of those that are shown.
    pub async fn required_since(
        &self,
        update: &UpdateId,
        clients: &[i64],
    ) -> Result<HashMap<i64, Timestamp>> {
        let place = self.places(std::iter::once(update)).await?.remove(update);
        let Some(slot) = place.and_then(|place| place.slot) else { return Ok(HashMap::new()) };
        let keys: Vec<_> = clients.iter().map(|client| (*client).into()).collect();
        let mut since = HashMap::new();
        for row in self.rows_many("states", REQUIRED, keys.clone()).await? {
            let found = details::read(&row.text(1)?)?.into_iter().find(|(of, _)| *of == slot);
            if let Some((_, detail)) = found {
                since.insert(row.int(0)?, detail.since);
            }
        }
        for row in self.rows_many("states", DETAILS, keys).await? {
            if row.int(1)? == slot {
                since.insert(row.int(0)?, row.time(2)?);
            }
        }
        Ok(since)
    }
}
