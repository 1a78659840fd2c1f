//! Enrolment of a Site: who may ask, and who is let in.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DurationText, defaults,
    duration::between,
    reference::{NAME, SecretKeyRef},
};

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
