//! Site: a namespace's management point, enrolment, retention and keys.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ByteSize, DurationText,
    conditions::{Condition, Time, status_contract},
    defaults,
    duration::between,
    reference::{NAME, SecretKeyRef},
    rules::https_addresses,
};

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
    /// Where the site's keys are kept.
    #[serde(default)]
    pub signing: Signing,
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

/// How machines become clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Enrolment {
    /// Tokens with which a machine may ask for enrolment, at most 256. Without one nothing can enrol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tokens: Vec<EnrolmentToken>,
    /// What happens with a machine that asked with a valid token.
    #[serde(default)]
    pub approval: Approval,
    /// Life of a client certificate, from 1h to 365d, default 90d.
    #[serde(default = "defaults::d90")]
    #[x_kube(validation = between("1h", "365d"))]
    pub certificate_lifetime: DurationText,
    /// How long before its end a client renews its certificate, from 10m to 180d. Default: a third of the life.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = between("10m", "180d"))]
    pub renew_before: Option<DurationText>,
    /// Life of a request that nobody approved, from 10m to 365d, default 7d; then the machine has to ask again.
    #[serde(default = "defaults::d7")]
    #[x_kube(validation = between("10m", "365d"))]
    pub pending_lifetime: DurationText,
}

impl Default for Enrolment {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            approval: Approval::default(),
            certificate_lifetime: defaults::d90(),
            renew_before: None,
            pending_lifetime: defaults::d7(),
        }
    }
}

/// A token that lets machines ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnrolmentToken {
    /// Name of the token, for status and audit. Unique within the site.
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub name: String,
    /// The Secret that holds the token, at least 16 bytes; key default `token`. For OneTime the value may hold several
    /// tokens, one a line.
    pub secret_ref: SecretKeyRef,
    /// OneTime: each token enrols one machine. Site: any number of machines. Default OneTime.
    #[serde(rename = "use", default)]
    pub usage: TokenUse,
    /// When the token ends, as RFC 3339 with time zone, for example `2026-12-31T00:00:00Z`. Default: it does not end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), extend("format" = "date-time"))]
    pub expiry: Option<String>,
    /// Collection of which machines that enrol with this token become direct members. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub collection: Option<String>,
}

/// How often a token may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TokenUse {
    /// Once.
    #[default]
    OneTime,
    /// Any number of times.
    Site,
}

/// What happens with a machine that asked with a valid token. A pending machine gets nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode == 'Manual' || (has(self.tokens) && size(self.tokens) > 0) || (has(self.cidrs) && size(self.cidrs) > 0)").message("mode Automatic needs a rule: list the kinds of token (tokens: [OneTime]) or the networks (cidrs) that suffice, or use mode Manual"))]
pub struct Approval {
    /// Manual: a person approves each one (`kubectl patchtide approve`). Automatic: those that meet the rules below are
    /// approved at once, the others wait for a person. Default Manual.
    #[serde(default)]
    pub mode: ApprovalMode,
    /// Kinds of token that suffice in mode Automatic. With cidrs given too, both must be met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub tokens: Vec<TokenUse>,
    /// Networks of which the machine must be a member in mode Automatic, for example `10.1.0.0/16`, at most 256. With
    /// tokens given too, both must be met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 4, max = 49)))]
    #[x_kube(validation = Rule::new("self.all(c, isCIDR(c))").message("each entry must be a network in CIDR form, for example 10.1.0.0/16 or 2001:db8::/32"))]
    pub cidrs: Vec<String>,
}

/// Who approves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApprovalMode {
    /// A person.
    #[default]
    Manual,
    /// The rules.
    Automatic,
}

/// How long data is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Accepted state messages, from 1d to 3650d, default 90d. Current states are kept in any case.
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
    /// Clients of the site, pending ones included, 1 to 10000000, default 100000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub clients: u32,
    /// Pending machines, 1 to 1000000, default 10000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub pending_clients: u32,
    /// Enrolment requests a minute from one address, 1 to 100000, default 60.
    #[schemars(range(min = 1, max = 100_000))]
    pub enrolments_per_minute: u32,
    /// Requests a minute of one client, 1 to 100000, default 600.
    #[schemars(range(min = 1, max = 100_000))]
    pub requests_per_minute: u32,
    /// Size of one report of state messages after decompression, default 1Mi.
    pub report_size: ByteSize,
    /// State messages in one report, 1 to 1000000, default 10000.
    #[schemars(range(min = 1, max = 1_000_000))]
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
            report_size: defaults::mib1(),
            messages_per_report: 10_000,
            content_store: None,
        }
    }
}

/// Where the site's keys are kept. The Secrets are made at the first start and never changed after that; a restored
/// site needs them, so back them up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Signing {
    /// Secret with the key that signs policies, default `patchtide-signer`; one Secret may hold both keys.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub policy_key_secret_name: String,
    /// Secret with the certificate authority of clients and roles, default `patchtide-signer`.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub ca_secret_name: String,
}

impl Default for Signing {
    fn default() -> Self {
        Self {
            policy_key_secret_name: "patchtide-signer".to_owned(),
            ca_secret_name: "patchtide-signer".to_owned(),
        }
    }
}

/// What is true of the site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteStatus {
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
    /// Clients by where they stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<ClientCounts>,
    /// Health of the server's roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub roles: Vec<RoleHealth>,
    /// Work that waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog: Option<Backlog>,
    /// Keys and their expiry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeyStatus>,
}

status_contract!(SiteStatus);

/// Clients by where they stand. The first four add up to `total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientCounts {
    /// All machines that ever asked and were not removed.
    pub total: u64,
    /// Approved.
    pub active: u64,
    /// Waiting for approval: they get nothing.
    pub pending: u64,
    /// Refused or revoked.
    pub revoked: u64,
    /// Two machines seem to share the identity: they get nothing until a person decides.
    pub quarantined: u64,
    /// Of the active ones, those not heard from for `retention.inactiveAfter`.
    pub inactive: u64,
}

/// Health of one role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleHealth {
    /// Name, for example `management-point`.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Where it listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub address: Option<String>,
    /// Whether it works.
    pub healthy: bool,
    /// What is wrong, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// Work that waits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backlog {
    /// State messages accepted but not yet counted.
    pub messages: u64,
    /// Clients whose policy has to be computed again.
    pub policies: u64,
    /// Clients asked to send everything again after a gap in their sequence.
    pub resyncs: u64,
}

/// Keys and their expiry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// SHA-256 of the certificate authority's certificate, as clients pin it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 95))]
    pub ca_fingerprint: Option<String>,
    /// End of the certificate authority's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_expires: Option<Time>,
    /// Id of the policy key, as clients pin it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 95))]
    pub policy_key_id: Option<String>,
    /// End of the management point's server certificate; it is renewed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_certificate_expires: Option<Time>,
}
