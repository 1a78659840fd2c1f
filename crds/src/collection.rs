//! Collection: a set of clients.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    conditions::{Condition, Time, status_contract},
    reference::NAME,
};

/// A set of clients: the target of deployments, maintenance windows and settings.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "patchtide.dev",
    version = "v1alpha1",
    kind = "Collection",
    namespaced,
    status = "CollectionStatus",
    derive = "PartialEq",
    shortname = "coll",
    category = "patchtide",
    doc = "A set of clients: the target of deployments, maintenance windows and client settings. Members are those of the rules (all, selector, directMembers, include), without those of exclude, and within the limiting collection. A client may be in many collections.",
    selectable = ".spec.limitingCollection",
    selectable = ".spec.parent",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Members", type_ = "integer", json_path = ".status.members"),
    printcolumn(name = "Active", type_ = "integer", json_path = ".status.active"),
    printcolumn(name = "Limiting", type_ = "string", json_path = ".spec.limitingCollection", priority = 1),
    printcolumn(name = "Parent", type_ = "string", json_path = ".spec.parent", priority = 1),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("!has(self.spec.include) || !(self.metadata.name in self.spec.include)").message("REF-CYCLE: a collection cannot include itself: take its own name out of spec.include"),
    validation = Rule::new("!has(self.spec.exclude) || !(self.metadata.name in self.spec.exclude)").message("REF-CYCLE: a collection cannot exclude itself: take its own name out of spec.exclude"),
    validation = Rule::new("(!has(self.spec.limitingCollection) || self.spec.limitingCollection != self.metadata.name) && (!has(self.spec.parent) || self.spec.parent != self.metadata.name)").message("REF-CYCLE: a collection cannot be its own limitingCollection or parent: name another one or leave the field out")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.all) && self.all) || has(self.selector) || (has(self.directMembers) && size(self.directMembers) > 0) || (has(self.include) && size(self.include) > 0)").message("SELECTOR-EMPTY: a collection needs a rule: selector, directMembers or include; for every client of the site write all: true"))]
#[x_kube(validation = Rule::new("!(has(self.all) && self.all) || (!has(self.selector) && !has(self.directMembers) && !has(self.include))").message("all: true already means every client: leave selector, directMembers and include out (exclude and limitingCollection still count)"))]
pub struct CollectionSpec {
    /// What the collection is for, for people. At most 1024 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Every active client of the site. Explicit, so that an empty selector never means it by accident. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// Clients whose facts match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<FactSelector>,
    /// Clients by host name or client id, at most 5000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 5000),
        inner(length(min = 1, max = 253), regex(pattern = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"))
    )]
    pub direct_members: Vec<String>,
    /// Collections whose members are members too, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253), regex(pattern = NAME)))]
    pub include: Vec<String>,
    /// Collections whose members are not members, whatever else says so, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253), regex(pattern = NAME)))]
    pub exclude: Vec<String>,
    /// Collection outside of which nothing is a member: what a delegated admin was given. Default: the whole site.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub limiting_collection: Option<String>,
    /// Collection of which this is a subcollection: deployments to it with includeSubcollections reach this one too.
    /// Windows and settings are not inherited. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub parent: Option<String>,
}

/// A condition over client facts; all parts must hold. Facts are for example `hostname`, `os.id`, `os.version`,
/// `os.codename`, `architecture`, `kernel`, `role`, and `label/<key>` for labels set on the machine itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)").message("SELECTOR-EMPTY: an empty selector would match every client: give matchLabels or matchExpressions, or write all: true instead of a selector"))]
pub struct FactSelector {
    /// Facts and the values they must have, at most 64, for example `os.codename: bookworm` or `label/role: web`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "facts")]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions on facts, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub match_expressions: Vec<FactExpression>,
}

fn facts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 256}
    })
}

/// A condition on one fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.operator in ['In', 'NotIn', 'Glob']) == (has(self.values) && size(self.values) > 0)").message("In, NotIn and Glob need values; Exists and DoesNotExist take none"))]
pub struct FactExpression {
    /// The fact, 1 to 63 characters, or `label/` and a key.
    #[schemars(length(min = 1, max = 70), regex(pattern = "^(label/)?[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub key: String,
    /// In: the fact has one of the values. NotIn: it has none of them, or the client does not have it. Glob: it matches
    /// one of the values, in which `*` stands for any characters. Exists: the client has it. DoesNotExist: it does not.
    pub operator: FactOperator,
    /// The values, at most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 256)))]
    pub values: Vec<String>,
}

/// How a fact is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names say it all")]
pub enum FactOperator {
    In,
    NotIn,
    Glob,
    Exists,
    DoesNotExist,
}

/// What is true of the collection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollectionStatus {
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
    /// Members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<u64>,
    /// Of these, heard from within the site's `retention.inactiveAfter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<u64>,
    /// Direct members that no client answers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_direct_members: Option<u64>,
    /// Deployments that target it, by itself or as a subcollection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployments: Option<u64>,
    /// Maintenance windows on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<u64>,
    /// When the members last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_time: Option<Time>,
}

status_contract!(CollectionStatus);
