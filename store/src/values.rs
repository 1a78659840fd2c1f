//! Small values of a site: key and text, anchors, the epoch.

use jiff::Timestamp;

use crate::{Result, SiteStore, StoreError};

impl SiteStore {
    /// The text under `key`.
    pub async fn get_value(&self, key: &str) -> Result<Option<String>> {
        let _ = key;
        Err(StoreError::NotBuilt("get_value"))
    }

    /// Puts `value` under `key`.
    pub async fn set_value(&self, key: &str, value: &str) -> Result<()> {
        let _ = (key, value);
        Err(StoreError::NotBuilt("set_value"))
    }

    /// The instant anchored under `key`; the first caller's `proposed` is kept for ever (to the microsecond).
    pub async fn anchor(&self, key: &str, proposed: Timestamp) -> Result<Timestamp> {
        let _ = (key, proposed);
        Err(StoreError::NotBuilt("anchor"))
    }

    /// The site's epoch, from 1; rises when a site is restored from a backup.
    pub async fn epoch(&self) -> Result<u64> {
        Err(StoreError::NotBuilt("epoch"))
    }

    /// Raises the epoch: after a restore, so that clients obey lower policy numbers again.
    pub async fn raise_epoch(&self) -> Result<u64> {
        Err(StoreError::NotBuilt("raise_epoch"))
    }
}
