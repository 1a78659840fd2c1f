//! What happens to a machine from outside: kills, power cuts, restarts by hand, closed laptops, clocks that jump, people.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{
    behaviour::Happening,
    doing::{Surroundings, after},
    log::{Outage, What},
    machine::{Doing, Machine},
};
use crate::client::{Recovery, Running, StaleReason};

pub(super) fn happens(
    machine: &mut Machine,
    happening: Happening,
    around: Surroundings<'_>,
    tell: &mut dyn FnMut(What),
) {
    let now = around.now;
    match happening {
        Happening::AgentKilled { back } => kill_agent(machine, back, now, tell),
        Happening::AgentKilledMidway { back } => machine.cut = Some(back),
        Happening::PowerCut { back } => down(machine, Outage::Power, back, now, tell),
        Happening::Restarted => down(machine, Outage::Owner, machine.behaviour.restart, now, tell),
        Happening::Suspended => {
            if machine.power && machine.suspended.is_none() {
                machine.suspended = Some(now);
                tell(What::Suspended);
            }
        }
        Happening::Resumed => {
            if let Some(since) = machine.suspended.take() {
                // What was under way stood still.
                let slept = now.duration_since(since);
                for op in machine.ops.iter_mut().filter(|op| op.what.is_work()) {
                    op.at = op.at.checked_add(slept).unwrap_or(Timestamp::MAX);
                }
                tell(What::Resumed);
            }
        }
        Happening::ClockJump { by } => {
            machine.skew = machine.skew.saturating_add(by);
            tell(What::ClockJumped { by });
        }
        Happening::Online(online) => {
            if machine.online != online {
                machine.online = online;
                tell(What::Online(online));
            }
        }
        Happening::InstallNow(updates) => {
            tell(What::Person("asks for the installation now".to_owned()));
            machine.view.requested.extend(updates);
            machine.view.people.postponed = None;
        }
        // Answered with the policy in force, before anything gets here.
        Happening::Asks(_) => {}
        Happening::ScanNow => {
            machine.view.scan_requested = Some(machine.clock(now));
            tell(What::Person("asks for a scan".to_owned()));
        }
        Happening::EvaluateNow => {
            machine.view.evaluation_requested = Some(machine.clock(now));
            tell(What::Person("asks for an evaluation".to_owned()));
        }
        Happening::PackageChanged { package, version } => {
            tell(What::Person(match &version {
                Some(version) => format!("installs {package} {version} by hand"),
                None => format!("removes {package}"),
            }));
            match version {
                Some(version) => drop(machine.packages.insert(package, version)),
                None => drop(machine.packages.remove(&package)),
            }
            if machine.view.scan.stale.is_none() {
                machine.view.scan.stale = Some(StaleReason::PackagesChanged);
            }
        }
        Happening::Behaves(behaviour) => machine.behaviour = *behaviour,
    }
}

/// What runs in the agent's own process ends with it; dpkg, which has one of its own, runs on.
pub(super) fn kill_agent(
    machine: &mut Machine,
    back: SignedDuration,
    now: Timestamp,
    tell: &mut dyn FnMut(What),
) {
    if !machine.power || !machine.agent {
        return;
    }
    machine.agent = false;
    machine.ops.retain(|op| !matches!(op.what, Doing::Scan { .. } | Doing::Download(_)));
    machine.expect(after(now, back), Doing::Agent);
    tell(What::AgentKilled);
}

/// The agent starts: what it had written down is there, and it looks for a transaction.
pub(super) fn start_agent(machine: &mut Machine, now: Timestamp) {
    machine.agent = true;
    let recovering = machine.ops.iter().any(|op| matches!(op.what, Doing::Recovery));
    machine.view.running = Running { recovery: recovering, ..Running::default() };
    machine.view.lock = None;
    machine.take_up_transaction(now);
}

/// The machine goes away. A transaction that runs is cut off.
pub(super) fn down(
    machine: &mut Machine,
    why: Outage,
    back: SignedDuration,
    now: Timestamp,
    tell: &mut dyn FnMut(What),
) {
    if !machine.power {
        return;
    }
    tell(What::Down { why });
    machine.power = false;
    machine.suspended = None;
    machine.cut = None;
    if machine.is_installing()
        && let Some(transaction) = machine.transaction.take()
    {
        // Some of it was done; of the rest dpkg knows that it was not.
        let leaves = u64::try_from(transaction.batch.leaves.len()).unwrap_or(u64::MAX);
        let done = usize::try_from(machine.chance.below(leaves + 1)).unwrap_or(0);
        machine.apply(&transaction.batch, done);
        machine.lost = Some(transaction.batch);
        machine.interrupted = true;
        if let Some((_, end)) = machine.transactions.last_mut() {
            *end = Some(now);
        }
    }
    machine.interrupted |= machine.ops.iter().any(|op| matches!(op.what, Doing::Recovery));
    // What is still to come from outside comes all the same.
    machine.ops.retain(|op| matches!(op.what, Doing::Happens(_)));
    machine.expect(after(now, back), Doing::Up);
}

/// The machine is there again, with another boot.
pub(super) fn up(machine: &mut Machine, now: Timestamp, tell: &mut dyn FnMut(What)) {
    tell(What::Up);
    machine.power = true;
    let boot = Uuid::from_u128(machine.view.boot.as_u128().wrapping_add(1));
    start_agent(machine, now);
    let clock = machine.clock(now);
    if machine.interrupted && machine.view.recovery.is_none() {
        machine.view.recovery = Some(Recovery { since: clock, failures: 0, last: None, error: None });
    }
    machine.view.booted(boot);
}
