//! Members of every collection, kept from one run to the next: what a change does not touch is not computed again.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{
    ClientId, ObjectName,
    client::{Client, ClientState},
    object::Collection,
    shared::Shared,
};

use super::{
    bits::Bits,
    facts::Clients,
    membership::{CollectionProblem, check_collections, references, selects, undetermined},
};

/// Beyond this share of all clients (one in so many) collections are computed anew instead of client by client.
const FEW: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Memberships {
    pub(super) clients: Clients,
    pub(super) problems: Vec<CollectionProblem>,
    undetermined: BTreeSet<ObjectName>,
    /// Collections whose members can be told, each after those that it refers to.
    order: Vec<ObjectName>,
    known: BTreeMap<ObjectName, Known>,
}

/// A collection whose members can be told.
#[derive(Debug, Default)]
struct Known {
    /// Those it selects itself.
    own: Bits,
    members: Bits,
}

/// What a run came to.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// Clients that came, went or were changed, by place.
    pub(super) clients: Bits,
    /// For each collection with other members than before: who came or went.
    pub(super) members: BTreeMap<ObjectName, Bits>,
    /// Places of those who went, to be released when nothing speaks of them any more.
    pub(super) gone: Vec<u32>,
}

impl Memberships {
    /// Whether nobody can tell who is in it.
    pub(super) fn is_unknown(&self, name: &ObjectName) -> bool {
        !self.known.contains_key(name)
    }

    /// Who is in it; nobody when that cannot be told.
    pub(super) fn of(&self, name: &ObjectName) -> Option<&Bits> {
        self.known.get(name).map(|known| &known.members)
    }

    /// Takes over changed clients and collections. `changed` says for each client by whom it is now.
    pub(super) fn update<'a>(
        &mut self,
        collections: &BTreeMap<ObjectName, Collection>,
        other: &BTreeSet<ObjectName>,
        all: impl Fn() -> &'a [Shared<Client>],
        changed: &[(ClientId, Option<&'a Client>)],
    ) -> Moved {
        let mut moved = Moved::default();
        let mut touched: Vec<(u32, Option<&Client>)> = Vec::with_capacity(changed.len());
        for (id, client) in changed {
            let active = client.filter(|client| client.state == ClientState::Active);
            let place = match active {
                Some(client) => self.clients.put(client),
                None => self.clients.remove(*id),
            };
            let Some(place) = place else { continue };
            moved.clients.insert(place);
            if active.is_none() {
                moved.gone.push(place);
            }
            touched.push((place, active));
        }
        if !other.is_empty() {
            self.arrange(collections, &mut moved);
        }
        let anew = touched.len() * FEW > self.clients.active().len();
        let order = std::mem::take(&mut self.order);
        let is_new = |name: &&ObjectName| anew || other.contains(*name) || !self.known.contains_key(*name);
        let new: BTreeSet<ObjectName> = order.iter().filter(is_new).cloned().collect();
        let keys = new.iter().filter_map(|name| collections.get(name)).flat_map(|one| &one.selector);
        self.clients.read_columns(keys.map(|requirement| requirement.key.as_str()).collect(), all);
        let words: BTreeSet<usize> = touched.iter().map(|(place, _)| (place >> 6) as usize).collect();
        for name in &order {
            let Some(collection) = collections.get(name) else { continue };
            let mut known = self.known.remove(name).unwrap_or_default();
            let is_new = new.contains(name);
            if is_new {
                known.own = self.clients.selected(collection);
            } else {
                for (place, client) in &touched {
                    known.own.set(*place, client.is_some_and(|client| is_selected(collection, client)));
                }
            }
            let whole = is_new || references(collection).any(|(_, name)| moved.members.contains_key(name));
            let mut members = known.members.clone();
            if whole {
                for n in 0..known.own.words().max(self.clients.active().words()) {
                    members.set_word(n, self.word(collection, &known.own, n));
                }
            } else {
                for n in &words {
                    members.set_word(*n, self.word(collection, &known.own, *n));
                }
            }
            let differing = known.members.differing(&members);
            if !differing.is_empty() {
                moved.members.insert(name.clone(), differing);
                known.members = members;
            }
            self.known.insert(name.clone(), known);
        }
        self.order = order;
        moved
    }

    /// 64 clients of a collection, by what it says of others.
    fn word(&self, collection: &Collection, own: &Bits, n: usize) -> u64 {
        let of = |name: &ObjectName| self.of(name).map_or(0, |members| members.word(n));
        let included = collection.include.iter().fold(own.word(n), |word, name| word | of(name));
        let rest = collection.exclude.iter().fold(included, |word, name| word & !of(name));
        collection.limiting.as_ref().map_or(rest, |name| rest & of(name))
    }

    /// Finds out which collections can be told, and in which order.
    fn arrange(&mut self, collections: &BTreeMap<ObjectName, Collection>, moved: &mut Moved) {
        self.problems = check_collections(collections);
        self.undetermined = undetermined(collections, &self.problems);
        let told = |name: &ObjectName| collections.contains_key(name) && !self.undetermined.contains(name);
        let lost: Vec<ObjectName> = self.known.keys().filter(|name| !told(name)).cloned().collect();
        for name in lost {
            if let Some(known) = self.known.remove(&name).filter(|known| !known.members.is_empty()) {
                moved.members.insert(name, known.members);
            }
        }
        self.order = in_order(collections, &self.undetermined);
    }
}

/// The collections that can be told, each after those that it refers to.
fn in_order(
    collections: &BTreeMap<ObjectName, Collection>,
    undetermined: &BTreeSet<ObjectName>,
) -> Vec<ObjectName> {
    let mut waits: BTreeMap<&ObjectName, usize> = BTreeMap::new();
    let mut wanted: BTreeMap<&ObjectName, Vec<&ObjectName>> = BTreeMap::new();
    let mut ready: Vec<&ObjectName> = Vec::new();
    for (name, collection) in collections.iter().filter(|(name, _)| !undetermined.contains(*name)) {
        let count =
            references(collection).inspect(|(_, of)| wanted.entry(of).or_default().push(name)).count();
        if count == 0 {
            ready.push(name);
        } else {
            waits.insert(name, count);
        }
    }
    let mut order = Vec::with_capacity(collections.len());
    while let Some(name) = ready.pop() {
        order.push(name.clone());
        for waiting in wanted.get(name).into_iter().flatten() {
            if let Some(count) = waits.get_mut(waiting) {
                *count -= 1;
                if *count == 0 {
                    ready.push(waiting);
                }
            }
        }
    }
    order
}

/// Whether a collection selects a client itself.
fn is_selected(collection: &Collection, client: &Client) -> bool {
    let direct = &collection.direct_members;
    let id = || client.id.to_string();
    collection.all
        || selects(&collection.selector, &client.facts)
        || (!direct.is_empty()
            && (direct.contains(&client.name)
                || direct.contains(&id())
                || direct.iter().any(|word| word.eq_ignore_ascii_case(&id()))))
}
