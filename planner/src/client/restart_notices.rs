//! What people are told of restarts: the countdown from its announcement to its final part, one that waits for them, one
//! that is called off (R-RST-04, R-RST-05).

use jiff::Timestamp;
use patchtide_model::people::Display;

use super::{
    context::Context,
    decide::Machine,
    decision::Action,
    earliest::Earliest,
    gate::{GateStatus, Opens},
    notices::{Notice, NoticeKind, Stage, display_of, next_reminder},
    restarts::Restart,
};

/// The notice that is due now, if one is.
pub(super) fn restart(context: &Context<'_>, machine: &Machine<'_>, times: &mut Earliest) -> Option<Notice> {
    let told = context.view.people.restart.as_ref();
    // Who heard of a restart hears also that it does not come.
    let called_off = || {
        let at = told?.at.filter(|at| *at > context.now)?;
        let kind = NoticeKind::RestartCalledOff { at };
        Some(Notice { id: format!("restart/{at}/called-off"), display: Display::Full, kind })
    };
    let Some(restart) = &machine.restart else { return called_off() };
    let asked = context.view.people.restart_asked(context.now).is_some();
    let display = if asked {
        Display::Full
    } else {
        display_of(context, restart.causes.iter().filter_map(|cause| context.at(cause.index)))
    };
    if !display.speaks() {
        return called_off();
    }
    let counting = match (&restart.action, restart.left) {
        (Some(Action::Restart { at, .. }), _) => Some((*at, true)),
        (_, Some(at)) => Some((at, false)),
        _ => None,
    };
    match counting {
        // The restart that was announced is left to people now: nothing happens then.
        Some((_, false)) if told.is_some_and(|told| told.forced) => called_off(),
        Some((at, forced)) if forced || at > context.now => {
            counts(context, restart, display, (at, forced), times)
        }
        _ => called_off().or_else(|| waits(context, restart, display, times)),
    }
}

fn counts(
    context: &Context<'_>,
    restart: &Restart<'_>,
    display: Display,
    (at, forced): (Timestamp, bool),
    times: &mut Earliest,
) -> Option<Notice> {
    let (people, now) = (&context.view.people, context.now);
    let settings = &context.body.settings.people;
    let last_part = at.checked_sub(settings.final_warning).unwrap_or(now);
    let in_last_part = last_part <= now && !settings.final_warning.is_zero();
    let told = people.restart.as_ref().filter(|told| told.at == Some(at));
    let stage = match told {
        None if in_last_part => Stage::Final,
        None => Stage::Announced,
        Some(told) if in_last_part && !told.warned => Stage::Final,
        Some(told) => {
            let reminder = next_reminder(settings, told.last, last_part)
                .map(|due| people.postponed.map_or(due, |until| due.max(until)));
            times.extend([last_part, at]);
            times.extend(reminder);
            if reminder.is_none_or(|due| due > now) || in_last_part {
                return None;
            }
            Stage::Reminder
        }
    };
    let power_off = matches!(restart.action, Some(Action::Restart { power_off: true, .. }));
    let name = match stage {
        Stage::Announced => "announced".to_owned(),
        Stage::Reminder => format!("reminder/{now}"),
        Stage::Final => "final".to_owned(),
    };
    Some(Notice {
        id: format!("restart/{at}/{name}"),
        display,
        kind: NoticeKind::Restart { at, forced, stage, power_off },
    })
}

fn waits(
    context: &Context<'_>,
    restart: &Restart<'_>,
    display: Display,
    times: &mut Earliest,
) -> Option<Notice> {
    if restart.passing {
        return None;
    }
    let (people, now) = (&context.view.people, context.now);
    if let Some(told) = people.restart.as_ref().filter(|told| told.waits) {
        let interval = context.body.settings.people.restart_reminder;
        let due = told.last.checked_add(interval).unwrap_or(Timestamp::MAX);
        let due = people.postponed.map_or(due, |until| due.max(until));
        if due > now {
            times.push(due);
            return None;
        }
    }
    let until = match restart.gate.status {
        GateStatus::Closed(Opens::At(at)) => Some(at),
        _ => None,
    };
    let kind = NoticeKind::RestartWaits { until };
    Some(Notice { id: format!("restart/waits/{now}"), display, kind })
}
