//! DistributionPoint: where clients download content.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ByteSize,
    conditions::{Condition, Time, status_contract},
    recurrence::Weekday,
    rules::{https_addresses, time_of_day, time_zone},
};

/// Where clients download content, which clients it is near to, and what it may use.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "patchtide.dev",
    version = "v1alpha1",
    kind = "DistributionPoint",
    namespaced,
    status = "DistributionPointStatus",
    derive = "PartialEq",
    shortname = "dp",
    category = "patchtide",
    doc = "A distribution point: an HTTPS server of immutable files, addressed by their SHA-256. Clients try those whose boundary contains their address first, fast before slow, then, where the deployment allows it, the others.",
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
    printcolumn(name = "Packages", type_ = "integer", json_path = ".status.packages"),
    printcolumn(name = "Free", type_ = "string", json_path = ".status.free"),
    printcolumn(name = "Protected", type_ = "boolean", json_path = ".spec.protected"),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.endpoints[0]", priority = 1),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.protected || (has(self.boundaries) && size(self.boundaries) > 0)").message("a protected distribution point serves the clients of its boundaries only: give boundaries, or set protected: false"))]
pub struct DistributionPointSpec {
    /// What it is for and where it stands, for people. At most 1024 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// URLs under which clients reach it, in the order in which they try them, 1 to 16, for example
    /// `https://dp1.example:8444`.
    #[schemars(length(min = 1, max = 16), inner(length(max = 512)))]
    #[x_kube(validation = https_addresses())]
    pub endpoints: Vec<String>,
    /// Networks that it is near to, at most 1024. A client's address decides; of several that contain it the longest
    /// prefix. Default: none, it is near to nobody and unprotected clients use it last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["cidr".into()]))]
    pub boundaries: Vec<Boundary>,
    /// Serves only clients of its boundaries; and those clients use others only where the deployment allows it. Default
    /// false.
    #[serde(default)]
    pub protected: bool,
    /// Limits of what is sent to it. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Bytes that content may take on it, for example `50Gi`. Packages are taken by sending priority, then by name, as
    /// long as they fit; the others wait and say so. Default: what its disk holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<ByteSize>,
    /// Takes it out of service: clients are not sent to it, and it gets no content. Default false.
    #[serde(default)]
    pub suspend: bool,
}

/// A network that the distribution point is near to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Boundary {
    /// Network in CIDR form, for example `10.1.0.0/16` or `2001:db8::/32`.
    #[schemars(length(min = 4, max = 49))]
    #[x_kube(validation = Rule::new("isCIDR(self) && cidr(self).masked() == cidr(self)").message("write a network in CIDR form with its host bits zero, for example 10.1.0.0/16 or 2001:db8::/32"))]
    pub cidr: String,
    /// Fast: well connected. Slow: slow or unreliable, and deployments say what clients do there. Default Fast.
    #[serde(default)]
    pub speed: BoundarySpeed,
}

/// How well a boundary is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum BoundarySpeed {
    /// Well.
    #[default]
    Fast,
    /// Slow or unreliable.
    Slow,
}

/// Limits of what is sent to a distribution point.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    /// Bytes per second outside of the schedule, for example `10Mi`. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<ByteSize>,
    /// Times with another limit, at most 64; the first that contains the moment decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub schedule: Vec<BandwidthSlot>,
    /// Time zone of the schedule: UTC (default) or an IANA name such as `Europe/Berlin`.
    #[serde(default = "utc")]
    #[schemars(length(min = 3, max = 64))]
    #[x_kube(validation = time_zone(false))]
    pub time_zone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// A time with a limit of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BandwidthSlot {
    /// Weekdays. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub weekdays: Vec<Weekday>,
    /// From this time of day on, HH:MM.
    #[schemars(length(max = 5))]
    #[x_kube(validation = time_of_day())]
    pub from: String,
    /// Until this time of day, HH:MM. Not later than `from`: until that time of the next day.
    #[schemars(length(max = 5))]
    #[x_kube(validation = time_of_day())]
    pub until: String,
    /// Bytes per second, for example `1Mi`; `0`: nothing is sent. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<ByteSize>,
}

/// What is true of the distribution point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DistributionPointStatus {
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
    /// Packages that it holds completely.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packages: Option<u64>,
    /// Packages on their way to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packages_pending: Option<u64>,
    /// Bytes of content on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_used: Option<u64>,
    /// Bytes free for content: of the disk, or of the capacity where that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_free: Option<u64>,
    /// The free bytes for people, for example `38.2 GiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub free: Option<String>,
    /// When it last answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_contact_time: Option<Time>,
}

status_contract!(DistributionPointStatus);
