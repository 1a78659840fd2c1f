//! The clients that a report names.

use std::collections::HashMap;

use jiff::Timestamp;
use patchtide_model::{
    ClientId,
    client::Facts,
    state::{HEARTBEAT, Scan, StateError},
};

use super::Scope;
use crate::{
    Result, SiteStore,
    sql::{Many, Row, sql},
};

/// A client as a report names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportClient {
    /// Its number.
    pub number: i64,
    /// Identity.
    pub id: ClientId,
    /// Host name.
    pub name: String,
    /// Facts of its last report.
    pub facts: Facts,
    /// Address of its last contact.
    pub address: Option<String>,
    /// When it was heard of last.
    pub last_contact: Option<Timestamp>,
    /// Last report, by the site's clock; none: it never reported.
    pub reported_at: Option<Timestamp>,
    /// State of its last scan, topic 501.
    pub scan: Scan,
    /// Error of a failed scan.
    pub scan_error: Option<StateError>,
    /// When a complete scan of any line came in last.
    pub scanned_at: Option<Timestamp>,
}

/// Why nothing is known of an update on a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Absence {
    /// It enrolled and never reported anything.
    NeverReported,
    /// It was not heard of for longer than a client that is there keeps silent.
    Silent,
    /// Its last scan failed.
    ScanFailed,
    /// It never scanned completely for the line of the update.
    NeverScanned,
    /// The catalogue has the update, as it is, since after its last scan.
    CatalogueIsNewer,
}

impl Absence {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::NeverReported => "never reported",
            Self::Silent => "silent since its last contact",
            Self::ScanFailed => "the last scan failed",
            Self::NeverScanned => "never scanned",
            Self::CatalogueIsNewer => "the catalogue is newer than the last scan",
        }
    }
}

impl ReportClient {
    /// Why this client says nothing of an update at `now`; `scanned` says whether it ever scanned for its line. A client that
    /// is there says so once in [`HEARTBEAT`]; twice that is silence.
    pub fn absence(&self, scanned: bool, now: Timestamp) -> Absence {
        let heard = self.last_contact.max(self.reported_at);
        if self.reported_at.is_none() {
            Absence::NeverReported
        } else if heard.is_none_or(|heard| now.duration_since(heard) > HEARTBEAT.saturating_mul(2)) {
            Absence::Silent
        } else if matches!(self.scan, Scan::Failed | Scan::PendingRetry) {
            Absence::ScanFailed
        } else if scanned {
            Absence::CatalogueIsNewer
        } else {
            Absence::NeverScanned
        }
    }
}

const CLIENTS: Many = Many {
    head: "SELECT c.id, c.uuid, c.name, c.facts, c.address, c.last_contact, q.reported_at, s.scan, s.scan_error, \
           (SELECT MAX(l.scanned_at) FROM client_line l WHERE l.client = c.id) \
           FROM client c LEFT JOIN client_sequence q ON q.client = c.id LEFT JOIN client_session s ON s.client = c.id \
           WHERE c.id IN (VALUES ",
    columns: 1,
    tail: ")",
};

impl SiteStore {
    /// The numbers of the active clients of `scope`, in order.
    pub(crate) async fn members(&self, scope: Scope) -> Result<Vec<i64>> {
        let query = match scope {
            Scope::Site => sql("SELECT id FROM client WHERE site = $1 AND state = 1 ORDER BY id"),
            Scope::Collection(number) => {
                sql("SELECT c.id FROM collection_member m JOIN client c ON c.id = m.client \
                 WHERE c.site = $1 AND c.state = 1 AND m.collection = $2 ORDER BY c.id")
                .bind(self.site.as_str())
                .bind(number)
            }
            Scope::Deployment(number) => {
                sql("SELECT c.id FROM deployment_target t JOIN client c ON c.id = t.client \
                 WHERE c.site = $1 AND c.state = 1 AND t.deployment = $2 ORDER BY c.id")
                .bind(self.site.as_str())
                .bind(number)
            }
        };
        let query = if scope == Scope::Site { query.bind(self.site.as_str()) } else { query };
        self.rows("the clients", query).await?.iter().map(|row| row.int(0)).collect()
    }

    /// The number by which rows name a client.
    pub async fn client_number(&self, client: ClientId) -> Result<Option<i64>> {
        let query =
            sql("SELECT id FROM client WHERE site = $1 AND uuid = $2").bind(self.site.as_str()).bind(client);
        self.row("a client", query).await?.map(|row| row.int(0)).transpose()
    }

    /// How many active clients `scope` has.
    pub async fn scope_size(&self, scope: Scope) -> Result<u64> {
        Ok(self.members(scope).await?.len() as u64)
    }

    /// The active clients of `scope`, by host name.
    pub async fn clients_of(&self, scope: Scope) -> Result<Vec<ReportClient>> {
        let numbers = self.members(scope).await?;
        self.clients_named(&numbers).await
    }

    /// The clients with these numbers, by host name.
    pub async fn clients_named(&self, numbers: &[i64]) -> Result<Vec<ReportClient>> {
        let keys = numbers.iter().map(|number| (*number).into()).collect();
        let rows = self.rows_many("the clients", CLIENTS, keys).await?;
        let mut clients: Vec<ReportClient> = rows.iter().map(client).collect::<Result<_>>()?;
        clients.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Ok(clients)
    }

    /// By client the catalogue version of its last complete scan of the line with this number.
    pub(crate) async fn scanned_versions(&self, line: i64) -> Result<HashMap<i64, u64>> {
        let query = sql("SELECT client, version FROM client_line WHERE line = $1").bind(line);
        let rows = self.rows("scans", query).await?;
        rows.iter().map(|row| Ok((row.int(0)?, row.unsigned(1)?))).collect()
    }
}

fn client(row: &Row) -> Result<ReportClient> {
    let scan = row.int_option(7)?.and_then(|id| u8::try_from(id).ok()).and_then(Scan::from_id);
    Ok(ReportClient {
        number: row.int(0)?,
        id: row.parse(1, "client id")?,
        name: row.text(2)?,
        facts: row.json(3, "facts")?,
        address: row.text_option(4)?,
        last_contact: row.time_option(5)?,
        reported_at: row.time_option(6)?,
        scan: scan.unwrap_or(Scan::Unknown),
        scan_error: row.json_option(8, "error")?,
        scanned_at: row.time_option(9)?,
    })
}
