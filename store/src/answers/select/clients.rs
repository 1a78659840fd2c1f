//! Clients.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use patchtide_model::{
    client::{Client, ClientState},
    state::{Detection, Scan, UpdateEnforcement},
};

use super::{Part, SilentSince, among, facts};
use crate::{
    Result, SiteStore,
    answers::{ClientReport, clients::code, pages},
    clients::registry,
    intake::{cache::slot_at, load::state_code},
    sql::{Build, Row, Value, len, sql},
};

/// What can be asked of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientIs {
    /// It has this identity.
    Id(String),
    /// It is called so.
    Called(String),
    /// It stands so.
    In(ClientState),
    /// It is active and was not heard of for long.
    Silent,
    /// Its last contact came from there.
    At(String),
    /// Its last scan ended so.
    Scan(Scan),
}

/// Updates of a client, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct UpdateNumbers {
    /// Required.
    pub required: u64,
    /// Installed.
    pub installed: u64,
    /// Failed to download or install.
    pub failed: u64,
    /// Installed, and wait for a restart.
    pub pending_restart: u64,
}

/// A client with what it says of itself. Its key is its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRow {
    /// The client.
    pub client: Client,
    /// Active, and not heard of for long.
    pub silent: bool,
    /// End of its certificate.
    pub not_after: Timestamp,
    /// What its reports say about itself; none: it never reported.
    pub report: Option<ClientReport>,
    /// The policy that was signed for it last: epoch, number and when.
    pub signed: Option<(u64, u64, Timestamp)>,
    /// Updates, when they were asked for.
    pub updates: Option<UpdateNumbers>,
    number: i64,
}

const HEAD: &str = "SELECT c.uuid, c.name, c.state, c.facts, c.address, c.last_contact, c.id, c.not_after, q.reported_at, \
                    q.skew, s.policy_epoch, s.policy_number, s.scan, s.scan_error, q.sequence, s.gap_since, p.epoch, \
                    p.number, p.issued_at FROM client c LEFT JOIN client_sequence q ON q.client = c.id \
                    LEFT JOIN client_session s ON s.client = c.id LEFT JOIN policy p ON p.client = c.id WHERE c.site = ";

impl SiteStore {
    /// Clients by identity; with the numbers of their updates if `numbers`.
    pub async fn select_clients(
        &self,
        part: &Part<ClientIs>,
        silent: SilentSince,
        numbers: bool,
    ) -> Result<Vec<ClientRow>> {
        let pool = &self.core().pool;
        let mut build = Build::new(HEAD);
        build.bind(self.site.as_str());
        for condition in &part.conditions {
            build.and(condition.holds, |build| is(build, &condition.what, silent));
        }
        for requirement in &part.facts {
            facts::keep(&mut build, pool, requirement);
        }
        if let Some(after) = &part.after {
            build.push(" AND c.uuid > ").bind(after.as_str());
        }
        if let Some(keys) = &part.keys {
            among(&mut build, pool, "c.uuid", keys)?;
        }
        build.push(" ORDER BY c.uuid LIMIT ").bind(len(part.limit));
        let rows = self.rows("the clients", build.sql()).await?;
        let mut clients: Vec<ClientRow> = rows.iter().map(|row| read(row, silent)).collect::<Result<_>>()?;
        if numbers {
            let mut counted = self.count_updates(&clients).await?;
            for client in &mut clients {
                client.updates = Some(counted.remove(&client.number).unwrap_or_default());
            }
        }
        Ok(clients)
    }

    async fn count_updates(&self, clients: &[ClientRow]) -> Result<HashMap<i64, UpdateNumbers>> {
        use UpdateEnforcement::{DownloadFailed, GeneralFailure, InstallFailed, PendingRestart};

        let what = "states";
        let mut gone = BTreeSet::new();
        for row in self.rows(what, sql("SELECT slot FROM slot WHERE update_id IS NULL")).await? {
            gone.insert(row.int(0)?);
        }
        let numbers: Vec<Value> = clients.iter().map(|client| client.number.into()).collect();
        let mut counted: HashMap<i64, UpdateNumbers> = HashMap::new();
        let mut count = |client: i64, slot: i64, byte: u8| {
            if byte == 0 || gone.contains(&slot) {
                return;
            }
            let of = counted.entry(client).or_default();
            match Detection::from_id(byte & 3) {
                Some(Detection::Required) => of.required += 1,
                Some(Detection::Installed) => of.installed += 1,
                _ => {}
            }
            match UpdateEnforcement::from_id(byte >> 2) {
                Some(DownloadFailed | GeneralFailure | InstallFailed) => of.failed += 1,
                Some(PendingRestart) => of.pending_restart += 1,
                _ => {}
            }
        };
        for row in self.rows_many(what, pages::SEGMENTS, numbers.clone()).await? {
            let (client, segment) = (row.int(0)?, row.int(1)?);
            for (ordinal, byte) in row.blob(2)?.into_iter().enumerate() {
                count(client, slot_at(segment, ordinal), byte);
            }
        }
        for row in self.rows_many(what, pages::SPARSE, numbers).await? {
            count(row.int(0)?, row.int(1)?, u8::try_from(row.int(2)?).unwrap_or(0));
        }
        Ok(counted)
    }
}

fn is(build: &mut Build, what: &ClientIs, silent: SilentSince) {
    match what {
        ClientIs::Id(id) => build.push("c.uuid = ").bind(id.as_str()),
        ClientIs::Called(name) => build.push("c.name = ").bind(name.as_str()),
        ClientIs::In(state) => build.push("c.state = ").bind(state_code(*state)),
        ClientIs::Silent => {
            build.push("c.state = 1 AND (c.last_contact IS NULL OR c.last_contact <= ").bind(silent).push(")")
        }
        ClientIs::At(address) => build.push("COALESCE(c.address, '') = ").bind(address.as_str()),
        ClientIs::Scan(scan) => build.push("COALESCE(s.scan, 0) = ").bind(scan.id()),
    };
}

fn read(row: &Row, silent: SilentSince) -> Result<ClientRow> {
    let client = registry::client(row)?;
    let policy = match (row.int_option(10)?, row.int_option(11)?) {
        (Some(_), Some(_)) => Some((row.unsigned(10)?, row.unsigned(11)?)),
        _ => None,
    };
    let report = match row.time_option(8)? {
        Some(reported_at) => Some(ClientReport {
            client: client.id,
            reported_at,
            skew_us: row.int(9)?,
            policy,
            scan: code(row, 12)?.and_then(Scan::from_id).unwrap_or(Scan::Unknown),
            scan_error: row.json_option(13, "error")?,
            sequence: row.unsigned(14)?,
            gap: row.int_option(15)?.is_some(),
        }),
        None => None,
    };
    let signed = match row.int_option(16)? {
        Some(_) => Some((row.unsigned(16)?, row.unsigned(17)?, row.time(18)?)),
        None => None,
    };
    let quiet = client.last_contact.is_none_or(|at| at <= silent);
    Ok(ClientRow {
        silent: client.state == ClientState::Active && quiet,
        client,
        not_after: row.time(7)?,
        report,
        signed,
        updates: None,
        number: row.int(6)?,
    })
}
