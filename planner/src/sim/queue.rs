//! When whom to look at next.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use jiff::Timestamp;

/// The times at which something is due somewhere, in the order time, client. An entry says only "look there": what is due
/// the client itself knows, so that something called off needs no search here. Many clients are due at the same second, so
/// entries of one time stand together.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    later: BTreeMap<Timestamp, Vec<u32>>,
    /// The time that was begun, with the clients that are left of it.
    begun: Option<(Timestamp, BinaryHeap<Reverse<u32>>)>,
}

impl Queue {
    pub(super) fn push(&mut self, at: Timestamp, client: u32) {
        match &mut self.begun {
            Some((begun, left)) if *begun == at => left.push(Reverse(client)),
            _ => self.later.entry(at).or_default().push(client),
        }
    }

    /// The next entry that is due by `end`.
    pub(super) fn pop(&mut self, end: Timestamp) -> Option<(Timestamp, u32)> {
        let at = self.peek().filter(|at| *at <= end)?;
        if self.begun.as_ref().is_none_or(|(begun, _)| *begun != at) {
            let clients = self.later.remove(&at)?.into_iter().map(Reverse).collect();
            if let Some((was, left)) = self.begun.replace((at, clients)).filter(|(_, left)| !left.is_empty())
            {
                self.later.insert(was, left.into_iter().map(|Reverse(client)| client).collect());
            }
        }
        let (_, left) = self.begun.as_mut()?;
        left.pop().map(|Reverse(client)| (at, client))
    }

    pub(super) fn peek(&self) -> Option<Timestamp> {
        let begun = self.begun.as_ref().filter(|(_, left)| !left.is_empty()).map(|(at, _)| *at);
        let later = self.later.first_key_value().map(|(at, _)| *at);
        [begun, later].into_iter().flatten().min()
    }
}
