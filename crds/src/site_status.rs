//! Status of a Site.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::{Condition, Time, status_contract};

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
    /// Keys and their expiry. The keys themselves lie in the Secret `patchtide-signer`, made at the first start and never
    /// changed after that; a restored site needs it, so back it up.
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
    /// Reports of state messages that wait for their commit.
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
