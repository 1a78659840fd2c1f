//! The policy of one client: everything it is told to do, in one document. `protocol` signs and carries it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    ClientId, Digest, LineId, SiteName, UpdateId,
    catalogue::{Installer, Leaf, RestartRule},
    deployment::DeploymentSettings,
    object::ClientSettings,
    shared::{ContentDigest, Shared},
    window::Window,
};

/// Version of the policy's form. An agent refuses another than it knows and says what to do.
pub const POLICY_VERSION: u32 = 2;

/// One client's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Form of the document: [`POLICY_VERSION`].
    pub version: u32,
    /// The site.
    pub site: SiteName,
    /// The only client this is for.
    pub client: ClientId,
    /// Rises when a site is restored from a backup, so that lower numbers are obeyed again.
    pub epoch: u64,
    /// Only rises within an epoch.
    pub number: u64,
    /// When it was compiled.
    pub issued_at: Timestamp,
    /// What it says.
    pub body: PolicyBody,
}

/// What a policy says; equal bodies are the same policy and get no new number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyBody {
    /// Client settings that apply.
    pub settings: ClientSettings,
    /// Lines to scan against.
    pub lines: Shared<Vec<LinePolicy>>,
    /// Windows that govern this client, sorted by name.
    pub windows: Vec<Window>,
    /// Deployments that reach it, sorted by uid. Clients that are reached by the same ones share them, and what follows.
    pub deployments: Shared<Vec<DeploymentPolicy>>,
    /// The updates of those deployments, each once.
    pub updates: Shared<BTreeMap<UpdateId, Shared<UpdatePolicy>>>,
    /// Packages that approved updates newly depend on; approved with them.
    pub dependencies: Shared<Vec<Leaf>>,
    /// Files of these leaves that no distribution point within the client's reach has yet. The client does not ask for
    /// them before a policy says otherwise; only when that takes very long, it tries.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub awaited: Shared<BTreeSet<Digest>>,
    /// For each value that a merge decided, the object it came from, where the rest of the body does not tell it already:
    /// ask [`PolicyBody::origin_of`].
    pub provenance: Shared<BTreeMap<String, String>>,
}

fn is_empty<T>(set: &Shared<BTreeSet<T>>) -> bool {
    set.is_empty()
}

/// A line to scan against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinePolicy {
    /// The line.
    pub line: LineId,
    /// Catalogue version.
    pub catalogue_version: u64,
    /// Digest of the compressed [`crate::catalogue::LineCatalogue`].
    pub digest: Digest,
    /// Its compressed bytes.
    pub size: u64,
    /// Who the line's release says it is: what the owner of a machine may pin by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<LineRelease>,
}

/// Names of the verified release that a line belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LineRelease {
    /// `Origin`, for example `Debian`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// `Label`, for example `Debian-Security`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// `Suite`, for example `stable-security`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<String>,
    /// `Codename`, for example `bookworm-security`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codename: Option<String>,
}

/// A deployment in a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentPolicy {
    /// Object name, for people.
    pub name: String,
    /// Identity in state messages.
    pub uid: String,
    /// Generation in force.
    pub generation: i64,
    /// Held: start nothing of it.
    pub suspend: bool,
    /// Settings.
    pub settings: DeploymentSettings,
    /// What "as soon as possible" and `After` count from.
    pub anchor: Timestamp,
    /// Its updates.
    pub updates: Shared<BTreeSet<UpdateId>>,
    /// [`Deployment::provenance`](crate::deployment::Deployment::provenance).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provenance: BTreeMap<String, String>,
}

/// An update in a policy: exactly what may be installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdatePolicy {
    /// Title.
    pub title: String,
    /// Approved leaves that some client needs: files, hashes and the index's stanzas.
    pub leaves: Vec<Leaf>,
    /// Maximum run time, when a rule sets one.
    pub maximum_run_time: Option<SignedDuration>,
    /// Apart from all others.
    pub exclusive: bool,
    /// Restart rule.
    pub restart: RestartRule,
    /// How it is installed. A client that does not know it refuses the policy.
    #[serde(default, skip_serializing_if = "Installer::is_apt")]
    pub installer: Installer,
    /// The newer update of the same source in the line; when both are installed together, only its leaves are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<UpdateId>,
}

impl PolicyBody {
    /// What says whether a body is a new policy: equal bodies have the same. Computed from the digests of what bodies
    /// share, so that each of those is read once for all clients.
    pub fn digest(&self) -> Digest {
        let Self { settings, lines, windows, deployments, updates, dependencies, awaited, provenance } = self;
        let shared = [
            lines.digest(),
            deployments.digest(),
            updates.digest(),
            dependencies.digest(),
            awaited.digest(),
            provenance.digest(),
        ];
        json_digest(&(settings, windows, shared))
    }
}

fn json_digest(value: &impl Serialize) -> Digest {
    Digest::of(&serde_json::to_vec(value).unwrap_or_default())
}

impl ContentDigest for Vec<DeploymentPolicy> {
    fn content_digest(&self) -> Digest {
        json_digest(self)
    }
}

impl ContentDigest for UpdatePolicy {
    fn content_digest(&self) -> Digest {
        json_digest(self)
    }
}

impl ContentDigest for BTreeMap<UpdateId, Shared<UpdatePolicy>> {
    fn content_digest(&self) -> Digest {
        let digests: BTreeMap<&UpdateId, Digest> =
            self.iter().map(|(id, update)| (id, update.digest())).collect();
        json_digest(&digests)
    }
}

impl ContentDigest for Vec<Leaf> {
    fn content_digest(&self) -> Digest {
        json_digest(self)
    }
}

impl ContentDigest for BTreeSet<Digest> {
    fn content_digest(&self) -> Digest {
        json_digest(self)
    }
}

impl ContentDigest for BTreeMap<String, String> {
    fn content_digest(&self) -> Digest {
        json_digest(self)
    }
}

impl ContentDigest for Vec<LinePolicy> {
    fn content_digest(&self) -> Digest {
        json_digest(self)
    }
}
