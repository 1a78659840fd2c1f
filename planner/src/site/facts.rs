//! Clients and their facts in columns: a selector is asked once for each value that occurs, not once for each client.

use std::collections::{BTreeSet, HashMap};

use patchtide_model::{
    ClientId,
    client::{Client, ClientState},
    glob::Pattern,
    object::{Collection, FactOperator, FactRequirement},
    shared::Shared,
};

use super::bits::Bits;

/// A fact that is not there.
const ABSENT: u32 = u32::MAX;

/// The active clients, each at a place of its own. Places are internal: no answer depends on them.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// By place.
    ids: Vec<ClientId>,
    places: HashMap<ClientId, u32>,
    active: Bits,
    /// Places that nobody has any more.
    free: Vec<u32>,
    columns: HashMap<String, Column>,
    names: HashMap<String, BTreeSet<u32>>,
    /// The name at each place.
    name_at: Vec<String>,
}

/// One fact of all clients.
#[derive(Debug, Default)]
struct Column {
    values: HashMap<String, u32>,
    /// The values in lower case, in order of their numbers.
    lowercase: Vec<String>,
    /// Number of the value at each place.
    of: Vec<u32>,
}

impl Column {
    fn set(&mut self, place: u32, value: Option<&String>) {
        let number = value.map_or(ABSENT, |value| {
            self.values.get(value).copied().unwrap_or_else(|| {
                let next = u32::try_from(self.lowercase.len()).unwrap_or(ABSENT);
                self.values.insert(value.clone(), next);
                self.lowercase.push(value.to_lowercase());
                next
            })
        });
        let place = place as usize;
        if place >= self.of.len() {
            self.of.resize(place + 1, ABSENT);
        }
        self.of[place] = number;
    }

    /// For each value that occurs whether the requirement is met, and whether it is without a value.
    fn met(&self, requirement: &FactRequirement) -> (Vec<bool>, bool) {
        let one_of = |there: bool| {
            let mut met = vec![!there; self.lowercase.len()];
            for number in requirement.values.iter().filter_map(|value| self.values.get(value)) {
                met[*number as usize] = there;
            }
            met
        };
        match requirement.operator {
            FactOperator::In => (one_of(true), false),
            FactOperator::NotIn => (one_of(false), true),
            FactOperator::Exists => (vec![true; self.lowercase.len()], false),
            FactOperator::DoesNotExist => (vec![false; self.lowercase.len()], true),
            FactOperator::Glob => {
                let patterns: Vec<Pattern> =
                    requirement.values.iter().map(|pattern| Pattern::new(pattern)).collect();
                let met = |value: &String| patterns.iter().any(|pattern| pattern.matches(value));
                (self.lowercase.iter().map(met).collect(), false)
            }
        }
    }
}

impl Clients {
    pub(super) fn id(&self, place: u32) -> ClientId {
        self.ids[place as usize]
    }

    pub(super) fn place(&self, id: ClientId) -> Option<u32> {
        self.places.get(&id).copied()
    }

    /// All of them.
    pub(super) const fn active(&self) -> &Bits {
        &self.active
    }

    pub(super) fn ids(&self, places: &Bits) -> BTreeSet<ClientId> {
        places.iter().map(|place| self.id(place)).collect()
    }

    /// Takes a client as it is now; its place, when it is an active one.
    pub(super) fn put(&mut self, client: &Client) -> Option<u32> {
        if client.state != ClientState::Active {
            return None;
        }
        let place = self.place(client.id).unwrap_or_else(|| {
            let place = self.free.pop().unwrap_or_else(|| {
                self.ids.push(client.id);
                self.name_at.push(String::new());
                u32::try_from(self.ids.len() - 1).unwrap_or(ABSENT)
            });
            self.ids[place as usize] = client.id;
            self.places.insert(client.id, place);
            self.active.insert(place);
            place
        });
        let name = &mut self.name_at[place as usize];
        if *name != client.name {
            forget(&mut self.names, name, place);
            name.clone_from(&client.name);
            self.names.entry(client.name.clone()).or_default().insert(place);
        }
        for (key, column) in &mut self.columns {
            column.set(place, client.facts.get(key));
        }
        Some(place)
    }

    /// A client that is no longer active; the place that it had keeps its mark until [`Clients::release`].
    pub(super) fn remove(&mut self, id: ClientId) -> Option<u32> {
        let place = self.places.remove(&id)?;
        self.active.set(place, false);
        let name = std::mem::take(&mut self.name_at[place as usize]);
        forget(&mut self.names, &name, place);
        for column in self.columns.values_mut() {
            column.set(place, None);
        }
        Some(place)
    }

    /// Lets others have these places.
    pub(super) fn release(&mut self, places: &[u32]) {
        self.free.extend(places);
    }

    /// Makes the columns of these keys from all clients, where they are not there yet; keys that nobody asks for have none.
    pub(super) fn read_columns<'a>(
        &mut self,
        keys: BTreeSet<&str>,
        clients: impl Fn() -> &'a [Shared<Client>],
    ) {
        let keys = keys.into_iter().filter(|key| !self.columns.contains_key(*key));
        let mut columns: Vec<(&str, Column)> = keys.map(|key| (key, Column::default())).collect();
        if columns.is_empty() {
            return;
        }
        for client in clients() {
            let Some(place) = self.places.get(&client.id) else { continue };
            for (key, column) in &mut columns {
                column.set(*place, client.facts.get(*key));
            }
        }
        self.columns.extend(columns.into_iter().map(|(key, column)| (key.to_owned(), column)));
    }

    /// Those whom a collection selects itself: all, by facts, or by name.
    pub(super) fn selected(&self, collection: &Collection) -> Bits {
        if collection.all {
            return self.active.clone();
        }
        let mut members = self.by_facts(&collection.selector);
        for direct in &collection.direct_members {
            self.names.get(direct).into_iter().flatten().for_each(|place| members.insert(*place));
            let by_id =
                direct.parse::<ClientId>().ok().filter(|id| id.to_string() == direct.to_ascii_lowercase());
            if let Some(place) = by_id.and_then(|id| self.place(id)) {
                members.insert(place);
            }
        }
        members
    }

    fn by_facts(&self, selector: &[FactRequirement]) -> Bits {
        let mut found: Option<Bits> = None;
        for requirement in selector {
            let nothing = Column::default();
            let column = self.columns.get(&requirement.key).unwrap_or(&nothing);
            let (met, without) = column.met(requirement);
            let mut words = Bits::default();
            for n in 0..self.active.words() {
                let before = found.as_ref().map_or_else(|| self.active.word(n), |bits| bits.word(n));
                if before == 0 {
                    continue;
                }
                let mut word = 0;
                for (bit, value) in column.of.iter().skip(n * 64).take(64).enumerate() {
                    word |= u64::from(met.get(*value as usize).copied().unwrap_or(without)) << bit;
                }
                let known = column.of.len().saturating_sub(n * 64).min(64);
                if without && known < 64 {
                    word |= u64::MAX << known;
                }
                words.set_word(n, word & before);
            }
            found = Some(words);
        }
        found.unwrap_or_default()
    }
}

fn forget(names: &mut HashMap<String, BTreeSet<u32>>, name: &str, place: u32) {
    if let Some(places) = names.get_mut(name) {
        places.remove(&place);
        if places.is_empty() {
            names.remove(name);
        }
    }
}
