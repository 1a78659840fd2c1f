//! DeploymentPackage: content, and where it is kept.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    conditions::{Condition, Time, status_contract},
    defaults,
    reference::{NAME, SecretRef, UpdateRef, update_ids},
    rules::{source_url, well_formed_updates},
};

/// Which updates' content is fetched, and which distribution points get it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "patchtide.dev",
    version = "v1alpha1",
    kind = "DeploymentPackage",
    namespaced,
    status = "DeploymentPackageStatus",
    derive = "PartialEq",
    shortname = "pkg",
    shortname = "dp-pkg",
    category = "patchtide",
    doc = "The content of updates and the distribution points that get it. Packages and deployments are independent: a client takes an update's content from any package on any distribution point it can reach.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Version", type_ = "integer", json_path = ".status.version"),
    printcolumn(name = "Updates", type_ = "integer", json_path = ".status.updates"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.size"),
    printcolumn(name = "Points", type_ = "string", json_path = ".status.distributed"),
    printcolumn(name = "Missing", type_ = "integer", json_path = ".status.missingFiles", priority = 1),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.updateLists) && size(self.updateLists) > 0) || (has(self.updates) && size(self.updates) > 0) || (has(self.updateRefs) && size(self.updateRefs) > 0)").message("a package needs content: name updateLists, or updates by identity, or both"))]
#[x_kube(validation = Rule::new("self.allDistributionPoints != (has(self.distributionPoints) && size(self.distributionPoints) > 0)").message("say where the content goes: name distributionPoints, or set allDistributionPoints: true, not both"))]
pub struct DeploymentPackageSpec {
    /// What the package is for, for people. At most 1024 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// UpdateLists whose members' content is in the package, at most 64. They are followed: the package version rises
    /// as they change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253), regex(pattern = NAME)))]
    pub update_lists: Vec<String>,
    /// Updates by identity, `<line>:<source>@<version>`, at most 1000. More than 500 updates in one package are
    /// possible but not advised.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 612)))]
    #[x_kube(validation = well_formed_updates())]
    pub updates: Vec<String>,
    /// The same in structured form, at most 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub update_refs: Vec<UpdateRef>,
    /// DistributionPoints that get the content, at most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 253), regex(pattern = NAME)))]
    pub distribution_points: Vec<String>,
    /// Every DistributionPoint of the site gets the content, later ones too. Default false.
    #[serde(default)]
    pub all_distribution_points: bool,
    /// Languages whose content is taken, as BCP 47 tags, at most 128. Content without a language is always taken.
    /// Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 128),
        inner(length(min = 2, max = 35), regex(pattern = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"))
    )]
    pub languages: Vec<String>,
    /// Which leaves are fetched. Required: those that some targeted client requires, with what they newly depend on. All:
    /// every leaf of every update, for all architectures of the source. Default Required.
    #[serde(default)]
    pub content: ContentScope,
    /// Order in which packages are sent where a distribution point's bandwidth is limited: High before Medium before Low.
    /// Default Medium.
    #[serde(default)]
    pub sending_priority: SendingPriority,
    /// Sends only the changed chunks of changed files to distribution points. Default true.
    #[serde(default = "defaults::yes")]
    pub binary_delta_replication: bool,
    /// Removes the files of updates that left the package from its distribution points at once. False: with the next
    /// change, so that several removals make one refresh. Default true.
    #[serde(default = "defaults::yes")]
    pub refresh_on_removal: bool,
    /// Takes the files from another place than the update's own source. They are verified against the same signed
    /// metadata, wherever they come from. Default: the update's source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_override: Option<SourceOverride>,
}

impl DeploymentPackageSpec {
    /// All updates named by identity in text form, sorted, without repeats.
    pub fn pinned(&self) -> Vec<String> {
        update_ids(&self.updates, &self.update_refs)
    }
}

/// Which leaves of an update are fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ContentScope {
    /// What clients require.
    #[default]
    Required,
    /// All.
    All,
}

/// Order of sending (R-PKG-04).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum SendingPriority {
    /// After the others.
    Low,
    /// As they come.
    #[default]
    Medium,
    /// Before the others.
    High,
}

/// Another place for the files (R-DEPL-25, R-PKG-15).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceOverride {
    /// Root of a mirror, laid out like the source (`pool/...`), or `file://` for a folder of the server.
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = source_url("the mirror's root"))]
    pub url: String,
    /// Secret with `username` and `password`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// Whether the update's own source is asked for what the mirror does not have. Default false.
    #[serde(default)]
    pub fallback: bool,
}

/// What is true of the package.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentPackageStatus {
    /// Last generation of the spec that ended ready or stalled; -1 before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled and the conditions of this kind. Ready=True means that this generation is accepted,
    /// resolved and in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 24))]
    pub conditions: Vec<Condition>,
    /// Value of the last `reconcile.patchtide.dev/requestedAt` annotation that was carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,
    /// Package version: rises by one when its content, or the start time of a deployment of it, changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Updates in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updates: Option<u64>,
    /// Files in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Bytes in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes fetched into the site so far, of `bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_fetched: Option<u64>,
    /// The bytes for people, for example `12.4 MiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub size: Option<String>,
    /// Distribution points that hold this version, of all: `2/3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 21))]
    pub distributed: Option<String>,
    /// Each distribution point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub distribution_points: Vec<PackagePoint>,
    /// Files that could not be fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_files: Option<u64>,
    /// The first 20 of them: update, file, cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub missing: Vec<MissingFile>,
}

status_contract!(DeploymentPackageStatus);

/// The package on one distribution point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PackagePoint {
    /// Name of the DistributionPoint.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Where it stands.
    pub state: PackagePointState,
    /// Version that it holds completely.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Bytes sent for the version under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<u64>,
    /// When that last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_time: Option<Time>,
    /// What failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub error: Option<String>,
}

/// Where a package stands on a distribution point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PackagePointState {
    /// Waits for content, bandwidth or the point.
    #[default]
    Pending,
    /// On its way.
    Sending,
    /// Complete and checked.
    Installed,
    /// It failed; it is tried again.
    Failed,
}

/// A file that could not be fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MissingFile {
    /// Update.
    #[schemars(length(max = 612))]
    pub update: String,
    /// Path below the source's root.
    #[schemars(length(max = 1024))]
    pub file: String,
    /// Why, and what to do.
    #[schemars(length(max = 1024))]
    pub error: String,
}
