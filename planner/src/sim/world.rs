//! The world: a site, its machines, and time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, Digest, ObjectName, UpdateId,
    client::{Client, ClientState},
    policy::Policy,
};

use super::{
    behaviour::Happening,
    chance::Chance,
    doing::Surroundings,
    log::{Entry, What},
    machine::{Catalogue, Compare, Doing, Machine, compare_numbers},
    node::{Log, News, Node},
    queue::Queue,
    rest::Beside,
};
use crate::{
    client::{Action, Decision},
    site::{
        SiteInput, SitePlan, compile,
        status::{DeploymentNumbers, ReportedState, StatusInput, deployment_status, windows_of},
    },
};

/// A site with its machines.
#[derive(Debug, Clone)]
pub struct World {
    /// What policy is compiled from; change it, then [`World::publish`].
    pub site: SiteInput,
    /// Now, by the clock that is right.
    pub now: Timestamp,
    /// Everything that happened, in order; empty when nobody asked for it ([`World::quiet`]).
    pub log: Vec<Entry>,
    /// The last plan.
    pub plan: SitePlan,
    /// Nothing is written into the log, and no decision is kept or put into words. What happens is the same.
    pub quiet: bool,
    /// Files that no distribution point has, whatever [`SiteInput::holders`] says.
    pub missing: BTreeSet<Digest>,
    /// How much was done.
    pub tally: Tally,
    pub(super) nodes: Vec<Node>,
    /// One for each of them.
    pub(super) beside: Vec<Beside>,
    pub(super) index: BTreeMap<ClientId, usize>,
    pub(super) compare: Compare,
    pub(super) queue: Queue,
    pub(super) shelf: Arc<Catalogue>,
    pub(super) changed: bool,
}

/// How much was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events of clients: something ended, a time came, a message or a policy arrived on either side.
    pub events: u64,
    /// Decisions of clients.
    pub decisions: u64,
    /// Plans of the site.
    pub plans: u64,
}

/// The world did not come to rest: something is repeated without end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("client {client} does the same again and again at {at}, last: {last:?}")]
pub struct Restless {
    client: ClientId,
    at: Timestamp,
    last: Vec<Action>,
}

/// A client that is looked at more often at one instant turns in circles: a fault of the planner.
const ROUNDS: u32 = 200;

impl World {
    /// A world in which every client has its first policy.
    pub fn new(site: SiteInput, machines: BTreeMap<ClientId, Machine>, now: Timestamp) -> Self {
        Self::with_seed(site, machines, now, 0, compare_numbers)
    }

    /// The same with a seed for what happens by chance, and with another order of versions.
    pub fn with_seed(
        mut site: SiteInput,
        machines: BTreeMap<ClientId, Machine>,
        now: Timestamp,
        seed: u64,
        compare: Compare,
    ) -> Self {
        site.clients = machines
            .iter()
            .map(|(id, machine)| Client {
                id: *id,
                name: machine.name.clone(),
                state: ClientState::Active,
                facts: machine.facts.clone(),
                address: machine.address,
                last_contact: None,
            })
            .map(Into::into)
            .collect();
        let nodes = machines.into_iter().enumerate().map(|(number, (id, mut machine))| {
            machine.chance = Chance::new(seed, number as u64 + 1);
            Node::new(id, machine, now)
        });
        let nodes: Vec<Node> = nodes.collect();
        let index = nodes.iter().enumerate().map(|(index, node)| (node.id, index)).collect();
        let plan = compile(&site);
        let mut world = Self {
            site,
            now,
            log: Vec::new(),
            plan,
            quiet: false,
            missing: BTreeSet::new(),
            tally: Tally::default(),
            beside: vec![Beside::default(); nodes.len()],
            nodes,
            index,
            compare,
            queue: Queue::default(),
            shelf: Arc::default(),
            changed: false,
        };
        world.publish();
        for index in 0..world.nodes.len() {
            world.hint(index);
        }
        world
    }

    fn node(&self, client: ClientId) -> Option<&Node> {
        self.nodes.get(*self.index.get(&client)?)
    }

    /// The clients, in order.
    pub fn clients(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.nodes.iter().map(|node| node.id)
    }

    /// The machines, in order of their clients.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.nodes.iter().map(|node| &node.machine)
    }

    /// The machine of a client.
    pub fn machine(&self, client: ClientId) -> Option<&Machine> {
        self.node(client).map(|node| &node.machine)
    }

    /// The machine of a client, to be changed: it decides anew.
    pub fn machine_mut(&mut self, client: ClientId) -> Option<&mut Machine> {
        let index = *self.index.get(&client)?;
        self.awaken(index);
        self.nodes.get_mut(index)?.touched = true;
        self.queue.push(self.now, u32::try_from(index).unwrap_or(u32::MAX));
        self.nodes.get_mut(index).map(|node| &mut node.machine)
    }

    /// Lets something happen to a client at a time.
    pub fn happens(&mut self, client: ClientId, at: Timestamp, happening: Happening) {
        let Some(index) = self.index.get(&client).copied() else { return };
        if let Some(node) = self.nodes.get_mut(index) {
            node.machine.expect(at, Doing::Happens(happening));
        }
        self.hint(index);
    }

    /// The policy in force at a client.
    pub fn policy(&self, client: ClientId) -> Option<&Policy> {
        self.node(client)?.given.as_ref().map(|given| &given.policy)
    }

    /// The last decision of a client; none: it never made one, it is away, or nobody asked for words
    /// ([`World::quiet`]).
    pub fn decision(&self, client: ClientId) -> Option<&Decision> {
        self.node(client)?.decision.as_ref()
    }

    /// Whether everything that a client has to say was said and heard.
    pub fn is_heard(&self, client: ClientId) -> bool {
        self.node(client).is_some_and(|node| {
            let (said, heard) = (&node.outbox.current, &node.intake.heard);
            let same = |one: bool| node.outbox.waiting() == 0 && one;
            same(
                (said.detection.is_none() || said.detection == heard.detection)
                    && said.updates.iter().all(|(id, said)| heard.updates.get(id) == Some(said))
                    && said.evaluations.iter().all(|(uid, said)| heard.evaluations.get(uid) == Some(said))
                    && said.compliance.iter().all(|(uid, said)| heard.compliance.get(uid) == Some(said))
                    && said.enforcement.iter().all(|(uid, said)| heard.enforcement.get(uid) == Some(said)),
            )
        })
    }

    /// Messages that a client keeps because the site has not acknowledged them.
    pub fn unacknowledged(&self, client: ClientId) -> usize {
        self.node(client).map_or(0, |node| node.outbox.waiting())
    }

    /// The site is away for so long that clients give up the older half of what they have to say.
    pub fn thin_out(&mut self, client: ClientId) {
        if let Some(index) = self.index.get(&client).copied()
            && let Some(node) = self.nodes.get_mut(index)
        {
            node.outbox.thin_out();
        }
    }

    /// Lets time pass until `end`.
    pub fn run_until(&mut self, end: Timestamp) -> Result<(), Restless> {
        while self.step(end)? {}
        self.now = self.now.max(end);
        Ok(())
    }

    /// Lets the next instant before or at `end` pass at which something happens; false when there is none.
    pub fn step(&mut self, end: Timestamp) -> Result<bool, Restless> {
        if self.changed {
            self.publish();
        }
        let Some(at) = self.queue.peek().filter(|at| *at <= end) else { return Ok(false) };
        self.now = self.now.max(at);
        loop {
            while let Some((_, index)) = self.queue.pop(self.now) {
                self.look(index as usize)?;
            }
            if !self.changed {
                return Ok(true);
            }
            self.publish();
        }
    }

    /// Looks at one client: what is due, then, when something changed, a decision.
    fn look(&mut self, index: usize) -> Result<(), Restless> {
        let now = self.now;
        let Some(beside) = self.beside.get_mut(index) else { return Ok(()) };
        beside.queued = None;
        if let Some(rest) = beside.rest.as_mut().filter(|rest| rest.lasts(now)) {
            self.tally.events += u64::from(rest.ask(now));
            let due = rest.due();
            self.enter(index, due);
            return Ok(());
        }
        self.awaken(index);
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        node.rounds = if node.rounds.0 == now { (now, node.rounds.1 + 1) } else { (now, 0) };
        if node.rounds.1 > ROUNDS {
            let last = node.decision.as_ref().map(|decision| decision.actions.clone()).unwrap_or_default();
            return Err(Restless { client: node.id, at: now, last });
        }
        let mut log = Log { entries: &mut self.log, quiet: self.quiet, at: now, client: node.id };
        let around = Surroundings { now, site: &self.site, compare: self.compare, missing: &self.missing };
        let mut news = News::default();
        node.receive(around, &mut self.tally, &mut log, &mut news);
        let midway = node.happen(around, &mut self.tally, &mut log);
        if node.poll <= now {
            self.tally.events += 1;
            node.ask_for_policy(around, &mut log);
        }
        if node.wake.is_some_and(|wake| wake <= now) {
            self.tally.events += 1;
            node.wake = None;
            node.touched = true;
        }
        node.act(around, &mut self.tally, &mut log);
        if let Some(before) = midway {
            node.cut_off(before, now, &mut log);
        }
        node.send(now);
        self.approve(news);
        self.hint(index);
        Ok(())
    }

    /// What the site does with scan reports: required leaves are approved, once and for all.
    fn approve(&mut self, news: News) {
        for found in news.detections {
            for (id, leaves) in found.iter() {
                let known = self.site.required_leaves.get(id);
                if known.is_some_and(|known| leaves.is_subset(known)) {
                    continue;
                }
                self.site.required_leaves.entry(id.clone()).or_default().extend(leaves.iter().cloned());
                self.changed = true;
            }
        }
    }

    /// Enters the next time at which the client has to be looked at.
    pub(super) fn hint(&mut self, index: usize) {
        self.awaken(index);
        let (Some(node), Some(beside)) = (self.nodes.get(index), self.beside.get_mut(index)) else { return };
        beside.rest = node.rest();
        if let Some(due) = beside.due(node) {
            self.enter(index, due.max(self.now));
        }
    }

    fn enter(&mut self, index: usize, due: Timestamp) {
        let Some(beside) = self.beside.get_mut(index) else { return };
        if beside.queued.is_none_or(|queued| due < queued) {
            beside.queued = Some(due);
            self.queue.push(due, u32::try_from(index).unwrap_or(u32::MAX));
        }
    }

    /// The client itself counts again, and knows when it asks next.
    fn awaken(&mut self, index: usize) {
        let rest = self.beside.get_mut(index).and_then(|beside| beside.rest.take());
        if let (Some(rest), Some(node)) = (rest, self.nodes.get_mut(index)) {
            node.poll = rest.poll;
        }
    }

    /// The numbers of a deployment as its status would tell them.
    pub fn numbers(&self, name: &ObjectName) -> Option<DeploymentNumbers> {
        let deployment = self.site.objects.deployments.get(name)?;
        let targeted = self.plan.targets.get(name)?;
        let uid = &deployment.uid;
        let states: Vec<ReportedState> = self
            .nodes
            .iter()
            .filter_map(|node| {
                let heard = &node.intake.heard;
                let (enforcement, compliance) = (heard.enforcement.get(uid), heard.compliance.get(uid));
                (enforcement.is_some() || compliance.is_some()).then(|| ReportedState {
                    client: node.id,
                    enforcement: enforcement.map(|(state, ..)| *state),
                    compliance: compliance.copied(),
                    until: enforcement.and_then(|(_, until, _)| *until),
                    error: enforcement.and_then(|(.., error)| error.clone()),
                    changed_at: node.intake.changed_at.get(uid).copied().unwrap_or(self.now),
                })
            })
            .collect();
        let windows = windows_of(&self.plan, &self.site.clients, targeted);
        Some(deployment_status(&StatusInput {
            deployment,
            targeted,
            states: &states,
            windows: &windows,
            plan: Some(&self.plan),
            clients: &self.site.clients,
            heard: &BTreeMap::new(),
            now: self.now,
        }))
    }

    /// Notes something that was done at the site.
    pub fn note(&mut self, words: impl Into<String>) {
        if !self.quiet {
            self.log.push(Entry { at: self.now, client: None, what: What::Site(words.into()) });
        }
    }

    /// The client with this host name.
    pub fn client(&self, name: &str) -> Option<ClientId> {
        self.nodes.iter().find(|node| node.machine.name == name).map(|node| node.id)
    }

    /// How many clients said that they require an update.
    pub fn required(&self) -> BTreeMap<UpdateId, u64> {
        let mut counts = BTreeMap::new();
        for found in self.nodes.iter().filter_map(|node| node.intake.heard.detection.as_ref()) {
            for id in found.keys() {
                *counts.entry(id.clone()).or_insert(0) += 1;
            }
        }
        counts
    }

    /// When something happens to a client next, or it looks again.
    pub fn due(&self, client: ClientId) -> Option<Timestamp> {
        let index = *self.index.get(&client)?;
        self.beside.get(index)?.due(self.nodes.get(index)?)
    }

    /// Names of the clients.
    pub fn names(&self) -> BTreeSet<&str> {
        self.nodes.iter().map(|node| node.machine.name.as_str()).collect()
    }
}
