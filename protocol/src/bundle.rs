//! The enrolment bundle: the file a machine is given before its first contact. It pins whom the agent trusts.

use patchtide_model::SiteName;
use serde::{Deserialize, Serialize};

/// The bundle, JSON, `/etc/patchtide/bundle.json` on a client. Holds no secret but the optional token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The site.
    pub site: SiteName,
    /// Base URLs of management points, tried in order.
    pub management_points: Vec<String>,
    /// The site CA's certificates, PEM: the only roots the agent trusts.
    pub ca_pem: String,
    /// Policy keys; a policy needs a good signature of one of them.
    pub policy_keys: Vec<PolicyKey>,
    /// Enrolment token, when the site asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// A public Ed25519 key that signs policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyKey {
    /// First 16 hexadecimal digits of the SHA-256 of the public key.
    pub key_id: String,
    /// 32 bytes, base64.
    pub public_key: String,
}
