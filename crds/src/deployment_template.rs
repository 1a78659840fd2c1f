//! DeploymentTemplate: settings that many deployments share.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DeploymentSettings,
    conditions::{Condition, status_contract},
    reference::NAME,
};

/// Settings, and perhaps the collection, that deployments take over.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "patchtide.dev",
    version = "v1alpha1",
    kind = "DeploymentTemplate",
    namespaced,
    status = "DeploymentTemplateStatus",
    derive = "PartialEq",
    shortname = "dt",
    category = "patchtide",
    doc = "Settings that deployments share. A deployment's own settings come before those of its template; a template that changes reaches only the deployments that follow it.",
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
    printcolumn(name = "Collection", type_ = "string", json_path = ".spec.collection"),
    printcolumn(name = "Used By", type_ = "integer", json_path = ".status.usedBy"),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentTemplateSpec {
    /// What the template is for, for people. At most 1024 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Collection for deployments that name none. Default: they must name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub collection: Option<String>,
    /// Whether members of subcollections are targeted too, for deployments that do not say it. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_subcollections: Option<bool>,
    /// The settings. What is left out is left to the deployment.
    #[serde(default)]
    pub settings: DeploymentSettings,
}

/// What is true of the template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentTemplateStatus {
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
    /// Number of deployments that name the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_by: Option<u64>,
    /// Of these, those that pin an earlier content of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_by_differing: Option<u64>,
    /// SHA-256 over the spec: what `UpdateDeployment.spec.templateDigest` pins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub digest: Option<String>,
}

status_contract!(DeploymentTemplateStatus);
