//! The policy of one client: everything it is told to do, in one document. `protocol` signs and carries it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    ClientId, Digest, LineId, SiteName, UpdateId,
    catalogue::{Installer, Leaf, RestartRule},
    deployment::DeploymentSettings,
    object::ClientSettings,
    window::Window,
};

/// Version of the policy document's form. An agent refuses a newer major than it knows and says what to do.
pub const POLICY_VERSION: u32 = 1;

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
    pub lines: Vec<LinePolicy>,
    /// Windows that govern this client, sorted by name.
    pub windows: Vec<Window>,
    /// Deployments that reach it, sorted by uid.
    pub deployments: Vec<DeploymentPolicy>,
    /// The updates of those deployments, each once.
    pub updates: BTreeMap<UpdateId, UpdatePolicy>,
    /// Packages that approved updates newly depend on; approved with them.
    pub dependencies: Vec<Leaf>,
    /// Files of these leaves that no distribution point within the client's reach has yet. The client does not ask for
    /// them before a policy says otherwise; only when that takes very long, it tries.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub awaited: BTreeSet<Digest>,
    /// For each value that a merge decided, the object it came from: `settings.scan_cycle` -> `ClientSettings/lab`.
    pub provenance: BTreeMap<String, String>,
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
    pub updates: BTreeSet<UpdateId>,
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
