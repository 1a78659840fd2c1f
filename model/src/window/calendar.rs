//! All windows of one client together: which count, when they are open, which opening is long enough.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    AppliesTo, Span, Window, WindowAction,
    merge::{always, union, without},
};
use crate::ObjectName;

/// How far ahead an opening is looked for: past the eight years between the leap days around 2100. What does not open
/// within it never opens.
const HORIZON: SignedDuration = SignedDuration::from_hours(24 * 366 * 9);

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Purpose {
    /// Install updates.
    Install,
    /// Restart because of updates.
    Restart,
}

/// The windows of one client that count for one purpose.
///
/// Which allow windows count (domain.md 4.2): for installing those for updates, or, when there is none, those for all
/// deployments; for restarting those for restarts, or, when there is none, the ones that count for installing. Whether
/// such a window can still open does not matter: one that is past displaces too, and so never opens the rest. Deny
/// windows are never displaced. Without any allow window everything outside the deny windows is open.
#[derive(Debug, Clone)]
pub struct Calendar {
    allow: Vec<Window>,
    deny: Vec<Window>,
    /// A deny window that cannot be evaluated: nothing opens, because nobody knows when it denies.
    locked: Option<ObjectName>,
    local: TimeZone,
}

/// Whether something is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Openness {
    /// Yes, until then; none: no window says when it would end.
    Open {
        /// First instant after.
        until: Option<Timestamp>,
    },
    /// No.
    Closed,
}

/// The next opening that is long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NextOpening {
    /// Open now, with enough time left.
    Now {
        /// First instant after; none: not bound.
        until: Option<Timestamp>,
    },
    /// This one.
    At(Span),
    /// No opening within nine years is long enough.
    Never {
        /// The longest there is.
        longest: Option<Span>,
    },
}

impl Calendar {
    /// The windows that count for `purpose`, of all windows of a client; `local` is the client's zone.
    pub fn new<'a>(
        windows: impl IntoIterator<Item = &'a Window>,
        purpose: Purpose,
        local: &TimeZone,
    ) -> Self {
        let windows: Vec<&Window> = windows.into_iter().collect();
        let allowing = |applies: AppliesTo| -> Vec<Window> {
            windows
                .iter()
                .filter(|window| window.action == WindowAction::Allow && window.applies_to == applies)
                .map(|window| (*window).clone())
                .collect()
        };
        let order: &[AppliesTo] = match purpose {
            Purpose::Install => &[AppliesTo::Updates, AppliesTo::AllDeployments],
            Purpose::Restart => &[AppliesTo::RestartsOnly, AppliesTo::Updates, AppliesTo::AllDeployments],
        };
        let allow = order
            .iter()
            .map(|applies| allowing(*applies))
            .find(|found| !found.is_empty())
            .unwrap_or_default();
        let deny: Vec<Window> = windows
            .iter()
            .filter(|window| {
                window.action == WindowAction::Deny
                    && (purpose == Purpose::Restart || window.applies_to != AppliesTo::RestartsOnly)
            })
            .map(|window| (*window).clone())
            .collect();
        let locked = deny.iter().find(|window| window.validate().is_err()).map(|window| window.name.clone());
        Self { allow, deny, locked, local: local.clone() }
    }

    /// Whether no window at all counts: everything is allowed at any time.
    pub fn is_free(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// The openings from `from` on that begin within nine years, in order, lazily: the allow windows together, the deny
    /// windows cut out. The first one may have begun before.
    pub fn openings(&self, from: Timestamp) -> Box<dyn Iterator<Item = Span> + Send + '_> {
        self.openings_before(from, from.checked_add(HORIZON).unwrap_or(Timestamp::MAX))
    }

    fn openings_before(
        &self,
        from: Timestamp,
        horizon: Timestamp,
    ) -> Box<dyn Iterator<Item = Span> + Send + '_> {
        if self.locked.is_some() {
            return Box::new(std::iter::empty());
        }
        let allowed = if self.allow.is_empty() {
            always(from)
        } else {
            union(self.allow.iter().map(|window| window.occurrences(&self.local, from)))
        };
        let denied = union(self.deny.iter().map(|window| window.occurrences(&self.local, from)));
        // What a deny window leaves before `from` is of no use to anyone.
        Box::new(without(allowed, denied, horizon).skip_while(move |span| span.end <= from))
    }

    /// Whether `at` lies in an opening, and until when.
    pub fn is_open(&self, at: Timestamp) -> Openness {
        let just_after = at.checked_add(SignedDuration::from_nanos(1)).unwrap_or(Timestamp::MAX);
        match self.openings_before(at, just_after).next() {
            Some(span) if span.contains(at) => {
                Openness::Open { until: (span.end != Timestamp::MAX).then_some(span.end) }
            }
            _ => Openness::Closed,
        }
    }

    /// The next opening from `from` on that lasts at least `need`; of one that is open already, the rest counts.
    pub fn next_opening(&self, from: Timestamp, need: SignedDuration) -> NextOpening {
        let mut longest: Option<Span> = None;
        for span in self.openings(from) {
            let usable = Span { start: span.start.max(from), end: span.end };
            if usable.length() >= need {
                if usable.start == from {
                    return NextOpening::Now { until: (span.end != Timestamp::MAX).then_some(span.end) };
                }
                return NextOpening::At(usable);
            }
            if longest.is_none_or(|known| known.length() < usable.length()) {
                longest = Some(usable);
            }
        }
        NextOpening::Never { longest }
    }

    /// The windows that are open at `at` on their own, or deny it: who to name when something waits or may go.
    pub fn governing(&self, at: Timestamp) -> Vec<&Window> {
        let inside = |window: &&Window| {
            window.occurrences(&self.local, at).next().is_some_and(|span| span.contains(at))
        };
        self.allow.iter().chain(&self.deny).filter(inside).collect()
    }

    /// Every window that counts: allow windows first.
    pub fn windows(&self) -> impl Iterator<Item = &Window> {
        self.allow.iter().chain(&self.deny)
    }

    /// The deny window that cannot be evaluated and so keeps everything closed.
    pub fn locked_by(&self) -> Option<&ObjectName> {
        self.locked.as_ref()
    }
}
