//! The clients of one update, and the updates of one client. Never all of them: that is millions.

use patchtide_model::{
    ClientId, UpdateId,
    client::Client,
    state::{Detection, UpdateEnforcement},
};

use super::Part;
use crate::{
    Result, SiteStore,
    answers::{ClientUpdateState, clients::state},
    sql::{Build, Pool, len},
};

/// What can be asked of a client and an update, beside which they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatesOf {
    /// Topic 500.
    Detection(Detection),
    /// Topic 402.
    Enforcement(UpdateEnforcement),
    /// With an error.
    Failed,
}

impl StatesOf {
    /// Whether it holds.
    pub fn holds(self, state: &ClientUpdateState) -> bool {
        match self {
            Self::Detection(detection) => state.detection == detection,
            Self::Enforcement(enforcement) => state.enforcement == enforcement,
            Self::Failed => state.error.is_some(),
        }
    }
}

/// A client and an update. Its key is the client's identity, a point and the update's name in the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientUpdateRow {
    /// The client.
    pub client: ClientId,
    /// What it is called.
    pub name: String,
    /// The update and its state.
    pub state: ClientUpdateState,
}

impl ClientUpdateRow {
    /// Its key in lists.
    pub fn key(&self) -> String {
        format!("{}.{}", self.client, self.state.update.slug())
    }
}

impl SiteStore {
    /// Active clients that reported other than *not required* of `update`, by identity.
    pub async fn select_states_of_update(
        &self,
        update: &UpdateId,
        part: &Part<StatesOf>,
    ) -> Result<Vec<ClientUpdateRow>> {
        let places = self.places(std::iter::once(update)).await?;
        let Some((slot, line)) = places.get(update).and_then(|place| Some((place.slot?, place.line))) else {
            return Ok(Vec::new());
        };
        let sqlite = matches!(self.core().pool, Pool::Sqlite(_));
        let mut build = Build::new("SELECT c.uuid, c.name, v.state, COALESCE(d.since, ");
        build.push(if sqlite {
            "json_extract(r.body, '$.\"' || v.slot || '\"[0]')"
        } else {
            "CAST(CAST(r.body AS json) -> CAST(v.slot AS text) ->> 0 AS BIGINT)"
        });
        build.push("), d.error FROM (SELECT g.client, ").push(if sqlite {
            "CAST(instr(x'000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f', substr(g.states, f.slot % 256 + 1, 1)) - 1 AS INTEGER)"
        } else {
            "CAST(get_byte(g.states, CAST(f.slot % 256 AS INTEGER)) AS BIGINT)"
        });
        build.push(
            " AS state, f.slot FROM slot f JOIN seg_state g ON g.segment = f.slot / 256 \
                    AND length(g.states) > f.slot % 256 WHERE f.slot = ",
        );
        build
            .bind(slot)
            .push(" UNION ALL SELECT p.client, p.state, p.slot FROM sparse_state p WHERE p.slot = ");
        build.bind(slot).push(
            ") v JOIN client c ON c.id = v.client LEFT JOIN update_detail d ON d.slot = v.slot \
             AND d.client = v.client LEFT JOIN client_required r ON r.client = v.client AND r.line = ",
        );
        build.bind(line).push(" WHERE v.state > 0 AND c.state = 1 AND c.site = ").bind(self.site.as_str());
        for condition in &part.conditions {
            build.and(condition.holds, |build| {
                match condition.what {
                    StatesOf::Detection(detection) => build.push("v.state % 4 = ").bind(detection.id()),
                    StatesOf::Enforcement(state) => build.push("v.state / 4 = ").bind(state.id()),
                    StatesOf::Failed => build.push("d.error IS NOT NULL"),
                };
            });
        }
        if let Some(after) = &part.after {
            let client = after.split('.').next().unwrap_or_default();
            build.push(" AND c.uuid > ").bind(client);
        }
        build.push(" ORDER BY c.uuid LIMIT ").bind(len(part.limit));
        let rows = self.rows("states", build.sql()).await?;
        rows.iter()
            .map(|row| {
                let byte = u8::try_from(row.int(2)?).unwrap_or(0);
                let mut state = state(update.clone(), byte, None);
                state.since = row.time_option(3)?;
                state.error = row.json_option(4, "error")?;
                Ok(ClientUpdateRow { client: row.parse(0, "client id")?, name: row.text(1)?, state })
            })
            .collect()
    }

    /// What `client` reported other than *not required*, by the updates' names.
    pub async fn select_states_of_client(
        &self,
        client: &Client,
        part: &Part<StatesOf>,
    ) -> Result<Vec<ClientUpdateRow>> {
        let row = |state| ClientUpdateRow { client: client.id, name: client.name.clone(), state };
        let states = self.client_states(client.id).await?.into_iter();
        let asked = states
            .filter(|state| part.conditions.iter().all(|one| one.what.holds(state) == one.holds))
            .map(row);
        let mut rows: Vec<(String, ClientUpdateRow)> = asked.map(|row| (row.key(), row)).collect();
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let after = part.after.as_deref().unwrap_or_default();
        let later = rows.into_iter().filter(|(key, _)| key.as_str() > after).map(|(_, row)| row);
        Ok(later.take(part.limit).collect())
    }
}
