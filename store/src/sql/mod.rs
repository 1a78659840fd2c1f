//! A thin layer over sqlx that makes SQLite and PostgreSQL one: values, rows, statements and statements of many rows.
//!
//! SQL is `&'static str` with `$1`, `$2` (both databases read that), a [`Many`] around rows of values, or put together from
//! such texts by [`Build`]. What both databases do not read alike is not used: every number is a 64-bit integer, sums are
//! cast back to it.

mod build;
mod conn;
mod pool;
mod value;

use std::borrow::Cow;

pub(crate) use build::Build;
pub(crate) use conn::{Conn, Target, shown};
pub(crate) use pool::{Pool, Still};
pub(crate) use value::{Row, Value, int, json, len, parse};

/// A statement and its values.
#[derive(Debug, Clone)]
pub(crate) struct Sql {
    text: Cow<'static, str>,
    values: Vec<Value>,
}

/// A statement.
pub(crate) fn sql(text: &'static str) -> Sql {
    Sql { text: Cow::Borrowed(text), values: Vec::new() }
}

impl Sql {
    /// With the next value.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }
}

/// A statement over many rows: `head`, then `(?, ...), (?, ...)`, then `tail`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Many {
    pub(crate) head: &'static str,
    pub(crate) columns: usize,
    pub(crate) tail: &'static str,
}

impl Many {
    /// Rows of a statement at most: below SQLite's 32,766 values, and few enough lengths that each stays prepared.
    fn chunk(self, left: usize) -> usize {
        let most = (16_384 / self.columns).min(2_048);
        let mut rows = 1 << most.ilog2();
        while rows > left {
            rows >>= if rows > 4 { 2 } else { 1 };
        }
        rows
    }
}
