//! A count with a few examples.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::NAMED;

/// So many, of which the first [`NAMED`] in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sample<T> {
    /// Exactly how many.
    pub count: u64,
    /// The first of them.
    pub first: Vec<T>,
}

impl<T> Default for Sample<T> {
    fn default() -> Self {
        Self { count: 0, first: Vec::new() }
    }
}

impl<T: Ord> Sample<T> {
    /// Of all of these, in whatever order they come.
    pub fn of(all: impl IntoIterator<Item = T>) -> Self {
        let (mut count, mut first) = (0_u64, BTreeSet::new());
        for item in all {
            count += 1;
            if first.len() < NAMED || first.last().is_some_and(|last| item < *last) {
                first.insert(item);
                if first.len() > NAMED {
                    first.pop_last();
                }
            }
        }
        Self { count, first: first.into_iter().collect() }
    }
}

impl<T> Sample<T> {
    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many are not named.
    pub fn more(&self) -> u64 {
        self.count.saturating_sub(u64::try_from(self.first.len()).unwrap_or(u64::MAX))
    }
}
