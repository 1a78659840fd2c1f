//! Objects and clients -> one policy body per client: at once, or from one change to the next.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use patchtide_model::{
    ClientId, Digest, ObjectName, UpdateId, catalogue::Update, client::Client, object::SiteObjects,
    policy::PolicyBody, shared::Shared,
};

use super::{
    SiteInput, SitePlan, Verdict,
    engine::{Dirty, Engine},
};

/// Compiles the policy of every active client. A client whose restrictions are not understood gets no new policy:
/// its verdict is [`Verdict::Withheld`], and what it has stays in force.
pub fn compile(input: &SiteInput) -> SitePlan {
    Engine::full(input).plan
}

/// The digest that says whether a body is a new policy.
pub fn body_digest(body: &PolicyBody) -> Digest {
    body.digest()
}

impl Engine {
    fn full(input: &SiteInput) -> Self {
        let objects = &input.objects;
        let dirty = Dirty {
            collections: objects.collections.keys().cloned().collect(),
            windows: objects.windows.keys().cloned().collect(),
            deployments: objects.deployments.keys().cloned().collect(),
            settings: objects.client_settings.keys().cloned().collect(),
            updates: BTreeSet::new(),
            points: true,
            lines: true,
            dependencies: true,
            holders: true,
        };
        let mut clients: Vec<(ClientId, Option<&Client>)> =
            input.clients.iter().map(|client| (client.id, Some(&**client))).collect();
        // In this order the plan's sets are written from front to end.
        clients.sort_by_key(|(id, _)| *id);
        let mut engine = Self::default();
        engine.run(input, &dirty, &clients);
        engine
    }
}

/// A compiler that remembers: after a change it computes what the change touches. Its plan is always the one that
/// [`compile`] makes of its input.
#[derive(Debug)]
pub struct Compiler {
    input: SiteInput,
    /// Where each client is in the input.
    places: HashMap<ClientId, usize>,
    engine: Engine,
}

/// What became other in a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Clients with another verdict, with a first one, or with none any more.
    pub verdicts: BTreeSet<ClientId>,
    /// Collections with other members, new ones and those that are gone.
    pub collections: BTreeSet<ObjectName>,
    /// Deployments that reach others than before, new ones and those that are gone.
    pub deployments: BTreeSet<ObjectName>,
}

/// What is other than in the input that a [`Compiler`] has. The parts are small when the change is.
#[derive(Debug, Default)]
pub struct Changes {
    /// All objects as they are now; they are compared one by one. None: they are as they were.
    pub objects: Option<SiteObjects>,
    /// Clients as they are now; none: gone. When a client was last heard of is nobody's concern here.
    pub clients: BTreeMap<ClientId, Option<Shared<Client>>>,
    /// Updates as they are now; none: nobody names or knows them any more.
    pub updates: BTreeMap<UpdateId, Option<Update>>,
    /// Required leaves as they are now, per update.
    pub required_leaves: BTreeMap<UpdateId, RequiredLeaves>,
    /// Lines as they are now.
    pub lines: Option<Vec<patchtide_model::policy::LinePolicy>>,
    /// New dependencies as they are now.
    pub dependencies: Option<Vec<patchtide_model::catalogue::Leaf>>,
    /// Who has which file now.
    pub holders: Option<Holders>,
}

/// Leaves that clients require of an update; none: there is no entry.
pub type RequiredLeaves = Option<BTreeSet<patchtide_model::catalogue::LeafRef>>;
/// [`SiteInput::holders`].
pub type Holders = Option<BTreeMap<Digest, BTreeSet<ObjectName>>>;

impl Changes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.is_clients_only() && self.clients.is_empty()
    }

    /// Whether nothing but clients changed.
    pub fn is_clients_only(&self) -> bool {
        self.objects.is_none()
            && self.updates.is_empty()
            && self.required_leaves.is_empty()
            && self.lines.is_none()
            && self.dependencies.is_none()
            && self.holders.is_none()
    }

    /// What leads from `old` to `new`. Reads both as a whole. When clients were last heard of is not compared: no policy
    /// depends on it.
    pub fn between(old: &SiteInput, new: SiteInput) -> Self {
        let by_id: HashMap<ClientId, &Shared<Client>> =
            old.clients.iter().map(|client| (client.id, client)).collect();
        let mut gone: BTreeSet<ClientId> = by_id.keys().copied().collect();
        let mut clients = BTreeMap::new();
        for client in new.clients {
            gone.remove(&client.id);
            let same = |known: &&Shared<Client>| known.is(&client) || known.is_same_but_for_contact(&client);
            if !by_id.get(&client.id).is_some_and(same) {
                clients.insert(client.id, Some(client));
            }
        }
        clients.extend(gone.into_iter().map(|id| (id, None)));
        Self { clients, ..Self::beside_clients(old, SiteInput { clients: Vec::new(), ..new }) }
    }

    fn beside_clients(old: &SiteInput, new: SiteInput) -> Self {
        Self {
            objects: (old.objects != new.objects).then_some(new.objects),
            clients: BTreeMap::new(),
            updates: differing(&old.updates, new.updates),
            required_leaves: differing(&old.required_leaves, new.required_leaves),
            lines: (old.lines != new.lines).then_some(new.lines),
            dependencies: (old.dependencies != new.dependencies).then_some(new.dependencies),
            holders: (old.holders != new.holders).then_some(new.holders),
        }
    }
}

impl Compiler {
    /// Compiles everything once.
    pub fn new(input: SiteInput) -> Self {
        let engine = Engine::full(&input);
        let places = input.clients.iter().enumerate().map(|(at, client)| (client.id, at)).collect();
        Self { input, places, engine }
    }

    /// What the plan is compiled from. Clients are in any order.
    pub const fn input(&self) -> &SiteInput {
        &self.input
    }

    /// The plan.
    pub const fn plan(&self) -> &SitePlan {
        &self.engine.plan
    }

    /// The plan alone.
    pub(crate) fn into_plan(self) -> SitePlan {
        self.engine.plan
    }

    /// What leads to `new`, which has no clients but those that may be other than they are here; none goes.
    pub fn changes_to(&self, mut new: SiteInput) -> Changes {
        let may_differ = std::mem::take(&mut new.clients);
        let differs = |client: &Shared<Client>| {
            !self.client(client.id).is_some_and(|known| known.is_same_but_for_contact(client))
        };
        let clients = may_differ.into_iter().filter(differs).map(|client| (client.id, Some(client)));
        Changes { clients: clients.collect(), ..Changes::beside_clients(&self.input, new) }
    }

    /// A client, as it is in the input.
    pub fn client(&self, id: ClientId) -> Option<&Client> {
        self.input.clients.get(*self.places.get(&id)?).map(|client| &**client)
    }

    /// Takes over changes, in time proportional to the clients whose policy, collections or deployments they touch.
    pub fn apply(&mut self, changes: Changes) -> Delta {
        let mut dirty = Dirty {
            updates: changes.updates.keys().chain(changes.required_leaves.keys()).cloned().collect(),
            lines: changes.lines.is_some(),
            dependencies: changes.dependencies.is_some(),
            holders: changes.holders.is_some(),
            ..Dirty::default()
        };
        if let Some(objects) = changes.objects {
            let old = std::mem::replace(&mut self.input.objects, objects);
            let new = &self.input.objects;
            dirty.collections = differing_keys(&old.collections, &new.collections);
            dirty.windows = differing_keys(&old.windows, &new.windows);
            dirty.deployments = differing_keys(&old.deployments, &new.deployments);
            dirty.settings = differing_keys(&old.client_settings, &new.client_settings);
            dirty.points = old.distribution_points != new.distribution_points;
        }
        let ids: Vec<ClientId> = changes.clients.keys().copied().collect();
        for (id, client) in changes.clients {
            self.put_client(id, client);
        }
        put_all(&mut self.input.updates, changes.updates);
        put_all(&mut self.input.required_leaves, changes.required_leaves);
        if let Some(lines) = changes.lines {
            self.input.lines = lines;
        }
        if let Some(dependencies) = changes.dependencies {
            self.input.dependencies = dependencies;
        }
        if let Some(holders) = changes.holders {
            self.input.holders = holders;
        }
        let client = |id: ClientId| self.input.clients.get(*self.places.get(&id)?).map(|client| &**client);
        let clients: Vec<(ClientId, Option<&Client>)> = ids.into_iter().map(|id| (id, client(id))).collect();
        self.engine.run(&self.input, &dirty, &clients)
    }

    fn put_client(&mut self, id: ClientId, client: Option<Shared<Client>>) {
        let clients = &mut self.input.clients;
        match (client, self.places.get(&id).copied()) {
            (Some(client), Some(at)) => clients[at] = client,
            (Some(client), None) => {
                self.places.insert(id, clients.len());
                clients.push(client);
            }
            (None, Some(at)) => {
                clients.swap_remove(at);
                self.places.remove(&id);
                if let Some(moved) = clients.get(at) {
                    self.places.insert(moved.id, at);
                }
            }
            (None, None) => {}
        }
    }
}

fn differing<K: Ord + Clone, V: PartialEq>(
    old: &BTreeMap<K, V>,
    new: BTreeMap<K, V>,
) -> BTreeMap<K, Option<V>> {
    let gone: Vec<K> = old.keys().filter(|key| !new.contains_key(key)).cloned().collect();
    let other = new.into_iter().filter(|(key, value)| old.get(key) != Some(value));
    other.map(|(key, value)| (key, Some(value))).chain(gone.into_iter().map(|key| (key, None))).collect()
}

fn differing_keys<K: Ord + Clone, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> BTreeSet<K> {
    let gone = old.keys().filter(|key| !new.contains_key(key));
    new.iter()
        .filter(|(key, value)| old.get(key) != Some(value))
        .map(|(key, _)| key)
        .chain(gone)
        .cloned()
        .collect()
}

fn put_all<K: Ord, V>(map: &mut BTreeMap<K, V>, changes: BTreeMap<K, Option<V>>) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(map.insert(key, value)),
            None => drop(map.remove(&key)),
        }
    }
}

/// Clients that a plan withholds policy from, with the reasons.
impl SitePlan {
    /// Clients that get no new policy, and why.
    pub fn withheld(&self) -> impl Iterator<Item = (ClientId, &str)> {
        self.policies.iter().filter_map(|(client, verdict)| match verdict {
            Verdict::Withheld { reason } => Some((*client, reason.as_str())),
            Verdict::Policy(_) => None,
        })
    }
}
