//! The first of many instants.

use jiff::Timestamp;

/// The first instant after another one, of those that it was given.
pub(super) struct Earliest {
    after: Timestamp,
    pub first: Option<Timestamp>,
}

impl Earliest {
    pub(super) const fn after(after: Timestamp) -> Self {
        Self { after, first: None }
    }

    pub(super) fn push(&mut self, at: Timestamp) {
        if at > self.after && self.first.is_none_or(|first| at < first) {
            self.first = Some(at);
        }
    }
}

impl Extend<Timestamp> for Earliest {
    fn extend<T: IntoIterator<Item = Timestamp>>(&mut self, times: T) {
        times.into_iter().for_each(|at| self.push(at));
    }
}
