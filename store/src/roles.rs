//! What the server's roles say of themselves.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Result, SiteStore, StoreError, sql::sql};

/// Sign of life of one process of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleBeat {
    /// When it was given.
    pub at: Timestamp,
    /// Where the role listens.
    pub address: String,
    /// End of its server certificate, as far as it can be told.
    pub certificate_expires: Option<Timestamp>,
    /// Reports of clients that wait for their commit in this process.
    pub waiting: u64,
}

/// Prefix of the keys: `role/<role>/<instance>`.
const PREFIX: &str = "role/";

impl SiteStore {
    /// Keeps a sign of life of `instance` of `role`. It wakes nobody: those who want to know look by the clock.
    pub async fn beat(&self, role: &str, instance: &str, beat: &RoleBeat) -> Result<()> {
        let value = serde_json::to_string(beat)
            .map_err(|error| StoreError::Damaged { what: "sign of life", detail: error.to_string() })?;
        let mut tx = self.begin("a sign of life").await?;
        let put = sql("INSERT INTO site_value (site, name, value) VALUES ($1, $2, $3) \
                       ON CONFLICT (site, name) DO UPDATE SET value = excluded.value");
        tx.execute(put.bind(self.site.as_str()).bind(format!("{PREFIX}{role}/{instance}")).bind(value))
            .await?;
        tx.commit().await
    }

    /// The last signs of life, by role and instance. One that cannot be read is left out.
    pub async fn beats(&self) -> Result<BTreeMap<(String, String), RoleBeat>> {
        let query = sql("SELECT name, value FROM site_value WHERE site = $1 AND name LIKE 'role/%'");
        let mut beats = BTreeMap::new();
        for row in self.rows("signs of life", query.bind(self.site.as_str())).await? {
            let name = row.text(0)?;
            let key = name.strip_prefix(PREFIX).and_then(|name| name.split_once('/'));
            if let (Some((role, instance)), Ok(beat)) = (key, serde_json::from_str(&row.text(1)?)) {
                beats.insert((role.to_owned(), instance.to_owned()), beat);
            }
        }
        Ok(beats)
    }

    /// Forgets an instance that is gone for good.
    pub async fn forget_beat(&self, role: &str, instance: &str) -> Result<()> {
        let mut tx = self.begin("a sign of life").await?;
        let delete = sql("DELETE FROM site_value WHERE site = $1 AND name = $2");
        tx.execute(delete.bind(self.site.as_str()).bind(format!("{PREFIX}{role}/{instance}"))).await?;
        tx.commit().await
    }

    /// Reports that wait for their commit in this process.
    pub fn waiting_reports(&self) -> u64 {
        self.core().queued() as u64
    }
}
