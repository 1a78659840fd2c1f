//! Values on their way in, rows on their way out.

use jiff::Timestamp;
use patchtide_model::{ClientId, Digest};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row as _, postgres::PgRow, sqlite::SqliteRow};

use crate::{Result, StoreError};

/// A value. A missing one still has a type: PostgreSQL asks for it.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Blob(Option<Vec<u8>>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(Some(i64::from(value)))
    }
}

impl From<u8> for Value {
    fn from(value: u8) -> Self {
        Self::Int(Some(i64::from(value)))
    }
}

impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        Self::Int(Some(value.as_microsecond()))
    }
}

impl From<Option<Timestamp>> for Value {
    fn from(value: Option<Timestamp>) -> Self {
        Self::Int(value.map(Timestamp::as_microsecond))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        value.to_owned().into()
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        // PostgreSQL's text holds every character but this one; a client may send it.
        Self::Text(Some(if value.contains('\0') { value.replace('\0', "\u{fffd}") } else { value }))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        value.map_or(Self::Text(None), Into::into)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(Some(value))
    }
}

impl From<Digest> for Value {
    fn from(value: Digest) -> Self {
        Self::Text(Some(value.to_string()))
    }
}

impl From<ClientId> for Value {
    fn from(value: ClientId) -> Self {
        Self::Text(Some(value.to_string()))
    }
}

/// An unsigned number as the databases keep it. Ours never come near the sign.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A length as the databases keep it.
pub(crate) fn len(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A document as the databases keep it.
pub(crate) fn json<T: Serialize + ?Sized>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|source| StoreError::Document { what, source })
}

/// A row of either database.
#[derive(Debug)]
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! get {
    ($self:ident, $index:ident) => {
        match $self {
            Self::Sqlite(row) => row.try_get($index),
            Self::Postgres(row) => row.try_get($index),
        }
        .map_err(|source| StoreError::Read { what: "a column", source })
    };
}

impl Row {
    pub(crate) fn int(&self, index: usize) -> Result<i64> {
        self.int_option(index)?
            .ok_or_else(|| StoreError::Damaged { what: "number", detail: format!("column {index} has none") })
    }

    pub(crate) fn int_option(&self, index: usize) -> Result<Option<i64>> {
        match self {
            Self::Sqlite(row) => row.try_get(index),
            // A literal in a question is a 32-bit integer there.
            Self::Postgres(row) => row.try_get(index).or_else(|error| {
                row.try_get::<Option<i32>, _>(index).map(|number| number.map(i64::from)).map_err(|_| error)
            }),
        }
        .map_err(|source| StoreError::Read { what: "a column", source })
    }

    pub(crate) fn unsigned(&self, index: usize) -> Result<u64> {
        Ok(u64::try_from(self.int(index)?).unwrap_or(0))
    }

    pub(crate) fn flag(&self, index: usize) -> Result<bool> {
        Ok(self.int(index)? != 0)
    }

    pub(crate) fn text(&self, index: usize) -> Result<String> {
        get!(self, index)
    }

    pub(crate) fn text_option(&self, index: usize) -> Result<Option<String>> {
        get!(self, index)
    }

    pub(crate) fn blob(&self, index: usize) -> Result<Vec<u8>> {
        get!(self, index)
    }

    pub(crate) fn blob_option(&self, index: usize) -> Result<Option<Vec<u8>>> {
        get!(self, index)
    }

    pub(crate) fn time(&self, index: usize) -> Result<Timestamp> {
        time(self.int(index)?)
    }

    pub(crate) fn time_option(&self, index: usize) -> Result<Option<Timestamp>> {
        self.int_option(index)?.map(time).transpose()
    }

    /// A text that is the form of an identity.
    pub(crate) fn parse<T>(&self, index: usize, what: &'static str) -> Result<T>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        parse(&self.text(index)?, what)
    }

    /// A JSON document.
    pub(crate) fn json<T: DeserializeOwned>(&self, index: usize, what: &'static str) -> Result<T> {
        serde_json::from_str(&self.text(index)?).map_err(|source| StoreError::Document { what, source })
    }

    /// A JSON document that may be missing.
    pub(crate) fn json_option<T: DeserializeOwned>(
        &self,
        index: usize,
        what: &'static str,
    ) -> Result<Option<T>> {
        self.text_option(index)?
            .map(|text| serde_json::from_str(&text).map_err(|source| StoreError::Document { what, source }))
            .transpose()
    }
}

/// A stored text as an identity.
pub(crate) fn parse<T>(text: &str, what: &'static str) -> Result<T>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    text.parse().map_err(|error: T::Err| StoreError::Damaged { what, detail: error.to_string() })
}

fn time(microseconds: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(microseconds)
        .map_err(|error| StoreError::Damaged { what: "instant", detail: error.to_string() })
}
