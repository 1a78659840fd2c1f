//! The one writer of this process: a single connection behind a lock, transactions one after the other.

use std::{collections::BTreeMap, sync::Arc};

use patchtide_model::SiteName;
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::{
    Result, StoreError,
    core::{Core, Raised, Signal, lock},
    intake::{cache::Cache, counts::Deltas},
    sql::{Conn, Many, Row, Sql, Value, sql},
};

/// The writing connection and what is known about the data as long as nobody else writes.
#[derive(Debug)]
pub(crate) struct Writer {
    conn: Option<Conn>,
    /// A transaction was left open: by an error, or by a caller that went away.
    open: bool,
    /// Who wrote last, as this process names itself.
    token: String,
    /// Number of the last row of `count_delta`.
    deltas: i64,
    /// The last collection of leaf sets that is known here.
    set_epoch: i64,
    closed: bool,
    /// Whether the connection's commits are durable when they return.
    syncs: bool,
    pub(crate) cache: Cache,
}

impl Writer {
    pub(crate) fn new(conn: Conn) -> Self {
        Self {
            conn: Some(conn),
            open: false,
            token: Uuid::new_v4().to_string(),
            deltas: 0,
            set_epoch: 0,
            closed: false,
            syncs: true,
            cache: Cache::default(),
        }
    }

    /// Closes the connection; nothing is written from now on.
    pub(crate) async fn close(&mut self) -> Result<(), sqlx::Error> {
        self.closed = true;
        match self.conn.take() {
            Some(conn) => conn.close().await,
            None => Ok(()),
        }
    }

    /// A connection with an open transaction.
    async fn begin(&mut self, core: &Core, sync: bool) -> Result<(), sqlx::Error> {
        if self.open
            && let Some(conn) = &mut self.conn
            && conn.execute(sql("ROLLBACK")).await.is_err()
        {
            // SQLite may have rolled back by itself, which is no error; a broken connection is found out below.
            self.conn = None;
        }
        self.open = false;
        if let Some(conn) = &mut self.conn
            && let Err(error) = Self::start(conn, sync, &mut self.syncs).await
        {
            tracing::warn!(%error, "the writing connection is lost: opening another one");
            self.conn = None;
        }
        if self.conn.is_none() {
            let mut conn = core.target.connect().await?;
            self.syncs = true;
            Self::start(&mut conn, sync, &mut self.syncs).await?;
            self.conn = Some(conn);
            self.cache = Cache::default();
        }
        self.open = true;
        Ok(())
    }

    async fn start(conn: &mut Conn, sync: bool, syncs: &mut bool) -> Result<(), sqlx::Error> {
        if *syncs != sync {
            conn.sync_commits(sync).await?;
            *syncs = sync;
        }
        conn.begin().await
    }
}

/// A write in progress. Dropped without a commit, it leaves nothing.
#[derive(Debug)]
pub(crate) struct Tx {
    core: Arc<Core>,
    writer: OwnedMutexGuard<Writer>,
    what: &'static str,
    raised: Raised,
    committed: bool,
    /// Changes of the counts by this transaction.
    pub(crate) counts: Deltas,
}

impl Tx {
    /// `sync`: a commit is durable when it returns, and so is every one before it. Else it is so after [`Core::durable`].
    pub(crate) async fn begin(core: &Arc<Core>, what: &'static str, sync: bool) -> Result<Self> {
        core.is_durable()?;
        let mut writer = Arc::clone(&core.writer).lock_owned().await;
        if writer.closed {
            return Err(StoreError::Closed);
        }
        writer.begin(core, sync).await.map_err(|source| {
            core.note(&source);
            core.metrics.failed("write");
            StoreError::Write { what, source }
        })?;
        let mut tx = Self {
            core: Arc::clone(core),
            writer,
            what,
            raised: Raised::new(),
            committed: false,
            counts: Deltas::default(),
        };
        let row = tx.row(sql("SELECT owner, deltas, set_epoch FROM writer WHERE id = 1")).await?;
        let (owner, deltas, set_epoch) = match row {
            Some(row) => (row.text(0)?, row.int(1)?, row.int(2)?),
            None => {
                return Err(StoreError::Damaged { what: "writer row", detail: "it is missing".to_owned() });
            }
        };
        if owner != tx.writer.token {
            tx.writer.cache = Cache::default();
            let token = tx.writer.token.clone();
            tx.execute(sql("UPDATE writer SET owner = $1 WHERE id = 1").bind(token)).await?;
        }
        tx.writer.deltas = deltas;
        if set_epoch != tx.writer.set_epoch {
            // Another process collects, or this one has just been opened.
            tx.sets_are_collected(set_epoch);
        }
        Ok(tx)
    }

    /// What is known about the data; only true as long as this transaction is not given up.
    pub(crate) fn cache(&mut self) -> &mut Cache {
        &mut self.writer.cache
    }

    /// The collection of leaf sets in force: what was looked up in an earlier one may be gone.
    pub(crate) fn set_epoch(&self) -> i64 {
        self.writer.set_epoch
    }

    /// Forgets every id of a leaf set that was looked up before.
    pub(crate) fn sets_are_collected(&mut self, epoch: i64) {
        self.writer.cache = Cache::default();
        self.writer.set_epoch = epoch;
        self.core.forget_sets(epoch);
    }

    fn conn(&mut self) -> Result<&mut Conn> {
        self.writer.conn.as_mut().ok_or(StoreError::Closed)
    }

    fn failed(&self, source: sqlx::Error) -> StoreError {
        self.core.note(&source);
        self.core.metrics.failed("write");
        StoreError::Write { what: self.what, source }
    }

    pub(crate) async fn execute(&mut self, sql: Sql) -> Result<u64> {
        let done = self.conn()?.execute(sql).await;
        done.map_err(|source| self.failed(source))
    }

    pub(crate) async fn rows(&mut self, sql: Sql) -> Result<Vec<Row>> {
        let done = self.conn()?.rows(sql).await;
        done.map_err(|source| self.failed(source))
    }

    pub(crate) async fn row(&mut self, sql: Sql) -> Result<Option<Row>> {
        Ok(self.rows(sql).await?.into_iter().next())
    }

    pub(crate) async fn execute_many(&mut self, many: Many, values: Vec<Value>) -> Result<u64> {
        if values.is_empty() {
            return Ok(0);
        }
        let done = self.conn()?.execute_many(many, values).await;
        done.map_err(|source| self.failed(source))
    }

    pub(crate) async fn rows_many(&mut self, many: Many, values: Vec<Value>) -> Result<Vec<Row>> {
        if values.is_empty() {
            return Ok(Vec::new());
        }
        let done = self.conn()?.rows_many(many, values).await;
        done.map_err(|source| self.failed(source))
    }

    /// Wakes who waits for this once it is committed.
    pub(crate) fn raise(&mut self, site: &SiteName, signal: Signal) {
        self.raised.insert((site.clone(), signal));
    }

    /// Makes it true for others: others see it, and the next one can begin. It is durable as it was begun.
    pub(crate) async fn commit(mut self) -> Result<()> {
        let delta = self.counts.take();
        let mut delta_id = None;
        if let Some(body) = &delta {
            let id = self.writer.deltas + 1;
            self.execute(
                sql("INSERT INTO count_delta (id, body) VALUES ($1, $2)").bind(id).bind(body.clone()),
            )
            .await?;
            self.execute(sql("UPDATE writer SET deltas = $1 WHERE id = 1").bind(id)).await?;
            delta_id = Some(id);
        }
        let mut numbers = BTreeMap::new();
        for (site, signal) in std::mem::take(&mut self.raised) {
            let raise = sql("INSERT INTO change (site, kind, number) VALUES ($1, $2, 1) \
                             ON CONFLICT (site, kind) DO UPDATE SET number = change.number + 1 RETURNING number");
            let row = self.row(raise.bind(site.as_str()).bind(signal.kind())).await?;
            let number = row.map_or(Ok(0), |row| row.unsigned(0))?;
            numbers.insert((site, signal), number);
        }
        self.execute(sql("COMMIT")).await?;
        self.committed = true;
        self.writer.open = false;
        if let (Some(id), Some(body)) = (delta_id, delta) {
            self.writer.deltas = id;
            lock(&self.core.counts).apply(id, &body)?;
        }
        self.core.raise(&numbers);
        Ok(())
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if !self.committed {
            // What was cached may be of this transaction. The next one rolls back first.
            self.writer.cache = Cache::default();
        }
    }
}
