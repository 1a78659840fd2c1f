//! When whom to look at next.

use std::{cmp::Reverse, collections::BinaryHeap};

use jiff::Timestamp;

/// The times at which something is due somewhere, in the order time, client, sequence. An entry says only "look there":
/// what is due the client itself knows, so that something called off needs no search here.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<(Timestamp, u32, u64)>>,
    sequence: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at: Timestamp, client: u32) {
        self.sequence += 1;
        self.heap.push(Reverse((at, client, self.sequence)));
    }

    /// The next entry that is due by `end`.
    pub(super) fn pop(&mut self, end: Timestamp) -> Option<(Timestamp, u32)> {
        let Reverse((at, client, _)) = *self.heap.peek()?;
        if at > end {
            return None;
        }
        self.heap.pop();
        Some((at, client))
    }

    pub(super) fn peek(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }
}
