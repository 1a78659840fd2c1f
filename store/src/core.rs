//! What the clones of a store share: reading connections, the writer, the kept counts, the signals.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, io,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use patchtide_model::{ClientId, SiteName};
use tokio::sync::watch;

use crate::{
    OpenOptions, Result, StoreError,
    durability::Durability,
    intake::{counts::Counts, names::Shared, queue::Waiting},
    metrics::Metrics,
    sql::{Many, Pool, Row, Sql, Target, Value},
    writer::{Tx, Writer},
};

/// Shared by all clones of a [`crate::Store`].
pub(crate) struct Core {
    pub(crate) target: Target,
    pub(crate) options: OpenOptions,
    pub(crate) metrics: Metrics,
    pub(crate) pool: Pool,
    pub(crate) writer: Arc<tokio::sync::Mutex<Writer>>,
    /// None where a commit is durable by itself.
    durability: Option<Durability>,
    pub(crate) queue: Mutex<Option<tokio::sync::mpsc::Sender<Waiting>>>,
    pub(crate) counts: Mutex<Counts>,
    signals: Mutex<HashMap<SiteName, [watch::Sender<u64>; 2]>>,
    pub(crate) contacts: Mutex<HashMap<(SiteName, ClientId), (Timestamp, IpAddr)>>,
    /// By site, and the collection of leaf sets in which new ones begin.
    shared: Mutex<(i64, HashMap<SiteName, Arc<Shared>>)>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

/// What a write concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    /// Whatever can change a decision.
    Site,
    /// Policies.
    Policy,
}

impl Signal {
    /// Its name in the table `change`.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Policy => "policy",
        }
    }
}

/// A lock whose holder cannot leave it in a bad state.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(crate) fn new(target: Target, options: OpenOptions, writer: Writer) -> io::Result<Self> {
        let metrics = Metrics::default();
        let start = |file| Durability::start(file, metrics.clone());
        let durability = target.file().map(start).transpose()?;
        Ok(Self {
            durability,
            metrics,
            pool: Pool::new(&target, options.readers),
            target,
            options,
            writer: Arc::new(tokio::sync::Mutex::new(writer)),
            queue: Mutex::new(None),
            counts: Mutex::default(),
            signals: Mutex::default(),
            contacts: Mutex::default(),
            shared: Mutex::default(),
        })
    }

    /// Returns when everything that is committed is durable.
    pub(crate) async fn durable(&self) -> Result<()> {
        match &self.durability {
            Some(durability) => durability.wait().await.map_err(|source| StoreError::Durable { source }),
            None => Ok(()),
        }
    }

    /// Whether anything can be made durable.
    pub(crate) fn is_durable(&self) -> Result<()> {
        match self.durability.as_ref().and_then(Durability::failure) {
            Some(source) => Err(StoreError::Durable { source }),
            None => Ok(()),
        }
    }

    /// Takes note of a failure of the database: a sync that failed is the end.
    pub(crate) fn note(&self, source: &sqlx::Error) {
        let code = source.as_database_error().and_then(sqlx::error::DatabaseError::code);
        if let (Some(durability), Some(code)) = (&self.durability, code)
            && FAILED_SYNCS.contains(&&*code)
        {
            durability.fail(io::Error::other(source.to_string()));
        }
    }

    /// Reads rows.
    pub(crate) async fn rows(&self, what: &'static str, sql: Sql) -> Result<Vec<Row>> {
        self.pool.rows(sql).await.map_err(|source| self.not_read(what, source))
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
        self.pool.rows_many(many, values).await.map_err(|source| self.not_read(what, source))
    }

    fn not_read(&self, what: &'static str, source: sqlx::Error) -> StoreError {
        self.metrics.failed("read");
        read(what, source)
    }

    /// Reports that wait for the writer.
    pub(crate) fn queued(&self) -> usize {
        let queue = lock(&self.queue);
        queue.as_ref().map_or(0, |queue| queue.max_capacity().saturating_sub(queue.capacity()))
    }

    /// Starts a write that is durable when its commit returns.
    pub(crate) async fn begin(self: &Arc<Self>, what: &'static str) -> Result<Tx> {
        Tx::begin(self, what, true).await
    }

    /// Starts a write that is durable, and may be answered for, only after [`Self::durable`].
    pub(crate) async fn begin_early(self: &Arc<Self>, what: &'static str) -> Result<Tx> {
        Tx::begin(self, what, false).await
    }

    /// What reports of a site are looked up in.
    pub(crate) fn shared(&self, site: &SiteName) -> Arc<Shared> {
        let (epoch, shared) = &mut *lock(&self.shared);
        if let Some(known) = shared.get(site) {
            return Arc::clone(known);
        }
        let new = Arc::new(Shared::default());
        new.forget_sets(*epoch);
        shared.insert(site.clone(), Arc::clone(&new));
        new
    }

    /// Leaf sets are being collected: no id that any task knows is good any more.
    pub(crate) fn forget_sets(&self, epoch: i64) {
        let mut shared = lock(&self.shared);
        shared.0 = epoch;
        shared.1.values().for_each(|site| site.forget_sets(epoch));
    }

    /// The sender of a signal.
    pub(crate) fn signal(&self, site: &SiteName, signal: Signal) -> watch::Sender<u64> {
        let mut signals = lock(&self.signals);
        let pair = signals.entry(site.clone()).or_insert_with(|| [watch::channel(0).0, watch::channel(0).0]);
        pair[signal as usize].clone()
    }

    /// Wakes who waits for the writes of these numbers.
    pub(crate) fn raise(&self, numbers: &BTreeMap<(SiteName, Signal), u64>) {
        for ((site, signal), number) in numbers {
            self.signal(site, *signal).send_if_modified(|seen| {
                let newer = *number > *seen;
                *seen = (*seen).max(*number);
                newer
            });
        }
    }

    /// Brings the kept counts up to what is committed, whoever committed it.
    pub(crate) async fn catch_up_counts(&self) -> Result<()> {
        let seen = lock(&self.counts).seen();
        let what = "the counts";
        let Some(row) =
            self.row(what, crate::sql::sql("SELECT deltas, folded FROM writer WHERE id = 1")).await?
        else {
            return Err(StoreError::Damaged { what: "writer row", detail: "it is missing".to_owned() });
        };
        let (deltas, folded) = (row.int(0)?, row.int(1)?);
        if seen >= deltas {
            return Ok(());
        }
        if seen < folded {
            return self.load_counts().await;
        }
        let later = crate::sql::sql("SELECT id, body FROM count_delta WHERE id > $1 ORDER BY id").bind(seen);
        for row in self.rows(what, later).await? {
            lock(&self.counts).apply(row.int(0)?, &row.blob(1)?)?;
        }
        Ok(())
    }

    /// Reads the kept counts anew.
    pub(crate) async fn load_counts(&self) -> Result<()> {
        let counts = Counts::read(&self.rows("the counts", crate::sql::sql(COUNTS)).await?)?;
        let mut kept = lock(&self.counts);
        if counts.seen() >= kept.seen() {
            *kept = counts;
        }
        Ok(())
    }
}

/// Everything the counts are read from. One statement, so that totals and deltas belong together.
pub(crate) const COUNTS: &str = "SELECT 0, scope, state, n, NULL FROM count_total \
                                 UNION ALL SELECT 1, id, 0, 0, body FROM count_delta \
                                 UNION ALL SELECT 2, folded, deltas, 0, NULL FROM writer WHERE id = 1";

/// SQLite's codes of a file and of a folder that could not be synced: `SQLITE_IOERR_FSYNC`, `SQLITE_IOERR_DIR_FSYNC`.
const FAILED_SYNCS: [&str; 2] = ["1034", "1290"];

/// A failed read.
pub(crate) fn read(what: &'static str, source: sqlx::Error) -> StoreError {
    match source {
        sqlx::Error::PoolClosed => StoreError::Closed,
        source => StoreError::Read { what, source },
    }
}

/// The sites and signals a transaction raises.
pub(crate) type Raised = BTreeSet<(SiteName, Signal)>;
