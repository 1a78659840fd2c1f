//! Spans of time: their union, and what is left when others are taken out. Lazy, so that endless recurrences are fine.

use std::iter::Peekable;

use jiff::{SignedDuration, Timestamp};

use super::Span;

/// A source of spans in order of their start.
pub(super) type Spans<'a> = Box<dyn Iterator<Item = Span> + Send + 'a>;

/// A union longer than this is cut: windows that touch for ever would otherwise never be answered. The next span then
/// begins where this one ended.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 400);

/// The union: overlapping and touching spans become one.
pub(super) fn union<'a>(sources: impl IntoIterator<Item = Spans<'a>>) -> Spans<'a> {
    let mut sources: Vec<Peekable<Spans<'a>>> = sources.into_iter().map(Iterator::peekable).collect();
    let mut earliest = move || -> Option<Span> {
        let (index, _) = sources
            .iter_mut()
            .enumerate()
            .filter_map(|(index, source)| source.peek().map(|span| (index, span.start)))
            .min_by_key(|(_, start)| *start)?;
        sources.get_mut(index)?.next()
    };
    let mut pending: Option<Span> = None;
    Box::new(std::iter::from_fn(move || {
        let mut current = pending.take().or_else(&mut earliest)?;
        loop {
            let Some(next) = earliest() else { return Some(current) };
            if next.end <= current.end {
                continue;
            }
            if next.start > current.end || current.length() >= LONGEST {
                // After a cut, the rest must not reach back into what was already told.
                pending = Some(Span { start: next.start.max(current.end), end: next.end });
                return Some(current);
            }
            current.end = current.end.max(next.end);
        }
    }))
}

/// `allowed` without `denied`, as far as it begins before `horizon`; both in order and without overlaps. Nothing empty
/// comes out. The horizon is what ends the search when everything is denied for ever.
pub(super) fn without<'a>(allowed: Spans<'a>, denied: Spans<'a>, horizon: Timestamp) -> Spans<'a> {
    let mut allowed = allowed;
    let mut denied = denied.peekable();
    let mut rest: Option<Span> = None;
    Box::new(std::iter::from_fn(move || {
        loop {
            let span = rest.take().or_else(|| allowed.next()).filter(|span| span.start < horizon)?;
            while denied.next_if(|deny| deny.end <= span.start).is_some() {}
            let piece = match denied.peek() {
                Some(deny) if deny.start < span.end => {
                    if deny.end < span.end {
                        rest = Some(Span { start: deny.end, end: span.end });
                    }
                    Span { start: span.start, end: deny.start }
                }
                _ => span,
            };
            if piece.start < piece.end {
                return Some(piece);
            }
        }
    }))
}

/// All of time from `from` on.
pub(super) fn always<'a>(from: Timestamp) -> Spans<'a> {
    Box::new(std::iter::once(Span { start: from, end: Timestamp::MAX }))
}
