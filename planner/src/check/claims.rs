//! What a plan claims of every client, in tables by the client's place among the active ones, and what the facts say.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use patchtide_model::{
    ClientId, ObjectName,
    client::{Client, ClientState},
    glob::Pattern,
    object::{FactOperator, FactRequirement},
};

use crate::site::{SiteInput, SitePlan};

/// For each active client whether something is so.
pub(super) type Table = Vec<bool>;

/// The active clients that are looked at and the members that the plan gives each collection.
pub(super) struct Claims<'a> {
    /// Sorted by identity.
    pub(super) active: Vec<&'a Client>,
    /// Whether these are all there are, so that any other is a stranger.
    whole: bool,
    members: BTreeMap<&'a ObjectName, Table>,
    nobody: Table,
    names: HashMap<&'a str, Vec<usize>>,
    columns: HashMap<&'a str, Column<'a>>,
}

/// One fact of all clients.
struct Column<'a> {
    values: Vec<&'a str>,
    /// The same in lower case, for those who ask with a pattern.
    lowercase: OnceCell<Vec<String>>,
    /// For each client the place of its value plus one; 0: it has none.
    of: Vec<usize>,
}

impl<'a> Claims<'a> {
    /// `stranger` is told of every member that is not an active client.
    pub(super) fn new(
        input: &'a SiteInput,
        plan: &'a SitePlan,
        clients: impl IntoIterator<Item = &'a Client>,
        whole: bool,
        mut stranger: impl FnMut(&'a ObjectName, ClientId),
    ) -> Self {
        let mut active: Vec<&Client> =
            clients.into_iter().filter(|client| client.state == ClientState::Active).collect();
        active.sort_by_key(|client| client.id);
        active.dedup_by_key(|client| client.id);
        let collections = input.objects.collections.values();
        let keys: BTreeSet<&str> =
            collections.flat_map(|one| &one.selector).map(|requirement| requirement.key.as_str()).collect();
        let columns = keys.into_iter().map(|key| (key, Column::new(&active, key))).collect();
        let nobody = vec![false; active.len()];
        let mut names: HashMap<&str, Vec<usize>> = HashMap::with_capacity(active.len());
        for (n, client) in active.iter().enumerate() {
            names.entry(&client.name).or_default().push(n);
        }
        let mut claims = Self { active, whole, members: BTreeMap::new(), nobody, names, columns };
        for (name, members) in &plan.membership {
            let table = claims.table(members, |client| stranger(name, client));
            claims.members.insert(name, table);
        }
        claims
    }

    /// A set of clients as a table.
    pub(super) fn table(&self, set: &BTreeSet<ClientId>, mut stranger: impl FnMut(ClientId)) -> Table {
        if !self.whole {
            return self.active.iter().map(|client| set.contains(&client.id)).collect();
        }
        let mut table = vec![false; self.active.len()];
        let mut at = 0;
        for client in set {
            while self.active.get(at).is_some_and(|active| active.id < *client) {
                at += 1;
            }
            if self.active.get(at).is_some_and(|active| active.id == *client) {
                table[at] = true;
            } else {
                stranger(*client);
            }
        }
        table
    }

    /// Who is in a collection, as the plan says.
    pub(super) fn of(&self, collection: &ObjectName) -> &Table {
        self.members.get(collection).unwrap_or(&self.nobody)
    }

    /// Whom a list of direct members means, by name or by identity in any case.
    pub(super) fn named(&self, direct: &BTreeSet<String>) -> Table {
        let mut table = self.nobody.clone();
        for word in direct {
            self.names.get(word.as_str()).into_iter().flatten().for_each(|n| table[*n] = true);
            let id = word.parse().ok().filter(|id: &ClientId| id.to_string().eq_ignore_ascii_case(word));
            let place = id.and_then(|id| self.active.binary_search_by_key(&id, |client| client.id).ok());
            if let Some(n) = place {
                table[n] = true;
            }
        }
        table
    }

    /// Whose facts meet every one of the requirements; nobody's meet none.
    pub(super) fn selected(&self, selector: &[FactRequirement]) -> Table {
        let mut table = vec![!selector.is_empty(); self.active.len()];
        for requirement in selector {
            let Some(column) = self.columns.get(requirement.key.as_str()) else { return self.nobody.clone() };
            let met = column.answers(requirement);
            for (is, value) in table.iter_mut().zip(&column.of) {
                *is = *is && met[*value];
            }
        }
        table
    }
}

impl<'a> Column<'a> {
    fn new(active: &[&'a Client], key: &str) -> Self {
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut values = Vec::new();
        let of = active.iter().map(|client| {
            client.facts.get(key).map_or(0, |value| {
                *places.entry(value).or_insert_with(|| {
                    values.push(value.as_str());
                    values.len()
                })
            })
        });
        let of = of.collect();
        Self { values, lowercase: OnceCell::new(), of }
    }

    /// Whether the requirement is met: first without a value, then by each.
    fn answers(&self, requirement: &FactRequirement) -> Vec<bool> {
        if requirement.operator == FactOperator::Glob {
            let patterns: Vec<Pattern> = requirement.values.iter().map(|text| Pattern::new(text)).collect();
            let lowercase =
                self.lowercase.get_or_init(|| self.values.iter().map(|value| value.to_lowercase()).collect());
            let met = lowercase.iter().map(|value| patterns.iter().any(|pattern| pattern.matches(value)));
            return std::iter::once(false).chain(met).collect();
        }
        let met = |value: Option<&str>| match (requirement.operator, value) {
            (FactOperator::In, Some(value)) => requirement.values.contains(value),
            (FactOperator::NotIn, Some(value)) => !requirement.values.contains(value),
            (FactOperator::Exists, there) => there.is_some(),
            (FactOperator::NotIn | FactOperator::DoesNotExist, None) => true,
            _ => false,
        };
        std::iter::once(met(None)).chain(self.values.iter().map(|value| met(Some(value)))).collect()
    }
}
