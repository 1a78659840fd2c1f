//! Reading a site as it is at one moment: one transaction on a connection of its own.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::{
    Result, SiteStore,
    core::{self, COUNTS, lock},
    intake::counts::Counts,
    sql::{Many, Row, Sql, Still, Value, sql},
};

/// A reading transaction that every question of one [`SiteStore`] is asked in.
#[derive(Debug)]
pub(crate) struct Moment {
    conn: Mutex<Still>,
    counts: OnceCell<Counts>,
}

impl SiteStore {
    /// The same site, for reading only, as it is now: whatever is written meanwhile, all that is read from the result
    /// belongs together. It holds one of the reading connections until it is dropped, and while it does SQLite's
    /// write-ahead log only grows: read what is needed and let it go.
    pub async fn at_this_moment(&self) -> Result<Self> {
        let what = "the site at one moment";
        let mut conn = self.core().pool.still().await.map_err(|source| core::read(what, source))?;
        // A transaction begins with its first question, not with the word.
        conn.rows(sql("SELECT number FROM change")).await.map_err(|source| core::read(what, source))?;
        let moment = Moment { conn: Mutex::new(conn), counts: OnceCell::new() };
        Ok(Self { moment: Some(Arc::new(moment)), ..self.clone() })
    }

    /// Reads rows.
    pub(crate) async fn rows(&self, what: &'static str, sql: Sql) -> Result<Vec<Row>> {
        match self.conn().await {
            Some(mut conn) => conn.rows(sql).await.map_err(|source| core::read(what, source)),
            None => self.core().rows(what, sql).await,
        }
    }

    /// Reads one row, or none.
    pub(crate) async fn row(&self, what: &'static str, sql: Sql) -> Result<Option<Row>> {
        Ok(self.rows(what, sql).await?.into_iter().next())
    }

    /// Reads rows for many values.
    pub(crate) async fn rows_many(
        &self,
        what: &'static str,
        many: Many,
        values: Vec<Value>,
    ) -> Result<Vec<Row>> {
        match self.conn().await {
            Some(mut conn) => conn.rows_many(many, values).await.map_err(|source| core::read(what, source)),
            None => self.core().rows_many(what, many, values).await,
        }
    }

    /// Asks the counts: those that are kept, brought up to what is committed, or those of the moment.
    pub(crate) async fn with_counts<T>(&self, ask: impl FnOnce(&Counts) -> T) -> Result<T> {
        let Some(moment) = &self.moment else {
            self.core().catch_up_counts().await?;
            return Ok(ask(&lock(&self.core().counts)));
        };
        let load = || async { Counts::read(&self.rows("the counts", sql(COUNTS)).await?) };
        Ok(ask(moment.counts.get_or_try_init(load).await?))
    }

    async fn conn(&self) -> Option<MutexGuard<'_, Still>> {
        match &self.moment {
            Some(moment) => Some(moment.conn.lock().await),
            None => None,
        }
    }
}
