//! Everything that clients reported, some clients at a time: for who reads a whole site.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, LineId, UpdateId,
    catalogue::LeafRef,
    client::Client,
    state::{Detection, StateError, UpdateEnforcement},
};

use super::{
    ClientReport, DeploymentClientState,
    clients::{deployment_state, report},
};
use crate::{
    Result, SiteStore,
    clients::registry,
    intake::{cache::slot_at, details},
    sql::{Many, Value, len, sql},
};

/// A client and an update, in numbers that [`Slots`] and [`SiteStore::leaf_sets`] resolve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotState {
    /// Number of the update.
    pub slot: i64,
    /// Topic 500.
    pub detection: Detection,
    /// Topic 402.
    pub enforcement: UpdateEnforcement,
    /// Since when it is required or failed.
    pub since: Option<Timestamp>,
    /// The leaves that the client requires of it.
    pub leaf_set: Option<i64>,
    /// Error of a failed state.
    pub error: Option<StateError>,
}

/// What one client reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientPage {
    /// The client.
    pub client: Client,
    /// What its reports say about itself; none: it never reported.
    pub report: Option<ClientReport>,
    /// The policy that was signed for it last: epoch, number and when.
    pub signed: Option<(u64, u64, Timestamp)>,
    /// Complete scans: line, catalogue version, when it came in.
    pub scans: Vec<(LineId, u64, Timestamp)>,
    /// Updates it reported other than *not required*, by number.
    pub updates: Vec<SlotState>,
    /// Deployments by uid.
    pub deployments: BTreeMap<String, DeploymentClientState>,
}

/// Which update each number stands for.
#[derive(Debug, Clone, Default)]
pub struct Slots(HashMap<i64, UpdateId>);

impl Slots {
    /// The update.
    pub fn get(&self, slot: i64) -> Option<&UpdateId> {
        self.0.get(&slot)
    }
}

const PAGE: &str = "SELECT uuid, name, state, facts, address, last_contact, id FROM client \
                    WHERE site = $1 AND uuid > $2 ORDER BY uuid LIMIT $3";
const ONE: &str = "SELECT uuid, name, state, facts, address, last_contact, id FROM client \
                   WHERE site = $1 AND uuid = $2 AND $3 > 0";
const fn of(head: &'static str) -> Many {
    Many { head, columns: 1, tail: ")" }
}
pub(super) const SEGMENTS: Many =
    of("SELECT client, segment, states FROM seg_state WHERE client IN (VALUES ");
pub(super) const SPARSE: Many = of("SELECT client, slot, state FROM sparse_state WHERE client IN (VALUES ");
const REQUIRED: Many = of("SELECT client, body FROM client_required WHERE client IN (VALUES ");
const DETAILS: Many =
    of("SELECT client, slot, since, error, leaf_set FROM update_detail WHERE client IN (VALUES ");
const SCANS: Many = of("SELECT s.client, l.name, s.version, s.scanned_at FROM client_line s \
                        JOIN line l ON l.id = s.line WHERE s.client IN (VALUES ");
const REPORTS: Many = of("SELECT c.uuid, q.reported_at, q.skew, s.policy_epoch, s.policy_number, s.scan, \
                          s.scan_error, q.sequence, s.gap_since, c.id FROM client c \
                          JOIN client_sequence q ON q.client = c.id JOIN client_session s ON s.client = c.id \
                          WHERE c.id IN (VALUES ");
const DEPLOYMENTS: Many = of("SELECT c.uuid, d.enforcement, d.compliance, d.evaluation, d.until, d.error, \
                              d.changed_at, d.uid, c.id, c.last_contact FROM deployment_client d JOIN client c ON c.id = d.client \
                              WHERE d.client IN (VALUES ");
const POLICIES: Many = of("SELECT client, epoch, number, issued_at FROM policy WHERE client IN (VALUES ");

/// Pages are filled by the clients' numbers.
struct Filling {
    places: HashMap<i64, usize>,
    pages: Vec<ClientPage>,
    details: HashMap<(i64, i64), details::Kept>,
}

impl Filling {
    fn page(&mut self, number: i64) -> Option<&mut ClientPage> {
        self.places.get(&number).and_then(|place| self.pages.get_mut(*place))
    }

    fn state(&mut self, number: i64, slot: i64, byte: u8) {
        if byte == 0 {
            return;
        }
        let kept = self.details.remove(&(number, slot)).unwrap_or_default();
        let state = SlotState {
            slot,
            detection: Detection::from_id(byte & 3).unwrap_or(Detection::Unknown),
            enforcement: UpdateEnforcement::from_id(byte >> 2).unwrap_or(UpdateEnforcement::Unknown),
            since: kept.since,
            leaf_set: kept.leaf_set,
            error: kept.error,
        };
        if let Some(page) = self.page(number) {
            page.updates.push(state);
        }
    }
}

impl SiteStore {
    /// Whether there is such a site: a controller keeps one from the moment the namespace has a Site object.
    pub async fn exists(&self) -> Result<bool> {
        Ok(self.site_limits().await?.is_some())
    }

    /// Which update each number of [`SlotState`] stands for.
    pub async fn slots(&self) -> Result<Slots> {
        let query = sql("SELECT s.slot, l.name, u.source, u.version FROM slot s \
                         JOIN software_update u ON u.id = s.update_id JOIN line l ON l.id = u.line WHERE l.site = $1");
        let mut slots = HashMap::new();
        for row in self.rows("the updates", query.bind(self.site.as_str())).await? {
            let update =
                UpdateId { line: row.parse(1, "line")?, source: row.text(2)?, version: row.text(3)? };
            slots.insert(row.int(0)?, update);
        }
        Ok(Slots(slots))
    }

    /// The leaves of the sets that [`SlotState`] names.
    pub async fn leaf_sets(&self, ids: BTreeSet<i64>) -> Result<HashMap<i64, Vec<LeafRef>>> {
        let keys = ids.into_iter().map(Into::into).collect();
        let rows = self.rows_many("leaf sets", super::leaves::SETS, keys).await?;
        rows.iter().map(|row| Ok((row.int(0)?, row.json(1, "leaf set")?))).collect()
    }

    /// The clients after `after`, at most `limit` of them, by identity, with all that they reported. Read it of one moment
    /// ([`Self::at_this_moment`]).
    pub async fn client_page(&self, after: Option<ClientId>, limit: usize) -> Result<Vec<ClientPage>> {
        let after = after.map_or_else(String::new, |client| client.to_string());
        self.pages(PAGE, after, len(limit)).await
    }

    /// One client with all that it reported.
    pub async fn client_in_full(&self, client: ClientId) -> Result<Option<ClientPage>> {
        Ok(self.pages(ONE, client.to_string(), 1).await?.into_iter().next())
    }

    /// The clients of this name or identity, by identity; when one of them is active, only those that are.
    pub async fn clients_called(&self, name: &str) -> Result<Vec<ClientId>> {
        let query =
            sql("SELECT uuid, state FROM client WHERE site = $1 AND (uuid = $2 OR name = $2) ORDER BY uuid");
        let mut clients = Vec::new();
        for row in self.rows("a client", query.bind(self.site.as_str()).bind(name)).await? {
            clients.push((row.parse(0, "client id")?, row.int(1)? == 1));
        }
        let any = clients.iter().any(|(_, active)| *active);
        Ok(clients.into_iter().filter(|(_, active)| *active || !any).map(|(id, _)| id).collect())
    }

    /// The clients after `after`, at most `limit` of them, by identity.
    pub async fn clients_after(&self, after: Option<ClientId>, limit: usize) -> Result<Vec<Client>> {
        let after = after.map_or_else(String::new, |client| client.to_string());
        let query = sql(PAGE).bind(self.site.as_str()).bind(after).bind(len(limit));
        self.rows("the clients", query).await?.iter().map(registry::client).collect()
    }

    async fn pages(&self, which: &'static str, uuid: String, limit: i64) -> Result<Vec<ClientPage>> {
        let query = sql(which).bind(self.site.as_str()).bind(uuid).bind(limit);
        let mut filling = Filling { places: HashMap::new(), pages: Vec::new(), details: HashMap::new() };
        for row in self.rows("the clients", query).await? {
            filling.places.insert(row.int(6)?, filling.pages.len());
            filling.pages.push(ClientPage {
                client: registry::client(&row)?,
                report: None,
                signed: None,
                scans: Vec::new(),
                updates: Vec::new(),
                deployments: BTreeMap::new(),
            });
        }
        let numbers: Vec<Value> = filling.places.keys().map(|number| (*number).into()).collect();
        self.fill_states(&mut filling, &numbers).await?;
        self.fill_reports(&mut filling, &numbers).await?;
        for page in &mut filling.pages {
            page.updates.sort_unstable_by_key(|state| state.slot);
            page.scans.sort_unstable();
        }
        Ok(filling.pages)
    }

    async fn fill_states(&self, filling: &mut Filling, numbers: &[Value]) -> Result<()> {
        let what = "states";
        for row in self.rows_many(what, REQUIRED, numbers.to_vec()).await? {
            let client = row.int(0)?;
            for (slot, detail) in details::read(&row.text(1)?)? {
                let kept =
                    details::Kept { since: Some(detail.since), leaf_set: detail.leaf_set, error: None };
                filling.details.insert((client, slot), kept);
            }
        }
        for row in self.rows_many(what, DETAILS, numbers.to_vec()).await? {
            let kept = details::Kept {
                since: row.time_option(2)?,
                leaf_set: row.int_option(4)?,
                error: row.json_option(3, "error")?,
            };
            filling.details.insert((row.int(0)?, row.int(1)?), kept);
        }
        for row in self.rows_many(what, SEGMENTS, numbers.to_vec()).await? {
            let (client, segment) = (row.int(0)?, row.int(1)?);
            for (ordinal, byte) in row.blob(2)?.into_iter().enumerate() {
                filling.state(client, slot_at(segment, ordinal), byte);
            }
        }
        for row in self.rows_many(what, SPARSE, numbers.to_vec()).await? {
            filling.state(row.int(0)?, row.int(1)?, u8::try_from(row.int(2)?).unwrap_or(0));
        }
        Ok(())
    }

    async fn fill_reports(&self, filling: &mut Filling, numbers: &[Value]) -> Result<()> {
        let what = "reports";
        for row in self.rows_many(what, SCANS, numbers.to_vec()).await? {
            let scan = (row.parse(1, "line")?, row.unsigned(2)?, row.time(3)?);
            if let Some(page) = filling.page(row.int(0)?) {
                page.scans.push(scan);
            }
        }
        for row in self.rows_many(what, REPORTS, numbers.to_vec()).await? {
            let report = report(&row)?;
            if let Some(page) = filling.page(row.int(9)?) {
                page.report = Some(report);
            }
        }
        for row in self.rows_many(what, DEPLOYMENTS, numbers.to_vec()).await? {
            let (uid, state) = (row.text(7)?, deployment_state(&row, row.time_option(9)?)?);
            if let Some(page) = filling.page(row.int(8)?) {
                page.deployments.insert(uid, state);
            }
        }
        for row in self.rows_many(what, POLICIES, numbers.to_vec()).await? {
            let signed = (row.unsigned(1)?, row.unsigned(2)?, row.time(3)?);
            if let Some(page) = filling.page(row.int(0)?) {
                page.signed = Some(signed);
            }
        }
        Ok(())
    }
}
