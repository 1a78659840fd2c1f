//! States to report, leases and the next time to decide.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    Digest,
    state::{
        ClosedSet as _, Compliance, DeploymentEnforcement, Detection, Evaluation, Failure, StateError,
        UpdateEnforcement,
    },
};

use super::{
    batch::{self, Fit},
    content::Content,
    context::{Context, Item, Reach},
    decide::{Machine, recovery_retry},
    decision::{Action, DeploymentVerdict, UpdateVerdict},
    earliest::Earliest,
    gate::{Gate, GateKind, GateStatus, Opens},
    gates, lease, limits,
    outcome::Outcome,
    restarts::calls_for_restart,
    view::RunningInstall,
};

pub(super) fn outcome<'a>(
    context: &Context<'a>,
    machine: &Machine<'a>,
    actions: Vec<Action>,
    wanted: BTreeSet<Digest>,
) -> Outcome {
    let own = context.items.iter().map(|item| update(context, machine, item));
    let mut updates: Vec<UpdateVerdict> = own.collect();
    // What comes with its successor goes through the same states.
    for item in &context.items {
        let Some(successor) = item.covered_by.and_then(|by| updates.get(by)) else { continue };
        let mut verdict = successor.clone();
        verdict.gates = gates::chain(context, machine, item);
        let behind = |gate: &&Gate| !matches!(gate.kind, GateKind::Targeted | GateKind::Applicable);
        verdict.gates.extend(successor.gates.iter().filter(behind).cloned());
        updates.get_mut(item.index).into_iter().for_each(|own| own.clone_from(&verdict));
    }
    let deployments =
        context.deployments.iter().map(|reach| deployment(context, machine, reach, &updates)).collect();
    let mut gates: Vec<Gate> = machine.hold.iter().cloned().collect();
    gates.extend(machine.restart.as_ref().map(|restart| restart.gate.clone()));
    let mut outcome = Outcome {
        actions,
        wanted,
        updates,
        deployments,
        machine: gates,
        repeating: repeats(context),
        ..Outcome::default()
    };
    outcome.next_wake = next_wake(context, machine, &outcome);
    // What only an event opens is looked at again when anything is, at the latest at the re-evaluation.
    let looks = outcome.next_wake.unwrap_or(machine.scans.evaluation);
    let chains = outcome.updates.iter_mut().map(|verdict| &mut verdict.gates);
    for gate in chains.chain(std::iter::once(&mut outcome.machine)).flatten() {
        if gate.status == GateStatus::Closed(Opens::OnEvent) {
            gate.looks = Some(looks);
        }
    }
    outcome
}

pub(super) fn overdue(run: &RunningInstall) -> Option<Timestamp> {
    // dpkg is not ended for it; a single script or hook that takes as long is, by the agent.
    run.since.checked_add(limits::patience(run.batch.expected, limits::LEAST_PATIENCE)).ok()
}

fn update<'a>(context: &Context<'a>, machine: &Machine<'a>, item: &Item<'a>) -> UpdateVerdict {
    if item.covered_by.is_some() {
        return UpdateVerdict {
            detection: item.detection,
            state: None,
            error: None,
            gates: Vec::new(),
            lease: None,
        };
    }
    let gates = gates::chain(context, machine, item);
    let (state, error) = state(context, machine, item);
    let lease = match state {
        Some(state) => state.needs_lease().then(|| lease::of_update(context, machine, item, state, &gates)),
        // What was reported stays for so long.
        None => repeats(context).then(|| lease::of_detection(context, machine)),
    };
    UpdateVerdict { detection: item.detection, state, error, gates, lease }
}

/// Whether detection is repeated: nothing is reported from what may be wrong.
fn repeats(context: &Context<'_>) -> bool {
    context.view.scan.stale.is_some() || context.view.scan.last.is_none()
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
                Some(Failure::RunTime.error(
                    format!(
                        "runs since {}, longer than it may; dpkg is not stopped, a script of a package that hangs is: look at the machine",
                        run.since
                    ),
                )),
            ),
            _ if view.running.checking => plain(E::Started),
            _ => plain(E::Installing),
        };
    }
    // Detection is repeated first. That it cannot be is told, and so is a dpkg that cannot be put right.
    if repeats(context) {
        return undetected(context, item);
    }
    match item.detection {
        Detection::Installed if calls_for_restart(context, item) => plain(E::PendingRestart),
        Detection::Installed if view.unwell.contains_key(item.id) => {
            (Some(E::GeneralFailure), view.unwell.get(item.id).cloned())
        }
        Detection::Installed if item.record.is_some() => plain(E::Installed),
        Detection::Installed | Detection::Unknown | Detection::NotRequired => (None, None),
        Detection::Required => required(context, machine, item),
    }
}

/// What is told although detection is still to be repeated.
fn undetected<'a>(context: &Context<'a>, item: &Item<'a>) -> State {
    use UpdateEnforcement as E;
    let view = context.view;
    if item.detection == Detection::Required
        && item.due.is_some()
        && let Some(error) = unrecovered(context)
    {
        return (Some(E::GeneralFailure), Some(error));
    }
    let fails = view.scan.failure.as_ref().filter(|failure| failure.count >= limits::SCAN_FAILED_AFTER);
    let Some(failure) = fails else { return (None, None) };
    let since = |at: Timestamp| view.scan.last.is_none_or(|last| at > last);
    if let Some(attempt) = item.attempt.filter(|attempt| since(attempt.at)) {
        return (Some(E::InstallFailed), Some(attempt.error.clone()));
    }
    if item.record.is_some_and(|record| since(record.at)) {
        let text = format!(
            "the package system said that it is installed, and that cannot be seen: the scan failed {} times, last: {}",
            failure.count, failure.error.message
        );
        return (Some(E::GeneralFailure), Some(Failure::ScanAfter.error(text)));
    }
    (None, None)
}

/// Why an interrupted dpkg keeps everything from being installed; none: it was not tried yet, or all is well.
fn unrecovered(context: &Context<'_>) -> Option<StateError> {
    context.view.recovery.as_ref().and_then(|recovery| recovery.error.clone())
}

fn required<'a>(context: &Context<'a>, machine: &Machine<'a>, item: &Item<'a>) -> State {
    use UpdateEnforcement as E;
    let view = context.view;
    let plain = |state| (Some(state), None);
    let stock = machine.stock.content(item.index);
    let ready = stock.is_none_or(Content::is_ready);
    if item.place.active.is_empty() {
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
    if let Some(error) = unrecovered(context) {
        return (Some(E::GeneralFailure), Some(error));
    }
    if let Some((doubt, _)) = batch::clock_doubt(context) {
        return (Some(E::PendingInstallation), Some(Failure::Clock.error(doubt)));
    }
    if machine.restart.as_ref().is_some_and(super::restarts::Restart::comes_first) {
        return plain(E::RestartRequiredBefore);
    }
    if context.fell_below(item).is_some() {
        return plain(E::PendingInstallation);
    }
    match gates::fits(context, machine, item) {
        Fit::At(_) | Fit::FreeFrom(_) => return plain(E::WaitingForWindow),
        Fit::Never { longest, .. } => {
            let longest = gates::longest_in_words(longest);
            let text = format!(
                "no maintenance window is long enough: {longest}; make a window longer, or allow installation outside windows"
            );
            return (Some(E::WaitingForWindow), Some(Failure::NeverFits.error(text)));
        }
        Fit::Free | Fit::Now { .. } => {}
    }
    let running = &view.running;
    let locked = view
        .lock
        .as_ref()
        .and_then(|lock| lock.at.checked_add(limits::LOCK_RETRY).ok())
        .is_some_and(|again| again > context.now);
    if running.install.is_some() || running.recovery || view.recovery.is_some() || locked {
        return plain(E::WaitingForAnother);
    }
    if !machine.chosen.contains(&item.index) {
        return plain(E::PendingInstallation);
    }
    match view.scan.failure.as_ref().filter(|_| machine.scans.retry_at.is_some()) {
        None => plain(E::Started),
        Some(failure) => {
            let error = (failure.count >= limits::SCAN_FAILED_AFTER).then(|| {
                Failure::ScanBefore.error(format!(
                    "the scan before the batch failed {} times, last: {}",
                    failure.count, failure.error.message
                ))
            });
            (Some(E::PendingInstallation), error)
        }
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
    updates: &[UpdateVerdict],
) -> DeploymentVerdict {
    let verdicts: Vec<&UpdateVerdict> =
        reach.members.iter().filter_map(|index| updates.get(*index)).collect();
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
    let lease = match enforcement {
        Some(state) => verdict.and_then(|verdict| verdict.lease.clone()).filter(|_| state.needs_lease()),
        None => repeats(context).then(|| lease::of_detection(context, machine)),
    };
    let evaluation_lease = evaluation.needs_lease().then(|| lease::of_detection(context, machine));
    let until = verdict.and_then(|verdict| {
        let gate = if enforcement == Some(DeploymentEnforcement::PendingRestart) {
            machine.restart.as_ref().map(|restart| &restart.gate)
        } else {
            verdict.waits_for()
        };
        match gate.map(|gate| &gate.status) {
            Some(GateStatus::Closed(Opens::At(at))) => Some(*at),
            // A restart that counts down says when it comes.
            Some(GateStatus::Open) if enforcement == Some(DeploymentEnforcement::PendingRestart) => {
                context.view.running.restart_at
            }
            _ => None,
        }
    });
    DeploymentVerdict {
        // Comes with the other names.
        name: String::new(),
        compliance,
        evaluation,
        enforcement,
        until,
        error: verdict.and_then(|verdict| verdict.error.clone()),
        available: reach.available,
        deadline: reach.deadline,
        lease,
        evaluation_lease,
    }
}

/// The earliest instant at which something can change by time alone, or a lease runs out.
fn next_wake(context: &Context<'_>, machine: &Machine<'_>, outcome: &Outcome) -> Option<Timestamp> {
    let gates = outcome.machine.iter().chain(outcome.updates.iter().flat_map(|verdict| &verdict.gates));
    let opening = gates.filter_map(|gate| match gate.status {
        GateStatus::Closed(Opens::At(at)) => Some(at),
        _ => None,
    });
    let view = context.view;
    let mut times = Earliest::after(context.now);
    times.extend(opening);
    times.extend(context.deployments.iter().flat_map(|reach| [reach.available, reach.start]).flatten());
    times.extend(machine.lead);
    times.extend(machine.scans.next);
    times.extend(machine.scans.retry_at);
    times.extend(view.running.install.as_ref().and_then(overdue));
    times.extend(view.recovery.as_ref().and_then(recovery_retry));
    for (index, content) in machine.stock.contents() {
        let Content::Missing(missing) = content else { continue };
        if let Some(item) = context.at(index).filter(|_| missing.awaited > 0) {
            times.extend([batch::arriving_until(context, item)]);
        }
        times.extend(missing.retry.map(|(again, _)| again));
    }
    if let Some(changed) = view.scan.changed {
        times.extend(changed.checked_add(limits::APPROVAL_GRACE).ok());
    }
    times.extend(outcome.actions.iter().filter_map(|action| match action {
        Action::Restart { at, .. } => Some(*at),
        _ => None,
    }));
    let of_updates = outcome.updates.iter().map(|verdict| &verdict.lease);
    let of_deployments =
        outcome.deployments.iter().flat_map(|verdict| [&verdict.lease, &verdict.evaluation_lease]);
    times.extend(of_updates.chain(of_deployments).flatten().map(|lease| lease.by));
    times.extend(last_chances(context, machine));
    times.first
}

/// When what could go in the opening that is there now no longer fits into it: from then on it waits for another.
fn last_chances<'b, 'a: 'b>(
    context: &'b Context<'a>,
    machine: &'b Machine<'a>,
) -> impl Iterator<Item = Timestamp> + 'b {
    context.required().filter(|item| item.due.is_some()).filter_map(|item| {
        let Fit::Now { until: Some(until) } = machine.stock.fit(context, item) else { return None };
        // At that instant it still fits.
        let last = until.checked_sub(machine.stock.need(context, item)).ok()?;
        last.checked_add(SignedDuration::from_nanos(1)).ok()
    })
}
