//! Is a restart needed because of what was installed, and may it happen (domain.md 4.3, R-RST).

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    catalogue::RestartRule,
    window::{NextOpening, Openness},
};

use super::{
    context::{Context, Item, Reach},
    decision::{Action, Event, Gate, GateKind, GateStatus, Holder, Opens},
    merging::Say,
    view::{RestartReason, StaleReason},
};

/// A restart that is needed.
pub(super) struct Restart<'a> {
    /// Updates that call for it.
    pub causes: Vec<&'a patchtide_model::UpdateId>,
    /// Whether and when it may happen.
    pub gate: Gate,
    /// To be named as action.
    pub action: Option<Action>,
}

impl Restart<'_> {
    /// Whether it comes before anything else is installed: only one that is counting down does. One that waits or is
    /// suppressed does not keep later updates out; apt needs no restart between transactions.
    pub(super) const fn comes_first(&self) -> bool {
        self.action.is_some()
    }

    /// It waits for this many updates that still fit before it.
    pub(super) fn put_off(&mut self, updates: usize) {
        self.action = None;
        let reason = "the next update fits before it: one restart for all";
        self.gate = Gate::waiting(GateKind::Restart, Event::TransactionEnds, reason)
            .held_by(Holder::Batch { updates });
    }
}

/// Whether an update installed in this boot asks for a restart.
pub(super) fn calls_for_restart(context: &Context<'_>, item: &Item<'_>) -> bool {
    context.view.installed.get(item.id).is_some_and(|record| {
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
        context.items.values().filter(|item| calls_for_restart(context, item)).collect();
    if items.is_empty() {
        return None;
    }
    let causes = items.iter().map(|item| item.id).collect();
    let gate = permission(context, &items);
    if !gate.is_open() {
        return Some(Restart { causes, gate, action: None });
    }
    let at = context
        .view
        .running
        .restart_at
        .or_else(|| context.now.checked_add(context.countdown(&items)).ok())?;
    let because = items
        .iter()
        .map(|item| item.id.to_string())
        .chain(context.view.restart_reasons.iter().map(words))
        .collect();
    Some(Restart { causes, gate, action: Some(Action::Restart { at, because }) })
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

fn gate(status: GateStatus, object: String, field: &str, reason: String) -> Gate {
    Gate::new(GateKind::Restart, status, reason).by(object, field)
}

fn open(object: String, field: &str, reason: &str) -> Gate {
    gate(GateStatus::Open, object, field, reason.to_owned())
}

fn closed(opens: Opens, object: String, field: &str, reason: String) -> Gate {
    gate(GateStatus::Closed(opens), object, field, reason)
}

fn waiting(event: Event, object: String, field: &str, reason: &str) -> Gate {
    Gate::waiting(GateKind::Restart, event, reason).by(object, field)
}

/// The gate of a restart that is needed.
fn permission<'a>(context: &Context<'a>, items: &[&Item<'a>]) -> Gate {
    let (view, now) = (context.view, context.now);
    let all: Vec<&Reach<'_>> = items.iter().flat_map(|item| context.reaching(item)).collect();
    if let Some(reach) = all.iter().find(|reach| context.suppresses_restart(reach)) {
        let field = if view.workstation { "suppressWorkstations" } else { "suppressServers" };
        return waiting(
            Event::Restart,
            reach.object(),
            &format!("spec.settings.restart.{field}"),
            "restarts of this kind of machine are suppressed: it stays pending until somebody restarts the machine",
        );
    }
    let active: Vec<&&Reach<'_>> = all.iter().filter(|reach| !reach.policy.suspend).collect();
    if active.is_empty() {
        let object = all.first().map(|reach| reach.object()).unwrap_or_default();
        return waiting(Event::Policy, object, "spec.suspend", "the deployment is suspended");
    }
    if super::batch::clock_is_wrong(context) {
        return closed(
            Opens::At(context.policy.issued_at),
            String::new(),
            "",
            "CLOCK-UNTRUSTED: the machine's clock is behind the policy".to_owned(),
        );
    }
    if view.running.install.is_some() || view.running.recovery {
        let reason = "a transaction runs; dpkg is never killed";
        return waiting(Event::TransactionEnds, String::new(), "", reason);
    }
    let undetected = matches!(view.scan.stale, Some(StaleReason::Installed | StaleReason::Recovered));
    if undetected && view.scan.failure.as_ref().is_none_or(|failure| failure.count < 3) {
        return waiting(Event::Scan, String::new(), "", "what was installed is detected again first");
    }
    let start = active.iter().filter_map(|reach| reach.start).min();
    if start.is_none_or(|start| start > now) {
        let object = active.first().map(|reach| reach.object()).unwrap_or_default();
        let reason = "installed before the deadline: the restart is left to people until then";
        let field = "spec.settings.deadline";
        return match start {
            Some(start) => closed(Opens::At(start), object, field, reason.to_owned()),
            None => waiting(Event::Restart, object, field, reason),
        };
    }
    match context.restart_outside(items) {
        Say::Allowed(reach) => {
            open(reach.object(), "spec.settings.restart.outsideWindows", "needs no window")
        }
        Say::Refused { by, against: Some(against) } => {
            let mut gate = in_window(context, items);
            if !gate.is_open() {
                let keeps =
                    format!("; {} keeps it to windows, though {} does not", by.object(), against.object());
                gate.reason.push_str(&keeps);
            }
            gate
        }
        Say::Refused { .. } | Say::Nobody => in_window(context, items),
    }
}

/// The windows' word.
fn in_window<'a>(context: &Context<'a>, items: &[&Item<'a>]) -> Gate {
    let (view, now) = (context.view, context.now);
    if context.restarts.is_free() {
        return open(String::new(), "", "no maintenance window selects this client");
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
    let need = view.running.restart_at.map_or_else(
        || context.restart_time(items),
        |at| {
            at.duration_since(now)
                .max(SignedDuration::ZERO)
                .saturating_add(context.body.settings.restart_turnaround)
        },
    );
    match context.restarts.next_opening(now, need) {
        NextOpening::Now { .. } => open(name(now), "spec", "the window is open and long enough"),
        NextOpening::At(span) => closed(
            Opens::At(span.start),
            name(span.start),
            "spec.recurrence",
            if context.restarts.is_open(now) == Openness::Closed {
                format!("restarts wait for the window that opens {}", span.start)
            } else {
                format!("{need:#} do not fit into what is left of the window; the next opens {}", span.start)
            },
        ),
        NextOpening::Never { longest, .. } => closed(
            Opens::Never { longest },
            name(now),
            "spec.duration",
            format!("no window is ever open for the {need:#} that a restart takes"),
        ),
    }
}
