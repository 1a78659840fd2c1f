//! Opening the site database.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use crate::{
    Result, Store, StoreError,
    core::{Core, lock},
    intake::queue::{self, Waiting},
    sql::{Target, shown, sql},
    writer::Writer,
};

/// How to open a store. `OpenOptions::default()` is right for production.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Reading connections, 1 to 64. Default 4.
    pub readers: u32,
    /// Reports that may wait for the writer before [`crate::StoreError::Busy`] is answered. Default 16,384.
    pub queue: usize,
    /// Messages in one commit at most. Default 4,000.
    pub commit_messages: usize,
    /// How long a commit may collect reports at most. Default 20 ms.
    pub commit_wait: Duration,
    /// A gap in a client's sequence leads to a resync when it is at least this old. Default 0: at once.
    pub gap_age: Duration,
    /// States of unknown updates kept per client until the catalogue has them. Default 1,000.
    pub parked_per_client: usize,
    /// Pending enrolments of one address. Default 10.
    pub pending_per_address: u32,
    /// Pending enrolments of a site. Default 5,000.
    pub pending_per_site: u32,
    /// Keep the accepted messages as history. Default true.
    pub history: bool,
    /// How often the counts are flushed and SQLite's write-ahead log is checkpointed. Default 3 s.
    pub upkeep: Duration,
    /// How long a writer that hangs in the middle of a transaction may hold up those of other processes (PostgreSQL); at
    /// least a millisecond. Default 10 s.
    pub writer_patience: Duration,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            readers: 4,
            queue: 16_384,
            commit_messages: 4_000,
            commit_wait: Duration::from_millis(20),
            gap_age: Duration::ZERO,
            parked_per_client: 1_000,
            pending_per_address: 10,
            pending_per_site: 5_000,
            history: true,
            upkeep: Duration::from_secs(3),
            writer_patience: Duration::from_secs(10),
        }
    }
}

impl Store {
    /// Opens the database at `url` (`sqlite:///absolute/path.db` or `postgres://user@host/database`), brings its schema up
    /// to date, reads the counts and starts the writer. To be called inside a tokio runtime.
    pub async fn open(url: &str, options: &OpenOptions) -> Result<Self> {
        let target = Target::parse(url, options.writer_patience)?;
        let open = |source| StoreError::Open { url: shown(url), source };
        let mut conn = target.connect().await.map_err(open)?;
        conn.migrate().await.map_err(|source| StoreError::Migrate { url: shown(url), source })?;
        let core = Core::new(target, options.clone(), Writer::new(conn));
        let core = Arc::new(core.map_err(|error| open(sqlx::Error::Io(error)))?);
        core.load_counts().await?;
        queue::start(&core);
        Ok(Self { core })
    }

    /// Commits what waits, flushes the counts and closes every connection. Later calls answer [`StoreError::Closed`]. After a
    /// sync that failed nothing is closed, and [`StoreError::Durable`] returned: the process is to end.
    pub async fn close(&self) -> Result<()> {
        let sender = lock(&self.core.queue).take();
        if let Some(sender) = sender {
            let (done, wait) = oneshot::channel();
            if sender.send(Waiting::Close(done)).await.is_ok() {
                // The answer comes after everything that was queued before.
                let _ = wait.await;
            }
        }
        if let Err(error) = self.core.is_durable() {
            // The last connection that is closed makes a checkpoint: none may be, until the process is gone.
            std::mem::forget(Arc::clone(&self.core));
            return Err(error);
        }
        let mut writer = self.core.writer.lock().await;
        self.core.pool.close().await;
        writer.close().await.map_err(|source| StoreError::Write { what: "the last bytes", source })
    }

    /// Whether the database answers a read, the writer is alive and the disk takes what is written.
    pub async fn ping(&self) -> Result<()> {
        if lock(&self.core.queue).as_ref().is_none_or(mpsc::Sender::is_closed) {
            return Err(StoreError::Closed);
        }
        self.core.is_durable()?;
        self.core.row("a value", sql("SELECT 1")).await.map(drop)
    }
}
