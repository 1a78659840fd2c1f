//! The compiler's state and one run of it: what changed since the last run -> what changes in the plan. A full compilation
//! is the first run of an empty engine, so there is one way only to compute anything.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{ClientId, ObjectName, UpdateId, client::Client, policy::LinePolicy, shared::Shared};

use super::{
    Delta, Note, SiteInput, SitePlan,
    awaited::Reach,
    bits::Bits,
    body::Maker,
    facts::Clients,
    layers::{Layer, Layers},
    members::{Memberships, Moved},
    membership::reached,
    parts::Parts,
    rank::{Withholding, settings_by_rank, shares},
};

/// What may be other than in the last run. What is not named here is as it was.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one part of the input")]
pub(super) struct Dirty {
    pub(super) collections: BTreeSet<ObjectName>,
    pub(super) windows: BTreeSet<ObjectName>,
    pub(super) deployments: BTreeSet<ObjectName>,
    pub(super) settings: BTreeSet<ObjectName>,
    pub(super) updates: BTreeSet<UpdateId>,
    pub(super) points: bool,
    pub(super) lines: bool,
    pub(super) dependencies: bool,
    pub(super) holders: bool,
}

/// A deployment as it was last.
#[derive(Debug, Default)]
struct Target {
    /// Collections whose members it reaches.
    collections: Vec<ObjectName>,
    reached: Bits,
}

/// Everything that is kept.
#[derive(Debug, Default)]
pub(super) struct Engine {
    memberships: Memberships,
    parts: Parts,
    reach: Reach,
    layers: Layers,
    lines: Shared<Vec<LinePolicy>>,
    targets: BTreeMap<ObjectName, Target>,
    /// What is wrong with windows by themselves.
    problems: BTreeMap<ObjectName, String>,
    pub(super) plan: SitePlan,
}

impl Engine {
    /// Brings the plan up to `input`; `clients` are those that changed, with what they are now.
    pub(super) fn run(
        &mut self,
        input: &SiteInput,
        dirty: &Dirty,
        clients: &[(ClientId, Option<&Client>)],
    ) -> Delta {
        let collections = &input.objects.collections;
        let moved = self.memberships.update(collections, &dirty.collections, || &input.clients, clients);
        let mut delta = Delta::default();
        let mut touched = moved.clients.clone();
        self.tell_members(input, dirty, &moved, &mut delta);
        self.tell_targets(input, dirty, &moved, &mut touched, &mut delta);

        let renewed = self.parts.update(input, &dirty.deployments, &dirty.updates, dirty.dependencies);
        self.windows(input, dirty, &moved, &mut touched);
        self.rank(input, &mut touched);
        let mut everything = dirty.lines || dirty.dependencies;
        if dirty.lines {
            let mut lines = input.lines.clone();
            lines.sort_by(|a, b| a.line.cmp(&b.line));
            self.lines = lines.into();
        }
        everything |= self.points(input, dirty, renewed.leaves, clients, &mut touched);

        let window = |name: &ObjectName| Layer::Window(name.clone());
        let mut stale: BTreeSet<Layer> = dirty.windows.iter().map(window).collect();
        stale.extend(dirty.settings.iter().map(|name| Layer::Settings(name.to_string())));
        stale.extend(renewed.deployments.into_iter().map(Layer::Deployment));
        let mut maker = Maker { input, parts: &mut self.parts, reach: &self.reach, lines: &self.lines };
        let renewed = self.layers.renew(&stale, everything, |points, layers| maker.verdict(points, layers));
        let active = self.memberships.clients.active();
        self.layers.regroup(&touched, active, |points, layers| maker.verdict(points, layers));
        touched.unite(&renewed);
        self.tell_verdicts(&touched, &moved.gone, &mut delta);
        self.memberships.clients.release(&moved.gone);
        if self.parts.sets() > 2 * self.layers.groups() + 64 {
            self.parts.forget_sets();
        }
        delta
    }

    fn tell_members(&mut self, input: &SiteInput, dirty: &Dirty, moved: &Moved, delta: &mut Delta) {
        let clients = &self.memberships.clients;
        let told = &mut self.plan.membership;
        for (name, differing) in &moved.members {
            let nobody = Bits::default();
            let members = self.memberships.of(name).unwrap_or(&nobody);
            patch(told.entry(name.clone()).or_default(), members, differing, clients);
            delta.collections.insert(name.clone());
        }
        for name in &dirty.collections {
            if !input.objects.collections.contains_key(name) {
                told.remove(name);
                delta.collections.insert(name.clone());
            } else if !told.contains_key(name) {
                told.insert(name.clone(), Shared::default());
                delta.collections.insert(name.clone());
            }
        }
    }

    fn tell_targets(
        &mut self,
        input: &SiteInput,
        dirty: &Dirty,
        moved: &Moved,
        touched: &mut Bits,
        delta: &mut Delta,
    ) {
        for name in &dirty.deployments {
            if !input.objects.deployments.contains_key(name) && self.targets.remove(name).is_some() {
                self.layers.put(Layer::Deployment(name.clone()), Bits::default(), touched);
                self.plan.targets.remove(name);
                delta.deployments.insert(name.clone());
            }
        }
        for (name, deployment) in &input.objects.deployments {
            let is_new = dirty.deployments.contains(name) && !self.targets.contains_key(name);
            let target = self.targets.entry(name.clone()).or_default();
            if dirty.deployments.contains(name) || !dirty.collections.is_empty() {
                let is_unknown = self.memberships.is_unknown(&deployment.collection);
                let reached = reached(deployment, &input.objects.collections).into_iter().cloned();
                target.collections = reached.filter(|_| !is_unknown).collect();
            } else if !target.collections.iter().any(|name| moved.members.contains_key(name)) {
                continue;
            }
            let mut now = Bits::default();
            for members in target.collections.iter().filter_map(|name| self.memberships.of(name)) {
                now.unite(members);
            }
            let differing = target.reached.differing(&now);
            let told = self.plan.targets.entry(name.clone()).or_default();
            if is_new || !differing.is_empty() {
                delta.deployments.insert(name.clone());
                patch(told, &now, &differing, &self.memberships.clients);
                self.layers.put(Layer::Deployment(name.clone()), now.clone(), touched);
                target.reached = now;
            }
        }
    }

    fn windows(&mut self, input: &SiteInput, dirty: &Dirty, moved: &Moved, touched: &mut Bits) {
        for name in &dirty.windows {
            let window = input.objects.windows.get(name);
            match window.and_then(|window| window.validate().err()) {
                Some(error) => drop(self.problems.insert(name.clone(), error.to_string())),
                None => drop(self.problems.remove(name)),
            }
            if window.is_none() {
                self.layers.put(Layer::Window(name.clone()), Bits::default(), touched);
            }
        }
        for (name, window) in &input.objects.windows {
            if dirty.windows.contains(name) || moved.members.contains_key(&window.collection) {
                let members = self.memberships.of(&window.collection).cloned().unwrap_or_default();
                self.layers.put(Layer::Window(name.clone()), members, touched);
            }
        }
    }

    /// Settings that apply, and what is withheld; the notes follow from the same.
    fn rank(&mut self, input: &SiteInput, touched: &mut Bits) {
        let memberships = &self.memberships;
        let unknown = |name: &ObjectName| memberships.is_unknown(name);
        let mut notes: BTreeSet<Note> = BTreeSet::new();
        for problem in &memberships.problems {
            notes.extend(
                problem
                    .collections()
                    .iter()
                    .map(|name| Note { object: format!("Collection/{name}"), message: problem.to_string() }),
            );
        }
        for (name, deployment) in &input.objects.deployments {
            if unknown(&deployment.collection) {
                notes.insert(Note {
                    object: format!("UpdateDeployment/{name}"),
                    message: format!(
                        "its collection {} does not exist or its members cannot be told: it reaches nobody until that is put right",
                        deployment.collection
                    ),
                });
            }
        }
        notes.extend(self.parts.notes().map(|(name, message)| Note {
            object: format!("UpdateDeployment/{name}"),
            message: message.clone(),
        }));
        let problem = |name: &ObjectName| self.problems.get(name).cloned();
        let withheld = Withholding::new(input, unknown, problem, &mut notes).shares(memberships);
        let ranked = settings_by_rank(input, unknown, &mut notes);
        let ranked = ranked.into_iter().map(|one| (one.name.clone(), one.collection.as_ref()));
        let settings = shares(ranked, memberships);
        let mut now: BTreeMap<Layer, Bits> = BTreeMap::new();
        for (reason, bits) in withheld {
            now.entry(Layer::Withheld(reason)).or_default().unite(&bits);
        }
        now.extend(settings.into_iter().map(|(name, bits)| (Layer::Settings(name), bits)));
        let gone: Vec<Layer> = self
            .layers
            .inhabited()
            .filter(|layer| matches!(layer, Layer::Withheld(_) | Layer::Settings(_)))
            .filter(|layer| !now.contains_key(layer))
            .cloned()
            .collect();
        for layer in gone {
            self.layers.put(layer, Bits::default(), touched);
        }
        for (layer, bits) in now {
            if self.layers.get(&layer) != Some(&bits) {
                self.layers.put(layer, bits, touched);
            }
        }
        self.plan.notes = notes.into_iter().collect();
    }

    /// Which points everybody reaches. True: every policy may wait for other files.
    fn points(
        &mut self,
        input: &SiteInput,
        dirty: &Dirty,
        leaves: bool,
        changed: &[(ClientId, Option<&Client>)],
        touched: &mut Bits,
    ) -> bool {
        let look = dirty.points || dirty.holders || leaves;
        let other = look && self.reach.update(input, &self.parts, dirty.points);
        let others = dirty.points || dirty.holders || other;
        if others {
            self.parts.forget_awaited();
        }
        let mut tell = |client: &Client| {
            if let Some(place) = self.memberships.clients.place(client.id) {
                let points = self.reach.points(input, client);
                self.layers.reach(place, points, touched);
            }
        };
        if other {
            input.clients.iter().map(|client| &**client).for_each(&mut tell);
        } else {
            changed.iter().filter_map(|(_, client)| *client).for_each(&mut tell);
        }
        others
    }

    fn tell_verdicts(&mut self, touched: &Bits, gone: &[u32], delta: &mut Delta) {
        let clients = &self.memberships.clients;
        let told = &mut self.plan.policies;
        for place in gone {
            let id = clients.id(*place);
            if told.remove(&id).is_some() {
                delta.verdicts.insert(id);
            }
        }
        let verdicts = touched.iter().filter(|place| clients.active().contains(*place));
        let verdicts =
            verdicts.filter_map(|place| Some((clients.id(place), &self.layers.group(place)?.verdict)));
        if told.is_empty() {
            *told = verdicts.map(|(id, verdict)| (id, verdict.clone())).collect();
            delta.verdicts.extend(told.keys());
            return;
        }
        for (id, verdict) in verdicts {
            if told.get(&id) != Some(verdict) {
                told.insert(id, verdict.clone());
                delta.verdicts.insert(id);
            }
        }
    }
}

/// Brings a set of clients from what it was to `now`.
fn patch(told: &mut Shared<BTreeSet<ClientId>>, now: &Bits, differing: &Bits, clients: &Clients) {
    if differing.len() * 4 > told.len() {
        *told = clients.ids(now).into();
        return;
    }
    for place in differing.iter() {
        let id = clients.id(place);
        if now.contains(place) {
            told.insert(id);
        } else {
            told.remove(&id);
        }
    }
}
