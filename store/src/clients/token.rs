//! Enrolment tokens, by digest alone.

use jiff::Timestamp;
use patchtide_model::Digest;

use crate::{Result, SiteStore, sql::sql};

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// SHA-256 of the trimmed token.
    pub digest: Digest,
    /// Good for one machine.
    pub one_time: bool,
    /// Until when.
    pub expires: Option<Timestamp>,
    /// The Secret it comes from.
    pub name: String,
}

/// A token and its use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// The token.
    pub token: TokenRow,
    /// When it was used last.
    pub used_at: Option<Timestamp>,
}

impl SiteStore {
    /// Keeps a token; one that is known keeps its use.
    pub async fn put_token(&self, token: TokenRow) -> Result<()> {
        let mut tx = self.begin("a token").await?;
        let put =
            sql("INSERT INTO token (site, digest, one_time, expires, name) VALUES ($1, $2, $3, $4, $5) \
                       ON CONFLICT (site, digest) DO UPDATE SET one_time = excluded.one_time, \
                       expires = excluded.expires, name = excluded.name")
            .bind(self.site.as_str())
            .bind(token.digest)
            .bind(token.one_time)
            .bind(token.expires)
            .bind(token.name);
        tx.execute(put).await?;
        tx.commit().await
    }

    /// A token.
    pub async fn token(&self, digest: Digest) -> Result<Option<StoredToken>> {
        let query = sql("SELECT one_time, expires, name, used_at FROM token WHERE site = $1 AND digest = $2");
        let Some(row) = self.row("a token", query.bind(self.site.as_str()).bind(digest)).await? else {
            return Ok(None);
        };
        let token =
            TokenRow { digest, one_time: row.flag(0)?, expires: row.time_option(1)?, name: row.text(2)? };
        Ok(Some(StoredToken { token, used_at: row.time_option(3)? }))
    }

    /// Uses a token: true when it exists, has not expired and, if it is good for one machine, was not used before.
    pub async fn consume_token(&self, digest: Digest, now: Timestamp) -> Result<bool> {
        let mut tx = self.begin("a token").await?;
        let take = sql("UPDATE token SET used_at = $3 WHERE site = $1 AND digest = $2 \
                        AND (expires IS NULL OR expires > $3) AND (one_time = 0 OR used_at IS NULL)");
        let taken = tx.execute(take.bind(self.site.as_str()).bind(digest).bind(now)).await? > 0;
        tx.commit().await?;
        Ok(taken)
    }

    /// Forgets a token: its Secret is gone. True when it was known.
    pub async fn delete_token(&self, digest: Digest) -> Result<bool> {
        let mut tx = self.begin("a token").await?;
        let delete = sql("DELETE FROM token WHERE site = $1 AND digest = $2");
        let gone = tx.execute(delete.bind(self.site.as_str()).bind(digest)).await? > 0;
        tx.commit().await?;
        Ok(gone)
    }
}
