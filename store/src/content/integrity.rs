//! Files that were damaged on disk, and how far the search for them is.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{Digest, ObjectName};

use super::{CheckState, Damaged, DpFile, distribution::repaired};
use crate::{
    Result, SiteStore,
    core::Signal,
    sql::{Value, sql},
};

/// What was repaired is told for so long.
const TOLD: SignedDuration = SignedDuration::from_hours(24 * 30);

/// A place as a column has it.
fn place(dp: Option<&ObjectName>) -> &str {
    dp.map_or("", ObjectName::as_str)
}

impl SiteStore {
    /// A file was found damaged, in the site's library or on a distribution point: it does not count as present there any
    /// more, and will be taken again. `detail` is for people.
    pub async fn content_damaged(
        &self,
        dp: Option<&ObjectName>,
        digest: Digest,
        detail: &str,
        now: Timestamp,
    ) -> Result<()> {
        let mut tx = self.begin("damaged content").await?;
        let old = sql("DELETE FROM content_damage WHERE site = $1 AND repaired_at < $2");
        tx.execute(old.bind(self.site.as_str()).bind(now - TOLD)).await?;
        let put = sql("INSERT INTO content_damage (site, place, digest, detail, found_at) \
                       VALUES ($1, $2, $3, $4, $5) ON CONFLICT (site, place, digest) DO UPDATE \
                       SET detail = excluded.detail, found_at = excluded.found_at, repaired_at = NULL")
        .bind(self.site.as_str())
        .bind(place(dp))
        .bind(digest)
        .bind(detail)
        .bind(now);
        tx.execute(put).await?;
        let absent = match dp {
            None => sql("UPDATE content SET state = 0, message = NULL, changed_at = $3 \
                         WHERE site = $1 AND digest = $2 AND state = 2")
            .bind(self.site.as_str())
            .bind(digest)
            .bind(now),
            Some(dp) => sql("UPDATE dp_content SET present = 0, message = $4, changed_at = $5 \
                             WHERE site = $1 AND dp = $2 AND digest = $3 AND present = 1")
            .bind(self.site.as_str())
            .bind(dp.as_str())
            .bind(digest)
            .bind(format!("the file {detail}"))
            .bind(now),
        };
        tx.execute(absent).await?;
        tx.raise(&self.site, Signal::Site);
        tx.commit().await
    }

    /// A file of the site's library that is no package's, a catalogue, was made anew.
    pub async fn content_repaired(&self, digest: Digest, now: Timestamp) -> Result<()> {
        let mut tx = self.begin("repaired content").await?;
        repaired(&mut tx, &self.site, "", digest, now).await?;
        tx.raise(&self.site, Signal::Site);
        tx.commit().await
    }

    /// Files that were found damaged and are still wanted where they were, those not repaired first, then the latest first.
    pub async fn content_damages(&self) -> Result<Vec<Damaged>> {
        let query = sql(
            "SELECT m.place, m.digest, m.detail, m.found_at, m.repaired_at, c.url, c.update_name \
                         FROM content_damage m LEFT JOIN content c ON c.site = m.site AND c.digest = m.digest \
                         LEFT JOIN dp_content d ON d.site = m.site AND d.dp = m.place AND d.digest = m.digest \
                         WHERE m.site = $1 AND (m.place = '' OR d.wanted = 1) \
                         ORDER BY CASE WHEN m.repaired_at IS NULL THEN 0 ELSE 1 END, m.found_at DESC, m.digest",
        );
        let rows = self.rows("damaged content", query.bind(self.site.as_str())).await?;
        rows.iter()
            .map(|row| {
                let place = row.text(0)?;
                Ok(Damaged {
                    dp: if place.is_empty() { None } else { Some(row.parse(0, "object name")?) },
                    digest: row.parse(1, "digest")?,
                    detail: row.text(2)?,
                    found_at: row.time(3)?,
                    repaired_at: row.time_option(4)?,
                    url: row.text_option(5)?,
                    update: row
                        .text_option(6)?
                        .map(|text| crate::sql::parse(&text, "update id"))
                        .transpose()?,
                })
            })
            .collect()
    }

    /// Somebody finds that the site's library does not have a file, or has it damaged: its presence is looked at again, and
    /// it is fetched if need be. True when it counted as present.
    pub async fn doubt_content(&self, digest: Digest, now: Timestamp) -> Result<bool> {
        let mut tx = self.begin("doubted content").await?;
        let put = sql(
            "UPDATE content SET state = 0, changed_at = $3 WHERE site = $1 AND digest = $2 AND state = 2",
        );
        let doubted = tx.execute(put.bind(self.site.as_str()).bind(digest).bind(now)).await? > 0;
        if doubted {
            tx.raise(&self.site, Signal::Site);
        }
        tx.commit().await?;
        Ok(doubted)
    }

    /// Files that count as present in the site's library, with their sizes.
    pub async fn content_present(&self) -> Result<BTreeMap<Digest, u64>> {
        let query = sql("SELECT digest, size FROM content WHERE site = $1 AND state = 2");
        let rows = self.rows("content", query.bind(self.site.as_str())).await?;
        rows.iter().map(|row| Ok((row.parse(0, "digest")?, row.unsigned(1)?))).collect()
    }

    /// The files that a distribution point shall have.
    pub async fn dp_files(&self, dp: &ObjectName) -> Result<BTreeMap<Digest, DpFile>> {
        let query = sql("SELECT d.digest, d.present, c.size FROM dp_content d \
                         LEFT JOIN content c ON c.site = d.site AND c.digest = d.digest \
                         WHERE d.site = $1 AND d.dp = $2 AND d.wanted = 1");
        let query = query.bind(self.site.as_str()).bind(dp.as_str());
        let rows = self.rows("wanted content", query).await?;
        rows.iter()
            .map(|row| {
                let size = row.int_option(2)?.and_then(|size| u64::try_from(size).ok());
                Ok((row.parse(0, "digest")?, DpFile { size, present: row.flag(1)? }))
            })
            .collect()
    }

    /// How far the check of the site's library, or of a distribution point's, is.
    pub async fn content_check(&self, dp: Option<&ObjectName>) -> Result<Option<CheckState>> {
        let query = sql(
            "SELECT position, started_at, completed_at FROM content_check WHERE site = $1 AND place = $2",
        );
        let query = query.bind(self.site.as_str()).bind(place(dp));
        let row = self.row("the check of content", query).await?;
        row.map(|row| {
            Ok(CheckState {
                // Empty: nothing yet.
                position: row.text(0)?.parse().ok(),
                started_at: row.time(1)?,
                completed_at: row.time_option(2)?,
            })
        })
        .transpose()
    }

    /// Keeps how far it is; no news to anybody.
    pub async fn set_content_check(&self, dp: Option<&ObjectName>, check: &CheckState) -> Result<()> {
        let mut tx = self.begin("the check of content").await?;
        let completed: Value = check.completed_at.into();
        let put = sql("INSERT INTO content_check (site, place, position, started_at, completed_at) \
                       VALUES ($1, $2, $3, $4, $5) ON CONFLICT (site, place) DO UPDATE SET \
                       position = excluded.position, started_at = excluded.started_at, completed_at = excluded.completed_at")
        .bind(self.site.as_str())
        .bind(place(dp))
        .bind(check.position.map(|digest| digest.to_string()).unwrap_or_default())
        .bind(check.started_at)
        .bind(completed);
        tx.execute(put).await?;
        tx.commit().await
    }
}
