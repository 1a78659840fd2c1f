//! Lines, and what clients scan against.

use std::collections::BTreeMap;

use jiff::Timestamp;
use patchtide_model::{
    Digest, LineId,
    catalogue::{Leaf, LineCatalogue, ScanLeaf, ScanUpdate, Update},
};

use super::{
    LineCounts, LineState, PublishedCatalogue,
    revision::{blocking, parallel, read},
};
use crate::{
    Result, SiteStore, StoreError,
    core::Signal,
    sql::{int, sql},
};

/// Versions of a line's catalogue by whose numbers clients may report; an older one is not scanned with any more.
const PUBLISHED: u64 = 1_000;
/// Documents read at once.
const PAGE: i64 = 4_000;

impl SiteStore {
    /// Says which compressed catalogue clients of the line scan with.
    pub async fn set_line_catalogue(
        &self,
        line: &LineId,
        version: u64,
        digest: Digest,
        size: u64,
    ) -> Result<()> {
        let mut tx = self.begin("a line").await?;
        let put = sql("UPDATE line SET catalogue_version = $3, catalogue_digest = $4, catalogue_size = $5 \
                       WHERE site = $1 AND name = $2");
        let put =
            put.bind(self.site.as_str()).bind(line.as_str()).bind(int(version)).bind(digest).bind(int(size));
        if tx.execute(put).await? == 0 {
            return Err(StoreError::Missing { what: "line", name: line.to_string() });
        }
        let remember = sql("INSERT INTO published_catalogue (line, digest, version) \
                            SELECT id, $3, $4 FROM line WHERE site = $1 AND name = $2 ON CONFLICT DO NOTHING");
        let remember = remember.bind(self.site.as_str()).bind(line.as_str()).bind(digest).bind(int(version));
        tx.execute(remember).await?;
        let forget = sql("DELETE FROM published_catalogue WHERE version <= $3 \
                          AND line IN (SELECT id FROM line WHERE site = $1 AND name = $2)");
        let oldest = int(version.saturating_sub(PUBLISHED));
        tx.execute(forget.bind(self.site.as_str()).bind(line.as_str()).bind(oldest)).await?;
        tx.raise(&self.site, Signal::Site);
        tx.commit().await
    }

    /// All lines, by name.
    pub async fn lines(&self) -> Result<Vec<LineState>> {
        let query =
            sql("SELECT name, version, release_date, synced_at, catalogue_version, catalogue_digest, \
                         catalogue_size FROM line WHERE site = $1 ORDER BY name");
        let rows = self.rows("the lines", query.bind(self.site.as_str())).await?;
        rows.iter()
            .map(|row| {
                let catalogue = match row.int_option(4)? {
                    None => None,
                    Some(_) => Some(PublishedCatalogue {
                        version: row.unsigned(4)?,
                        digest: row.parse(5, "digest")?,
                        size: row.unsigned(6)?,
                    }),
                };
                Ok(LineState {
                    line: row.parse(0, "line")?,
                    version: row.unsigned(1)?,
                    catalogue,
                    release_date: row.time(2)?,
                    synced_at: row.time(3)?,
                })
            })
            .collect()
    }

    /// What clients scan against: the current updates of a line, by source and version.
    pub async fn scan_catalogue(&self, line: &LineId) -> Result<LineCatalogue> {
        let query = sql("SELECT id, version FROM line WHERE site = $1 AND name = $2");
        let row = self.row("a line", query.bind(self.site.as_str()).bind(line.as_str())).await?;
        let Some(row) = row else { return Err(StoreError::Missing { what: "line", name: line.to_string() }) };
        let (id, version) = (row.int(0)?, row.unsigned(1)?);
        let mut updates = Vec::new();
        let mut last = 0;
        loop {
            let page = sql(
                "SELECT id, body FROM software_update WHERE line = $1 AND id > $2 AND superseded_by IS NULL \
                            AND expired = 0 ORDER BY id LIMIT $3",
            );
            let rows = self.rows("the catalogue", page.bind(id).bind(last).bind(PAGE)).await?;
            let Some(end) = rows.last() else { break };
            last = end.int(0)?;
            let bodies =
                rows.iter().map(|row| Ok((row.unsigned(0)?, row.blob(1)?))).collect::<Result<Vec<_>>>()?;
            let scanned = blocking(move || {
                let one = |(number, body): (u64, Vec<u8>)| Ok(scanned(number, read(&body)?));
                parallel(bodies, one).into_iter().collect()
            });
            let mut page: Vec<ScanUpdate> = scanned.await?;
            updates.append(&mut page);
        }
        updates.sort_unstable_by(|a, b| (&a.source, &a.version).cmp(&(&b.source, &b.version)));
        Ok(LineCatalogue { line: line.clone(), version, updates })
    }

    /// Expires what was superseded before `before`. Returns how many.
    pub async fn expire_superseded(&self, before: Timestamp) -> Result<u64> {
        let mut tx = self.begin("expired updates").await?;
        let change = sql(
            "UPDATE software_update SET expired = 1 WHERE line IN (SELECT id FROM line WHERE site = $1) \
                          AND expired = 0 AND superseded_by IS NOT NULL AND superseded_at < $2",
        );
        let expired = tx.execute(change.bind(self.site.as_str()).bind(before)).await?;
        if expired > 0 {
            tx.raise(&self.site, Signal::Site);
        }
        tx.commit().await?;
        Ok(expired)
    }

    /// Numbers of updates, by line.
    pub async fn catalogue_counts(&self) -> Result<BTreeMap<LineId, LineCounts>> {
        let query = sql("SELECT l.name, \
                         CAST(COALESCE(SUM(CASE WHEN u.expired = 0 AND u.superseded_by IS NULL THEN 1 ELSE 0 END), 0) AS BIGINT), \
                         CAST(COALESCE(SUM(CASE WHEN u.expired = 0 AND u.superseded_by IS NOT NULL THEN 1 ELSE 0 END), 0) AS BIGINT), \
                         CAST(COALESCE(SUM(CASE WHEN u.expired = 1 THEN 1 ELSE 0 END), 0) AS BIGINT) \
                         FROM line l LEFT JOIN software_update u ON u.line = l.id WHERE l.site = $1 GROUP BY l.name");
        let rows = self.rows("the catalogue", query.bind(self.site.as_str())).await?;
        rows.iter()
            .map(|row| {
                let counts = LineCounts {
                    current: row.unsigned(1)?,
                    superseded: row.unsigned(2)?,
                    expired: row.unsigned(3)?,
                };
                Ok((row.parse(0, "line")?, counts))
            })
            .collect()
    }
}

/// An update as a scan needs it.
fn scanned(number: u64, update: Update) -> ScanUpdate {
    let leaves = update.leaves.into_iter().map(scan_leaf).collect();
    ScanUpdate { number, source: update.id.source, version: update.id.version, leaves }
}

fn scan_leaf(leaf: Leaf) -> ScanLeaf {
    let mut depends = field(&leaf.stanza, "Pre-Depends");
    let more = field(&leaf.stanza, "Depends");
    if !depends.is_empty() && !more.is_empty() {
        depends.push_str(", ");
    }
    depends.push_str(&more);
    let provides = field(&leaf.stanza, "Provides");
    ScanLeaf {
        package: leaf.package,
        version: leaf.version,
        architecture: leaf.architecture,
        depends,
        provides,
    }
}

/// A field of a stanza, its continuation lines joined.
fn field(stanza: &str, name: &str) -> String {
    let mut value = String::new();
    let mut inside = false;
    for line in stanza.lines() {
        if line.starts_with([' ', '\t']) {
            if inside {
                value.push(' ');
                value.push_str(line.trim());
            }
            continue;
        }
        if inside {
            break;
        }
        if let Some((key, rest)) = line.split_once(':')
            && key.eq_ignore_ascii_case(name)
        {
            inside = true;
            value.push_str(rest.trim());
        }
    }
    value.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_stanza_are_found_with_their_continuations() {
        let stanza = "Package: x\nDepends: a (>= 1),\n b\nDescription: Depends: no\n Pre-Depends: no\n";
        assert_eq!(field(stanza, "Depends"), "a (>= 1), b");
        assert_eq!((field(stanza, "Pre-Depends"), field(stanza, "Provides")), (String::new(), String::new()));
    }
}
