//! What people at the machine may choose: install before the deadline, a schedule of their own, later, restart now. Each
//! changes the facts and nothing else; [`super::decide`] does the rest. Who may is not decided here.

use std::collections::BTreeSet;

use jiff::{Timestamp, tz::TimeZone};
use patchtide_model::{
    UpdateId,
    people::{Display, UserSchedule},
    policy::Policy,
};

use super::{
    decide::decide,
    decision::{Action, Decision},
    gate::{GateKind, GateStatus, Opens},
    people::OwnSchedule,
    view::ClientView,
};

/// Why something that was asked for is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No update of that name.
    #[error("{name} is not offered to this machine; {}", there_is(.offered))]
    NotOffered {
        /// What was asked for.
        name: String,
        /// Source packages of what is offered to the one who asks.
        offered: BTreeSet<String>,
    },
    /// Several updates have that name.
    #[error("{name} may mean {}; say which", listed(.candidates))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Updates that it may mean.
        candidates: BTreeSet<UpdateId>,
    },
    /// Nothing can be installed.
    #[error("no update is waiting to be installed here")]
    NothingOffered,
    /// Nothing can be put off.
    #[error("nothing here can be put off: no update waits for its deadline, and no restart waits for people")]
    NothingToPostpone,
    /// The time is over.
    #[error("{0:.0} is not in the future")]
    Past(Timestamp),
    /// Later than may be.
    #[error(
        "not later than {latest:.0}: then the first update is installed, and nothing can be put off beyond that"
    )]
    BeyondDeadline {
        /// The latest time.
        latest: Timestamp,
    },
    /// Its time has come.
    #[error(
        "{update} cannot be put off: its deadline was {start:.0}; it is installed as soon as a window and its content allow"
    )]
    DeadlinePassed {
        /// One that is due.
        update: UpdateId,
        /// Since when.
        start: Timestamp,
    },
    /// It counts down.
    #[error("the restart at {at:.0} cannot be put off: the deadline has passed. Save your work")]
    RestartForced {
        /// When.
        at: Timestamp,
    },
    /// It runs.
    #[error("an installation runs, and a running installation is never stopped")]
    Installing,
    /// Nothing to restart for.
    #[error("no restart is pending")]
    NoRestartPending,
    /// Not now.
    #[error("the machine cannot restart now: {reason}{}", .until.map(|at| format!(" (from {at:.0})")).unwrap_or_default())]
    RestartWaits {
        /// Why.
        reason: String,
        /// When it can, as far as known.
        until: Option<Timestamp>,
    },
    /// Others decide.
    #[error("the schedule of this machine is set by ClientSettings {0}, which do not let people change it")]
    ScheduleFixed(String),
}

/// What became of the wish to have something later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Postponed {
    /// Nothing that waits for its deadline happens, and nobody is reminded, before then.
    Until(Timestamp),
    /// There is no deadline: what was asked for is no longer.
    Withdrawn,
    /// The restart that a person had asked for does not happen.
    RestartCalledOff,
}

/// Names in a message.
const SHOWN: usize = 10;

fn listed(names: &BTreeSet<impl ToString>) -> String {
    let mut words: Vec<String> = names.iter().take(SHOWN).map(ToString::to_string).collect();
    if names.len() > SHOWN {
        words.push(format!("{} more (`patchtide-agent list`)", names.len() - SHOWN));
    }
    words.join(", ")
}

fn there_is(offered: &BTreeSet<String>) -> String {
    if offered.is_empty() { "nothing is".to_owned() } else { format!("there is {}", listed(offered)) }
}

/// The offered update that somebody calls `name`: by its identity or its slug, by its source package, or by a package that
/// this machine needs of it. What is named more exactly goes before.
fn called<'a>(
    name: &str,
    offered: &BTreeSet<&'a UpdateId>,
    view: &ClientView,
) -> Result<&'a UpdateId, Refusal> {
    let has = |id: &UpdateId| {
        view.detected.get(id).is_some_and(|found| found.leaves.iter().any(|leaf| leaf.package == name))
    };
    let ways: [&dyn Fn(&UpdateId) -> bool; 3] =
        [&|id| id.to_string() == name || id.slug() == name, &|id| id.source == name, &has];
    for way in ways {
        let found: Vec<&UpdateId> = offered.iter().copied().filter(|id| way(id)).collect();
        match found.as_slice() {
            [] => {}
            [one] => return Ok(*one),
            several => {
                let candidates = several.iter().map(|id| (*id).clone()).collect();
                return Err(Refusal::Ambiguous { name: name.to_owned(), candidates });
            }
        }
    }
    let offered = offered.iter().map(|id| id.source.clone()).collect();
    Err(Refusal::NotOffered { name: name.to_owned(), offered })
}

/// Asks for updates now: those that `names` says (an identity, the name of its source package, or of a package of it that
/// this machine needs), or all that are listed. `from`: not before then. What people are not to see is found only when
/// `hidden`. The updates that are asked for.
pub fn ask_install(
    view: &mut ClientView,
    decision: &Decision,
    names: &[String],
    from: Option<Timestamp>,
    hidden: bool,
) -> Result<BTreeSet<UpdateId>, Refusal> {
    let visible = || decision.offers.iter().filter(|(_, offer)| hidden || offer.display < Display::Hidden);
    let offered: BTreeSet<&UpdateId> = visible().map(|(id, _)| id).collect();
    let mut chosen = BTreeSet::new();
    for name in names {
        chosen.insert(called(name, &offered, view)?.clone());
    }
    if names.is_empty() {
        // What is hidden is asked for by name only.
        let listed = visible().filter(|(_, offer)| offer.display < Display::Hidden);
        chosen.extend(listed.map(|(id, _)| id.clone()));
    }
    if chosen.is_empty() {
        return Err(Refusal::NothingOffered);
    }
    view.requested.extend(chosen.iter().cloned());
    view.people.postponed = from;
    Ok(chosen)
}

/// Puts off what was asked for, the schedule and the reminders until then; none: until the first deadline. A restart that a
/// person asked for is called off.
pub fn postpone(
    view: &mut ClientView,
    decision: &Decision,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Result<Postponed, Refusal> {
    if view.running.install.is_some() {
        return Err(Refusal::Installing);
    }
    if let Some(until) = until.filter(|until| *until <= now) {
        return Err(Refusal::Past(until));
    }
    let counting = decision.actions.iter().find_map(|action| match action {
        Action::Restart { at, .. } => Some(*at),
        _ => None,
    });
    if let Some(at) = counting {
        // One that is due all the same is named again.
        let asked = view.people.restart_requested.take();
        return asked.map(|_| Postponed::RestartCalledOff).ok_or(Refusal::RestartForced { at });
    }
    let starts = || decision.offers.iter().filter_map(|(id, offer)| Some((id, offer.start?)));
    let coming = starts().map(|(_, start)| start).filter(|start| *start > now).min();
    let restart = decision.machine.iter().find(|gate| gate.kind == GateKind::Restart && !gate.is_open());
    let restart_at = restart.and_then(|gate| match gate.status {
        GateStatus::Closed(Opens::At(at)) => Some(at),
        _ => None,
    });
    let latest = coming.into_iter().chain(restart_at).min();
    let optional = decision.offers.values().any(|offer| offer.start.is_none() && offer.requested);
    if latest.is_none() && restart.is_none() && !optional {
        return Err(match starts().min_by_key(|(_, start)| *start) {
            Some((id, start)) => Refusal::DeadlinePassed { update: id.clone(), start },
            None => Refusal::NothingToPostpone,
        });
    }
    if let (Some(until), Some(latest)) = (until, latest)
        && until > latest
    {
        return Err(Refusal::BeyondDeadline { latest });
    }
    let Some(until) = until.or(latest) else {
        // Without a deadline "later" means: when somebody asks again.
        view.requested.clear();
        return Ok(Postponed::Withdrawn);
    };
    view.people.postponed = Some(until);
    Ok(Postponed::Until(until))
}

/// Sets a schedule of their own (`Some(None)`: none at all), or takes it back (`None`).
pub fn set_schedule(
    view: &mut ClientView,
    policy: &Policy,
    schedule: Option<Option<UserSchedule>>,
    now: Timestamp,
) -> Result<(), Refusal> {
    let settings = &policy.body.settings;
    if settings.people.user_schedule.as_ref().is_some_and(|schedule| !schedule.user_may_change) {
        return Err(Refusal::ScheduleFixed(settings.name.clone()));
    }
    view.people.schedule = schedule.map(|own| match own {
        None => OwnSchedule::Off,
        Some(schedule) => OwnSchedule::At { schedule, since: now },
    });
    Ok(())
}

/// Asks for the pending restart now, also where restarts are suppressed or left to people. When it happens.
pub fn ask_restart(
    policy: &Policy,
    view: &mut ClientView,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<Timestamp, Refusal> {
    let mut asked = view.clone();
    asked.people.restart_requested = Some(now);
    let decision = decide(policy, &asked, now, zone);
    let at = decision.actions.iter().find_map(|action| match action {
        Action::Restart { at, .. } => Some(*at),
        _ => None,
    });
    if let Some(at) = at {
        view.people.restart_requested = Some(now);
        return Ok(at);
    }
    let gate = decision.machine.into_iter().find(|gate| gate.kind == GateKind::Restart);
    let gate = gate.ok_or(Refusal::NoRestartPending)?;
    let until = match gate.status {
        GateStatus::Closed(Opens::At(at)) => Some(at),
        _ => None,
    };
    Err(Refusal::RestartWaits { reason: gate.reason, until })
}
