//! The promises, looked at after every step.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    ClientId, UpdateId,
    catalogue::RestartRule,
    state::{ClosedSet as _, Compliance, DeploymentEnforcement, UpdateEnforcement, may_follow},
};

use super::{
    super::{Chance, Machine, Outage, What, World},
    naive,
};
use crate::client::{
    Action, Books, ClientView, Decision, GateKind, GateStatus, InstallBatch, Opens, Said, Words, decide,
    outcome, prepared::Prepared,
};

/// What is remembered of one client from step to step.
#[derive(Default)]
struct Seen {
    decision: Option<(ClientView, u64, SignedDuration, Timestamp, Decision)>,
    /// When the restart that is to come was announced, and for when, by the machine's clock.
    announced: Option<(Timestamp, Timestamp)>,
    /// For when the last restart was announced, whatever became of the agent since: it is not put off by a kill.
    promised: Option<Timestamp>,
    jumped: Option<Timestamp>,
    batches: usize,
    downs: usize,
    books: Books,
    clock: Option<Timestamp>,
}

/// Watches a world.
pub(super) struct Watch {
    chance: Chance,
    log: usize,
    seen: BTreeMap<ClientId, Seen>,
}

/// What is broken.
pub(super) type Broken = String;

macro_rules! hold {
    ($held:expr, $($words:tt)*) => {
        if !$held {
            return Err(format!($($words)*));
        }
    };
}

impl Watch {
    pub(super) fn new(seed: u64) -> Self {
        Self { chance: Chance::new(seed, 77), log: 0, seen: BTreeMap::new() }
    }

    /// After every instant.
    pub(super) fn look(&mut self, world: &World) -> Result<(), Broken> {
        let entries = &world.log[self.log..];
        self.log = world.log.len();
        for entry in entries {
            let Some(client) = entry.client else { continue };
            let Some(machine) = world.machine(client) else { continue };
            let seen = self.seen.entry(client).or_default();
            let clock = machine.clock(entry.at);
            match &entry.what {
                What::Started(Action::Install(batch)) => {
                    seen.batches += 1;
                    hold!(machine.power, "{client} installs while it is off");
                    install(world, client, machine, batch, clock)?;
                }
                // At a person's word it comes after the final warning alone.
                What::Started(Action::Restart { at, .. }) if asked_restart(machine, clock) => {
                    seen.announced = Some((clock, *at));
                    seen.promised = Some(*at);
                }
                What::Started(Action::Restart { at, .. }) => {
                    let countdown = countdown(world, client, machine);
                    hold!(
                        at.duration_since(clock) >= countdown || seen.promised == Some(*at),
                        "{client}: a restart is announced at {clock} for {at}, not {countdown:#} ahead"
                    );
                    seen.announced = Some((clock, *at));
                    seen.promised = Some(*at);
                }
                // One that was announced for later comes when it is asked for.
                What::Person(_) if asked_restart(machine, clock) => {
                    seen.announced = seen.announced.map(|(since, at)| (since, at.min(clock)));
                }
                What::AgentKilled => seen.announced = None,
                What::CalledOff => (seen.announced, seen.promised) = (None, None),
                What::ClockJumped { .. } => seen.jumped = Some(entry.at),
                What::Down { why } => {
                    let announced = seen.announced.take();
                    if *why == Outage::Restart {
                        seen.downs += 1;
                        hold!(
                            announced.is_some_and(|(_, at)| at <= clock),
                            "{client} restarts at {clock}, announced: {announced:?}"
                        );
                        hold!(!machine.is_installing(), "{client} restarts while a transaction runs");
                        restart(world, client, machine, clock)?;
                        hold!(seen.downs <= seen.batches, "{client}: more restarts than batches");
                    }
                }
                _ => {}
            }
        }
        let touched: BTreeSet<ClientId> = entries.iter().filter_map(|entry| entry.client).collect();
        for client in world.clients() {
            self.client(world, client, touched.contains(&client))?;
        }
        // The status of a deployment looks for the next window of each client: dear.
        let counted = self.chance.percent(10).then(|| world.site.objects.deployments.keys());
        for deployment in counted.into_iter().flatten() {
            let Some(numbers) = world.numbers(deployment) else {
                return Err(format!("{deployment} has no numbers"));
            };
            let sum = numbers.compliant + numbers.never_reported + numbers.states.values().sum::<u64>();
            hold!(sum == numbers.targeted, "{deployment}: {sum} of {} are counted", numbers.targeted);
        }
        Ok(())
    }

    fn client(&mut self, world: &World, client: ClientId, touched: bool) -> Result<(), Broken> {
        let Some(machine) = world.machine(client) else { return Ok(()) };
        let seen = self.seen.entry(client).or_default();
        let (Some(decision), Some(policy)) = (world.decision(client), world.policy(client)) else {
            seen.decision = None;
            return Ok(());
        };
        if !machine.is_awake() {
            seen.decision = None;
            return Ok(());
        }
        let clock = machine.clock(world.now);
        leases(client, decision, clock)?;
        if seen.clock.replace(clock).is_some_and(|before| before > clock) {
            seen.books.put_back(clock);
        }
        books(client, &mut seen.books, decision, clock)?;
        let wake = decision.next_wake;
        hold!(
            wake.is_none_or(|wake| wake > clock),
            "{client} sleeps until {wake:?}, which is past at {clock}"
        );
        if let Some((view, number, skew, at, before)) = &seen.decision
            && *view == machine.view
            && *number == policy.number
            && *skew == machine.skew
            && view.running.scan.is_none()
        {
            why_agrees(client, before, decision, *at, clock)?;
        }
        if touched && self.chance.percent(10) {
            without_words(client, policy, machine, clock)?;
        }
        // Nothing may begin, and nothing else be said, before the time at which the client says that it looks again.
        if touched && self.chance.percent(15) {
            let due = world.due(client).map(|due| machine.clock(due));
            let end = [wake, due].into_iter().flatten().min();
            let end = end.unwrap_or(clock + SignedDuration::from_hours(24 * 30));
            let span = u64::try_from(end.duration_since(clock).as_secs()).unwrap_or(0);
            let probe =
                clock + SignedDuration::from_secs(i64::try_from(self.chance.below(span)).unwrap_or(0));
            let again = decide(policy, &machine.view, probe, &machine.zone);
            hold!(
                again.actions.iter().all(|action| matches!(action, Action::Restart { .. })
                    && machine.view.running.restart_at.is_some()),
                "{client} would begin {:?} at {probe}, but sleeps from {clock} until {wake:?}",
                again.actions
            );
            let states = |decision: &Decision| -> Vec<_> {
                decision.updates.values().map(|verdict| (verdict.detection, verdict.state)).collect()
            };
            hold!(
                states(&again) == states(decision),
                "{client} says something else at {probe} than at {clock}, and sleeps until {wake:?}: {:?} {:?}",
                states(decision),
                states(&again)
            );
        }
        if touched || seen.decision.is_none() {
            seen.decision =
                Some((machine.view.clone(), policy.number, machine.skew, clock, decision.clone()));
        }
        Ok(())
    }
}

/// A decision without words says and does the same; of its gates it has the closed ones.
fn without_words(
    client: ClientId,
    policy: &patchtide_model::policy::Policy,
    machine: &Machine,
    clock: Timestamp,
) -> Result<(), Broken> {
    let view = &machine.view;
    let mut told = decide(policy, view, clock, &machine.zone);
    let silenced = |gate: &mut crate::client::Gate| {
        (gate.reason, gate.object, gate.field) = (String::new(), String::new(), String::new());
    };
    told.machine.iter_mut().for_each(silenced);
    for verdict in told.updates.values_mut() {
        verdict.gates.retain(|gate| !gate.is_open());
        verdict.gates.iter_mut().for_each(silenced);
        verdict.lease.iter_mut().for_each(|lease| lease.then.clear());
    }
    for verdict in told.deployments.values_mut() {
        verdict.lease.iter_mut().for_each(|lease| lease.then.clear());
        verdict.evaluation_lease.iter_mut().for_each(|lease| lease.then.clear());
    }
    let prepared = Prepared::new(policy, &machine.zone);
    let silent = outcome(policy, &prepared, view, clock, Words::NONE);
    let silent = silent.into_decision(policy, view.running.install.as_ref());
    hold!(silent == told, "{client} decides otherwise without words at {clock}: {silent:?}, not {told:?}");
    Ok(())
}

/// Promises about a batch that starts: it is due, it is alone where it has to be, a window is open and long enough.
fn install(
    world: &World,
    client: ClientId,
    machine: &Machine,
    batch: &InstallBatch,
    clock: Timestamp,
) -> Result<(), Broken> {
    let Some(policy) = world.policy(client) else { return Err(format!("{client} has no policy")) };
    let body = &policy.body;
    let running = machine.transactions.iter().filter(|(_, end)| end.is_none()).count();
    hold!(running <= 1, "{client}: {running} batches at a time");
    hold!(!batch.updates.is_empty() && !batch.leaves.is_empty(), "{client}: a batch of nothing at {clock}");
    for file in &batch.files {
        hold!(machine.view.present.contains(file), "{client} installs what it does not have at {clock}");
    }
    let alone = |id: &UpdateId| body.updates[id].exclusive;
    let carried =
        |id: &UpdateId| batch.updates.keys().any(|by| body.updates[id].superseded_by.as_ref() == Some(by));
    let own: Vec<&UpdateId> = batch.updates.keys().filter(|id| !carried(id)).collect();
    hold!(
        own.len() == 1 || !own.iter().any(|id| alone(id)),
        "{client}: an exclusive update goes with others: {own:?}"
    );
    let mut outside = true;
    for id in &own {
        let wanting = naive::wanting(policy, id, &machine.zone, clock);
        let postponed = machine.view.people.postponed.is_some_and(|until| until > clock);
        let asked = machine.view.requested.contains(*id) && !postponed;
        let covering = body.updates.iter().any(|(old, update)| {
            update.superseded_by.as_ref() == Some(*id)
                && (!naive::wanting(policy, old, &machine.zone, clock).is_empty())
        });
        let due = !wanting.is_empty()
            || asked
            || covering
            || naive::pulled(policy, &machine.view, id, &machine.zone, clock);
        hold!(due, "{client}: nobody wants {id} at {clock}");
        let active = body
            .deployments
            .iter()
            .any(|d| !d.suspend && d.updates.contains(*id) && naive::available(d, &machine.zone) <= clock);
        hold!(active, "{client}: {id} is suspended or not available at {clock}");
        outside &= wanting.iter().any(|d| d.settings.install_outside_windows);
    }
    let workstation = machine.view.workstation;
    let need = naive::need(policy, own.iter().copied(), workstation, &machine.zone, clock);
    hold!(
        outside || naive::is_open(&body.windows, false, &machine.zone, clock, need),
        "{client} installs {own:?} at {clock}, which needs {need:#}: no window is open for so long"
    );
    Ok(())
}

/// The updates because of which a machine restarts.
fn causes<'a>(world: &'a World, client: ClientId, machine: &'a Machine) -> Vec<&'a UpdateId> {
    let body = &world.policy(client).unwrap().body;
    let calls = machine.view.installed.iter().filter(|(id, record)| {
        record.boot == machine.view.boot
            && record.restart != RestartRule::Never
            && (record.restart == RestartRule::Always || !machine.view.restart_reasons.is_empty())
            && body.updates.contains_key(*id)
    });
    calls.map(|(id, _)| id).collect()
}

fn countdown(world: &World, client: ClientId, machine: &Machine) -> SignedDuration {
    naive::countdown(&world.policy(client).unwrap().body, causes(world, client, machine).into_iter())
}

/// Whether a person's word for a restart counts: for an hour.
fn asked_restart(machine: &Machine, clock: Timestamp) -> bool {
    let asked = machine.view.people.restart_requested;
    asked.is_some_and(|at| clock.duration_since(at) < SignedDuration::from_hours(1))
}

/// Promises about a restart that happens.
fn restart(world: &World, client: ClientId, machine: &Machine, clock: Timestamp) -> Result<(), Broken> {
    let Some(policy) = world.policy(client) else { return Err(format!("{client} has no policy")) };
    let causes = causes(world, client, machine);
    // A person's word opens suppression and the deadline, and restarts for what others need; neither windows nor suspension.
    let asked = asked_restart(machine, clock);
    let others = asked && !machine.view.restart_reasons.is_empty();
    hold!(!causes.is_empty() || others, "{client} restarts at {clock} because of nothing that was deployed");
    let holding =
        || policy.body.deployments.iter().filter(|d| causes.iter().any(|id| d.updates.contains(*id)));
    let suppressed = holding().any(|d| d.settings.suppresses_restart(machine.view.workstation));
    hold!(asked || !suppressed, "{client} restarts at {clock} although that is suppressed");
    let held = !causes.is_empty() && holding().all(|d| d.suspend);
    hold!(!held, "{client} restarts at {clock} because of what is suspended");
    let wanting: Vec<_> =
        causes.iter().flat_map(|id| naive::wanting(policy, id, &machine.zone, clock)).collect();
    hold!(asked || !wanting.is_empty(), "{client} restarts at {clock} before a deadline, or suspended");
    let outside = !asked && wanting.iter().any(|d| d.settings.restart_outside_windows);
    let need = policy.body.settings.restart_turnaround;
    hold!(
        outside || naive::is_open(&policy.body.windows, true, &machine.zone, clock, need),
        "{client} restarts at {clock} outside its windows"
    );
    Ok(())
}

/// No state without a lease, and none older than it, whatever is going on: a scan too.
fn leases(client: ClientId, decision: &Decision, clock: Timestamp) -> Result<(), Broken> {
    for (id, verdict) in &decision.updates {
        let needs = verdict.state.is_some_and(patchtide_model::state::UpdateEnforcement::needs_lease);
        hold!(!needs || verdict.lease.is_some(), "{client}: {id} has no lease: {verdict:?}");
        if let Some(lease) = verdict.lease.as_ref().filter(|_| needs) {
            hold!(lease.by >= clock, "{client}: {id} is {:?} past its lease {}", verdict.state, lease.by);
        }
    }
    for (uid, verdict) in &decision.deployments {
        let needs = verdict.enforcement.is_some_and(DeploymentEnforcement::needs_lease);
        hold!(!needs || verdict.lease.is_some(), "{client}: {uid} has no lease: {verdict:?}");
        let done = verdict.compliance != Some(Compliance::Compliant)
            || matches!(verdict.enforcement, None | Some(DeploymentEnforcement::Installed));
        hold!(done, "{client}: {uid} is compliant and {:?}", verdict.enforcement);
    }
    Ok(())
}

/// The books go on in legal steps, nothing that happened goes unseen, and no state is older than its lease.
fn books(client: ClientId, books: &mut Books, decision: &Decision, clock: Timestamp) -> Result<(), Broken> {
    let before = books.clone();
    let said = books.follow(decision, clock);
    let mut updates: BTreeMap<&UpdateId, UpdateEnforcement> = BTreeMap::new();
    let mut deployments: BTreeMap<&str, DeploymentEnforcement> = BTreeMap::new();
    for said in &said {
        match said {
            Said::Update { update, state, .. } => {
                let known =
                    before.updates.get(update).map_or(UpdateEnforcement::Unknown, |entry| entry.state);
                let last = updates.insert(update, *state);
                let from = last.unwrap_or(known);
                hold!(may_follow(from, *state), "{client}: {update}: {state:?} may not follow {from:?}");
                let unseen = last == Some(UpdateEnforcement::Unknown);
                hold!(!unseen, "{client}: {update}: nobody saw how {known:?} became {state:?}");
            }
            Said::Enforcement { deployment, state, .. } => {
                let known = before.deployments.get(deployment).and_then(|entry| entry.enforcement.as_ref());
                let known = known.map_or(DeploymentEnforcement::Unknown, |entry| entry.state);
                let last = deployments.insert(deployment, *state);
                let from = last.unwrap_or(known);
                hold!(may_follow(from, *state), "{client}: {deployment}: {state:?} may not follow {from:?}");
                let unseen = last == Some(DeploymentEnforcement::Unknown);
                hold!(!unseen, "{client}: {deployment}: nobody saw how {known:?} became {state:?}");
            }
            Said::Evaluation { .. } | Said::Compliance { .. } => {}
        }
    }
    let updates = books.updates.values().map(|entry| (entry.state.needs_lease(), &entry.lease));
    let deployments = books.deployments.values().filter_map(|entry| entry.enforcement.as_ref());
    let deployments = deployments.map(|entry| (entry.state.needs_lease(), &entry.lease));
    for (needs, lease) in updates.chain(deployments) {
        hold!(needs == lease.is_some(), "{client}: {books:?} has no lease at {clock}");
        if let Some(lease) = lease {
            hold!(lease.by > clock, "{client}: a lease ends at {}, and it is {clock}", lease.by);
            let wake = decision.next_wake;
            // One that is reckoned from the decision is the books' own to wake for.
            let woken = lease.rolling || wake.is_some_and(|wake| wake <= lease.by);
            hold!(woken, "{client} sleeps over {lease:?} until {wake:?}");
        }
    }
    Ok(())
}

/// Nothing happened but that time passed: what was closed until later is closed still, and what waited for a time that has
/// come does not wait for it any more.
fn why_agrees(
    client: ClientId,
    before: &Decision,
    now: &Decision,
    then: Timestamp,
    clock: Timestamp,
) -> Result<(), Broken> {
    for (id, verdict) in &before.updates {
        let Some(after) = now.updates.get(id) else { continue };
        for (gate, next) in verdict.gates.iter().zip(&after.gates) {
            if gate.kind != next.kind {
                break;
            }
            let GateStatus::Closed(Opens::At(opens)) = gate.status else { continue };
            if opens > clock {
                // What holds a batch holds nothing once the time is too short for one: then the window says so.
                let another = gate.kind == GateKind::Hold && after.gates.iter().any(|gate| !gate.is_open());
                hold!(
                    !next.is_open() || another,
                    "{client}: {id}: gate {:?} said at {then} that it opens at {opens} ({}), and is open at {clock} ({})",
                    gate.kind,
                    gate.reason,
                    next.reason
                );
            } else {
                hold!(
                    next.status != gate.status,
                    "{client}: {id}: gate {:?} said at {then} that it opens at {opens} ({}), and says so still at {clock}",
                    gate.kind,
                    gate.reason
                );
            }
        }
    }
    Ok(())
}
