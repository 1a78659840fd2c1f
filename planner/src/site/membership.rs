//! Who is in which collection.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{
    ClientId, ObjectName,
    client::{Client, Facts},
    deployment::Deployment,
    glob::glob,
    object::{Collection, FactOperator, FactRequirement, Membership},
    shared::Shared,
};

use super::members::Memberships;

/// What is wrong with references between collections.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum CollectionProblem {
    /// A collection depends on itself.
    #[error("collections depend on each other in a circle: {}; take one of these references out", path(.0))]
    Cycle(Vec<ObjectName>),
    /// A reference to nothing.
    #[error(
        "collection {collection} refers to {missing} in {field}, which does not exist: create it or take the reference out"
    )]
    Missing {
        /// The collection that refers.
        collection: ObjectName,
        /// Field.
        field: &'static str,
        /// What does not exist.
        missing: ObjectName,
    },
}

fn path(names: &[ObjectName]) -> String {
    names.iter().map(ObjectName::as_str).collect::<Vec<_>>().join(" -> ")
}

impl CollectionProblem {
    /// The collections whose members it leaves undetermined, before those that depend on them.
    pub fn collections(&self) -> &[ObjectName] {
        match self {
            Self::Cycle(names) => names,
            Self::Missing { collection, .. } => std::slice::from_ref(collection),
        }
    }
}

type Collections = BTreeMap<ObjectName, Collection>;

/// The references that membership depends on, with their fields.
pub(super) fn references(collection: &Collection) -> impl Iterator<Item = (&'static str, &ObjectName)> {
    let include = collection.include.iter().map(|name| ("spec.include", name));
    let exclude = collection.exclude.iter().map(|name| ("spec.exclude", name));
    include.chain(exclude).chain(collection.limiting.iter().map(|name| ("spec.limitingCollection", name)))
}

fn parent(collection: &Collection) -> impl Iterator<Item = (&'static str, &ObjectName)> {
    collection.parent.iter().map(|name| ("spec.parent", name))
}

/// Checks the references between collections, in order of their names. A cycle is named by its path, with the first
/// collection repeated at the end. Parents are a hierarchy of their own: they say who is reached by *include
/// subcollections*, never who is a member.
pub fn check_collections(collections: &Collections) -> Vec<CollectionProblem> {
    let mut problems = Vec::new();
    for collection in collections.values() {
        for (field, name) in references(collection).chain(parent(collection)) {
            if !collections.contains_key(name) {
                problems.push(CollectionProblem::Missing {
                    collection: collection.name.clone(),
                    field,
                    missing: name.clone(),
                });
            }
        }
    }
    let membership = |collection| references(collection).map(|(_, name)| name).collect::<Vec<_>>();
    let hierarchy = |collection| parent(collection).map(|(_, name)| name).collect::<Vec<_>>();
    problems.extend(cycles(collections, membership).into_iter().map(CollectionProblem::Cycle));
    problems.extend(cycles(collections, hierarchy).into_iter().map(CollectionProblem::Cycle));
    problems
}

/// One path for every cycle that a depth-first walk in order of names meets. Not recursive: chains may be long.
fn cycles<'a>(
    collections: &'a Collections,
    edges: impl Fn(&'a Collection) -> Vec<&'a ObjectName>,
) -> Vec<Vec<ObjectName>> {
    let mut found = Vec::new();
    let mut done: BTreeSet<&ObjectName> = BTreeSet::new();
    for root in collections.keys() {
        let mut path: Vec<(&ObjectName, Vec<&ObjectName>)> = Vec::new();
        let mut next = Some(root);
        loop {
            if let Some(name) = next.take()
                && !done.contains(name)
                && let Some(collection) = collections.get(name)
            {
                if let Some(start) = path.iter().position(|(on_path, _)| *on_path == name) {
                    let mut cycle: Vec<ObjectName> =
                        path[start..].iter().map(|(on_path, _)| (*on_path).clone()).collect();
                    cycle.push(name.clone());
                    found.push(cycle);
                } else {
                    let mut targets = edges(collection);
                    targets.reverse();
                    path.push((name, targets));
                }
            }
            let Some((name, targets)) = path.last_mut() else { break };
            if let Some(target) = targets.pop() {
                next = Some(target);
            } else {
                done.insert(*name);
                path.pop();
            }
        }
    }
    found
}

/// Collections whose members cannot be told: those with a problem and those that depend on one.
pub(super) fn undetermined(
    collections: &Collections,
    problems: &[CollectionProblem],
) -> BTreeSet<ObjectName> {
    let mut bad: BTreeSet<ObjectName> =
        problems.iter().flat_map(CollectionProblem::collections).cloned().collect();
    loop {
        let more: Vec<ObjectName> = collections
            .values()
            .filter(|collection| !bad.contains(&collection.name))
            .filter(|collection| references(collection).any(|(_, name)| bad.contains(name)))
            .map(|collection| collection.name.clone())
            .collect();
        if more.is_empty() {
            return bad;
        }
        bad.extend(more);
    }
}

/// Members of every collection, among the active clients:
/// (all or selected by facts or direct or members of included) and not members of excluded and members of limiting.
/// A collection whose members cannot be told has none here.
pub fn membership(collections: &Collections, clients: &[Shared<Client>]) -> Membership {
    let mut memberships = Memberships::default();
    let changed: Vec<_> = clients.iter().map(|client| (client.id, Some(&**client))).collect();
    let other = collections.keys().cloned().collect();
    memberships.update(collections, &other, || clients, &changed);
    let members = |name| memberships.of(name).map(|members| memberships.clients.ids(members));
    collections.keys().map(|name| (name.clone(), members(name).unwrap_or_default().into())).collect()
}

/// Whether the facts meet every requirement; a selector without requirements selects nobody.
pub(crate) fn selects(selector: &[FactRequirement], facts: &Facts) -> bool {
    !selector.is_empty()
        && selector.iter().all(|requirement| {
            let value = facts.get(&requirement.key);
            match requirement.operator {
                FactOperator::In => value.is_some_and(|value| requirement.values.contains(value)),
                FactOperator::NotIn => value.is_none_or(|value| !requirement.values.contains(value)),
                FactOperator::Exists => value.is_some(),
                FactOperator::DoesNotExist => value.is_none(),
                FactOperator::Glob => {
                    value.is_some_and(|value| requirement.values.iter().any(|pattern| glob(pattern, value)))
                }
            }
        })
}

/// The collections whose members a deployment reaches: its own and, when it includes subcollections, every one below it
/// (R-DEPL-06).
pub(super) fn reached<'a>(
    deployment: &'a Deployment,
    collections: &'a Collections,
) -> BTreeSet<&'a ObjectName> {
    let mut reached: BTreeSet<&ObjectName> = BTreeSet::from([&deployment.collection]);
    if deployment.include_subcollections {
        loop {
            let below: Vec<&ObjectName> = collections
                .values()
                .filter(|collection| !reached.contains(&collection.name))
                .filter(|collection| {
                    collection.parent.as_ref().is_some_and(|parent| reached.contains(parent))
                })
                .map(|collection| &collection.name)
                .collect();
            if below.is_empty() {
                break;
            }
            reached.extend(below);
        }
    }
    reached
}

/// The clients that a deployment reaches. One whose own collection cannot be told reaches nobody, also not through
/// subcollections.
pub fn targeted(
    deployment: &Deployment,
    collections: &Collections,
    membership: &Membership,
) -> BTreeSet<ClientId> {
    let own = &deployment.collection;
    let unknown = undetermined(collections, &check_collections(collections));
    if unknown.contains(own) || !collections.contains_key(own) {
        return BTreeSet::new();
    }
    reached(deployment, collections)
        .into_iter()
        .filter_map(|name| membership.get(name))
        .flatten()
        .copied()
        .collect()
}
