//! What single clients reported.

use std::collections::BTreeMap;

use jiff::Timestamp;
use patchtide_model::{
    ClientId, LineId, UpdateId,
    state::{Compliance, DeploymentEnforcement, Detection, Evaluation, Scan, UpdateEnforcement},
};

use super::{ClientReport, ClientUpdateState, DeploymentClientState};
use crate::{
    Result, SiteStore,
    intake::{cache::slot_at, details},
    sql::{Many, Row, sql},
};

const NAMES: Many = Many {
    head: "SELECT s.slot, l.name, u.source, u.version FROM slot s JOIN software_update u ON u.id = s.update_id \
           JOIN line l ON l.id = u.line WHERE s.slot IN (VALUES ",
    columns: 1,
    tail: ")",
};

impl SiteStore {
    /// What a client reported other than *not required*, by update.
    pub async fn client_states(&self, client: ClientId) -> Result<Vec<ClientUpdateState>> {
        let Some(number) = self.client_number(client).await? else { return Ok(Vec::new()) };
        let bytes = self.client_bytes(number).await?;
        let details = sql("SELECT slot, since, error FROM update_detail WHERE client = $1").bind(number);
        let mut more = BTreeMap::new();
        for row in self.rows("states", details).await? {
            more.insert(row.int(0)?, (row.time(1)?, row.json_option(2, "error")?));
        }
        let required = sql("SELECT body FROM client_required WHERE client = $1").bind(number);
        for row in self.rows("states", required).await? {
            let found = details::read(&row.text(0)?)?;
            more.extend(found.into_iter().map(|(slot, detail)| (slot, (detail.since, None))));
        }
        let keys = bytes.keys().map(|slot| (*slot).into()).collect();
        let mut states = Vec::new();
        for row in self.rows_many("updates", NAMES, keys).await? {
            let slot = row.int(0)?;
            let update =
                UpdateId { line: row.parse(1, "line")?, source: row.text(2)?, version: row.text(3)? };
            let byte = bytes.get(&slot).copied().unwrap_or(0);
            states.push(state(update, byte, more.remove(&slot)));
        }
        states.sort_unstable_by(|a, b| a.update.cmp(&b.update));
        Ok(states)
    }

    /// A client's bytes by slot, without zeros.
    async fn client_bytes(&self, number: i64) -> Result<BTreeMap<i64, u8>> {
        let mut bytes = BTreeMap::new();
        // One statement: a state is never seen in both forms, or in none, while it changes from one to the other.
        let query = sql("SELECT segment, states, 0 FROM seg_state WHERE client = $1 \
                         UNION ALL SELECT slot, NULL, state FROM sparse_state WHERE client = $1");
        for row in self.rows("states", query.bind(number)).await? {
            match row.blob_option(1)? {
                Some(states) => {
                    let segment = row.int(0)?;
                    let used = states.into_iter().enumerate().filter(|(_, byte)| *byte != 0);
                    bytes.extend(used.map(|(ordinal, byte)| (slot_at(segment, ordinal), byte)));
                }
                None => drop(bytes.insert(row.int(0)?, u8::try_from(row.int(2)?).unwrap_or(0))),
            }
        }
        Ok(bytes)
    }

    /// The state of one update on one client: *unknown* beyond its watermark. `None` when either does not exist.
    pub async fn client_update(
        &self,
        client: ClientId,
        update: &UpdateId,
    ) -> Result<Option<ClientUpdateState>> {
        let Some(place) = self.places(std::iter::once(update)).await?.remove(update) else { return Ok(None) };
        if self.client_number(client).await?.is_none() {
            return Ok(None);
        }
        let reported = self.client_states(client).await?.into_iter().find(|state| state.update == *update);
        let mut found = reported.unwrap_or_else(|| state(update.clone(), 0, None));
        if found.detection == Detection::Unknown {
            let scans = self.client_scans(client).await?;
            if scans.iter().any(|(line, version, _)| *line == update.line && *version >= place.since) {
                found.detection = Detection::NotRequired;
            }
        }
        Ok(Some(found))
    }

    /// Complete scans of a client: line, catalogue version, when it came in.
    pub async fn client_scans(&self, client: ClientId) -> Result<Vec<(LineId, u64, Timestamp)>> {
        let query =
            sql("SELECT l.name, s.version, s.scanned_at FROM client_line s JOIN line l ON l.id = s.line \
                         JOIN client c ON c.id = s.client WHERE c.site = $1 AND c.uuid = $2 ORDER BY l.name");
        let rows = self.rows("scans", query.bind(self.site.as_str()).bind(client)).await?;
        rows.iter().map(|row| Ok((row.parse(0, "line")?, row.unsigned(1)?, row.time(2)?))).collect()
    }

    /// What every client that ever reported says about itself, by client.
    pub async fn client_reports(&self) -> Result<Vec<ClientReport>> {
        let query = sql(
            "SELECT c.uuid, q.reported_at, q.skew, s.policy_epoch, s.policy_number, s.scan, s.scan_error, \
                         q.sequence, s.gap_since FROM client c JOIN client_sequence q ON q.client = c.id \
                         JOIN client_session s ON s.client = c.id WHERE c.site = $1 ORDER BY c.uuid",
        );
        let rows = self.rows("reports", query.bind(self.site.as_str())).await?;
        rows.iter().map(report).collect()
    }

    /// What clients reported about a deployment, by client.
    pub async fn deployment_clients(&self, uid: &str) -> Result<Vec<DeploymentClientState>> {
        self.deployment_clients_but(uid, None).await
    }

    /// The same of the clients that said something else than that everything is installed.
    pub async fn deployment_clients_at_it(&self, uid: &str) -> Result<Vec<DeploymentClientState>> {
        self.deployment_clients_but(uid, Some(DeploymentEnforcement::Installed)).await
    }

    /// The same without those in one state and those that said nothing of a state.
    async fn deployment_clients_but(
        &self,
        uid: &str,
        but: Option<DeploymentEnforcement>,
    ) -> Result<Vec<DeploymentClientState>> {
        // -1: everybody.
        let but = but.map_or(-1, |state| i64::from(state.id()));
        let query = sql(
            "SELECT c.uuid, d.enforcement, d.compliance, d.evaluation, d.until, d.error, d.changed_at, c.last_contact \
                         FROM deployment_client d JOIN client c ON c.id = d.client \
                         WHERE d.uid = $1 AND c.site = $2 AND ($3 = -1 OR d.enforcement <> $3) ORDER BY c.uuid",
        );
        let rows = self.rows("a deployment", query.bind(uid).bind(self.site.as_str()).bind(but)).await?;
        rows.iter().map(|row| deployment_state(row, row.time_option(7)?)).collect()
    }
}

/// A client's uuid, `client_sequence` and `client_session`.
pub(super) fn report(row: &Row) -> Result<ClientReport> {
    let policy = match (row.int_option(3)?, row.int_option(4)?) {
        (Some(_), Some(_)) => Some((row.unsigned(3)?, row.unsigned(4)?)),
        _ => None,
    };
    Ok(ClientReport {
        client: row.parse(0, "client id")?,
        reported_at: row.time(1)?,
        skew_us: row.int(2)?,
        policy,
        scan: code(row, 5)?.and_then(Scan::from_id).unwrap_or(Scan::Unknown),
        scan_error: row.json_option(6, "error")?,
        sequence: row.unsigned(7)?,
        gap: row.int_option(8)?.is_some(),
    })
}

/// A client's uuid and `deployment_client`.
pub(super) fn deployment_state(row: &Row, heard: Option<Timestamp>) -> Result<DeploymentClientState> {
    let enforcement = code(row, 1)?.and_then(DeploymentEnforcement::from_id);
    let compliance = code(row, 2)?.and_then(Compliance::from_id);
    let evaluation = code(row, 3)?.and_then(Evaluation::from_id);
    Ok(DeploymentClientState {
        client: row.parse(0, "client id")?,
        enforcement: enforcement.unwrap_or(DeploymentEnforcement::Unknown),
        compliance: compliance.unwrap_or(Compliance::Unknown),
        evaluation: evaluation.unwrap_or(Evaluation::Unknown),
        until: row.time_option(4)?,
        error: row.json_option(5, "error")?,
        changed_at: row.time(6)?,
        heard,
    })
}

pub(super) fn code(row: &Row, column: usize) -> Result<Option<u8>> {
    Ok(row.int_option(column)?.and_then(|code| u8::try_from(code).ok()))
}

pub(super) fn state(
    update: UpdateId,
    byte: u8,
    detail: Option<(Timestamp, Option<patchtide_model::state::StateError>)>,
) -> ClientUpdateState {
    let (since, error) = detail.map_or((None, None), |(since, error)| (Some(since), error));
    ClientUpdateState {
        update,
        detection: Detection::from_id(byte & 3).unwrap_or(Detection::Unknown),
        enforcement: UpdateEnforcement::from_id(byte >> 2).unwrap_or(UpdateEnforcement::Unknown),
        error,
        since,
    }
}
