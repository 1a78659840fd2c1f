//! `list`: what the icon of a desktop would open. One set for all deployments (R-UX-01, R-UX-04).

use std::fmt::Write as _;

use jiff::{Timestamp, tz::TimeZone};
use patchtide_model::{
    people::{Display, UserSchedule},
    policy::Policy,
};
use patchtide_planner::client::{
    Action, ClientView, Decision, GateKind, GateStatus, Offer, Opens, OwnSchedule,
};
use serde_json::json;

use super::{Answer, local::on_this_clock};
use crate::notify::words::local;

/// What the list is made from.
pub(crate) struct List<'a> {
    pub(crate) policy: Option<&'a Policy>,
    pub(crate) view: &'a ClientView,
    pub(crate) decision: &'a Decision,
    /// Also what nobody is to see.
    pub(crate) hidden: bool,
    pub(crate) now: Timestamp,
    pub(crate) zone: &'a TimeZone,
}

// Writing into a String cannot fail.
macro_rules! say {
    ($out:expr, $($words:tt)*) => { let _ = writeln!($out, $($words)*); };
}

pub(crate) fn list(l: &List<'_>) -> Answer {
    let time = |at: Timestamp| local(at, l.zone);
    let mut out = String::new();
    let offers: Vec<_> =
        l.decision.offers.iter().filter(|(_, offer)| l.hidden || offer.display < Display::Hidden).collect();
    if l.policy.is_none() {
        say!(out, "no policy has come from the site yet");
    } else if offers.is_empty() {
        say!(out, "no update waits to be installed");
    }
    for (id, offer) in &offers {
        say!(out, "{id}\n    {}", standing(l, offer, id));
    }
    if let Some(run) = &l.view.running.install {
        say!(out, "being installed since {}: {} update(s)", time(run.since), run.batch.updates.len());
    }
    if let Some((schedule, whose)) = schedule(l) {
        let days = if schedule.weekdays.is_empty() { "every day".to_owned() } else { days(schedule) };
        say!(out, "schedule: {days} at {}, {whose}", schedule.time.strftime("%H:%M"));
    }
    let postponed = l.view.people.postponed.filter(|until| *until > l.now);
    if let Some(until) = postponed {
        say!(out, "postponed until {}", time(until));
    }
    let restart = restart(l);
    if let Some(words) = &restart {
        say!(out, "restart: {words}");
    }
    let data = json!({
        "updates": offers.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "schedule": schedule(l).map(|(schedule, _)| schedule), "postponed": postponed, "restart": restart,
    });
    let text: String = out.chars().filter(|c| !c.is_control() || *c == '\n').collect();
    Answer::told(text, data)
}

fn standing(l: &List<'_>, offer: &Offer, id: &patchtide_model::UpdateId) -> String {
    let mut words = Vec::new();
    match offer.start {
        None => words.push("optional".to_owned()),
        Some(start) if start > l.now => {
            words.push(format!("installed by itself from {} on", local(start, l.zone)));
        }
        Some(start) => words.push(format!("due since {}", local(start, l.zone))),
    }
    words.push(if offer.ready { "downloaded" } else { "not downloaded yet" }.to_owned());
    if offer.requested {
        words.push("asked for".to_owned());
    }
    // Why it does not go on, where it is to.
    let wanted = offer.requested || offer.start.is_some_and(|start| start <= l.now);
    let gate = l.decision.updates.get(id).and_then(|verdict| verdict.waits_for());
    if let Some(gate) = gate.filter(|_| wanted) {
        words.push(match gate.status {
            GateStatus::Closed(Opens::At(at)) => {
                format!("waits until {}: {}", local(at, l.zone), on_this_clock(&gate.reason, l.zone))
            }
            _ => format!("waits: {}", on_this_clock(&gate.reason, l.zone)),
        });
    }
    if offer.display == Display::Hidden {
        words.push("shown to root alone".to_owned());
    }
    words.join("; ")
}

/// The schedule in force, and whose it is.
fn schedule<'a>(l: &'a List<'_>) -> Option<(&'a UserSchedule, String)> {
    let settings = &l.policy?.body.settings;
    let theirs = settings.people.user_schedule.as_ref();
    let free = theirs.is_none_or(|schedule| schedule.user_may_change);
    match &l.view.people.schedule {
        Some(OwnSchedule::Off) if free => None,
        Some(OwnSchedule::At { schedule, .. }) if free => Some((schedule, "set at this machine".to_owned())),
        _ => Some((theirs?, format!("set by ClientSettings {}", settings.name))),
    }
}

fn days(schedule: &UserSchedule) -> String {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let names = schedule.weekdays.iter().filter_map(|day| DAYS.get(usize::from(day.saturating_sub(1))));
    names.copied().collect::<Vec<_>>().join(", ")
}

fn restart(l: &List<'_>) -> Option<String> {
    let counting = l.decision.actions.iter().find_map(|action| match action {
        Action::Restart { at, .. } => Some(*at),
        _ => None,
    });
    if let Some(at) = counting {
        return Some(format!("this machine restarts at {}", local(at, l.zone)));
    }
    let gate = l.decision.machine.iter().find(|gate| gate.kind == GateKind::Restart);
    match gate {
        Some(gate) => {
            Some(format!("pending; {}. Now: patchtide-agent restart", on_this_clock(&gate.reason, l.zone)))
        }
        None if !l.view.restart_reasons.is_empty() => {
            Some("the system asks for one, because of something else than these updates".to_owned())
        }
        None => None,
    }
}
