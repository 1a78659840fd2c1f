//! One connection, and how to open it.

use std::{path::Path, str::FromStr as _, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Postgres, QueryBuilder, Sqlite,
    SqliteConnection,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{Many, Row, Sql, Value};
use crate::{Result, StoreError};

/// Which database, and how to reach it.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Sqlite(Box<SqliteConnectOptions>),
    Postgres {
        options: Box<PgConnectOptions>,
        /// How long a writer that does nothing may hold up the others.
        patience: Duration,
    },
}

impl Target {
    /// Reads a URL; `patience`: how long a writer that does nothing may hold up those of other processes.
    pub(crate) fn parse(url: &str, patience: Duration) -> Result<Self> {
        let unknown = || StoreError::Url { url: shown(url) };
        if let Some(path) = url.strip_prefix("sqlite://") {
            // Durability and several connections need a file.
            if !path.starts_with('/') {
                return Err(unknown());
            }
            let options = SqliteConnectOptions::from_str(url)
                .map_err(|_| unknown())?
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(Duration::from_secs(20))
                .page_size(8192)
                .foreign_keys(false)
                .statement_cache_capacity(400)
                .row_buffer_size(1024)
                .pragma("cache_size", "-65536")
                .pragma("temp_store", "memory")
                // Checkpoints are made by a connection of their own, beside the writer.
                .pragma("wal_autocheckpoint", "65536")
                // Statements carry what clients sent.
                .disable_statement_logging();
            Ok(Self::Sqlite(Box::new(options)))
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(url)
                .map_err(|_| unknown())?
                .application_name("patchtide")
                .statement_cache_capacity(400)
                .disable_statement_logging();
            Ok(Self::Postgres { options: Box::new(options), patience })
        } else {
            Err(unknown())
        }
    }

    /// The file of an SQLite database.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(options) => Some(options.get_filename()),
            Self::Postgres { .. } => None,
        }
    }

    /// A connection that writes.
    pub(crate) async fn connect(&self) -> Result<Conn, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(options) => Conn::Sqlite(Box::new(options.connect().await?)),
            Self::Postgres { options, patience } => {
                // A process that hangs in the middle of a transaction, or whose machine is cut off, would keep the lock of
                // all writers: the server ends its session.
                let patience = patience.as_millis().max(1).to_string();
                let options = (**options).clone();
                let options = options.options([("idle_in_transaction_session_timeout", patience)]);
                Conn::Postgres(Box::new(options.connect().await?))
            }
        })
    }
}

/// `url` without a password.
pub(crate) fn shown(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((credentials, rest))) => {
            let user =
                credentials.split("://").nth(1).unwrap_or_default().split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{rest}")
        }
        _ => url.to_owned(),
    }
}

/// A connection to either database.
#[derive(Debug)]
pub(crate) enum Conn {
    Sqlite(Box<SqliteConnection>),
    Postgres(Box<PgConnection>),
}

macro_rules! query {
    ($sql:expr) => {{
        // Made of constants of this crate alone: `sql` and `Build` take nothing else.
        let mut query = sqlx::query(AssertSqlSafe($sql.text));
        for value in $sql.values {
            query = match value {
                Value::Int(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::Blob(value) => query.bind(value),
            };
        }
        query
    }};
}

macro_rules! many {
    ($database:ty, $many:expr, $values:expr, $rows:expr) => {{
        let mut builder = QueryBuilder::<$database>::new($many.head);
        for row in 0..$rows {
            builder.push(if row == 0 { "(" } else { ",(" });
            for (column, value) in $values.by_ref().take($many.columns).enumerate() {
                if column > 0 {
                    builder.push(",");
                }
                match value {
                    Value::Int(value) => builder.push_bind(value),
                    Value::Text(value) => builder.push_bind(value),
                    Value::Blob(value) => builder.push_bind(value),
                };
            }
            builder.push(")");
        }
        builder.push($many.tail);
        builder
    }};
}

/// A connection that is at hand, one's own or one of the pool's: what all statements are run on.
pub(super) enum On<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl On<'_> {
    async fn execute(self, sql: Sql) -> Result<u64, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(conn) => query!(sql).execute(conn).await?.rows_affected(),
            Self::Postgres(conn) => query!(sql).execute(conn).await?.rows_affected(),
        })
    }

    pub(super) async fn rows(self, sql: Sql) -> Result<Vec<Row>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(conn) => query!(sql).fetch_all(conn).await?.into_iter().map(Row::Sqlite).collect(),
            Self::Postgres(conn) => {
                query!(sql).fetch_all(conn).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    async fn execute_many(mut self, many: Many, values: Vec<Value>) -> Result<u64, sqlx::Error> {
        let mut changed = 0;
        let mut left = values.len() / many.columns;
        let mut values = values.into_iter();
        while left > 0 {
            let rows = many.chunk(left);
            left -= rows;
            changed += match &mut self {
                Self::Sqlite(conn) => {
                    many!(Sqlite, many, values, rows).build().execute(&mut **conn).await?.rows_affected()
                }
                Self::Postgres(conn) => {
                    many!(Postgres, many, values, rows).build().execute(&mut **conn).await?.rows_affected()
                }
            };
        }
        Ok(changed)
    }

    pub(super) async fn rows_many(mut self, many: Many, values: Vec<Value>) -> Result<Vec<Row>, sqlx::Error> {
        let mut found = Vec::new();
        let mut left = values.len() / many.columns;
        let mut values = values.into_iter();
        while left > 0 {
            let rows = many.chunk(left);
            left -= rows;
            match &mut self {
                Self::Sqlite(conn) => {
                    let rows = many!(Sqlite, many, values, rows).build().fetch_all(&mut **conn).await?;
                    found.extend(rows.into_iter().map(Row::Sqlite));
                }
                Self::Postgres(conn) => {
                    let rows = many!(Postgres, many, values, rows).build().fetch_all(&mut **conn).await?;
                    found.extend(rows.into_iter().map(Row::Postgres));
                }
            }
        }
        Ok(found)
    }
}

impl Conn {
    fn on(&mut self) -> On<'_> {
        match self {
            Self::Sqlite(conn) => On::Sqlite(conn),
            Self::Postgres(conn) => On::Postgres(conn),
        }
    }

    /// Runs a statement; returns the number of rows it changed.
    pub(crate) async fn execute(&mut self, sql: Sql) -> Result<u64, sqlx::Error> {
        self.on().execute(sql).await
    }

    /// Runs a statement and returns its rows.
    pub(crate) async fn rows(&mut self, sql: Sql) -> Result<Vec<Row>, sqlx::Error> {
        self.on().rows(sql).await
    }

    /// Runs a statement over many rows, in as few statements as the databases allow; returns the number of rows changed.
    pub(crate) async fn execute_many(&mut self, many: Many, values: Vec<Value>) -> Result<u64, sqlx::Error> {
        self.on().execute_many(many, values).await
    }

    /// The same for a question.
    pub(crate) async fn rows_many(
        &mut self,
        many: Many,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, sqlx::Error> {
        self.on().rows_many(many, values).await
    }

    /// Whether a commit of SQLite is durable when it returns, as it is from the start; not to be called in a transaction.
    pub(crate) async fn sync_commits(&mut self, sync: bool) -> Result<(), sqlx::Error> {
        if let Self::Sqlite(_) = self {
            let pragma = if sync { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
            self.execute(super::sql(pragma)).await?;
        }
        Ok(())
    }

    /// Brings the schema up to date.
    pub(crate) async fn migrate(&mut self) -> Result<(), sqlx::migrate::MigrateError> {
        match self {
            Self::Sqlite(conn) => {
                sqlx::migrate!("migrations/sqlite").run_direct(None, &mut **conn, false).await
            }
            Self::Postgres(conn) => {
                sqlx::migrate!("migrations/postgres").run_direct(None, &mut **conn, false).await
            }
        }
    }

    /// Closes it in good order.
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(conn) => conn.close().await,
            Self::Postgres(conn) => conn.close().await,
        }
    }

    /// Starts a writing transaction. On PostgreSQL a lock makes the writers of all processes one after the other, as
    /// SQLite does by itself: numbers given inside a transaction are in the order of commits.
    pub(crate) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) => self.execute(super::sql("BEGIN IMMEDIATE")).await.map(drop),
            Self::Postgres(_) => {
                self.execute(super::sql("BEGIN")).await?;
                self.execute(super::sql("SELECT pg_advisory_xact_lock(7221933)")).await.map(drop)
            }
        }
    }
}
