//! SoftwareUpdatePoint: where updates come from and what is known about them.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DurationText, defaults,
    duration::between,
    recurrence::Recurrence,
    reference::SecretRef,
    rules::{time_of_day, time_zone},
};
pub use crate::{software_update_point_sources::*, software_update_point_status::*};

/// Sources of updates, what of them is taken, when, and what the site knows beyond them.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "patchtide.dev",
    version = "v1alpha1",
    kind = "SoftwareUpdatePoint",
    namespaced,
    status = "SoftwareUpdatePointStatus",
    derive = "PartialEq",
    shortname = "sup",
    category = "patchtide",
    doc = "A software update point: synchronises update catalogues from their sources into the site, verified end to end. Clients scan against the catalogue of the site's active one.",
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
    printcolumn(name = "Updates", type_ = "integer", json_path = ".status.updates.total"),
    printcolumn(name = "New", type_ = "integer", json_path = ".status.updates.new"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress.summary"),
    printcolumn(name = "Last Sync", type_ = "date", json_path = ".status.lastSuccessTime"),
    printcolumn(name = "Catalogue", type_ = "integer", json_path = ".status.catalogueVersion", priority = 1),
    printcolumn(
        name = "Last Full Sync",
        type_ = "date",
        json_path = ".status.lastFullSyncTime",
        priority = 1
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SoftwareUpdatePointSpec {
    /// What it is for, for people. At most 1024 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Active: the clients of `clientTypes` scan against it; one per site and client type, of several the oldest is in
    /// force and the others are stalled. Spare: kept synchronised, used when it is made active. Default Active.
    #[serde(default)]
    pub role: SupRole,
    /// Which clients may use it: Intranet (default), Internet, or Both.
    #[serde(default)]
    pub client_types: ClientTypes,
    /// Sources of updates, 1 to 64. One that fails never loses what the others bring.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sources: Vec<UpdateSource>,
    /// Products to take, at most 256, for example `[Debian 12]`. Default: all that the sources bring.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 128)))]
    pub products: Vec<String>,
    /// Classifications to take. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub classifications: Vec<Classification>,
    /// Languages whose metadata is taken, as BCP 47 tags, at most 128, for example `[en, de]`. What has no language is
    /// always taken. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 128),
        inner(length(min = 2, max = 35), regex(pattern = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"))
    )]
    pub languages: Vec<String>,
    /// Rules that give a classification to updates of archives without one, at most 128; the first that matches
    /// decides. Without a match: Label `Debian-Security` or a suite that ends in `-security` gives SecurityUpdates,
    /// everything else Updates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub classification_rules: Vec<ClassificationRule>,
    /// When synchronisations run.
    #[serde(default)]
    pub schedule: SyncSchedule,
    /// Time between two tries after a failure, from 1m to 24h, default 1h.
    #[serde(default = "defaults::h1")]
    #[x_kube(validation = between("1m", "24h"))]
    pub retry_interval: DurationText,
    /// Proxy for all sources and content. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// Expired updates that no deployment, list or package holds and that their source does not have any more are removed
    /// after this time, from 0s to 365d, default 7d.
    #[serde(default = "defaults::d7")]
    #[x_kube(validation = between("0s", "365d"))]
    pub cleanup_age: DurationText,
    /// When a superseded update expires. Default: immediately.
    #[serde(default)]
    pub supersedence_rule: SupersedenceRule,
    /// What the site knows about updates beyond their source, at most 512: for every field the first rule that matches
    /// and sets it decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub update_rules: Vec<UpdateRule>,
    /// Files that tell severity and CVEs, at most 32; later ones win. Archives do not tell these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub advisory_files: Vec<AdvisoryFile>,
    /// Publishes the agent itself as an update, so that machines with an older one get the new one. Default false.
    #[serde(default)]
    pub publish_agent: bool,
    /// Stops synchronising; the catalogue stays as it is. Default false.
    #[serde(default)]
    pub suspend: bool,
}

/// Whether clients scan against it (R-SUP-09, R-SUP-10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SupRole {
    /// Clients scan against it.
    #[default]
    Active,
    /// A warm spare.
    Spare,
}

/// Which clients may use it (R-SUP-35).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClientTypes {
    /// Those inside.
    #[default]
    Intranet,
    /// Those outside.
    Internet,
    /// All.
    Both,
}

/// When synchronisations run. A full one takes new, revised and withdrawn updates; only it expires. A delta takes new
/// ones only (R-SYNC-17 to R-SYNC-21). The first synchronisation starts at once and is full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.full) || !has(self.fullInterval)").message("set full (a calendar) or fullInterval (a length of time), not both"))]
pub struct SyncSchedule {
    /// Full synchronisations by the calendar. Default: by fullInterval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<CalendarSchedule>,
    /// Time between two full synchronisations, from 10s to 31d. Default 7d when `full` is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = between("10s", "31d"))]
    pub full_interval: Option<DurationText>,
    /// Time between two delta synchronisations, to 31d, default 1h; 0s switches them off, less than 10s counts as 10s.
    #[serde(default = "defaults::h1")]
    #[x_kube(validation = between("0s", "31d"))]
    pub delta_interval: DurationText,
}

impl Default for SyncSchedule {
    fn default() -> Self {
        Self { full: None, full_interval: None, delta_interval: defaults::h1() }
    }
}

/// By the calendar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CalendarSchedule {
    /// On which days: exactly one of daily, weekly, monthlyByDate and monthlyByWeekday.
    #[x_kube(validation = Rule::new("!has(self.once)").message("a synchronisation schedule repeats: use daily, weekly, monthlyByDate or monthlyByWeekday"))]
    pub recurrence: Recurrence,
    /// Time of day, HH:MM.
    #[schemars(length(max = 5))]
    #[x_kube(validation = time_of_day())]
    pub start: String,
    /// Time zone: UTC (default) or an IANA name such as `Europe/Berlin`.
    #[serde(default = "utc")]
    #[schemars(length(min = 3, max = 64))]
    #[x_kube(validation = time_zone(false))]
    pub time_zone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// A proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// URL with port, for example `http://proxy.example:3128`.
    #[schemars(length(min = 8, max = 2048), regex(pattern = "^https?://[^ ?#@]+$"))]
    pub url: String,
    /// Secret with `username` and `password`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// Hosts, domains (with a leading dot) and networks that are reached without the proxy, at most 128.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(min = 1, max = 253)))]
    pub no_proxy: Vec<String>,
}

/// When a superseded update expires: exactly one. An expired update enters no new deployment and is not offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.months) != (has(self.immediately) && self.immediately)").message("set exactly one of immediately: true and months (1 to 99)"))]
pub struct SupersedenceRule {
    /// As soon as a newer update supersedes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub immediately: Option<bool>,
    /// This many months, 1 to 99, after the superseding update appeared; until then it can still be deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub months: Option<u32>,
}

impl Default for SupersedenceRule {
    fn default() -> Self {
        Self { immediately: Some(true), months: None }
    }
}
