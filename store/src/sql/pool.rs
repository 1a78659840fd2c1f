//! Reading connections.

use std::time::Duration;

use sqlx::{
    PgPool, Postgres, Sqlite, SqlitePool, Transaction, pool::PoolConnection, postgres::PgPoolOptions,
    sqlite::SqlitePoolOptions,
};

use super::{Many, Row, Sql, Target, Value, conn::On};

/// How long a read waits for a connection.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connections that only read.
#[derive(Debug, Clone)]
pub(crate) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    /// At most `size` connections to `target`, opened as they are needed.
    pub(crate) fn new(target: &Target, size: u32) -> Self {
        let size = size.clamp(1, 64);
        match target {
            Target::Sqlite(options) => Self::Sqlite(
                SqlitePoolOptions::new()
                    .max_connections(size)
                    .acquire_timeout(PATIENCE)
                    .test_before_acquire(false)
                    .connect_lazy_with(
                        (**options).clone().pragma("query_only", "1").pragma("cache_size", "-16384"),
                    ),
            ),
            Target::Postgres { options, .. } => Self::Postgres(
                PgPoolOptions::new().max_connections(size).acquire_timeout(PATIENCE).connect_lazy_with(
                    (**options).clone().options([("default_transaction_read_only", "on")]),
                ),
            ),
        }
    }

    /// Runs a statement and returns its rows.
    pub(crate) async fn rows(&self, sql: Sql) -> Result<Vec<Row>, sqlx::Error> {
        self.lend().await?.on().rows(sql).await
    }

    /// Runs a question over many rows.
    pub(crate) async fn rows_many(&self, many: Many, values: Vec<Value>) -> Result<Vec<Row>, sqlx::Error> {
        self.lend().await?.on().rows_many(many, values).await
    }

    /// Starts a transaction in which everything that is read is of one moment. Dropping it gives the connection back.
    pub(crate) async fn still(&self) -> Result<Still, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(pool) => Still::Sqlite(pool.begin().await?),
            Self::Postgres(pool) => {
                Still::Postgres(pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
            }
        })
    }

    async fn lend(&self) -> Result<Lent, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(pool) => Lent::Sqlite(pool.acquire().await?),
            Self::Postgres(pool) => Lent::Postgres(pool.acquire().await?),
        })
    }

    /// Closes them all.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// A reading transaction.
#[derive(Debug)]
pub(crate) enum Still {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Still {
    /// Runs a statement and returns its rows.
    pub(crate) async fn rows(&mut self, sql: Sql) -> Result<Vec<Row>, sqlx::Error> {
        self.on().rows(sql).await
    }

    /// Runs a question over many rows.
    pub(crate) async fn rows_many(
        &mut self,
        many: Many,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, sqlx::Error> {
        self.on().rows_many(many, values).await
    }

    fn on(&mut self) -> On<'_> {
        match self {
            Self::Sqlite(conn) => On::Sqlite(conn),
            Self::Postgres(conn) => On::Postgres(conn),
        }
    }
}

/// A connection of the pool, for as long as it is used.
enum Lent {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

impl Lent {
    fn on(&mut self) -> On<'_> {
        match self {
            Self::Sqlite(conn) => On::Sqlite(conn),
            Self::Postgres(conn) => On::Postgres(conn),
        }
    }
}
