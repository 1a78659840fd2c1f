//! Files that something resolved to, and whether they are here.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::Digest;

use super::{Content, ContentState, WantedContent, distribution::repaired};
use crate::{
    Result, SiteStore, StoreError,
    core::Signal,
    sql::{Many, Row, Value, int, sql},
};

const WANTED: i64 = 0;
const FETCHING: i64 = 1;
const PRESENT: i64 = 2;
const FAILED: i64 = 3;

const KNOWN: Many =
    Many { head: "SELECT digest FROM content WHERE (site, digest) IN (VALUES ", columns: 2, tail: ")" };
const PUT: Many = Many {
    head: "INSERT INTO content (site, digest, size, url, update_name, state) VALUES ",
    columns: 6,
    tail: " ON CONFLICT (site, digest) DO UPDATE SET url = excluded.url, state = 0, message = NULL \
            WHERE content.state = 3 AND content.url <> excluded.url",
};
const STATES: Many = Many {
    head: "SELECT digest, state, message FROM content WHERE (site, digest) IN (VALUES ",
    columns: 2,
    tail: ")",
};

impl SiteStore {
    /// Adds files to what is wanted; known ones keep their state, a failed one is wanted again when its URL changed.
    /// Returns how many were new.
    pub async fn put_content_wanted(&self, wanted: Vec<WantedContent>) -> Result<u64> {
        let wanted: BTreeMap<Digest, WantedContent> =
            wanted.into_iter().map(|one| (one.digest, one)).collect();
        if wanted.is_empty() {
            return Ok(0);
        }
        let mut tx = self.begin("wanted content").await?;
        let keys = wanted.keys().flat_map(|digest| [self.site.as_str().into(), (*digest).into()]).collect();
        let known = crate::sql::len(tx.rows_many(KNOWN, keys).await?.len());
        let new = crate::sql::len(wanted.len()) - known;
        let rows = wanted
            .into_values()
            .flat_map(|one| -> [Value; 6] {
                [
                    self.site.as_str().into(),
                    one.digest.into(),
                    int(one.size).into(),
                    one.url.into(),
                    one.update.to_string().into(),
                    WANTED.into(),
                ]
            })
            .collect();
        if tx.execute_many(PUT, rows).await? > 0 {
            tx.raise(&self.site, Signal::Site);
        }
        tx.commit().await?;
        Ok(u64::try_from(new).unwrap_or(0))
    }

    /// One file.
    pub async fn content(&self, digest: Digest) -> Result<Option<Content>> {
        let query = sql("SELECT digest, size, url, update_name, state, message, changed_at FROM content \
                         WHERE site = $1 AND digest = $2");
        let row = self.row("content", query.bind(self.site.as_str()).bind(digest)).await?;
        row.as_ref().map(content).transpose()
    }

    /// Files that are not present yet (wanted, being fetched, failed), by digest.
    pub async fn content_missing(&self) -> Result<Vec<Content>> {
        let query = sql("SELECT digest, size, url, update_name, state, message, changed_at FROM content \
                         WHERE site = $1 AND state <> 2 ORDER BY digest");
        self.rows("content", query.bind(self.site.as_str())).await?.iter().map(content).collect()
    }

    /// The states of those of `digests` that are known.
    pub async fn content_states(&self, digests: &[Digest]) -> Result<BTreeMap<Digest, ContentState>> {
        let digests: BTreeSet<&Digest> = digests.iter().collect();
        let keys =
            digests.into_iter().flat_map(|digest| [self.site.as_str().into(), (*digest).into()]).collect();
        let rows = self.rows_many("content", STATES, keys).await?;
        rows.iter().map(|row| Ok((row.parse(0, "digest")?, state(row, 1)?))).collect()
    }

    /// Changes the state of a file.
    pub async fn set_content_state(&self, digest: Digest, state: ContentState, now: Timestamp) -> Result<()> {
        let (code, message) = match state {
            ContentState::Wanted => (WANTED, None),
            ContentState::Fetching => (FETCHING, None),
            ContentState::Present => (PRESENT, None),
            ContentState::Failed(message) => (FAILED, Some(message)),
        };
        let mut tx = self.begin("content").await?;
        let put = sql(
            "UPDATE content SET state = $3, message = $4, changed_at = $5 WHERE site = $1 AND digest = $2",
        );
        let put = put.bind(self.site.as_str()).bind(digest).bind(code).bind(message).bind(now);
        if tx.execute(put).await? == 0 {
            return Err(StoreError::Missing { what: "content", name: digest.to_string() });
        }
        if code == PRESENT {
            repaired(&mut tx, &self.site, "", digest, now).await?;
        }
        tx.raise(&self.site, Signal::Site);
        tx.commit().await
    }

    /// Forgets files that nothing refers to any more. Returns how many.
    pub async fn forget_content(&self, digests: &BTreeSet<Digest>) -> Result<u64> {
        const FORGET: Many =
            Many { head: "DELETE FROM content WHERE (site, digest) IN (VALUES ", columns: 2, tail: ")" };
        let mut tx = self.begin("content").await?;
        let keys = digests.iter().flat_map(|digest| [self.site.as_str().into(), (*digest).into()]).collect();
        let gone = tx.execute_many(FORGET, keys).await?;
        if gone > 0 {
            tx.raise(&self.site, Signal::Site);
        }
        tx.commit().await?;
        Ok(gone)
    }
}

fn content(row: &Row) -> Result<Content> {
    let wanted = WantedContent {
        digest: row.parse(0, "digest")?,
        size: row.unsigned(1)?,
        url: row.text(2)?,
        update: row.parse(3, "update id")?,
    };
    Ok(Content { wanted, state: state(row, 4)?, changed_at: row.time_option(6)? })
}

/// The state in a column, its message in the next one.
fn state(row: &Row, column: usize) -> Result<ContentState> {
    Ok(match row.int(column)? {
        WANTED => ContentState::Wanted,
        FETCHING => ContentState::Fetching,
        PRESENT => ContentState::Present,
        FAILED => ContentState::Failed(row.text_option(column + 1)?.unwrap_or_default()),
        other => return Err(StoreError::Damaged { what: "content state", detail: other.to_string() }),
    })
}
