//! Clients that sleep, and what was sent to wake them.

use jiff::Timestamp;
use patchtide_model::{
    ClientId,
    state::{Compliance, DeploymentEnforcement},
    wake::{Called, Sleeper},
};

use crate::{
    Result, SiteStore, StoreError,
    sql::{Many, Row, Value, sql},
};

/// Clients that were called because of a deployment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WakeCounts {
    /// Called at least once.
    pub called: u64,
    /// Of them heard of since.
    pub answered: u64,
}

const PUT: Many = Many {
    head: "INSERT INTO client_wake (uid, client, occasion, first_at, last_at, times, series) VALUES ",
    columns: 7,
    tail: " ON CONFLICT (uid, client) DO UPDATE SET occasion = excluded.occasion, first_at = excluded.first_at, \
            last_at = excluded.last_at, times = excluded.times, series = excluded.series",
};

impl SiteStore {
    /// Active clients that were not heard of after `since` and did not say that the deployment is done: compliant, or
    /// installed and waiting for a restart. Also those that it does not reach, and those that never said anything.
    pub async fn sleeping(&self, uid: &str, since: Timestamp) -> Result<Vec<Sleeper>> {
        let query = sql(
            "SELECT c.uuid, c.last_contact, w.occasion, w.first_at, w.last_at, w.times, w.series \
                         FROM client c LEFT JOIN deployment_client d ON d.client = c.id AND d.uid = $2 \
                         LEFT JOIN client_wake w ON w.client = c.id AND w.uid = $2 \
                         WHERE c.site = $1 AND c.state = 1 AND (c.last_contact IS NULL OR c.last_contact <= $3) \
                         AND (d.compliance IS NULL OR d.compliance <> $4) \
                         AND (d.enforcement IS NULL OR d.enforcement <> $5) ORDER BY c.uuid",
        );
        let query = query.bind(self.site.as_str()).bind(uid).bind(since);
        let query = query
            .bind(i64::from(u8::from(Compliance::Compliant)))
            .bind(i64::from(u8::from(DeploymentEnforcement::PendingRestart)));
        self.rows("the sleeping clients", query).await?.iter().map(sleeping).collect()
    }

    /// Keeps what was sent, before it is sent: a process that ends in between has rather called once too little.
    pub async fn put_wake_calls(&self, calls: &[(String, ClientId, Called)]) -> Result<()> {
        let mut tx = self.begin("magic packets").await?;
        let numbers = self.numbers(&mut tx, calls.iter().map(|(_, client, _)| *client)).await?;
        let rows = calls.iter().filter_map(|(uid, client, call)| {
            let number = *numbers.get(client)?;
            Some([
                Value::from(uid.as_str()),
                number.into(),
                call.occasion.into(),
                call.first.into(),
                call.last.into(),
                call.times.into(),
                call.series.into(),
            ])
        });
        tx.execute_many(PUT, rows.flatten().collect()).await?;
        tx.commit().await
    }

    /// How many clients were called because of a deployment, and how many of them were heard of since.
    pub async fn wake_counts(&self, uid: &str) -> Result<WakeCounts> {
        let query = sql("SELECT COUNT(*), \
                         CAST(COALESCE(SUM(CASE WHEN c.last_contact >= w.first_at THEN 1 ELSE 0 END), 0) AS BIGINT) FROM client_wake w JOIN client c ON c.id = w.client WHERE c.site = $1 AND w.uid = $2");
        let row = self.row("magic packets", query.bind(self.site.as_str()).bind(uid)).await?;
        let count = |row: &Row, column| Ok::<_, StoreError>(u64::try_from(row.int(column)?).unwrap_or(0));
        row.map_or(Ok(WakeCounts::default()), |row| {
            Ok(WakeCounts { called: count(&row, 0)?, answered: count(&row, 1)? })
        })
    }
}

fn sleeping(row: &Row) -> Result<Sleeper> {
    let called = match row.time_option(2)? {
        None => None,
        Some(occasion) => Some(Called {
            occasion,
            first: row.time(3)?,
            last: row.time(4)?,
            times: u8::try_from(row.int(5)?).unwrap_or(u8::MAX),
            series: u8::try_from(row.int(6)?).unwrap_or(u8::MAX),
        }),
    };
    Ok(Sleeper { client: row.parse(0, "client id")?, heard: row.time_option(1)?, called })
}
