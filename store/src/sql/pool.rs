//! Reading connections.

use std::time::Duration;

use sqlx::{
    PgPool, Postgres, QueryBuilder, Sqlite, SqlitePool, postgres::PgPoolOptions, sqlite::SqlitePoolOptions,
};

use super::{
    Many, Row, Sql, Target, Value,
    conn::{many, query},
};

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
            Target::Postgres(options) => Self::Postgres(
                PgPoolOptions::new().max_connections(size).acquire_timeout(PATIENCE).connect_lazy_with(
                    (**options).clone().options([("default_transaction_read_only", "on")]),
                ),
            ),
        }
    }

    /// Runs a statement and returns its rows.
    pub(crate) async fn rows(&self, sql: Sql) -> Result<Vec<Row>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(pool) => query!(sql).fetch_all(pool).await?.into_iter().map(Row::Sqlite).collect(),
            Self::Postgres(pool) => {
                query!(sql).fetch_all(pool).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Runs a question over many rows.
    pub(crate) async fn rows_many(&self, many: Many, values: Vec<Value>) -> Result<Vec<Row>, sqlx::Error> {
        let mut left = values.len() / many.columns;
        let mut values = values.into_iter();
        let mut found = Vec::new();
        while left > 0 {
            let rows = many.chunk(left);
            left -= rows;
            match self {
                Self::Sqlite(pool) => found.extend(
                    many!(Sqlite, many, values, rows)
                        .build()
                        .fetch_all(pool)
                        .await?
                        .into_iter()
                        .map(Row::Sqlite),
                ),
                Self::Postgres(pool) => found.extend(
                    many!(Postgres, many, values, rows)
                        .build()
                        .fetch_all(pool)
                        .await?
                        .into_iter()
                        .map(Row::Postgres),
                ),
            }
        }
        Ok(found)
    }

    /// Closes them all.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}
