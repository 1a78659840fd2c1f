//! Whom to wake now (R-SCHED-06): clients that sleep through the start of something they still lack.
//!
//! An *occasion* is the instant at which a client may begin to install: its deadline with its share of the spread and its
//! grace period, or the beginning of the first opening after it that is long enough. At an occasion a client that was not
//! heard of is called a few times ([`OFFSETS`]); one that does not answer is called again in later openings, [`SERIES`] times
//! at most. Nobody is woken for nothing: not outside windows, not for what is suspended, optional or done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use patchtide_model::{
    ClientId,
    client::Client,
    deployment::{Deadline, Deployment},
    policy::{DeploymentPolicy, PolicyBody},
    shared::Shared,
    wake::{Called, Sleeper, cards},
    window::{Calendar, NextOpening, Purpose, time_zone},
};

use super::{SiteInput, SitePlan, Verdict, fitting::needs};
use crate::times;

/// When a client is called, counted from the first time.
pub const OFFSETS: [SignedDuration; 4] = [
    SignedDuration::ZERO,
    SignedDuration::from_mins(1),
    SignedDuration::from_mins(5),
    SignedDuration::from_mins(15),
];
/// Occasions in a row at which a client is called without an answer.
pub const SERIES: u8 = 8;
/// A client that was heard of so recently is awake: it asks for its policy at least every 5 minutes, and the site notes
/// that at most once a minute.
pub const AWAKE: SignedDuration = SignedDuration::from_mins(7);
/// No wall clock is further from UTC.
const FURTHEST: SignedDuration = SignedDuration::from_hours(26);

/// What to do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    /// Clients to call, with what to remember of it for each deployment (by uid) that calls.
    pub wake: BTreeMap<ClientId, Vec<(String, Called)>>,
    /// When there is something to do next, as far as is known.
    pub next: Option<Timestamp>,
}

/// Deployments whose clients may have to be woken by now, by uid, and when others of them may.
pub fn calling(input: &SiteInput, now: Timestamp) -> (BTreeSet<String>, Option<Timestamp>) {
    let (mut uids, mut next) = (BTreeSet::new(), None);
    for deployment in input.objects.deployments.values() {
        let Some(from) = earliest(deployment) else { continue };
        if from <= now {
            uids.insert(deployment.uid.clone());
        } else {
            sooner(&mut next, from);
        }
    }
    (uids, next)
}

/// Before this no client is woken; none: nobody ever is.
fn earliest(deployment: &Deployment) -> Option<Timestamp> {
    let settings = &deployment.settings;
    if !settings.wake_on_lan || deployment.suspend || settings.deadline == Deadline::None {
        return None;
    }
    let utc = times::deadline(settings, deployment.anchor, &TimeZone::UTC)?;
    if settings.client_local_time {
        Some(utc.checked_sub(FURTHEST).unwrap_or(Timestamp::MIN))
    } else {
        Some(utc)
    }
}

/// Whom to call now, of the sleepers of each deployment (by uid). `clients` are sorted by identity.
pub fn round(
    plan: &SitePlan,
    clients: &[Shared<Client>],
    sleepers: &BTreeMap<String, Vec<Sleeper>>,
    now: Timestamp,
) -> Round {
    let mut round = Round::default();
    let mut clocks: BTreeMap<_, Clock> = BTreeMap::new();
    for (uid, sleepers) in sleepers {
        for sleeper in sleepers {
            let Ok(at) = clients.binary_search_by_key(&sleeper.client, |client| client.id) else { continue };
            let Some(client) = clients.get(at) else { continue };
            let Some(Verdict::Policy(body)) = plan.policies.get(&client.id) else { continue };
            let Some(deployment) = body.deployments.iter().find(|deployment| deployment.uid == *uid) else {
                continue;
            };
            let settings = &deployment.settings;
            if !settings.wake_on_lan || deployment.suspend || cards(&client.facts).is_empty() {
                continue;
            }
            let zone = client.facts.get("timezone").map_or("UTC", String::as_str);
            let clock = clocks
                .entry((uid, Arc::as_ptr(body), zone, client.is_workstation()))
                .or_insert_with(|| Clock::new(body, deployment, zone, client.is_workstation()));
            let share = times::share(client.id, uid, settings.deadline_spread);
            let share = share.saturating_add(body.settings.grace_period);
            match clock.turn(share, sleeper, now) {
                Turn::Never => {}
                Turn::At(at) => sooner(&mut round.next, at),
                Turn::Now(called) => {
                    let after = Sleeper { called: Some(called), ..*sleeper };
                    if let Turn::At(at) = clock.turn(share, &after, now) {
                        sooner(&mut round.next, at);
                    }
                    round.wake.entry(client.id).or_default().push((uid.clone(), called));
                }
            }
        }
    }
    round
}

fn sooner(next: &mut Option<Timestamp>, at: Timestamp) {
    *next = Some(next.map_or(at, |known| known.min(at)));
}

/// When it is called once more at the same occasion.
fn again(called: &Called) -> Option<Timestamp> {
    called.first.checked_add(*OFFSETS.get(usize::from(called.times))?).ok()
}

/// When clients with one policy body and one zone may begin with a deployment.
struct Clock {
    deadline: Option<Timestamp>,
    calendar: Calendar,
    /// Time that the shortest of its updates needs; none: there is none.
    need: Option<SignedDuration>,
    /// Some update may be installed at any time.
    free: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Now(Called),
    At(Timestamp),
    Never,
}

impl Clock {
    fn new(body: &PolicyBody, deployment: &DeploymentPolicy, zone: &str, workstation: bool) -> Self {
        let zone = time_zone(zone).unwrap_or(TimeZone::UTC);
        let calendar = Calendar::new(&body.windows, Purpose::Install, &zone);
        let updates = || deployment.updates.iter().filter_map(|id| Some((id, body.updates.get(id)?)));
        let holding = |id| body.deployments.iter().filter(move |deployment| deployment.updates.contains(id));
        // As merged by the client: every deployment in force has to allow it.
        let outside = |id| {
            let mut in_force = holding(id).filter(|deployment| !deployment.suspend);
            in_force.all(|deployment| deployment.settings.install_outside_windows)
        };
        Self {
            deadline: times::deadline(&deployment.settings, deployment.anchor, &zone),
            free: calendar.is_free() || updates().any(|(id, _)| outside(id)),
            need: updates().map(|(id, update)| needs(body, update, holding(id), workstation)).min(),
            calendar,
        }
    }

    /// The first instant from `from` on at which something may begin, and the first after that at which it no longer may.
    fn opening(&self, from: Timestamp) -> Option<(Timestamp, Option<Timestamp>)> {
        let need = self.need?;
        if self.free {
            return Some((from, None));
        }
        let last = |end: Timestamp| end.checked_sub(need).unwrap_or(end);
        match self.calendar.next_opening(from, need) {
            NextOpening::Now { until } => Some((from, until.map(last))),
            NextOpening::At(span) => Some((span.start, Some(last(span.end)))),
            NextOpening::Never { .. } => None,
        }
    }

    fn turn(&self, share: SignedDuration, sleeper: &Sleeper, now: Timestamp) -> Turn {
        let Some(start) = self.deadline.and_then(|deadline| deadline.checked_add(share).ok()) else {
            return Turn::Never;
        };
        if start > now {
            return self.opening(start).map_or(Turn::Never, |(at, _)| Turn::At(at));
        }
        let Some((at, last)) = self.opening(now) else { return Turn::Never };
        if at > now {
            return Turn::At(at);
        }
        // It began where the opening did, or at the deadline in the middle of one.
        let begun =
            if self.free { start } else { self.calendar.opening_at(now).map_or(start, |span| span.start) };
        let occasion = begun.max(start);
        let later = || match last.and_then(|last| last.checked_add(SignedDuration::from_nanos(1)).ok()) {
            Some(after) => self.opening(after).map_or(Turn::Never, |(at, _)| Turn::At(at)),
            None => Turn::Never,
        };
        // It was there, and whether it sleeps again is its own affair.
        if sleeper.heard.is_some_and(|heard| heard >= occasion) {
            return later();
        }
        let awake_until = sleeper.heard.and_then(|heard| heard.checked_add(AWAKE).ok());
        if let Some(until) = awake_until.filter(|until| *until > now) {
            return Turn::At(until);
        }
        match sleeper.called {
            Some(called) if called.occasion == occasion => match again(&called) {
                Some(at) if at > now => Turn::At(at),
                Some(_) => Turn::Now(Called { last: now, times: called.times.saturating_add(1), ..called }),
                None => later(),
            },
            before => {
                let answered = |called: &Called| sleeper.heard.is_some_and(|heard| heard >= called.first);
                let series = before.filter(|called| !answered(called)).map_or(0, |called| called.series);
                if series >= SERIES {
                    return Turn::Never;
                }
                Turn::Now(Called { occasion, first: now, last: now, times: 1, series: series + 1 })
            }
        }
    }
}
