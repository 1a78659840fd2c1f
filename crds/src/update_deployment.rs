//! UpdateDeployment: which updates go to which clients, when and how.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DeploymentSettings,
    conditions::{Condition, Time, status_contract},
    reference::{NAME, ReferenceMode, UpdateRef, update_ids},
    rules::well_formed_updates,
};

/// What a digest looks like.
const DIGEST: &str = "^sha256:[0-9a-f]{64}$";

/// Which updates go to which clients, when and how.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "patchtide.dev",
    version = "v1alpha1",
    kind = "UpdateDeployment",
    namespaced,
    status = "UpdateDeploymentStatus",
    derive = "PartialEq",
    shortname = "ud",
    category = "patchtide",
    doc = "Deploys updates to the clients of a collection. Ready=True says that this generation is accepted, resolved and in force; how far the clients are is told by RolledOut, RolloutProgressing and the counts.",
    selectable = ".spec.collection",
    selectable = ".spec.updateList",
    selectable = ".spec.template",
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
    printcolumn(name = "Updates", type_ = "integer", json_path = ".status.updates"),
    printcolumn(name = "Compliant", type_ = "string", json_path = ".status.compliant"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.failed"),
    printcolumn(name = "Deadline", type_ = "string", json_path = ".status.deadline"),
    printcolumn(name = "Next Window", type_ = "string", json_path = ".status.nextWindow"),
    printcolumn(name = "Past Deadline", type_ = "integer", json_path = ".status.pastDeadline", priority = 1),
    printcolumn(name = "Overdue", type_ = "integer", json_path = ".status.overdue", priority = 1),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend", priority = 1),
    printcolumn(name = "Collection", type_ = "string", json_path = ".status.collection", priority = 1),
    printcolumn(name = "List", type_ = "string", json_path = ".spec.updateList", priority = 1),
    printcolumn(name = "Top Error", type_ = "string", json_path = ".status.errors[0].symbol", priority = 1),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.updateList) || (has(self.updates) && size(self.updates) > 0) || (has(self.updateRefs) && size(self.updateRefs) > 0)").message("say what is deployed: name an updateList, or updates by identity, or both"))]
#[x_kube(validation = Rule::new("has(self.collection) || has(self.template)").message("say to whom: name a collection, or a template that names one"))]
#[x_kube(validation = Rule::new("has(self.template) || (self.templateReference == 'Pinned' && !has(self.templateDigest))").message("templateReference and templateDigest belong to a template: name one, or leave them out"))]
#[x_kube(validation = Rule::new("has(self.updateList) || (self.listReference == 'Pinned' && !has(self.listDigest))").message("listReference and listDigest belong to an updateList: name one, or leave them out"))]
#[x_kube(validation = Rule::new("!has(self.templateDigest) || self.templateReference == 'Pinned'").message("templateDigest pins the template: it cannot stand beside templateReference: Follow"))]
#[x_kube(validation = Rule::new("!has(self.listDigest) || self.listReference == 'Pinned'").message("listDigest pins the list: it cannot stand beside listReference: Follow"))]
pub struct UpdateDeploymentSpec {
    /// What the deployment is for, for people. At most 1024 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// DeploymentTemplate whose settings fill what `settings` leaves out. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub template: Option<String>,
    /// Pinned: the template's content at the time the reference was made stays in force; status says when it differs.
    /// Follow: later edits are taken over. Default Pinned.
    #[serde(default)]
    pub template_reference: ReferenceMode,
    /// Digest of the template's content that is pinned, as `kubectl patchtide pin` writes it, so that the pin survives
    /// the cluster. A template with another content and no memory of this one makes the deployment Stalled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 71, max = 71), regex(pattern = DIGEST))]
    pub template_digest: Option<String>,
    /// UpdateList whose members are deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub update_list: Option<String>,
    /// Pinned: the members at the time the reference was made stay; status says when the list differs. Follow: members
    /// come and go with the list. Default Pinned.
    #[serde(default)]
    pub list_reference: ReferenceMode,
    /// Digest of the pinned members. `kubectl patchtide pin` writes the members themselves into `updates` instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 71, max = 71), regex(pattern = DIGEST))]
    pub list_digest: Option<String>,
    /// Updates by identity, `<line>:<source>@<version>`, at most 1000, beside those of the list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 612)))]
    #[x_kube(validation = well_formed_updates())]
    pub updates: Vec<String>,
    /// The same in structured form, at most 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub update_refs: Vec<UpdateRef>,
    /// Collection whose members are targeted. Default: that of the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub collection: Option<String>,
    /// Whether members of its subcollections, down to the last, are targeted too. Default: that of the template, or false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_subcollections: Option<bool>,
    /// Stops the deployment at every client: nothing more is downloaded, installed or restarted because of it. Online
    /// clients obey in seconds, the others before they do anything else. A package transaction that runs is not killed. What is
    /// installed stays. Default false.
    #[serde(default)]
    pub suspend: bool,
    /// Settings, before those of the template.
    #[serde(default)]
    pub settings: DeploymentSettings,
}

impl UpdateDeploymentSpec {
    /// All updates named by identity in text form, sorted, without repeats.
    pub fn pinned_updates(&self) -> Vec<String> {
        update_ids(&self.updates, &self.update_refs)
    }
}

/// What is true of the deployment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateDeploymentStatus {
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
    /// The settings in force: the deployment's own, the template's, the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_settings: Option<DeploymentSettings>,
    /// The collection in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub collection: Option<String>,
    /// Updates in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updates: Option<u64>,
    /// Of these, expired ones: they are not offered to clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired_updates: Option<u64>,
    /// Digest of the list's members in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub list_digest: Option<String>,
    /// Whether the list says something else now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list_differs: Option<bool>,
    /// Digest of the template's content in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub template_digest: Option<String>,
    /// Whether the template says something else now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_differs: Option<bool>,
    /// Clients targeted. The compliant ones and the counts of `enforcement` add up to it, and so do those of `compliance`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targeted: Option<u64>,
    /// `compliant/targeted`, for example `940/1000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 43))]
    pub compliant: Option<String>,
    /// Compliant clients in percent of the targeted, rounded down: 100 means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub compliant_percent: Option<u32>,
    /// Clients whose download or installation failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<u64>,
    /// Clients by compliance state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub compliance: Vec<StateCount>,
    /// Clients that are not compliant by enforcement state of the deployment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 11))]
    pub enforcement: Vec<StateCount>,
    /// The 10 most frequent errors, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub errors: Vec<RankedError>,
    /// When it became, or becomes, available: an instant, or a wall-clock time without zone for ClientLocal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub available: Option<String>,
    /// The deadline in the same form; `none` for an optional deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub deadline: Option<String>,
    /// Next opening of a window for a client that waits for one; `open until ...` while one is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub next_window: Option<String>,
    /// Clients that wait for a maintenance window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for_window: Option<u64>,
    /// Clients that are not compliant although the deadline is past for them, their share of the deadline spread included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub past_deadline: Option<u64>,
    /// Names of the first 10 of these; the reports have all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 253)))]
    pub late_clients: Vec<String>,
    /// Clients whose enforcement state should have moved by now: its lease is over (condition `StatesOverdue`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overdue: Option<u64>,
    /// Of the overdue ones, those not heard of for so long that what they said may be long past.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent: Option<u64>,
    /// Clients woken by Wake on LAN; nothing: the deployment wakes nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake_on_lan: Option<WakeCounts>,
    /// Bytes of content that the deployment needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_bytes: Option<u64>,
    /// What the deployment comes to as it stands, by the arithmetic of `kubectl patchtide plan` and with its longest
    /// update for every client. It changes with the deployment, windows, clients and content, not with reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<DeploymentPlan>,
    /// When the counts were last brought up to date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_time: Option<Time>,
}

status_contract!(UpdateDeploymentStatus);

/// What a deployment comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentPlan {
    /// Another plan has another hash.
    #[schemars(length(max = 71))]
    pub hash: String,
    /// Clients whose windows never let them meet the deadline.
    pub never_in_time: u64,
    /// The first 5 groups of these, with the window that comes nearest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub nearest_windows: Vec<NearestWindow>,
    /// Clients that may be restarted because of it.
    pub may_restart: u64,
    /// Bytes that distribution points have yet to get for it.
    pub distribute_bytes: u64,
}

/// Clients that can never meet the deadline, and what comes nearest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NearestWindow {
    /// Clients.
    pub clients: u64,
    /// One of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub example_client: Option<String>,
    /// Their deadline.
    #[schemars(length(max = 40))]
    pub deadline: String,
    /// The first opening with room, after the deadline. Nothing: none ever has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub opens: Option<String>,
    /// The longest opening that there is, where none has room.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub longest: Option<String>,
    /// Room that the longest update needs, with a restart that may follow.
    #[schemars(length(max = 32))]
    pub needs: String,
}

/// What became of Wake on LAN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WakeCounts {
    /// Clients that magic packets were sent to.
    pub called: u64,
    /// Of these, clients that were heard of since.
    pub answered: u64,
    /// Clients that are not compliant and cannot be woken: they reported no network card that can.
    pub unable: u64,
}

/// Clients in one state, with the published number and name of the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateCount {
    /// Published number of the state.
    pub id: u32,
    /// Published name of the state.
    #[schemars(length(max = 64))]
    pub state: String,
    /// Clients in it.
    pub clients: u64,
}

/// One kind of error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RankedError {
    /// Published code, for example `0x87D00664`.
    #[schemars(length(max = 10))]
    pub code: String,
    /// Short name, for example `PKG-HASH`.
    #[schemars(length(max = 63))]
    pub symbol: String,
    /// What happened and what to do, as one client told it.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Clients with it.
    pub clients: u64,
    /// One of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub example_client: Option<String>,
}
