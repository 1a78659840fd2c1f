//! A simulator of both halves: the site compiles policies, machines with pretended installers carry out what
//! [`crate::client::decide`] says, time is a value. It answers "what would happen" and holds the planner to its promises.
//!
//! Package versions are whole numbers here; everything else is the real thing.

mod machine;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod worlds;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    ClientId, Digest, ObjectName, UpdateId,
    catalogue::LeafRef,
    client::{Client, ClientState, Facts},
    policy::{POLICY_VERSION, Policy},
};

use crate::{
    client::{Action, Decision, decide},
    site::{
        SiteInput, SitePlan, Verdict, body_digest, compile,
        status::{DeploymentNumbers, ReportedState, StatusInput, deployment_status, windows_of},
    },
};

pub use machine::{Behaviour, Machine};

/// Something that began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// On which client.
    pub client: ClientId,
    /// What.
    pub action: Action,
    /// Under which policy.
    pub policy: u64,
}

/// A site with its machines.
#[derive(Debug, Clone)]
pub struct World {
    /// What policy is compiled from; change it, then [`World::publish`].
    pub site: SiteInput,
    /// The machines.
    pub machines: BTreeMap<ClientId, Machine>,
    /// Now.
    pub now: Timestamp,
    /// Everything that began, in order.
    pub log: Vec<Entry>,
    /// The last plan.
    pub plan: SitePlan,
    policies: BTreeMap<ClientId, (Digest, Policy)>,
    decisions: BTreeMap<ClientId, Decision>,
    reported: BTreeMap<(ClientId, String), ReportedState>,
}

/// The world did not come to rest: a decision is repeated without end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("client {client} acts again and again at {at}, last: {last:?}")]
pub struct Restless {
    client: ClientId,
    at: Timestamp,
    last: Vec<Action>,
}

/// More rounds than this at one instant are a fault of the planner.
const ROUNDS: usize = 100;
/// More instants than this in one run are one, too.
const STEPS: usize = 10_000;

impl World {
    /// A world in which no client has its policy yet.
    pub fn new(mut site: SiteInput, machines: BTreeMap<ClientId, Machine>, now: Timestamp) -> Self {
        site.clients = machines
            .iter()
            .map(|(id, machine)| Client {
                id: *id,
                name: machine.name.clone(),
                state: ClientState::Active,
                facts: Facts::from([("hostname".to_owned(), machine.name.clone())]),
                address: None,
                last_contact: None,
            })
            .collect();
        let plan = compile(&site);
        let mut world = Self {
            site,
            machines,
            now,
            log: Vec::new(),
            plan,
            policies: BTreeMap::new(),
            decisions: BTreeMap::new(),
            reported: BTreeMap::new(),
        };
        world.publish();
        world
    }

    /// Compiles and gives every client its policy at once; one whose body did not change keeps its number.
    pub fn publish(&mut self) {
        self.plan = compile(&self.site);
        for (client, verdict) in &self.plan.policies {
            let Verdict::Policy(body) = verdict else { continue };
            let digest = body_digest(body);
            let known = self.policies.get(client);
            if known.is_some_and(|(known, _)| *known == digest) {
                continue;
            }
            let policy = Policy {
                version: POLICY_VERSION,
                site: self.site.site.clone(),
                client: *client,
                epoch: 1,
                number: known.map_or(0, |(_, policy)| policy.number).saturating_add(1),
                issued_at: self.now,
                body: (**body).clone(),
            };
            self.policies.insert(*client, (digest, policy));
        }
    }

    /// The policy in force at a client.
    pub fn policy(&self, client: ClientId) -> Option<&Policy> {
        self.policies.get(&client).map(|(_, policy)| policy)
    }

    /// The last decision of a client.
    pub fn decision(&self, client: ClientId) -> Option<&Decision> {
        self.decisions.get(&client)
    }

    /// Lets time pass until `end`.
    pub fn run_until(&mut self, end: Timestamp) -> Result<(), Restless> {
        let mut steps = 0_usize;
        loop {
            self.settle()?;
            steps += 1;
            if steps > STEPS {
                return Err(self.restless());
            }
            let wakes = self.decisions.values().filter_map(|decision| decision.next_wake);
            let events = self.machines.values().filter_map(Machine::next_event);
            match wakes.chain(events).min() {
                Some(next) if next <= end => self.now = next.max(self.now),
                _ => {
                    self.now = end;
                    return self.settle();
                }
            }
        }
    }

    fn restless(&self) -> Restless {
        let busiest = self.decisions.iter().min_by_key(|(_, decision)| decision.next_wake);
        Restless {
            client: busiest.map_or(ClientId(uuid::Uuid::nil()), |(client, _)| *client),
            at: self.now,
            last: busiest.map(|(_, decision)| decision.actions.clone()).unwrap_or_default(),
        }
    }

    /// Everything that happens at this instant.
    fn settle(&mut self) -> Result<(), Restless> {
        loop {
            self.let_all_act()?;
            if !self.approve() {
                return Ok(());
            }
        }
    }

    fn let_all_act(&mut self) -> Result<(), Restless> {
        for client in self.machines.keys().copied().collect::<Vec<_>>() {
            for round in 0.. {
                let Some((_, policy)) = self.policies.get(&client) else { break };
                let Some(machine) = self.machines.get_mut(&client) else { break };
                let happened = machine.catch_up(policy, &self.site.updates, self.now);
                if machine.is_down() {
                    self.decisions.remove(&client);
                    break;
                }
                let decision = decide(policy, &machine.view, self.now, &machine.zone);
                let mut started = false;
                for action in &decision.actions {
                    if machine.start(action, self.now) {
                        started = true;
                        self.log.push(Entry {
                            at: self.now,
                            client,
                            action: action.clone(),
                            policy: policy.number,
                        });
                    }
                }
                machine.give_up(&decision);
                self.report(client, &decision);
                let last = decision.actions.clone();
                self.decisions.insert(client, decision);
                if !happened && !started {
                    break;
                }
                if round > ROUNDS {
                    return Err(Restless { client, at: self.now, last });
                }
            }
        }
        Ok(())
    }

    fn report(&mut self, client: ClientId, decision: &Decision) {
        for (uid, verdict) in &decision.deployments {
            let entry = self.reported.entry((client, uid.clone())).or_insert_with(|| ReportedState {
                client,
                enforcement: None,
                compliance: None,
                until: None,
                error: None,
                changed_at: self.now,
            });
            if verdict.enforcement.is_some() && entry.enforcement != verdict.enforcement {
                entry.enforcement = verdict.enforcement;
                entry.changed_at = self.now;
            }
            if verdict.compliance.is_some() {
                entry.compliance = verdict.compliance;
                entry.until = verdict.until;
                entry.error.clone_from(&verdict.error);
            }
        }
    }

    /// What the site does with scan reports: required leaves are approved, once and for all. True when there were new ones.
    fn approve(&mut self) -> bool {
        let mut leaves: BTreeMap<UpdateId, BTreeSet<LeafRef>> = self.site.required_leaves.clone();
        for machine in self.machines.values() {
            for (id, found) in &machine.view.detected {
                leaves.entry(id.clone()).or_default().extend(found.leaves.iter().cloned());
            }
        }
        leaves.retain(|_, leaves| !leaves.is_empty());
        let new = leaves != self.site.required_leaves;
        if new {
            self.site.required_leaves = leaves;
            self.publish();
        }
        new
    }

    /// The numbers of a deployment as its status would tell them.
    pub fn numbers(&self, name: &ObjectName) -> Option<DeploymentNumbers> {
        let deployment = self.site.objects.deployments.get(name)?;
        let targeted = self.plan.targets.get(name)?;
        let states: Vec<ReportedState> = self
            .reported
            .iter()
            .filter(|((_, uid), _)| *uid == deployment.uid)
            .map(|(_, state)| state.clone())
            .collect();
        let windows = windows_of(&self.plan, &self.site.clients, targeted);
        Some(deployment_status(&StatusInput {
            deployment,
            targeted,
            states: &states,
            windows: &windows,
            now: self.now,
        }))
    }
}

/// How long something takes.
fn after(now: Timestamp, duration: SignedDuration) -> Timestamp {
    now.checked_add(duration.max(SignedDuration::from_secs(1))).unwrap_or(Timestamp::MAX)
}
