//! Expired updates leave the catalogue some time after they went.

use std::collections::BTreeSet;

use jiff::Timestamp;
use patchtide_model::UpdateId;

use super::sync::{NO_LEAVES, NO_SLOT};
use crate::{
    Result, SiteStore,
    core::Signal,
    sql::{Many, Value, sql},
};

const NO_UPDATE: Many =
    Many { head: "DELETE FROM software_update WHERE id IN (VALUES ", columns: 1, tail: ")" };

/// Which expired updates go.
#[derive(Debug, Clone)]
pub struct CleanUp {
    /// Those that the verified index has not had since before this instant; what it has would come back as new.
    pub gone_before: Timestamp,
    /// Of superseded ones, those superseded before this instant.
    pub superseded_before: Timestamp,
    /// These stay: something refers to them (R-LIFE-05, R-LIFE-06).
    pub keep: BTreeSet<UpdateId>,
}

impl SiteStore {
    /// Removes expired updates with their leaves. States that clients reported of them are not counted any more. Returns
    /// how many.
    pub async fn clean_up_updates(&self, which: &CleanUp) -> Result<u64> {
        let names = self.line_names().await?;
        let query = sql("SELECT id, line, source, version FROM software_update \
                         WHERE line IN (SELECT id FROM line WHERE site = $1) AND expired = 1 \
                         AND gone_at > 0 AND gone_at < $2 AND (superseded_by IS NULL OR superseded_at < $3) ORDER BY id")
        .bind(self.site.as_str())
        .bind(which.gone_before)
        .bind(which.superseded_before);
        let mut tx = self.begin("expired updates").await?;
        let mut ids: Vec<Value> = Vec::new();
        let mut lines = BTreeSet::new();
        for row in tx.rows(query).await? {
            let Some(line) = names.get(&row.int(1)?) else { continue };
            let id = UpdateId { line: line.clone(), source: row.text(2)?, version: row.text(3)? };
            if !which.keep.contains(&id) {
                ids.push(row.int(0)?.into());
                lines.insert(id.line);
            }
        }
        if ids.is_empty() {
            return Ok(0);
        }
        self.unregister_updates(&mut tx, &ids).await?;
        tx.execute_many(NO_SLOT, ids.clone()).await?;
        tx.execute_many(NO_LEAVES, ids.clone()).await?;
        let removed = tx.execute_many(NO_UPDATE, ids).await?;
        for line in &lines {
            let raise = sql("UPDATE line SET cleaned = cleaned + 1 WHERE site = $1 AND name = $2");
            tx.execute(raise.bind(self.site.as_str()).bind(line.as_str())).await?;
        }
        if let Some(known) = tx.cache().sites.get_mut(&self.site) {
            for line in &lines {
                known.lines.remove(line.as_str());
            }
        }
        tx.raise(&self.site, Signal::Site);
        tx.commit().await?;
        Ok(removed)
    }
}
