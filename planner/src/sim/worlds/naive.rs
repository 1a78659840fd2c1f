//! What the promises mean, worked out in the simplest way there is: minute by minute, object by object, with nothing of the
//! code that is held to them. Only `jiff` knows what time it is where.

use jiff::{SignedDuration, Timestamp, Unit, civil, tz::TimeZone};
use patchtide_model::{
    UpdateId,
    catalogue::RestartRule,
    deployment::{Available, Deadline},
    policy::{DeploymentPolicy, Policy, PolicyBody},
    window::{AppliesTo, Recurrence, Window, WindowAction, Zone},
};

use crate::{client::ClientView, times::share};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

const fn minutes(count: i64) -> SignedDuration {
    SignedDuration::from_mins(count)
}

fn civil(at: Timestamp, zone: &TimeZone) -> civil::DateTime {
    zone.to_datetime(at)
}

fn opens_on(window: &Window, date: civil::Date) -> bool {
    if window.effective_from.is_some_and(|from| date < from)
        || window.effective_until.is_some_and(|u| date > u)
    {
        return false;
    }
    let days = |anchor: civil::Date| anchor.until((Unit::Day, date)).unwrap().get_days();
    match &window.recurrence {
        Recurrence::Once { date: day } => *day == date,
        Recurrence::Daily { every, anchor } => days(*anchor).rem_euclid(i32::from(*every)) == 0,
        Recurrence::Weekly { every, anchor, weekdays } => {
            let monday =
                *anchor - jiff::Span::new().days(i64::from(anchor.weekday().to_monday_zero_offset()));
            let week = days(monday).div_euclid(7);
            let weekday = u8::try_from(date.weekday().to_monday_one_offset()).unwrap();
            week.rem_euclid(i32::from(*every)) == 0 && weekdays.contains(&weekday)
        }
        other => panic!("worlds have no such windows: {other:?}"),
    }
}

/// The first minute at which the window's clock shows at least that time.
fn first_minute(date: civil::Date, time: civil::Time, zone: &TimeZone) -> Timestamp {
    let target = date.to_datetime(time);
    let utc = target.to_zoned(TimeZone::UTC).unwrap().timestamp();
    // No clock of these zones jumps further than three hours.
    let mut at = utc - SignedDuration::from_secs(zone.to_offset(utc).seconds().into()) - minutes(180);
    while civil(at, zone) < target {
        at += MINUTE;
    }
    at
}

/// The openings of one window around `at`.
fn openings(
    window: &Window,
    local: &TimeZone,
    at: Timestamp,
    until: Timestamp,
) -> Vec<(Timestamp, Timestamp)> {
    let named;
    let zone = match &window.zone {
        Zone::Utc => &TimeZone::UTC,
        Zone::ClientLocal => local,
        Zone::Iana(name) => {
            named = patchtide_model::window::time_zone(name).unwrap();
            &named
        }
    };
    let mut date = civil(at, zone).date() - jiff::Span::new().days(3);
    let last = civil(until, zone).date() + jiff::Span::new().days(1);
    let mut found = Vec::new();
    while date <= last {
        if opens_on(window, date) {
            let start = first_minute(date, window.start, zone);
            found.push((start, start + window.duration));
        }
        date = date.tomorrow().unwrap();
    }
    found
}

/// Whether every minute from `at` on for `need` lies in a window that allows and in none that denies.
pub(super) fn is_open(
    windows: &[Window],
    restart: bool,
    local: &TimeZone,
    at: Timestamp,
    need: SignedDuration,
) -> bool {
    let end = at + need;
    let allows = |kind: AppliesTo| -> Vec<&Window> {
        windows.iter().filter(|w| w.action == WindowAction::Allow && w.applies_to == kind).collect()
    };
    let mut allow = if restart { allows(AppliesTo::RestartsOnly) } else { Vec::new() };
    if allow.is_empty() {
        allow = allows(AppliesTo::Updates);
    }
    if allow.is_empty() {
        allow = allows(AppliesTo::AllDeployments);
    }
    let deny = windows
        .iter()
        .filter(|w| w.action == WindowAction::Deny && (restart || w.applies_to != AppliesTo::RestartsOnly));
    let spans = |windows: Vec<&Window>| -> Vec<(Timestamp, Timestamp)> {
        windows.into_iter().flat_map(|window| openings(window, local, at, end)).collect()
    };
    let (free, allowed, denied) = (allow.is_empty(), spans(allow), spans(deny.collect()));
    let inside =
        |spans: &[(Timestamp, Timestamp)], at| spans.iter().any(|(from, to)| *from <= at && at < *to);
    let mut minute = at;
    loop {
        if (!free && !inside(&allowed, minute)) || inside(&denied, minute) {
            return false;
        }
        minute += MINUTE;
        if minute >= end {
            // The last moment counts too.
            let last = (end - SignedDuration::from_nanos(1)).max(at);
            return (free || inside(&allowed, last)) && !inside(&denied, last);
        }
    }
}

fn instant(civil: civil::DateTime, deployment: &DeploymentPolicy, local: &TimeZone) -> Timestamp {
    let zone = if deployment.settings.client_local_time { local } else { &TimeZone::UTC };
    first_minute(civil.date(), civil.time(), zone)
}

/// From when on a deployment is available here.
pub(super) fn available(deployment: &DeploymentPolicy, local: &TimeZone) -> Timestamp {
    match deployment.settings.available {
        Available::AsSoonAsPossible => deployment.anchor,
        Available::At(civil) => instant(civil, deployment, local),
    }
}

/// When a deployment is enforced here; none: it is optional.
pub(super) fn start(policy: &Policy, deployment: &DeploymentPolicy, local: &TimeZone) -> Option<Timestamp> {
    let available = available(deployment, local);
    let deadline = match deployment.settings.deadline {
        Deadline::None => return None,
        Deadline::At(civil) => instant(civil, deployment, local).max(available),
        Deadline::After(after) => available + after,
    };
    let spread = share(policy.client, &deployment.uid, deployment.settings.deadline_spread);
    Some(deadline + spread + policy.body.settings.grace_period)
}

/// The deployments that want an update now, of those that are not suspended.
pub(super) fn wanting<'a>(
    policy: &'a Policy,
    id: &UpdateId,
    local: &TimeZone,
    clock: Timestamp,
) -> Vec<&'a DeploymentPolicy> {
    let holding = policy.body.deployments.iter().filter(|d| !d.suspend && d.updates.contains(id));
    holding
        .filter(|deployment| available(deployment, local) <= clock)
        .filter(|deployment| start(policy, deployment, local).is_some_and(|start| start <= clock))
        .collect()
}

/// Whether something that is due lets this update come along before its own deadline.
pub(super) fn pulled(
    policy: &Policy,
    view: &ClientView,
    id: &UpdateId,
    local: &TimeZone,
    clock: Timestamp,
) -> bool {
    let deadline = |deployment: &DeploymentPolicy| {
        let available = available(deployment, local);
        match deployment.settings.deadline {
            Deadline::None => None,
            Deadline::At(civil) => Some(instant(civil, deployment, local).max(available)),
            Deadline::After(after) => Some(available + after),
        }
    };
    let own = policy.body.deployments.iter().filter(|d| !d.suspend && d.updates.contains(id));
    let own = own.filter(|d| available(d, local) <= clock).filter_map(deadline).min();
    let required = |id: &&UpdateId| view.detected.get(*id).is_some_and(|found| !found.leaves.is_empty());
    let Some(own) = own else { return false };
    policy.body.updates.keys().filter(required).any(|other| {
        let wanting = wanting(policy, other, local, clock);
        let within = |limit: Option<SignedDuration>| limit.is_none_or(|limit| own <= clock + limit);
        wanting.iter().any(|d| d.settings.install_all_applicable && within(d.settings.install_all_within))
            || (!wanting.is_empty()
                && policy.body.settings.install_due_within.is_some_and(|limit| own <= clock + limit))
    })
}

/// What a transaction of these updates needs of a window.
pub(super) fn need<'a>(
    policy: &Policy,
    ids: impl Iterator<Item = &'a UpdateId> + Clone,
    workstation: bool,
    local: &TimeZone,
    clock: Timestamp,
) -> SignedDuration {
    let body = &policy.body;
    let mut need = SignedDuration::from_mins(10);
    for id in ids.clone() {
        need += body.updates[id].maximum_run_time.unwrap_or(SignedDuration::from_secs(30));
    }
    let own = body
        .windows
        .iter()
        .any(|w| w.applies_to == AppliesTo::RestartsOnly && w.action == WindowAction::Allow);
    let may_restart = ids.clone().any(|id| {
        let holding = || body.deployments.iter().filter(|d| d.updates.contains(id));
        body.updates[id].restart != RestartRule::Never
            && !holding().any(|d| d.settings.suppresses_restart(workstation))
            && !wanting(policy, id, local, clock).iter().any(|d| d.settings.restart_outside_windows)
    });
    if may_restart && !own { need + restart_time(body, ids) } else { need }
}

fn restart_time<'a>(body: &PolicyBody, ids: impl Iterator<Item = &'a UpdateId>) -> SignedDuration {
    countdown(body, ids) + body.settings.restart_turnaround
}

/// How long before a restart because of these updates it is announced.
pub(super) fn countdown<'a>(body: &PolicyBody, ids: impl Iterator<Item = &'a UpdateId>) -> SignedDuration {
    let usual = body.settings.restart_countdown;
    let of = |id: &UpdateId| {
        let holding = body.deployments.iter().filter(|d| !d.suspend && d.updates.contains(id));
        holding.map(|d| d.settings.restart_countdown.unwrap_or(usual)).max()
    };
    ids.filter_map(of).max().unwrap_or(usual)
}

/// World 4952: the calendar is exact, so these have to be.
#[test]
fn what_ends_a_nanosecond_after_its_window_does_not_fit() {
    let window = crate::fixtures::daily("noon", 12, minutes(60));
    let at: Timestamp = "2026-11-21T12:30:00Z".parse().unwrap();
    let open = |at| is_open(std::slice::from_ref(&window), false, &TimeZone::UTC, at, minutes(30));
    assert!(open(at));
    assert!(!open(at + SignedDuration::from_nanos(1)));
}
