//! SearchFolder: a saved search over the catalogue.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ByteSize, DurationText,
    conditions::{Condition, Time, status_contract},
    duration::between,
    software_update_point_sources::{Classification, Severity},
};

/// A saved search over the catalogue.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "patchtide.dev",
    version = "v1alpha1",
    kind = "SearchFolder",
    namespaced,
    status = "SearchFolderStatus",
    derive = "PartialEq",
    shortname = "sf",
    category = "patchtide",
    doc = "A saved search over the site's catalogue. Its content is always the updates that meet all criteria now.",
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
    printcolumn(name = "Matches", type_ = "integer", json_path = ".status.matches"),
    printcolumn(name = "Catalogue", type_ = "integer", json_path = ".status.catalogueVersion", priority = 1),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SearchFolderSpec {
    /// What the search is for, for people. At most 1024 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// The criteria. An update must meet all that are given; of several values in one criterion any suffices. Without
    /// a criterion every update that is not expired and not superseded is found.
    #[serde(default)]
    pub criteria: SearchCriteria,
}

/// Criteria over an update's properties (R-SRCH-02, R-SRCH-03).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SearchCriteria {
    /// Text in the article id, for example `936982`. At most 32 values; upper and lower case are the same here and in
    /// all texts below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    pub articles: Vec<String>,
    /// Text in a bulletin or advisory id, for example `DSA-5000` or `MS08-067`. At most 32 values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    pub bulletins: Vec<String>,
    /// Text in the title. A value that begins with `-` leaves out the updates that hold the rest of it. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub titles: Vec<String>,
    /// Text in the description; `-` as in titles. At most 32 values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub descriptions: Vec<String>,
    /// Source package or bundle names; `*` stands for any characters; `-` as in titles. At most 256 values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 200)))]
    pub sources: Vec<String>,
    /// Product lines, `<source>/<suite>/<component>`; `*` stands for any characters. At most 64 values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 200)))]
    pub lines: Vec<String>,
    /// Classifications, for example `[SecurityUpdates, CriticalUpdates]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub classifications: Vec<Classification>,
    /// Products; `*` stands for any characters. At most 64 values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub products: Vec<String>,
    /// Vendors; `*` stands for any characters. At most 64 values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub vendors: Vec<String>,
    /// Severities, for example `[Important, Critical]`. Updates that nobody rated have None.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub severities: Vec<Severity>,
    /// CVE ids, for example `CVE-2024-3094`. At most 256 values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 256),
        inner(length(min = 9, max = 24), regex(pattern = "^CVE-[0-9]{4}-[0-9]{4,12}$"))
    )]
    pub cves: Vec<String>,
    /// Languages as BCP 47 tags. What has no language always meets this. At most 128 values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(min = 2, max = 35)))]
    pub languages: Vec<String>,
    /// Architectures of which the update has a leaf, for example `[amd64]`. At most 16 values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 32)))]
    pub architectures: Vec<String>,
    /// When the update was released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released: Option<DateCriterion>,
    /// When the update was released or last revised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_or_revised: Option<DateCriterion>,
    /// True: only superseded updates. False: only those that are not. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superseded: Option<bool>,
    /// True: only expired updates. False: only those that are not. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired: Option<bool>,
    /// True: only updates of some deployment. False: only the others. Default: both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployed: Option<bool>,
    /// True: only updates whose content is in the site. False: only the others. Default: both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downloaded: Option<bool>,
    /// Number of clients that require the update by their last scan. `{atLeast: 1}` finds what some machine misses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_by: Option<CountCriterion>,
    /// Number of clients that have it installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installed_on: Option<CountCriterion>,
    /// Share of clients with it installed among those that need or have it, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent_compliant: Option<PercentCriterion>,
    /// Bytes of the update's content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_size: Option<SizeCriterion>,
    /// True: only updates with licence terms that nobody accepted yet. False: only the others. Default: both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence_pending: Option<bool>,
    /// True: only updates of custom catalogues. False: only the others. Default: both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<bool>,
    /// True: only updates that install apart from all others. False: only the others. Default: both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<bool>,
}

/// A span of time: at least one bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.within) || has(self.olderThan) || has(self.from) || has(self.until)").message("set within, olderThan, from or until"))]
pub struct DateCriterion {
    /// Not longer ago than this, from 1h to 3650d, for example `30d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = between("1h", "3650d"))]
    pub within: Option<DurationText>,
    /// Longer ago than this, from 1h to 3650d.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = between("1h", "3650d"))]
    pub older_than: Option<DurationText>,
    /// From this day on (UTC), as YYYY-MM-DD.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 10), extend("format" = "date"))]
    pub from: Option<String>,
    /// Up to and with this day (UTC), as YYYY-MM-DD.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 10), extend("format" = "date"))]
    pub until: Option<String>,
}

/// A range of counts: at least one bound, both included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.atLeast) || has(self.atMost)) && (!has(self.atLeast) || !has(self.atMost) || self.atLeast <= self.atMost)").message("set atLeast, atMost or both, with atLeast not above atMost"))]
pub struct CountCriterion {
    /// At least so many, 0 to 10000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub at_least: Option<u32>,
    /// At most so many, 0 to 10000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub at_most: Option<u32>,
}

/// A range of percents: at least one bound, both included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.atLeast) || has(self.atMost)) && (!has(self.atLeast) || !has(self.atMost) || self.atLeast <= self.atMost)").message("set atLeast, atMost or both, with atLeast not above atMost"))]
pub struct PercentCriterion {
    /// At least, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub at_least: Option<u32>,
    /// At most, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub at_most: Option<u32>,
}

/// A range of sizes: at least one bound, both included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.atLeast) || has(self.atMost)").message("set atLeast, atMost or both"))]
pub struct SizeCriterion {
    /// At least, for example `100Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<ByteSize>,
    /// At most, for example `2Gi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<ByteSize>,
}

/// What is true of the search.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SearchFolderStatus {
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
    /// Number of updates that meet all criteria.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<u64>,
    /// The newest 20 of them, as `<line>:<source>@<version>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 612)))]
    pub newest: Vec<String>,
    /// Catalogue version that was searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalogue_version: Option<u64>,
    /// When it was searched last with another result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_time: Option<Time>,
}

status_contract!(SearchFolderStatus);
