//! What people ask the agent of a machine for: it answers as the real one does, by the same functions.

use jiff::Timestamp;
use patchtide_model::{people::UserActions, policy::Policy};

use super::{
    behaviour::Wish,
    machine::{Given, Machine},
};
use crate::client::{Postponed, Refusal, ask_restart, decide, postpone, set_schedule};

/// Asks, and tells in words what came of it.
pub(super) fn ask(machine: &mut Machine, given: Option<&Given>, wish: &Wish, now: Timestamp) -> String {
    let what = match wish {
        Wish::Schedule(_) | Wish::NoSchedule | Wish::UsualSchedule => "change the schedule",
        Wish::Postpone(_) => "postpone the updates",
        Wish::Restart => "restart for the updates",
    };
    if !machine.is_awake() {
        return format!("wants to {what}, and no agent answers");
    }
    let Some(given) = given else {
        return format!("wants to {what}, and no policy has come from the site yet");
    };
    if given.policy.body.settings.people.user_actions == UserActions::Nobody {
        return format!("wants to {what}: the ClientSettings let nobody at this machine act");
    }
    match granted(machine, &given.policy, wish, now) {
        Ok(words) => words,
        Err(refusal) => format!("wants to {what}, and is refused: {refusal}"),
    }
}

fn granted(machine: &mut Machine, policy: &Policy, wish: &Wish, now: Timestamp) -> Result<String, Refusal> {
    let clock = machine.clock(now);
    match wish {
        Wish::Schedule(schedule) => {
            set_schedule(&mut machine.view, policy, Some(Some(schedule.clone())), clock)?;
            Ok(format!("has the updates installed at {} from now on", schedule.time.strftime("%H:%M")))
        }
        Wish::NoSchedule => {
            set_schedule(&mut machine.view, policy, Some(None), clock)?;
            Ok("has nothing installed before its deadline from now on".to_owned())
        }
        Wish::UsualSchedule => {
            set_schedule(&mut machine.view, policy, None, clock)?;
            Ok("goes back to the schedule of the ClientSettings".to_owned())
        }
        Wish::Postpone(until) => {
            let until = until.map(|until| machine.clock(until));
            // What the agent last decided may be older than what it knows.
            let decision = decide(policy, &machine.view, clock, &machine.zone);
            Ok(match postpone(&mut machine.view, &decision, until, clock)? {
                Postponed::Until(until) => format!("postpones the updates until {until:.0}"),
                Postponed::Withdrawn => "takes back what was asked for".to_owned(),
                Postponed::RestartCalledOff => "calls off the restart that was asked for".to_owned(),
            })
        }
        Wish::Restart => {
            let at = ask_restart(policy, &mut machine.view, clock, &machine.zone)?;
            Ok(format!("asks for the restart now: it comes at {at:.0}"))
        }
    }
}
