//! Small values of a site: key and text, anchors, the epoch.

use jiff::Timestamp;
use patchtide_model::site::SiteLimits;

use crate::{
    Result, SiteStore,
    core::Signal,
    sql::{json, parse, sql},
};

/// Key of the epoch among the values; `@` keeps it apart from callers' keys.
const EPOCH: &str = "@epoch";
/// Key of what the Site allows.
const LIMITS: &str = "@limits";

impl SiteStore {
    /// The text under `key`.
    pub async fn get_value(&self, key: &str) -> Result<Option<String>> {
        let query = sql("SELECT value FROM site_value WHERE site = $1 AND name = $2")
            .bind(self.site.as_str())
            .bind(key);
        self.row("a value", query).await?.map(|row| row.text(0)).transpose()
    }

    /// Puts `value` under `key`.
    pub async fn set_value(&self, key: &str, value: &str) -> Result<()> {
        let mut tx = self.begin("a value").await?;
        let put = sql("INSERT INTO site_value (site, name, value) VALUES ($1, $2, $3) \
                       ON CONFLICT (site, name) DO UPDATE SET value = excluded.value \
                       WHERE site_value.value <> excluded.value");
        if tx.execute(put.bind(self.site.as_str()).bind(key).bind(value)).await? > 0 {
            tx.raise(&self.site, Signal::Site);
        }
        tx.commit().await
    }

    /// What the Site allows; none: no controller has written it yet.
    pub async fn site_limits(&self) -> Result<Option<SiteLimits>> {
        let text = self.get_value(LIMITS).await?;
        text.map(|text| {
            serde_json::from_str(&text)
                .map_err(|error| crate::StoreError::Damaged { what: "limits", detail: error.to_string() })
        })
        .transpose()
    }

    /// Says what the Site allows.
    pub async fn set_site_limits(&self, limits: &SiteLimits) -> Result<()> {
        self.set_value(LIMITS, &json("limits", limits)?).await
    }

    /// The instant anchored under `key`; the first caller's `proposed` is kept for ever (to the microsecond).
    pub async fn anchor(&self, key: &str, proposed: Timestamp) -> Result<Timestamp> {
        let key = format!("@anchor/{key}");
        let stored = if let Some(text) = self.get_value(&key).await? {
            text
        } else {
            let mut tx = self.begin("an anchor").await?;
            let put = sql("INSERT INTO site_value (site, name, value) VALUES ($1, $2, $3) \
                               ON CONFLICT (site, name) DO NOTHING");
            let text = proposed.as_microsecond().to_string();
            tx.execute(put.bind(self.site.as_str()).bind(key.as_str()).bind(text)).await?;
            let get = sql("SELECT value FROM site_value WHERE site = $1 AND name = $2");
            let row = tx.row(get.bind(self.site.as_str()).bind(key)).await?;
            let text = row.map(|row| row.text(0)).transpose()?.unwrap_or_default();
            tx.commit().await?;
            text
        };
        let microseconds: i64 = parse(&stored, "anchor")?;
        Timestamp::from_microsecond(microseconds)
            .map_err(|error| crate::StoreError::Damaged { what: "anchor", detail: error.to_string() })
    }

    /// The site's epoch, from 1; rises when a site is restored from a backup.
    pub async fn epoch(&self) -> Result<u64> {
        self.get_value(EPOCH).await?.map_or(Ok(1), |text| parse(&text, "epoch"))
    }

    /// Raises the epoch: after a restore, so that clients obey lower policy numbers again.
    pub async fn raise_epoch(&self) -> Result<u64> {
        let next = self.epoch().await?.saturating_add(1);
        self.set_value(EPOCH, &next.to_string()).await?;
        Ok(next)
    }
}
