//! UpdateList: a set of updates, pinned or following a search.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DurationText,
    conditions::{Condition, Time, status_contract},
    duration::between,
    reference::{NAME, UpdateRef, update_ids},
    rules::well_formed_updates,
};

/// What an update's identity looks like.
pub(crate) const UPDATE_ID: &str =
    "^[A-Za-z0-9+._~-]+(/[A-Za-z0-9+._~-]+){2,8}:[A-Za-z0-9+._-]+@[A-Za-z0-9+.~:-]+$";

/// A set of updates.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "patchtide.dev",
    version = "v1alpha1",
    kind = "UpdateList",
    namespaced,
    status = "UpdateListStatus",
    derive = "PartialEq",
    shortname = "ul",
    category = "patchtide",
    doc = "A set of software updates for deployment, packages and compliance reports: pinned by identity, or following a search folder. Adding an update to a list does not by itself add it to a deployment that pins the list.",
    selectable = ".spec.searchFolder.name",
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
    printcolumn(name = "Updates", type_ = "integer", json_path = ".status.resolved"),
    printcolumn(name = "Missing", type_ = "integer", json_path = ".status.missing"),
    printcolumn(name = "Compliant", type_ = "string", json_path = ".status.compliance.summary"),
    printcolumn(name = "Expired", type_ = "integer", json_path = ".status.expired", priority = 1),
    printcolumn(name = "Superseded", type_ = "integer", json_path = ".status.superseded", priority = 1),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.searchFolder) || (has(self.updates) && size(self.updates) > 0) || (has(self.updateRefs) && size(self.updateRefs) > 0)").message("an update list needs members: name updates (updates or updateRefs), follow a search (searchFolder), or both"))]
pub struct UpdateListSpec {
    /// What the list is for, for people. At most 1024 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Updates pinned by identity, `<line>:<source>@<version>`, at most 1000, for example
    /// `debian/bookworm-security/main:openssl@3.0.22-1~deb12u2`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 612)))]
    #[x_kube(validation = well_formed_updates())]
    pub updates: Vec<String>,
    /// The same in structured form, at most 1000, for tools that would otherwise have to compose the text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub update_refs: Vec<UpdateRef>,
    /// Search whose result is the list, beside the pinned updates. Such a list only grows by itself: members leave when
    /// they are withdrawn or superseded and expired, or excluded, not because they got installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_folder: Option<SearchFolderReference>,
    /// Updates that are never members, whatever the search finds: an identity, or a source package name with `*` for any
    /// characters, for example `linux*`. At most 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 612)))]
    pub exclusions: Vec<String>,
}

impl UpdateListSpec {
    /// All pinned updates in text form, sorted, without repeats.
    pub fn pinned(&self) -> Vec<String> {
        update_ids(&self.updates, &self.update_refs)
    }
}

/// A search that the list follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.refresh == 'Interval') == has(self.interval)").message("interval belongs to refresh: Interval; set both or neither"))]
pub struct SearchFolderReference {
    /// Name of the SearchFolder.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub name: String,
    /// OnChange: as soon as catalogue or scan results change the search's result. Interval: every `interval`. Manual:
    /// only when `reconcile.patchtide.dev/requestedAt` asks for it. Default OnChange.
    #[serde(default)]
    pub refresh: RefreshPolicy,
    /// Time between two refreshes for refresh Interval, from 1m to 31d.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = between("1m", "31d"))]
    pub interval: Option<DurationText>,
}

/// When a list follows its search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RefreshPolicy {
    /// As the result changes.
    #[default]
    OnChange,
    /// Every so often.
    Interval,
    /// When asked.
    Manual,
}

/// What is true of the list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateListStatus {
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
    /// Members that the catalogue knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<u64>,
    /// Pinned updates that the catalogue does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<u64>,
    /// Members that are expired: they are not offered to clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired: Option<u64>,
    /// Members that are superseded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superseded: Option<u64>,
    /// Members whose content is in no deployment package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_content: Option<u64>,
    /// Compliance of the site's active clients with the members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compliance: Option<ListCompliance>,
    /// The first 20 missing updates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 612)))]
    pub missing_updates: Vec<String>,
    /// The first 20 expired or superseded members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 612)))]
    pub outdated_updates: Vec<String>,
    /// SHA-256 over the resolved members: what deployments and packages pin.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub digest: Option<String>,
    /// When the members last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_time: Option<Time>,
    /// Next refresh, for refresh Interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_refresh_time: Option<Time>,
}

status_contract!(UpdateListStatus);

/// Compliance of clients with a list. The first three add up to `clients`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ListCompliance {
    /// `compliant/clients`, for example `940/1000`.
    #[schemars(length(max = 43))]
    pub summary: String,
    /// Active clients.
    pub clients: u64,
    /// Clients that require no member.
    pub compliant: u64,
    /// Clients that require at least one member.
    pub non_compliant: u64,
    /// Clients of which that is not known.
    pub unknown: u64,
    /// Compliant clients in percent of all, rounded down.
    pub percent: u32,
}
