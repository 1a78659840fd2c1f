//! Between instants and the whole seconds of the arithmetic: occurrences and openings, lazily, in either direction.

use jiff::Timestamp;

use super::{
    Span,
    proof::Direction,
    sweep::{END, Sweep, Tracks},
    track::Occurrence,
};

/// The second in which `at` lies. A window that is open then is open at `at`: its edges are whole seconds.
pub(super) fn floor(at: Timestamp) -> i64 {
    let second = at.as_second();
    if at.subsec_nanosecond() < 0 { second - 1 } else { second }
}

/// The first second that is not before `at`.
pub(super) fn ceiling(at: Timestamp) -> i64 {
    let second = at.as_second();
    if at.subsec_nanosecond() > 0 { second + 1 } else { second }
}

/// What lies outside of time is at its beginning or end.
pub(super) fn span((start, end): (i64, i64)) -> Span {
    Span {
        start: Timestamp::from_second(start).unwrap_or(Timestamp::MIN),
        end: Timestamp::from_second(end).unwrap_or(Timestamp::MAX),
    }
}

impl Occurrence {
    pub(super) fn span(self) -> Span {
        span((self.start, self.end))
    }
}

/// The openings from an instant on, or back from it.
pub(super) struct Openings<'a> {
    sweep: Sweep<'a>,
    direction: Direction,
    at: i64,
    begun: bool,
}

impl<'a> Openings<'a> {
    pub(super) fn new(tracks: &'a Tracks, direction: Direction, at: Timestamp) -> Self {
        let at = match direction {
            Direction::Forward => floor(at),
            Direction::Backward => ceiling(at),
        };
        Self { sweep: tracks.sweep(), direction, at, begun: false }
    }

    /// The opening that reaches over the instant from which is told, whole.
    fn across(&mut self) -> Option<(i64, i64)> {
        if std::mem::replace(&mut self.begun, true) {
            return None;
        }
        self.sweep.opening_at(if self.direction == Direction::Forward { self.at } else { self.at - 1 })
    }
}

impl Iterator for Openings<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        let across = self.across();
        let (found, next) = if self.direction == Direction::Forward {
            let found = across.or_else(|| self.sweep.forward(self.at, END))?;
            (found, found.1)
        } else {
            let found = across.or_else(|| self.sweep.backward(self.at))?;
            (found, found.0)
        };
        self.at = next;
        Some(span(found))
    }
}

impl Span {
    /// When it ends; none: not at all.
    pub(super) fn until(&self) -> Option<Timestamp> {
        (self.end != Timestamp::MAX).then_some(self.end)
    }
}
