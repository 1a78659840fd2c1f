//! Site: a namespace's management point, enrolment, retention and limits.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ByteSize, DurationText, defaults, duration::between, rules::https_addresses};
pub use crate::{site_alertmanager::*, site_enrolment::*, site_status::*};

/// What a site is: how clients reach it, how they enrol, how long data is kept.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "patchtide.dev",
    version = "v1alpha1",
    kind = "Site",
    namespaced,
    status = "SiteStatus",
    derive = "PartialEq",
    shortname = "site",
    category = "patchtide",
    doc = "A site: one namespace with its clients, catalogue and deployments. Exactly one Site per namespace; of several the oldest is in force and the others are stalled.",
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
    printcolumn(name = "Active", type_ = "integer", json_path = ".status.clients.active"),
    printcolumn(name = "Pending", type_ = "integer", json_path = ".status.clients.pending"),
    printcolumn(name = "Inactive", type_ = "integer", json_path = ".status.clients.inactive"),
    printcolumn(name = "Backlog", type_ = "integer", json_path = ".status.backlog.messages", priority = 1),
    printcolumn(name = "CA Expires", type_ = "string", json_path = ".status.keys.caExpires", priority = 1),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SiteSpec {
    /// What the site is for, for people. At most 1024 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Where clients reach the management point.
    pub management_point: ManagementPointSpec,
    /// Where native Windows Update agents scan, and where the software update point's own service listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software_update_point: Option<RoleAddress>,
    /// Where clients download content that no DistributionPoint object describes: the distribution point inside the
    /// server itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distribution: Option<RoleAddress>,
    /// How machines become clients.
    #[serde(default)]
    pub enrolment: Enrolment,
    /// How long data is kept.
    #[serde(default)]
    pub retention: Retention,
    /// What one client or one site may use.
    #[serde(default)]
    pub limits: SiteLimits,
    /// Where alerts of machines are silenced and alerts about failed installations go, for deployments that ask for it.
    /// Default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alertmanager: Option<AlertmanagerSpec>,
}

/// Addresses of the management point.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagementPointSpec {
    /// URLs in the order in which clients try them, 1 to 16, for example `https://patchtide.example:8443`. The names are
    /// also those of the management point's certificate; clients learn of a change with their next policy, so keep
    /// an old address until they have.
    #[schemars(length(min = 1, max = 16), inner(length(max = 512)))]
    #[x_kube(validation = https_addresses())]
    pub addresses: Vec<String>,
}

/// Address of another role inside the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleAddress {
    /// URLs in the order in which clients try them, at most 16. Empty: the management point's host names with the
    /// ports below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 10, max = 512), regex(pattern = "^https?://[^/?#@ ]+(/[^?#@ ]*)?$"))
    )]
    pub addresses: Vec<String>,
    /// Port of plain HTTP, 1 to 65535. Only the software update point uses it, 8530 by custom, for agents that cannot do
    /// TLS; leave it out to offer none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub http_port: Option<u16>,
    /// Port of HTTPS, 1 to 65535. By custom 8531 for the software update point and 8444 for content.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub https_port: Option<u16>,
}

/// How long data is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Accepted state messages are kept at least so long, from 1d to 3650d, default 90d. Current states are kept in any
    /// case.
    #[serde(default = "defaults::d90")]
    #[x_kube(validation = between("1d", "3650d"))]
    pub state_messages: DurationText,
    /// Snapshots from which "compliance as of a date" is answered, from 1d to 3650d, default 365d.
    #[serde(default = "defaults::d365")]
    #[x_kube(validation = between("1d", "3650d"))]
    pub compliance_history: DurationText,
    /// Record of who did what, from 30d to 3650d, default 365d.
    #[serde(default = "defaults::d365")]
    #[x_kube(validation = between("30d", "3650d"))]
    pub audit: DurationText,
    /// A client not heard from for this long counts as inactive, from 1d to 365d, default 30d. It stays targeted.
    #[serde(default = "defaults::d30")]
    #[x_kube(validation = between("1d", "365d"))]
    pub inactive_after: DurationText,
    /// A client not heard from for this long is removed with its states, from 7d to 3650d, default 365d.
    #[serde(default = "defaults::d365")]
    #[x_kube(validation = between("7d", "3650d"))]
    pub remove_clients_after: DurationText,
    /// Content that nothing refers to any more is deleted after this time, from 0s to 365d, default 1d.
    #[serde(default = "defaults::d1")]
    #[x_kube(validation = between("0s", "365d"))]
    pub orphaned_content: DurationText,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            state_messages: defaults::d90(),
            compliance_history: defaults::d365(),
            audit: defaults::d365(),
            inactive_after: defaults::d30(),
            remove_clients_after: defaults::d365(),
            orphaned_content: defaults::d1(),
        }
    }
}

/// What one client or one site may use. Beyond a limit a request is refused with the limit's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SiteLimits {
    /// Clients of the site, pending ones included and revoked ones not, 1 to 10000000, default 100000. Machines that are
    /// clients stay so when it is lowered; no others are taken.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub clients: u32,
    /// Pending machines, 1 to 1000000, default 10000. Of one address at most 10 may be pending in any case.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub pending_clients: u32,
    /// Enrolment requests a minute from one address, 1 to 100000, default 60: half of them at once.
    #[schemars(range(min = 1, max = 100_000))]
    pub enrolments_per_minute: u32,
    /// Requests a minute of one client to management points, 1 to 100000, default 600: half of them at once. Reports of
    /// state messages have a limit of their own beside it, 20 at once and then one in 10 seconds.
    #[schemars(range(min = 1, max = 100_000))]
    pub requests_per_minute: u32,
    /// Size of one report of several state messages after decompression, default and at most 512Ki: the protocol allows
    /// no more. A report of one message is not held to it, for it cannot be made smaller.
    pub report_size: ByteSize,
    /// State messages in one report, 1 to 1000, default 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub messages_per_report: u32,
    /// Size of the content store, default: what the disk holds. When it is full, nothing new is fetched and the packages
    /// that wait for it say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_store: Option<ByteSize>,
}

impl Default for SiteLimits {
    fn default() -> Self {
        Self {
            clients: 100_000,
            pending_clients: 10_000,
            enrolments_per_minute: 60,
            requests_per_minute: 600,
            report_size: defaults::kib512(),
            messages_per_report: 1_000,
            content_store: None,
        }
    }
}
