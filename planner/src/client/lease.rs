//! By when a state that is not final must move, and what happens then: what is said is what the decision then does.

use jiff::SignedDuration;
use patchtide_model::state::{Detection, SCAN_PATIENCE, UpdateEnforcement};

use super::{
    content,
    context::{Context, Item},
    decide::{Machine, recovery_retry},
    decision::{Action, Lease},
    gate::{Gate, GateKind, GateStatus, Opens},
    limits,
    verdict::overdue,
    words::say,
};

/// The lease of an update in `state`: until its closed gate opens, what runs has to end, or the re-evaluation.
pub(super) fn of_update(
    context: &Context<'_>,
    machine: &Machine<'_>,
    item: &Item<'_>,
    state: UpdateEnforcement,
    gates: &[Gate],
) -> Lease {
    use UpdateEnforcement as E;
    let (view, now) = (context.view, context.now);
    let run_ends = || view.running.install.as_ref().and_then(overdue).filter(|end| *end > now);
    match state {
        E::Installing | E::Started => {
            if let Some(by) = run_ends() {
                return Lease::until(
                    by,
                    say!(context, "reported as failed with RUN-TIME; dpkg is not killed"),
                );
            }
            if state == E::Started {
                return Lease::rolling(
                    now,
                    SCAN_PATIENCE,
                    say!(context, "the batch starts after its scan, or waits for the scan's retry"),
                );
            }
        }
        E::Downloading => {
            let seconds = content::missing_bytes(context, item) / limits::SLOWEST_DOWNLOAD;
            let span = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            let span = span.clamp(SignedDuration::from_hours(1), SignedDuration::from_hours(24 * 365));
            return Lease::rolling(
                now,
                span,
                say!(context, "looked at again; a source that gives less than 1 KiB/s is given up before"),
            );
        }
        E::WaitingForAnother => {
            if let Some(by) = run_ends() {
                return Lease::until(
                    by,
                    say!(context, "the batch that runs is reported as failed, and this is decided anew"),
                );
            }
            if let Some(by) = view.recovery.as_ref().and_then(recovery_retry).filter(|by| *by > now) {
                return Lease::until(by, say!(context, "dpkg is recovered once more"));
            }
        }
        _ => {}
    }
    let waits = if state == E::PendingRestart {
        machine.restart.as_ref().map(|restart| &restart.gate)
    } else {
        gates.iter().find(|gate| !gate.is_open())
    };
    let announced = machine.restart.as_ref().and_then(|restart| match restart.action {
        Some(Action::Restart { at, .. }) => Some(at),
        _ => None,
    });
    if let Some(at) = announced.filter(|at| *at > now)
        && (state == E::PendingRestart
            || item.detection == Detection::Required
                && waits.is_some_and(|gate| gate.kind == GateKind::Restart))
    {
        return Lease::until(at, say!(context, "the machine restarts"));
    }
    match waits.map(|gate| (&gate.status, gate.kind)) {
        Some((GateStatus::Closed(Opens::At(by)), kind)) if *by > now => {
            Lease::until(*by, say!(context, "{}", opened(kind)))
        }
        // Ends with what goes before it, which has a lease of its own.
        Some((GateStatus::Closed(Opens::OnEvent), GateKind::Hold | GateKind::Restart))
            if matches!(state, E::PendingInstallation | E::WaitingForAnother | E::RestartRequiredBefore) =>
        {
            Lease::rolling(
                now,
                limits::LEAST_PATIENCE,
                say!(context, "looked at again, and told what goes before it"),
            )
        }
        _ => at_the_evaluation(context, machine),
    }
}

const fn opened(kind: GateKind) -> &'static str {
    match kind {
        GateKind::Window => "installed in the window that opens then",
        GateKind::Deadline => "installed, when a window is open or none binds it",
        GateKind::Content => "its files are asked for again",
        GateKind::Restart => "the machine restarts, when nothing else keeps it",
        _ => "decided anew",
    }
}

/// The lease of what nothing but an event moves.
fn at_the_evaluation(context: &Context<'_>, machine: &Machine<'_>) -> Lease {
    let by = machine.scans.evaluation;
    if by > context.now {
        return Lease::until(
            by,
            say!(context, "everything is scanned and decided anew at the re-evaluation"),
        );
    }
    of_detection(context, machine)
}

/// The lease of what waits for a scan.
pub(super) fn of_detection(context: &Context<'_>, machine: &Machine<'_>) -> Lease {
    let (view, now) = (context.view, context.now);
    let recovery = view.recovery.as_ref().and_then(recovery_retry);
    match machine.scans.retry_at.max(recovery).filter(|by| *by > now) {
        Some(by) => Lease::until(by, say!(context, "the scan that tells what is installed is tried again")),
        None => Lease::rolling(
            now,
            SCAN_PATIENCE,
            say!(context, "the scan that runs or is due has ended, or is given up and tried again"),
        ),
    }
}
