//! A statement put together from parts, for questions that have many shapes. Its parts are constants; what people ask for
//! goes in as values alone.

use std::{borrow::Cow, fmt::Write as _};

use super::{Sql, Value};

/// A statement in the making.
#[derive(Debug)]
pub(crate) struct Build {
    text: String,
    values: Vec<Value>,
}

impl Build {
    pub(crate) fn new(head: &'static str) -> Self {
        Self { text: head.to_owned(), values: Vec::new() }
    }

    /// With a further part.
    pub(crate) fn push(&mut self, part: &'static str) -> &mut Self {
        self.text.push_str(part);
        self
    }

    /// With a value.
    pub(crate) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        // Writing to a text cannot fail.
        let _ = write!(self.text, "${}", self.values.len());
        self
    }

    /// With a condition more, or one that must not hold.
    pub(crate) fn and(&mut self, holds: bool, condition: impl FnOnce(&mut Self)) -> &mut Self {
        self.push(if holds { " AND (" } else { " AND NOT (" });
        condition(self);
        self.push(")")
    }

    pub(crate) fn sql(self) -> Sql {
        Sql { text: Cow::Owned(self.text), values: self.values }
    }
}
