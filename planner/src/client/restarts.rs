//! Is a restart needed because of what was installed, and may it happen (domain.md 4.3, R-RST).

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    catalogue::RestartRule,
    window::{NextOpening, Openness},
};

use super::{
    context::{Context, Item, Reach},
    decision::Action,
    gate::{Event, Gate, GateKind, Holder, Opens},
    merging::Say,
    view::{RestartReason, StaleReason},
    words::say,
};

/// A restart that is needed.
pub(super) struct Restart<'a> {
    /// Updates that call for it.
    pub causes: Vec<Cause<'a>>,
    /// Whether and when it may happen.
    pub gate: Gate,
    /// To be named as action.
    pub action: Option<Action>,
    /// It is left to people, who see a countdown that ends then.
    pub left: Option<Timestamp>,
    /// What keeps it passes by itself in a moment.
    pub passing: bool,
}

impl Restart<'_> {
    /// Whether it comes before anything else is installed: only one that is counting down does. One that waits or is
    /// suppressed does not keep later updates out; apt needs no restart between transactions.
    pub(super) const fn comes_first(&self) -> bool {
        self.action.is_some()
    }

    /// It waits for this many updates that still fit before it.
    pub(super) fn put_off(&mut self, context: &Context<'_>, updates: usize) {
        (self.action, self.passing) = (None, true);
        let reason = say!(context, "the next update fits before it: one restart for all");
        self.gate = Gate::waiting(GateKind::Restart, Event::TransactionEnds, reason)
            .held_by(Holder::Batch { updates });
    }
}

/// An update that calls for a restart.
pub(super) struct Cause<'a> {
    pub index: usize,
    pub id: &'a patchtide_model::UpdateId,
}

/// Whether an update installed in this boot asks for a restart.
pub(super) fn calls_for_restart(context: &Context<'_>, item: &Item<'_>) -> bool {
    item.record.is_some_and(|record| {
        record.boot == context.view.boot
            && match record.restart {
                RestartRule::Always => true,
                RestartRule::Never => false,
                RestartRule::Auto => !context.view.restart_reasons.is_empty(),
            }
    })
}

pub(super) fn restart<'a>(context: &Context<'a>) -> Option<Restart<'a>> {
    let items: Vec<&Item<'a>> =
        context.items.iter().filter(|item| calls_for_restart(context, item)).collect();
    let asked = context.view.people.restart_asked(context.now);
    if items.is_empty() && (asked.is_none() || context.view.restart_reasons.is_empty()) {
        return None;
    }
    let causes = items.iter().map(|item| Cause { index: item.index, id: item.id }).collect();
    let permission = permission(context, &items, asked.is_some());
    let (gate, passing) = (permission.gate, permission.passing);
    if !gate.is_open() {
        return Some(Restart { causes, gate, action: None, left: None, passing });
    }
    // What was announced stays announced, also when the agent started anew in between.
    let told = context.view.people.restart.as_ref().and_then(|told| told.at);
    let announced = context.view.running.restart_at.or(told.filter(|at| *at > context.now));
    let counted = || context.now.checked_add(context.countdown(items.iter().copied())).ok();
    if asked.is_none()
        && let Some(reach) = left_to_people(context, &items)
    {
        // The countdown that was shown to its end does not begin again.
        let at = told.or_else(counted)?;
        let field = "spec.settings.restart.enforcement";
        let reason = say!(context, "a countdown is shown, and the restart is left to people");
        let gate = waiting(Event::Restart, reason);
        let gate = gate.set_by(context.words, || reach.object(), field);
        return Some(Restart { causes, gate, action: None, left: Some(at), passing });
    }
    let at = match asked {
        None => announced.or_else(counted)?,
        // A person wants it now; others who are logged in get the final warning.
        Some(asked) => {
            let soon = asked.checked_add(warning(context, &items)).ok()?;
            announced.map_or(soon, |at| at.min(soon))
        }
    };
    let because = items
        .iter()
        .map(|item| item.id.to_string())
        .chain(context.view.restart_reasons.iter().map(words))
        .collect();
    let action = Action::Restart { at, because, power_off: false };
    Some(Restart { causes, gate, action: Some(action), left: None, passing })
}

/// The restart or the end of a machine that was woken for these updates: under the same rules as one that they need. None:
/// it may not be now, and does not wait.
pub(super) fn because_woken<'a>(
    context: &Context<'a>,
    items: &[&Item<'a>],
    power_off: bool,
) -> Option<Restart<'a>> {
    if left_to_people(context, items).is_some() {
        return None;
    }
    let gate = permission(context, items, false).gate;
    if !gate.is_open() {
        return None;
    }
    let told = context.view.people.restart.as_ref().and_then(|told| told.at);
    let announced = context.view.running.restart_at.or(told.filter(|at| *at > context.now));
    let countdown = context.countdown(items.iter().copied());
    let at = announced.or_else(|| context.now.checked_add(countdown).ok())?;
    let because = vec!["wakeOnLan.afterwards: it was woken for updates, and all is done".to_owned()];
    let action = Some(Action::Restart { at, because, power_off });
    let causes = items.iter().map(|item| Cause { index: item.index, id: item.id }).collect();
    Some(Restart { causes, gate, action, left: None, passing: false })
}

fn words(reason: &RestartReason) -> String {
    match reason {
        RestartReason::RequiredFile => "/run/reboot-required".to_owned(),
        RestartReason::Kernel { running, installed } => {
            format!("kernel {installed} is installed, {running} runs")
        }
        RestartReason::InitOutdated => "process 1 uses files that were replaced".to_owned(),
    }
}

fn open(reason: String) -> Gate {
    Gate::open(GateKind::Restart, reason)
}

fn closed(opens: Opens, reason: String) -> Gate {
    Gate::closed(GateKind::Restart, opens, reason)
}

fn waiting(event: Event, reason: String) -> Gate {
    Gate::waiting(GateKind::Restart, event, reason)
}

/// Time between a person's word and the restart.
fn warning<'a>(context: &Context<'a>, items: &[&Item<'a>]) -> SignedDuration {
    context.body.settings.people.final_warning.min(context.countdown(items.iter().copied()))
}

/// The deployment that leaves the restart to people. One is enough, as with suppression.
fn left_to_people<'b, 'a>(context: &'b Context<'a>, items: &[&'b Item<'a>]) -> Option<&'b Reach<'a>> {
    items
        .iter()
        .flat_map(|item| context.reaching(item))
        .find(|reach| reach.policy.settings.restart_left_to_people)
}

/// The gate of a restart that is needed.
struct Permission {
    gate: Gate,
    passing: bool,
}

impl From<Gate> for Permission {
    fn from(gate: Gate) -> Self {
        Self { gate, passing: false }
    }
}

/// Whether a restart may happen. A person's word opens what is left to people: suppression and the deadline; it opens
/// neither windows nor what is suspended.
fn permission<'a>(context: &Context<'a>, items: &[&Item<'a>], asked: bool) -> Permission {
    let (view, now) = (context.view, context.now);
    let all: Vec<&Reach<'_>> = items.iter().flat_map(|item| context.reaching(item)).collect();
    let suppresses = |reach: &&&Reach<'_>| {
        context.suppresses_restart(reach) && !reach.policy.settings.restart_left_to_people
    };
    if !asked && let Some(reach) = all.iter().find(suppresses) {
        let field = if view.workstation {
            "spec.settings.restart.suppressWorkstations"
        } else {
            "spec.settings.restart.suppressServers"
        };
        let reason = say!(
            context,
            "restarts of this kind of machine are suppressed: it stays pending until somebody restarts the machine"
        );
        let gate = waiting(Event::Restart, reason);
        return Permission::from(gate.set_by(context.words, || reach.object(), field));
    }
    let active: Vec<&&Reach<'_>> = all.iter().filter(|reach| !reach.policy.suspend).collect();
    if let Some(first) = all.first().filter(|_| active.is_empty()) {
        let gate = waiting(Event::Policy, say!(context, "the deployment is suspended"));
        return Permission::from(gate.set_by(context.words, || first.object(), "spec.suspend"));
    }
    if let Some(gate) = machine(context) {
        return Permission { gate, passing: true };
    }
    if asked {
        return Permission::from(in_window(context, items, asked));
    }
    let start = active.iter().filter_map(|reach| reach.start).min();
    if start.is_none_or(|start| start > now) {
        let reason = say!(context, "installed before the deadline: the restart is left to people until then");
        let gate = match start {
            Some(start) => closed(Opens::At(start), reason),
            None => waiting(Event::Restart, reason),
        };
        let object = || active.first().map(|reach| reach.object()).unwrap_or_default();
        return Permission::from(gate.set_by(context.words, object, "spec.settings.deadline"));
    }
    Permission::from(match context.restart_outside(items.iter().copied(), now) {
        Say::Allowed(reach) => {
            let gate = open(say!(context, "needs no window"));
            gate.set_by(context.words, || reach.object(), "spec.settings.restart.outsideWindows")
        }
        Say::Refused { by, against: Some(against) } => {
            let mut gate = in_window(context, items, asked);
            if !gate.is_open() && context.words.0 {
                let keeps =
                    format!("; {} keeps it to windows, though {} does not", by.object(), against.object());
                gate.reason.push_str(&keeps);
            }
            gate
        }
        Say::Refused { .. } | Say::Nobody => in_window(context, items, asked),
    })
}

/// What keeps the machine itself from restarting right now.
fn machine(context: &Context<'_>) -> Option<Gate> {
    let view = context.view;
    if let Some((doubt, until)) = super::batch::clock_doubt(context) {
        let reason = say!(context, "CLOCK-UNTRUSTED: {doubt}");
        return Some(match until {
            Some(at) => closed(Opens::At(at), reason),
            None => waiting(Event::Contact, reason),
        });
    }
    if view.running.install.is_some() || view.running.recovery {
        return Some(waiting(
            Event::TransactionEnds,
            say!(context, "a transaction runs; dpkg is never killed"),
        ));
    }
    let undetected = matches!(view.scan.stale, Some(StaleReason::Installed | StaleReason::Recovered));
    if undetected && view.scan.failure.as_ref().is_none_or(|failure| failure.count < 3) {
        return Some(waiting(Event::Scan, say!(context, "what was installed is detected again first")));
    }
    None
}

/// The windows' word.
fn in_window<'a>(context: &Context<'a>, items: &[&Item<'a>], asked: bool) -> Gate {
    let (view, now) = (context.view, context.now);
    if context.restarts.is_free() {
        return open(say!(context, "no maintenance window selects this client"));
    }
    let name = |at: Timestamp| {
        context
            .restarts
            .governing(at)
            .first()
            .copied()
            .or_else(|| context.restarts.windows().next())
            .map(|window| format!("MaintenanceWindow/{}", window.name))
            .unwrap_or_default()
    };
    // What was announced needs only the rest of the countdown and the turnaround.
    let turnaround = context.body.settings.restart_turnaround;
    let need = view.running.restart_at.map_or_else(
        || {
            let countdown =
                if asked { warning(context, items) } else { context.countdown(items.iter().copied()) };
            countdown.saturating_add(turnaround)
        },
        |at| at.duration_since(now).max(SignedDuration::ZERO).saturating_add(turnaround),
    );
    let by = |gate: Gate, at: Timestamp, field: &str| gate.set_by(context.words, || name(at), field);
    match context.restarts.next_opening(now, need) {
        NextOpening::Now { .. } => by(open(say!(context, "the window is open and long enough")), now, "spec"),
        NextOpening::At(span) => {
            let start = span.start;
            let reason = if context.restarts.is_open(now) == Openness::Closed {
                say!(context, "restarts wait for the window that opens {start}")
            } else {
                say!(context, "{need:#} do not fit into what is left of the window; the next opens {start}")
            };
            by(closed(Opens::At(start), reason), start, "spec.recurrence")
        }
        NextOpening::Never { longest, .. } => {
            let reason = say!(context, "no window is ever open for the {need:#} that a restart takes");
            by(closed(Opens::Never { longest }, reason), now, "spec.duration")
        }
    }
}
