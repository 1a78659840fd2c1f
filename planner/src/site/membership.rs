//! Who is in which collection.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{
    ClientId, ObjectName,
    client::Client,
    deployment::Deployment,
    object::{Collection, Membership},
};

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

/// Checks the references between collections. A cycle is named by its path, first collection repeated at the end.
pub fn check_collections(collections: &BTreeMap<ObjectName, Collection>) -> Vec<CollectionProblem> {
    let _ = collections;
    Vec::new()
}

/// Members of every collection, among the active clients.
pub fn membership(collections: &BTreeMap<ObjectName, Collection>, clients: &[Client]) -> Membership {
    let _ = (collections, clients);
    Membership::new()
}

/// The clients that a deployment reaches.
pub fn targeted(
    deployment: &Deployment,
    collections: &BTreeMap<ObjectName, Collection>,
    membership: &Membership,
) -> BTreeSet<ClientId> {
    let _ = (deployment, collections, membership);
    BTreeSet::new()
}
