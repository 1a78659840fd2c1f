//! How a deployment looks from a given instant: when its clients install, which never can in time, what it costs.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    ClientId, ObjectName,
    deployment::Deployment,
    policy::DeploymentPolicy,
    window::{NeverReason, NextOpening, Span},
};
use serde::{Deserialize, Serialize};

use super::{
    GROUPS,
    classes::{Class, Side},
    openings::Book,
    sample::Sample,
    work::{Duty, Lack, Restart, Work},
};
use crate::times;

/// How a deployment looks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    /// Clients that it reaches.
    pub targeted: u64,
    /// Of them those that said that they lack an update of it.
    pub lacking: u64,
    /// Those that scanned and lack none.
    pub complete: u64,
    /// Those that have not said.
    pub unknown: u64,
    /// Those whose policy is withheld: they learn nothing of it.
    pub withheld: u64,
    /// Those whose client settings switch software updates off.
    pub switched_off: u64,
    /// Updates that are offered; expired and unknown ones are not.
    pub updates: u64,
    /// Nothing of it starts.
    pub suspended: bool,
    /// When those that lack something, or may, install it: at most [`GROUPS`], in order.
    pub installs: Vec<WindowUse>,
    /// Clients in groups that are not named.
    pub installs_more: u64,
    /// Clients whose windows never let them meet the deadline: at most [`GROUPS`] groups, in order.
    pub unreachable: Vec<Unreachable>,
    /// Clients in groups that are not named.
    pub unreachable_more: u64,
    /// Restarts, as far as clients said what they lack.
    pub restarts: Restarts,
    /// Bytes that clients have to download for it, as far as they said what they lack.
    pub download_bytes: u64,
}

/// Restarts that follow, by client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restarts {
    /// A restart rule says so, or a kernel is among what they lack.
    pub certain: u64,
    /// It depends on what runs on the machine then.
    pub possible: u64,
    /// One would follow or might, and the machine must not be restarted: it stays pending.
    pub suppressed: u64,
}

impl Restarts {
    pub(super) const fn count(&mut self, restart: Restart) {
        match restart {
            Restart::Certain => self.certain += 1,
            Restart::Possible => self.possible += 1,
            Restart::Suppressed => self.suppressed += 1,
            Restart::No => {}
        }
    }

    const fn add(&mut self, other: Self) {
        self.certain += other.certain;
        self.possible += other.possible;
        self.suppressed += other.suppressed;
    }
}

/// When clients install.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum When {
    /// No window binds them: from then on; each at its share of the spread.
    Free {
        /// The deadline with its grace period, or now where that has passed.
        from: Timestamp,
    },
    /// In this opening, the first after their start that has room.
    Window {
        /// When it opens, or their start when it is open then.
        start: Timestamp,
        /// When it closes; none: no window says when.
        #[serde(skip_serializing_if = "Option::is_none")]
        end: Option<Timestamp>,
    },
    /// No opening has room.
    Never {
        /// How long the longest is.
        #[serde(skip_serializing_if = "Option::is_none")]
        longest: Option<SignedDuration>,
    },
    /// It is optional: when a person asks for it.
    OnRequest,
    /// It is suspended.
    Held,
    /// The deadline lies beyond the end of time.
    EndOfTime,
}

/// Clients that install at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowUse {
    /// When.
    pub when: When,
    /// The windows that are open then.
    pub windows: Vec<ObjectName>,
    /// Clients.
    pub clients: u64,
    /// Of them those that said that they lack something.
    pub lacking: u64,
}

/// The nearest opening to a deadline that cannot be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum Nearest {
    /// None before the deadline; this one is the first that has room.
    After {
        /// When it opens.
        start: Timestamp,
        /// When it closes.
        end: Timestamp,
    },
    /// None ever has room.
    Never {
        /// The longest that there is; none: none opens ever again.
        #[serde(skip_serializing_if = "Option::is_none")]
        longest: Option<Span>,
        /// Why.
        reason: NeverReason,
    },
}

/// Clients that can never meet a deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unreachable {
    /// The deadline.
    pub deadline: Timestamp,
    /// What comes nearest.
    pub nearest: Nearest,
    /// What the longest of their updates needs by itself, with the restart that may follow.
    pub needs: SignedDuration,
    /// Their windows.
    pub windows: Vec<ObjectName>,
    /// Their time zone.
    pub zone: String,
    /// Clients.
    pub clients: Sample<String>,
    /// Of them those that said that they lack something.
    pub lacking: u64,
}

impl Outlook {
    /// Clients that can never meet the deadline.
    pub fn missing(&self) -> u64 {
        self.unreachable.iter().map(|group| group.clients.count).sum::<u64>() + self.unreachable_more
    }
}

/// What is collected over the classes.
#[derive(Default)]
struct Found {
    installs: BTreeMap<(When, Vec<ObjectName>), (u64, u64)>,
    unreachable: BTreeMap<Late, (Vec<usize>, u64)>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Late {
    deadline: Timestamp,
    nearest: Nearest,
    needs: SignedDuration,
    windows: Vec<ObjectName>,
    zone: String,
}

/// How a deployment of a side looks from `at` on.
pub(super) fn outlook(side: &Side<'_>, work: &Work, deployment: &Deployment, at: Timestamp) -> Outlook {
    let from = at;
    let nobody = patchtide_model::shared::Shared::<BTreeSet<ClientId>>::default();
    let targeted = side.plan.targets.get(&deployment.name).unwrap_or(&nobody);
    let offered = |id| side.input.updates.get(id).is_some_and(|update| !update.expired);
    let mut out = Outlook {
        targeted: count(targeted.len()),
        withheld: side.withheld_of(targeted),
        updates: count(deployment.updates.iter().filter(|id| offered(*id)).count()),
        suspended: deployment.suspend,
        ..Outlook::default()
    };
    let mut found = Found::default();
    for (class, duties) in side.classes.iter().zip(&work.duties) {
        let at = class.body.deployments.binary_search_by(|policy| policy.uid.cmp(&deployment.uid));
        let Some((policy, duty)) =
            at.ok().and_then(|at| Some((class.body.deployments.get(at)?, duties.get(at)?)))
        else {
            continue;
        };
        for ((lack, _), clients) in &duty.groups {
            match lack {
                Lack::Something => out.lacking += count(clients.len()),
                Lack::Nothing => out.complete += count(clients.len()),
                Lack::Unknown => out.unknown += count(clients.len()),
            }
        }
        out.restarts.add(duty.restarts);
        out.download_bytes += duty.bytes;
        of_class(side, class, (policy, duty), from, &mut found);
    }
    out.switched_off = out.targeted.saturating_sub(out.lacking + out.complete + out.unknown + out.withheld);
    for (number, ((when, windows), (clients, lacking))) in found.installs.into_iter().enumerate() {
        if number < GROUPS {
            out.installs.push(WindowUse { when, windows, clients, lacking });
        } else {
            out.installs_more += clients;
        }
    }
    for (number, (late, (clients, lacking))) in found.unreachable.into_iter().enumerate() {
        if number < GROUPS {
            let Late { deadline, nearest, needs, windows, zone } = late;
            let clients = Sample::of(side.names(&clients));
            out.unreachable.push(Unreachable { deadline, nearest, needs, windows, zone, clients, lacking });
        } else {
            out.unreachable_more += count(clients.len());
        }
    }
    out
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn of_class<'a>(
    side: &Side<'a>,
    class: &Class<'a>,
    (policy, duty): (&DeploymentPolicy, &Duty),
    at: Timestamp,
    found: &mut Found,
) {
    let settings = &policy.settings;
    let available = times::available(settings, policy.anchor, &class.zone);
    let deadline = times::deadline(settings, policy.anchor, &class.zone);
    let book = side.openings.of(class);
    let bound = !book.calendar.is_free() && !settings.install_outside_windows;
    for ((lack, needs), clients) in &duty.groups {
        let mut put = |when: When, windows: Vec<ObjectName>, clients: u64| {
            let entry = found.installs.entry((when, windows)).or_default();
            entry.0 += clients;
            entry.1 += if *lack == Lack::Something { clients } else { 0 };
        };
        if *lack != Lack::Nothing {
            installs(side, class, policy, &book, (bound, deadline, *needs, at), clients, &mut put);
        }
        if let (true, Some(available), Some(deadline)) = (bound, available, deadline)
            && let Some(nearest) = late(&book, available.max(at), deadline, *needs)
        {
            let windows = class.body.windows.iter().map(|window| window.name.clone()).collect();
            let zone = class.zone_name.to_owned();
            let entry = found
                .unreachable
                .entry(Late { deadline, nearest, needs: *needs, windows, zone })
                .or_default();
            entry.0.extend(clients);
            entry.1 += if *lack == Lack::Something { count(clients.len()) } else { 0 };
        }
    }
}

/// What comes nearest to a deadline that no opening meets (reliability.md #103); none: one does. Where the deadline has
/// come, only an opening that never comes is told.
fn late(book: &Book, from: Timestamp, deadline: Timestamp, needs: SignedDuration) -> Option<Nearest> {
    match book.next(from, needs) {
        NextOpening::Never { longest, reason } => Some(Nearest::Never { longest, reason }),
        NextOpening::At(span) if deadline > from && span.start > deadline => {
            Some(Nearest::After { start: span.start, end: span.end })
        }
        _ => None,
    }
}

/// Puts the clients of one group where they install.
fn installs(
    side: &Side<'_>,
    class: &Class<'_>,
    policy: &DeploymentPolicy,
    book: &Book,
    (bound, deadline, needs, at): (bool, Option<Timestamp>, SignedDuration, Timestamp),
    clients: &[usize],
    put: &mut impl FnMut(When, Vec<ObjectName>, u64),
) {
    let all = count(clients.len());
    let Some(deadline) = deadline else {
        let optional = policy.settings.deadline == patchtide_model::deployment::Deadline::None;
        let when = if policy.suspend {
            When::Held
        } else if optional {
            When::OnRequest
        } else {
            When::EndOfTime
        };
        return put(when, Vec::new(), all);
    };
    if policy.suspend {
        return put(When::Held, Vec::new(), all);
    }
    let Ok(start) = deadline.checked_add(class.body.settings.grace_period) else {
        return put(When::EndOfTime, Vec::new(), all);
    };
    let first = start.max(at);
    if !bound {
        return put(When::Free { from: first }, Vec::new(), all);
    }
    let spread = policy.settings.deadline_spread;
    let last = start.checked_add(spread).unwrap_or(Timestamp::MAX).max(at);
    let (early, end) = (book.next(first, needs), book.next(last, needs));
    if same(early, end) {
        let when = when(early, first);
        return put(when, names(book, when), all);
    }
    // Shares of the spread lead into different openings.
    let openings = book.between(first, last, needs);
    let mut found: BTreeMap<When, u64> = BTreeMap::new();
    for client in clients.iter().filter_map(|at| side.clients.get(*at)) {
        let share = times::share(client.id, &policy.uid, spread);
        let from = start.checked_add(share).unwrap_or(Timestamp::MAX).max(at);
        let fits = openings
            .iter()
            .find(|span| Span { start: span.start.max(from), end: span.end }.length() >= needs);
        let use_of = fits.map_or_else(
            || when(end, last),
            |span| When::Window {
                start: span.start.max(first),
                end: (span.end != Timestamp::MAX).then_some(span.end),
            },
        );
        *found.entry(use_of).or_default() += 1;
    }
    for (when, clients) in found {
        put(when, names(book, when), clients);
    }
}

/// Whether two answers are one opening.
fn same(a: NextOpening, b: NextOpening) -> bool {
    match (a, b) {
        (NextOpening::Now { until }, NextOpening::Now { until: other }) => until == other,
        (NextOpening::Now { until: Some(until) }, NextOpening::At(span))
        | (NextOpening::At(span), NextOpening::Now { until: Some(until) }) => until == span.end,
        (NextOpening::Never { .. }, NextOpening::Never { .. }) => true,
        (a, b) => a == b,
    }
}

fn when(opening: NextOpening, from: Timestamp) -> When {
    match opening {
        NextOpening::Now { until } => When::Window { start: from, end: until },
        NextOpening::At(span) => {
            When::Window { start: span.start, end: (span.end != Timestamp::MAX).then_some(span.end) }
        }
        NextOpening::Never { longest, .. } => When::Never { longest: longest.map(|span| span.length()) },
    }
}

fn names(book: &Book, when: When) -> Vec<ObjectName> {
    match when {
        When::Window { start, .. } => book.allowing(start),
        _ => Vec::new(),
    }
}
