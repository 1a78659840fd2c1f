//! What reports consist of.

use jiff::Timestamp;
use serde::Serialize;

use super::Values;

/// One value. In JSON it is just that value.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// Not known, or it does not apply.
    None,
    /// Words or a name.
    Text(String),
    /// A count.
    Number(u64),
    /// Percent with one decimal, rounded down so that 100 means all.
    Percent(f64),
    /// An instant.
    Instant(Timestamp),
    /// Yes or no.
    Flag(bool),
}

/// A row.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// A value for each column.
    pub cells: Vec<Cell>,
    /// With what to ask the report that tells more of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill_down: Option<Values>,
}

/// The rows of a report, and what concerns all of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// Name and value.
    pub header: Vec<(&'static str, Cell)>,
    /// The rows.
    pub rows: Vec<Line>,
}

impl Table {
    /// With this in its header.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Cell>) -> Self {
        self.header.push((name, value.into()));
        self
    }

    /// Another row that leads nowhere.
    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(Line { cells, drill_down: None });
    }

    /// Another row, and what it leads to.
    pub(super) fn drill(&mut self, cells: Vec<Cell>, values: Values) {
        self.rows.push(Line { cells, drill_down: Some(values) });
    }
}

/// `part` of `whole` in percent; none of nothing.
#[expect(clippy::cast_precision_loss, reason = "at most 1,000")]
pub(super) fn percent(part: u64, whole: u64) -> Cell {
    let thousandths = (u128::from(part) * 1_000).checked_div(u128::from(whole));
    thousandths.and_then(|n| u64::try_from(n).ok()).map_or(Cell::None, |n| Cell::Percent(n as f64 / 10.0))
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Self {
        Self::Number(count)
    }
}

impl From<usize> for Cell {
    fn from(count: usize) -> Self {
        Self::Number(count as u64)
    }
}

impl From<bool> for Cell {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<Timestamp> for Cell {
    fn from(at: Timestamp) -> Self {
        Self::Instant(at)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_percent_means_all() {
        assert_eq!(percent(2, 3), Cell::Percent(66.6));
        assert_eq!(percent(99_999, 100_000), Cell::Percent(99.9));
        assert_eq!(percent(5, 5), Cell::Percent(100.0));
        assert_eq!(percent(0, 0), Cell::None);
    }
}
