//! All windows of one client together: which count, when they are open, which opening is long enough.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    AppliesTo, Span, Window, WindowAction,
    openings::{Openings, floor, span},
    proof::Direction,
    sweep::{END, Tracks},
    track::Track,
};
use crate::ObjectName;

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
    tracks: Tracks,
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
    /// No opening is long enough, until the end of time.
    Never {
        /// The longest there is, the first of these.
        longest: Option<Span>,
        /// Why.
        #[serde(default)]
        reason: NeverReason,
    },
}

/// Why there is no opening that is long enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeverReason {
    /// There are openings, all of them too short.
    #[default]
    TooShort,
    /// The windows would open, and each time other windows deny it.
    Denied,
    /// The days on which the windows may open are over.
    Past,
    /// The windows name days that no year has, or that do not lie between their effective dates.
    NoOccurrence,
    /// A window cannot be evaluated, and denies always or allows nothing.
    Invalid,
}

impl NeverReason {
    /// In words: why nothing opens, to follow *never:*.
    pub const fn text(self) -> &'static str {
        match self {
            Self::TooShort => "every opening is too short",
            Self::Denied => "deny windows cover every opening",
            Self::Past => "the days on which the windows may open are over",
            Self::NoOccurrence => "the windows name days that never come",
            Self::Invalid => "a window cannot be evaluated",
        }
    }
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
        let tracks = |windows: &[Window]| windows.iter().filter_map(|w| Track::of(w, local)).collect();
        let tracks = if locked.is_some() {
            Tracks::default()
        } else {
            Tracks { free: allow.is_empty(), allow: tracks(&allow), deny: tracks(&deny) }
        };
        Self { allow, deny, locked, tracks, local: local.clone() }
    }

    /// Whether no window at all counts: everything is allowed at any time.
    pub fn is_free(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// The openings that end after `from`, in order, lazily, to the end of time: the allow windows together, the deny
    /// windows cut out, touching ones joined. The first one may have begun before. One without a beginning or an end has
    /// the least or the greatest timestamp there.
    pub fn openings(&self, from: Timestamp) -> impl Iterator<Item = Span> + Send + '_ {
        Openings::new(&self.tracks, Direction::Forward, from)
    }

    /// The openings that begin before `to`, the last one first, lazily, to the beginning of time. The first one told may
    /// end after `to`.
    pub fn openings_back(&self, to: Timestamp) -> impl Iterator<Item = Span> + Send + '_ {
        Openings::new(&self.tracks, Direction::Backward, to)
    }

    /// The openings that overlap `[from, to)`, in order and whole.
    pub fn openings_between(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Span> + Send + '_ {
        self.openings(from).take_while(move |span| span.start < to)
    }

    /// The whole opening that `at` lies in: since when and until when it is open.
    pub fn opening_at(&self, at: Timestamp) -> Option<Span> {
        self.tracks.sweep().opening_at(floor(at)).map(span)
    }

    /// The last opening that ended at or before `at`.
    pub fn previous_opening(&self, at: Timestamp) -> Option<Span> {
        self.openings_back(at).find(|span| span.end <= at)
    }

    /// Whether `at` lies in an opening, and until when.
    pub fn is_open(&self, at: Timestamp) -> Openness {
        let (mut sweep, at) = (self.tracks.sweep(), floor(at));
        if !sweep.is_open(at) {
            return Openness::Closed;
        }
        Openness::Open { until: sweep.forward(at, END).map(span).and_then(|span| span.until()) }
    }

    /// The next opening from `from` on that lasts at least `need`; of one that is open already, the rest counts. *Never* is
    /// a proof (`proof`). An opening without end is long enough for everything.
    pub fn next_opening(&self, from: Timestamp, need: SignedDuration) -> NextOpening {
        let (mut sweep, mut at) = (self.tracks.sweep(), floor(from));
        let mut longest: Option<Span> = None;
        let mut horizon = END;
        let (mut seen, mut asked) = (0_u32, 16_u32);
        while let Some((start, end)) = sweep.forward(at, horizon) {
            let found = span((start, end));
            let usable = Span { start: found.start.max(from), end: found.end };
            if usable.length() >= need || (found.until().is_none() && self.tracks.is_endless(start)) {
                if usable.start == from {
                    return NextOpening::Now { until: found.until() };
                }
                return NextOpening::At(usable);
            }
            if longest.is_none_or(|known| known.length() < usable.length()) {
                longest = Some(usable);
            }
            at = end;
            seen += 1;
            if seen >= asked {
                asked = asked.saturating_mul(4);
                horizon = self.tracks.horizon(floor(from), Direction::Forward);
                let bound = self.tracks.bound(at, Direction::Forward).map(SignedDuration::from_secs);
                if longest.is_some_and(|longest| bound.is_some_and(|bound| bound <= longest.length())) {
                    break;
                }
            }
        }
        NextOpening::Never { longest, reason: self.never(from, longest) }
    }

    fn never(&self, from: Timestamp, longest: Option<Span>) -> NeverReason {
        let allow = &self.tracks.allow;
        if longest.is_some() {
            NeverReason::TooShort
        } else if self.locked.is_some() || (allow.is_empty() && !self.tracks.free) {
            NeverReason::Invalid
        } else if self.tracks.free
            || allow.iter().any(|track| track.next_begun(floor(from) - track.duration).is_some())
        {
            NeverReason::Denied
        } else if allow.iter().any(|track| track.last_begun(floor(from)).is_some()) {
            NeverReason::Past
        } else {
            NeverReason::NoOccurrence
        }
    }

    /// The windows that are open at `at` on their own, or deny it: who to name when something waits or may go.
    pub fn governing(&self, at: Timestamp) -> Vec<&Window> {
        let inside = |window: &&Window| {
            let begun = Track::of(window, &self.local).and_then(|track| track.last_begun(floor(at)));
            begun.is_some_and(|found| floor(at) < found.end)
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
