//! Openings: what allow windows cover and deny windows leave, walked from one edge to the next in either direction. In
//! whole seconds since 1970; a window's edges are.

use super::{
    proof::Direction,
    track::{Cursor, Occurrence, Track},
};

/// Before and after all time: an opening that nothing bounds.
pub(super) const BEGIN: i64 = i64::MIN;
/// See [`BEGIN`].
pub(super) const END: i64 = i64::MAX;

/// After how many steps without an answer it is asked for a proof that none will come; then four times as many.
const PATIENCE: u32 = 512;

/// The windows that count, evaluated.
#[derive(Debug, Clone, Default)]
pub(super) struct Tracks {
    /// No allow window at all: everything that is not denied is open.
    pub free: bool,
    pub allow: Vec<Track>,
    pub deny: Vec<Track>,
}

/// A place between the openings.
pub(super) struct Sweep<'a> {
    tracks: &'a Tracks,
    allow: Vec<Cursor<'a>>,
    deny: Vec<Cursor<'a>>,
    /// Steps since the last answer, and at how many of them the next proof is tried. None: no proof is wanted.
    steps: u32,
    patience: Option<u32>,
    /// Openings longer than this need not be followed to their end.
    enough: i64,
}

impl Tracks {
    pub(super) fn sweep(&self) -> Sweep<'_> {
        Sweep {
            tracks: self,
            allow: self.allow.iter().map(Cursor::new).collect(),
            deny: self.deny.iter().map(Cursor::new).collect(),
            steps: 0,
            patience: Some(PATIENCE),
            enough: END,
        }
    }

    /// A sweep that only walks, for a proof itself; openings longer than `enough` seconds are not followed to their end.
    pub(super) fn plain_sweep(&self, enough: i64) -> Sweep<'_> {
        Sweep { patience: None, enough, ..self.sweep() }
    }
}

/// The ends of the occurrences that have begun by `at`, and are the last of their windows to.
fn last_begun<'b>(cursors: &'b mut [Cursor<'_>], at: i64) -> impl Iterator<Item = Occurrence> + 'b {
    cursors.iter_mut().filter_map(move |cursor| cursor.around(at).0)
}

fn next_start(cursors: &mut [Cursor<'_>], at: i64) -> Option<i64> {
    cursors.iter_mut().filter_map(|cursor| Some(cursor.around(at).1?.start)).min()
}

impl Sweep<'_> {
    /// Whether `at` is open.
    pub(super) fn is_open(&mut self, at: i64) -> bool {
        let open = self.tracks.free || last_begun(&mut self.allow, at).any(|found| found.end > at);
        open && last_begun(&mut self.deny, at).all(|found| found.end <= at)
    }

    /// The whole opening that `at` lies in.
    pub(super) fn opening_at(&mut self, at: i64) -> Option<(i64, i64)> {
        if !self.is_open(at) {
            return None;
        }
        self.start();
        let start = self.start_of(at);
        self.start();
        Some((start, self.end_of(at)))
    }

    /// The first opening that begins at or after `from` and before `limit`; of one that `from` lies in, the rest.
    pub(super) fn forward(&mut self, from: i64, limit: i64) -> Option<(i64, i64)> {
        self.start();
        let (mut at, mut limit) = (from, limit);
        while at < limit {
            if self.asks_for_proof() {
                if self.tracks.bound(at, Direction::Forward) == Some(0) {
                    return None;
                }
                limit = limit.min(self.tracks.horizon(from, Direction::Forward));
            }
            if !self.tracks.free && !last_begun(&mut self.allow, at).any(|found| found.end > at) {
                at = next_start(&mut self.allow, at)?;
            } else if let Some(denied) = last_begun(&mut self.deny, at).map(|found| found.end).max()
                && denied > at
            {
                at = denied;
            } else {
                return Some((at, self.end_of(at)));
            }
        }
        None
    }

    /// The last opening that ends at or before `from`; of one that reaches beyond, what is before.
    pub(super) fn backward(&mut self, from: i64) -> Option<(i64, i64)> {
        self.start();
        let (mut to, mut limit) = (from, BEGIN);
        while to > limit {
            if self.asks_for_proof() {
                if self.tracks.bound(to, Direction::Backward) == Some(0) {
                    return None;
                }
                limit = limit.max(self.tracks.horizon(from, Direction::Backward));
            }
            // The last second before.
            let at = to - 1;
            let allowed = last_begun(&mut self.allow, at).map(|found| found.end).max();
            if !self.tracks.free && allowed? < to {
                to = allowed?;
            } else if let Some(denied) =
                last_begun(&mut self.deny, at).filter(|found| found.end >= to).map(|found| found.start).min()
            {
                to = denied;
            } else {
                return Some((self.start_of(at), to));
            }
        }
        None
    }

    /// When the opening ends that the open `at` lies in.
    fn end_of(&mut self, at: i64) -> i64 {
        let limit = next_start(&mut self.deny, at).unwrap_or(END);
        let mut end = if self.tracks.free { limit } else { at };
        while end < limit && end.saturating_sub(at) <= self.enough {
            let further = last_begun(&mut self.allow, end).map(|found| found.end).max().unwrap_or(end);
            if further <= end {
                break;
            }
            end = further;
            if self.asks_for_proof() && self.tracks.covers(end, Direction::Forward) {
                end = limit;
            }
        }
        end.min(limit)
    }

    /// When the opening began that the open `at` lies in.
    fn start_of(&mut self, at: i64) -> i64 {
        let limit = last_begun(&mut self.deny, at).map(|found| found.end).max().unwrap_or(BEGIN);
        let mut start = if self.tracks.free { limit } else { at + 1 };
        while start > limit {
            let earlier = last_begun(&mut self.allow, start - 1)
                .filter(|found| found.end >= start)
                .map(|found| found.start)
                .min();
            let Some(earlier) = earlier else { break };
            start = earlier;
            if self.asks_for_proof() && self.tracks.covers(start, Direction::Backward) {
                start = limit;
            }
        }
        start.max(limit)
    }

    fn start(&mut self) {
        self.steps = 0;
        self.patience = self.patience.map(|_| PATIENCE);
    }

    fn asks_for_proof(&mut self) -> bool {
        self.steps += 1;
        let asks = self.patience.is_some_and(|patience| self.steps >= patience);
        if asks {
            self.patience = self.patience.map(|patience| patience.saturating_mul(4));
        }
        asks
    }
}
