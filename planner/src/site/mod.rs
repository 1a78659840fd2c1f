//! The site's half: objects, clients and the catalogue -> membership and one policy per client; reported states ->
//! the numbers of a deployment's status.

pub mod alerts;
mod awaited;
mod bits;
mod body;
mod compile;
mod engine;
mod facts;
mod fitting;
pub mod forecast;
mod layers;
mod members;
mod membership;
mod parts;
mod provenance;
mod rank;
pub mod status;
#[cfg(test)]
mod tests;
pub mod wake;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use patchtide_model::{
    ClientId, Digest, ObjectName, SiteName, UpdateId,
    catalogue::{Leaf, LeafRef, Update},
    client::Client,
    object::{Membership, SiteObjects},
    policy::{LinePolicy, PolicyBody},
    shared::Shared,
};
use serde::{Deserialize, Serialize};

pub use compile::{Changes, Compiler, Delta, Holders, RequiredLeaves, body_digest, compile};
pub use fitting::{NeverFits, never_fitting};
pub(crate) use membership::selects;
pub use membership::{CollectionProblem, check_collections, membership, targeted};

/// Everything policy is compiled from. Equal inputs give equal plans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiteInput {
    /// The site.
    pub site: SiteName,
    /// Its objects.
    pub objects: SiteObjects,
    /// Its clients, in any order. Only active ones are members of anything and get policy. Each is shared: whoever keeps an
    /// earlier state of a site has one copy of those that did not change.
    pub clients: Vec<Shared<Client>>,
    /// Lines to scan against.
    pub lines: Vec<LinePolicy>,
    /// At least every update that a deployment names; one that is missing here is left out and told.
    pub updates: BTreeMap<UpdateId, Update>,
    /// Leaves that some client requires (or required once), per update: only these go into policies.
    pub required_leaves: BTreeMap<UpdateId, BTreeSet<LeafRef>>,
    /// Packages that approved updates newly depend on, approved with them.
    pub dependencies: Vec<Leaf>,
    /// Which distribution points have the files of all these leaves; a file without an entry is on none. None: nobody
    /// knows, and clients ask for everything.
    pub holders: Option<BTreeMap<Digest, BTreeSet<ObjectName>>>,
}

/// What came out. What is large in it is shared, and copied only when it is changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SitePlan {
    /// Members of every collection.
    pub membership: Membership,
    /// Clients that each deployment reaches, by deployment name.
    pub targets: BTreeMap<ObjectName, Shared<BTreeSet<ClientId>>>,
    /// For every active client.
    pub policies: BTreeMap<ClientId, Verdict>,
    /// What an admin should know; nothing here stops a policy unless a verdict says so.
    pub notes: Vec<Note>,
}

/// What a client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This policy. Clients with equal bodies share one.
    Policy(Arc<PolicyBody>),
    /// No new policy: the one it has stays in force.
    Withheld {
        /// Why: object, what is wrong, remedy.
        reason: String,
    },
}

/// Something an admin should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Note {
    /// `Kind/name`.
    pub object: String,
    /// In words.
    pub message: String,
}
