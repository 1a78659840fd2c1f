//! States to report, leases and the next time to decide.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::{
    Digest, UpdateId,
    state::{Compliance, DeploymentEnforcement, Detection, Evaluation, StateError, UpdateEnforcement},
};

use super::{
    batch::{self, Fit},
    content::Content,
    context::{Context, Item, Reach},
    decide::{Machine, recovery_retry},
    decision::{
        Action, Decision, DeploymentVerdict, Gate, GateKind, GateStatus, Lease, Opens, UpdateVerdict,
    },
    gates, limits,
    restarts::calls_for_restart,
    view::RunningInstall,
};

/// No window is ever long enough (domain.md 8.1, 1.7).
const WINDOW_NEVER: u32 = 0x87D0_0667;
/// The maximum run time is over (domain.md 8.1).
const RUN_TIME: u32 = 0x87D0_0664;

pub(super) fn decision<'a>(
    context: &Context<'a>,
    machine: &Machine<'a>,
    actions: Vec<Action>,
    wanted: BTreeSet<Digest>,
) -> Decision {
    let mut updates: BTreeMap<UpdateId, UpdateVerdict> = BTreeMap::new();
    for item in context.items.values().filter(|item| item.covered_by.is_none()) {
        updates.insert(item.id.clone(), update(context, machine, item));
    }
    // What comes with its successor goes through the same states.
    for item in context.items.values() {
        let Some(successor) = item.covered_by.and_then(|by| updates.get(by)) else { continue };
        let mut verdict = successor.clone();
        verdict.gates = gates::chain(context, machine, item);
        verdict.gates.extend(successor.gates.iter().skip(2).cloned());
        updates.insert(item.id.clone(), verdict);
    }
    let deployments = context
        .deployments
        .iter()
        .map(|reach| (reach.policy.uid.clone(), deployment(context, machine, reach, &updates)))
        .collect();
    let mut gates: Vec<Gate> = machine.hold.iter().cloned().collect();
    gates.extend(machine.restart.as_ref().map(|restart| restart.gate.clone()));
    let mut decision =
        Decision { actions, wanted, updates, deployments, machine: gates, ..Decision::default() };
    decision.next_wake = next_wake(context, machine, &decision);
    // What only an event opens is looked at again when anything is, at the latest at the re-evaluation.
    let looks = decision.next_wake.unwrap_or(machine.scans.evaluation);
    let chains = decision.updates.values_mut().map(|verdict| &mut verdict.gates);
    for gate in chains.chain(std::iter::once(&mut decision.machine)).flatten() {
        if gate.status == GateStatus::Closed(Opens::OnEvent) {
            gate.looks = Some(looks);
        }
    }
    decision
}

fn error(code: u32, symbol: &str, message: String) -> StateError {
    StateError { code, symbol: symbol.to_owned(), message }
}

fn overdue(run: &RunningInstall) -> Option<Timestamp> {
    // dpkg is not ended for it; a single script or hook that takes as long is, by the agent.
    run.since.checked_add(limits::patience(run.batch.expected, limits::LEAST_PATIENCE)).ok()
}

fn update<'a>(context: &Context<'a>, machine: &Machine<'a>, item: &Item<'a>) -> UpdateVerdict {
    let gates = gates::chain(context, machine, item);
    let (state, error) = state(context, machine, item);
    let lease =
        state.filter(|state| !state.is_final()).map(|state| lease(context, machine, item, state, &gates));
    UpdateVerdict { detection: item.detection, state, error, gates, lease }
}

type State = (Option<UpdateEnforcement>, Option<StateError>);

fn state<'a>(context: &Context<'a>, machine: &Machine<'a>, item: &Item<'a>) -> State {
    use UpdateEnforcement as E;
    let plain = |state| (Some(state), None);
    let view = context.view;
    if let Some(run) = view.running.install.as_ref().filter(|run| run.batch.updates.contains_key(item.id)) {
        return match overdue(run) {
            Some(end) if end <= context.now => (
                Some(E::InstallFailed),
                Some(error(
                    RUN_TIME,
                    "RUN-TIME",
                    format!(
                        "runs since {}, longer than it may; dpkg is not stopped, a script of a package that hangs is: look at the machine",
                        run.since
                    ),
                )),
            ),
            _ => plain(E::Installing),
        };
    }
    // Nothing is reported from what may be wrong: detection is repeated first.
    if view.scan.stale.is_some() || view.scan.last.is_none() {
        return (None, None);
    }
    match item.detection {
        Detection::Installed if calls_for_restart(context, item) => plain(E::PendingRestart),
        Detection::Installed if view.unwell.contains_key(item.id) => {
            (Some(E::GeneralFailure), view.unwell.get(item.id).cloned())
        }
        Detection::Installed if view.installed.contains_key(item.id) => plain(E::Installed),
        Detection::Installed | Detection::Unknown | Detection::NotRequired => (None, None),
        Detection::Required => required(context, machine, item),
    }
}

fn required<'a>(context: &Context<'a>, machine: &Machine<'a>, item: &Item<'a>) -> State {
    use UpdateEnforcement as E;
    let plain = |state| (Some(state), None);
    let stock = machine.stock.content.get(item.id);
    let ready = stock.is_none_or(Content::is_ready);
    if item.active.is_empty() {
        return if ready { plain(E::Downloaded) } else { (None, None) };
    }
    if !context.is_available(item) {
        return (None, None);
    }
    if let Some((_, attempt)) = context.backing_off(item) {
        return (Some(E::InstallFailed), Some(attempt.error.clone()));
    }
    match stock {
        Some(Content::Unapproved(_)) if context.is_wanted(item) => return plain(E::WaitingForContent),
        Some(Content::Missing(missing)) if context.is_wanted(item) => {
            if missing.running > 0 || !missing.fetch.is_empty() {
                return plain(E::Downloading);
            }
            let failed = missing.retry.filter(|(_, problem)| {
                !problem.not_offered && problem.count >= limits::DOWNLOAD_FAILED_AFTER
            });
            return match failed {
                Some((_, problem)) => (Some(E::DownloadFailed), Some(problem.error.clone())),
                None => plain(E::WaitingForContent),
            };
        }
        Some(Content::Unapproved(_) | Content::Missing(_)) => return (None, None),
        None | Some(Content::Ready) => {}
    }
    if item.due.is_none() {
        return plain(E::Downloaded);
    }
    if machine.restart.as_ref().is_some_and(super::restarts::Restart::comes_first) {
        return plain(E::RestartRequiredBefore);
    }
    if context.fell_below(item).is_some() {
        return plain(E::PendingInstallation);
    }
    match gates::fits(context, machine, item) {
        Fit::At(_) => return plain(E::WaitingForWindow),
        Fit::Never { longest } => {
            let longest = longest.map_or_else(
                || "none ever opens".to_owned(),
                |span| format!("the longest is {:#}", span.length()),
            );
            let text = format!(
                "no maintenance window is long enough: {longest}; make a window longer, or allow installation outside windows"
            );
            return (Some(E::WaitingForWindow), Some(error(WINDOW_NEVER, "WINDOW-NEVER-FITS", text)));
        }
        Fit::Free | Fit::Now { .. } => {}
    }
    let running = &context.view.running;
    let locked = context
        .view
        .lock
        .as_ref()
        .and_then(|lock| lock.at.checked_add(limits::LOCK_RETRY).ok())
        .is_some_and(|again| again > context.now);
    if running.install.is_some() || running.recovery || context.view.recovery.is_some() || locked {
        return plain(E::WaitingForAnother);
    }
    plain(if machine.chosen.contains(item.id) { E::Started } else { E::PendingInstallation })
}

/// By when a state that is not final must move: when its first closed gate opens, or at the next re-evaluation.
fn lease(
    context: &Context<'_>,
    machine: &Machine<'_>,
    item: &Item<'_>,
    state: UpdateEnforcement,
    gates: &[Gate],
) -> Lease {
    let fallback = || Lease {
        by: machine.scans.evaluation,
        then: "everything is scanned and decided anew at the re-evaluation".to_owned(),
    };
    if state == UpdateEnforcement::Installing {
        let end = context.view.running.install.as_ref().and_then(overdue);
        return end.map_or_else(fallback, |by| Lease {
            by,
            then: "reported as failed with RUN-TIME; dpkg is not killed".to_owned(),
        });
    }
    let waits = if state == UpdateEnforcement::PendingRestart {
        machine.restart.as_ref().map(|restart| &restart.gate)
    } else {
        gates.iter().find(|gate| !gate.is_open())
    };
    if item.detection == Detection::Required
        && let Some(Action::Restart { at, .. }) = machine.restart.as_ref().and_then(|r| r.action.as_ref())
        && waits.is_some_and(|gate| gate.kind == GateKind::Restart)
    {
        return Lease { by: *at, then: "the machine restarts".to_owned() };
    }
    match waits.map(|gate| &gate.status) {
        Some(GateStatus::Closed(Opens::At(by))) => Lease { by: *by, then: "decided anew".to_owned() },
        _ => fallback(),
    }
}

/// How early a state comes in the order in which they speak for a deployment: what is going on, then what failed, then
/// what it waits for.
fn rank(state: UpdateEnforcement) -> (u8, DeploymentEnforcement) {
    use DeploymentEnforcement as D;
    use UpdateEnforcement as E;
    match state {
        E::Installing | E::Started => (0, D::Installing),
        E::InstallFailed | E::GeneralFailure => (1, D::InstallFailed),
        E::DownloadFailed => (2, D::DownloadFailed),
        E::PendingRestart => (3, D::PendingRestart),
        E::RestartRequiredBefore => (4, D::WaitingForRestart),
        E::WaitingForAnother | E::PendingInstallation => (5, D::WaitingForAnother),
        E::WaitingForWindow => (6, D::WaitingForWindow),
        E::Downloading | E::WaitingForContent => (7, D::Downloading),
        E::Downloaded => (8, D::Downloaded),
        E::Installed => (9, D::Installed),
        E::Unknown => (10, D::Unknown),
    }
}

fn deployment<'a>(
    context: &Context<'a>,
    machine: &Machine<'a>,
    reach: &Reach<'a>,
    updates: &BTreeMap<UpdateId, UpdateVerdict>,
) -> DeploymentVerdict {
    let verdicts: Vec<&UpdateVerdict> =
        reach.policy.updates.iter().filter_map(|id| updates.get(id)).collect();
    let any = |detection| verdicts.iter().any(|verdict| verdict.detection == detection);
    let restarting = verdicts.iter().any(|verdict| verdict.state == Some(UpdateEnforcement::PendingRestart));
    let repeating = context.view.scan.stale.is_some();
    let compliance = if repeating {
        None
    } else if any(Detection::Required) || restarting {
        Some(Compliance::NonCompliant)
    } else if any(Detection::Unknown) || context.view.scan.last.is_none() {
        Some(Compliance::Unknown)
    } else {
        Some(Compliance::Compliant)
    };
    let evaluation = if !reach.is_available(context.now) {
        Evaluation::Unknown
    } else if compliance.is_some_and(|compliance| compliance != Compliance::Unknown) {
        Evaluation::Succeeded
    } else if context.view.scan.failure.is_some() {
        Evaluation::Failed
    } else {
        Evaluation::Activated
    };

    let speaking = verdicts
        .iter()
        .filter(|verdict| verdict.detection == Detection::Required || verdict.state.is_some())
        .filter_map(|verdict| verdict.state.map(|state| (rank(state), *verdict)))
        .min_by_key(|((rank, _), _)| *rank);
    let (enforcement, verdict) = match speaking {
        Some(((_, enforcement), verdict)) => (Some(enforcement), Some(verdict)),
        None if compliance == Some(Compliance::Compliant) && any(Detection::Installed) => {
            (Some(DeploymentEnforcement::Installed), None)
        }
        None => (None, None),
    };
    // Everything is there, but by another hand or long ago: nothing is left to do.
    let done = enforcement == Some(DeploymentEnforcement::Installed);
    let enforcement =
        if done && any(Detection::Required) { Some(DeploymentEnforcement::Unknown) } else { enforcement };
    let lease = verdict
        .and_then(|verdict| verdict.lease.clone())
        .filter(|_| enforcement.is_some_and(|state| !state.is_final()));
    let until = verdict.and_then(|verdict| {
        let gate = if enforcement == Some(DeploymentEnforcement::PendingRestart) {
            machine.restart.as_ref().map(|restart| &restart.gate)
        } else {
            verdict.waits_for()
        };
        match gate.map(|gate| &gate.status) {
            Some(GateStatus::Closed(Opens::At(at))) => Some(*at),
            _ => None,
        }
    });
    DeploymentVerdict {
        name: reach.policy.name.clone(),
        compliance,
        evaluation,
        enforcement,
        until,
        error: verdict.and_then(|verdict| verdict.error.clone()),
        available: reach.available,
        deadline: reach.deadline,
        lease,
    }
}

/// The earliest instant at which something can change by time alone.
fn next_wake(context: &Context<'_>, machine: &Machine<'_>, decision: &Decision) -> Option<Timestamp> {
    let gates = decision.machine.iter().chain(decision.updates.values().flat_map(|verdict| &verdict.gates));
    let opening = gates.filter_map(|gate| match gate.status {
        GateStatus::Closed(Opens::At(at)) => Some(at),
        _ => None,
    });
    let view = context.view;
    let mut times: Vec<Timestamp> = opening.collect();
    times.extend(context.deployments.iter().flat_map(|reach| [reach.available, reach.start]).flatten());
    times.extend(machine.lead);
    times.extend(machine.scans.next);
    times.extend(machine.scans.retry_at);
    times.extend(view.running.install.as_ref().and_then(overdue));
    times.extend(view.recovery.as_ref().and_then(recovery_retry));
    times.extend(machine.stock.content.iter().filter_map(|(id, content)| match content {
        Content::Missing(missing) if missing.awaited > 0 => {
            context.items.get(*id).map(|item| batch::arriving_until(context, item))
        }
        _ => None,
    }));
    times.extend(machine.stock.content.values().filter_map(|content| match content {
        Content::Missing(missing) => missing.retry.map(|(again, _)| again),
        _ => None,
    }));
    if let Some(changed) = view.scan.changed {
        times.extend(changed.checked_add(limits::APPROVAL_GRACE).ok());
    }
    times.extend(decision.actions.iter().filter_map(|action| match action {
        Action::Restart { at, .. } => Some(*at),
        _ => None,
    }));
    times.into_iter().filter(|at| *at > context.now).min()
}
