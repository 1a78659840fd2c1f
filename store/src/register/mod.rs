//! What the plan says, as rows: who is in a collection, whom a deployment reaches and with what. Reports and SQL read it;
//! nothing is decided by it. The leader keeps it.

mod columns;
mod differ;
mod keep;
mod schedule;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, Digest, ObjectName, UpdateId, deployment::Deployment, shared::Shared, window::Window,
};

/// What a site's objects come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Register {
    /// Collections.
    pub collections: BTreeMap<ObjectName, RegisteredCollection>,
    /// Update lists.
    pub lists: BTreeMap<ObjectName, RegisteredList>,
    /// Deployments.
    pub deployments: BTreeMap<ObjectName, RegisteredDeployment>,
    /// Maintenance windows.
    pub windows: BTreeMap<ObjectName, RegisteredWindow>,
    /// Packages.
    pub packages: BTreeMap<ObjectName, RegisteredPackage>,
}

/// Which object it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Kubernetes UID.
    pub uid: String,
    /// Generation in force.
    pub generation: i64,
    /// What it is for, in the words of who made it.
    pub description: Option<String>,
    /// When it was made; none: not known any more, and what is written stays.
    pub created: Option<Timestamp>,
}

/// A collection.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisteredCollection {
    /// Which.
    pub origin: Origin,
    /// The collection it is a subcollection of.
    pub parent: Option<ObjectName>,
    /// Its clients.
    pub members: Shared<BTreeSet<ClientId>>,
}

/// An update list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredList {
    /// Which.
    pub origin: Origin,
    /// The search that it follows.
    pub folder: Option<String>,
    /// Its updates; what the catalogue does not have is left out until it does.
    pub members: BTreeSet<UpdateId>,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisteredDeployment {
    /// Which.
    pub origin: Origin,
    /// As it is in force; of its updates, what the catalogue does not have is left out until it does.
    pub deployment: Deployment,
    /// The list that it refers to.
    pub list: Option<ObjectName>,
    /// When it is available; a civil time read as if it were UTC where the deployment counts in client local time.
    pub available: Option<Timestamp>,
    /// By when it is enforced, in the same form.
    pub deadline: Option<Timestamp>,
    /// The clients that it reaches.
    pub targets: Shared<BTreeSet<ClientId>>,
}

/// A maintenance window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredWindow {
    /// Which.
    pub origin: Origin,
    /// What it says.
    pub window: Window,
    /// Whether it opens at all.
    pub enabled: bool,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredPackage {
    /// Which.
    pub origin: Origin,
    /// Package version.
    pub version: u64,
    /// Its updates; what the catalogue does not have is left out until it does.
    pub updates: BTreeSet<UpdateId>,
    /// Its files.
    pub files: BTreeSet<Digest>,
    /// The distribution points that get it.
    pub points: BTreeSet<ObjectName>,
}
