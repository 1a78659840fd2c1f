//! The signed envelope of a policy's statement: DSSE (Dead Simple Signing Envelope) v1 with Ed25519.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use patchtide_model::Digest;
use serde::{Deserialize, Serialize};

use crate::{bundle::PolicyKey, policy::Statement};

/// Payload type of a policy's statement.
pub const POLICY_TYPE: &str = "application/vnd.patchtide.policy.v2+json";

/// A DSSE envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// Base64 of the payload.
    pub payload: String,
    /// Type of the payload.
    pub payload_type: String,
    /// Signatures; one good one of a pinned key is enough.
    pub signatures: Vec<EnvelopeSignature>,
}

/// A signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeSignature {
    /// Key id as in [`PolicyKey`].
    pub keyid: String,
    /// Base64.
    pub sig: String,
}

/// Why an envelope is not believed.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Another payload type.
    #[error("the envelope holds {0:?}, not a policy: update the agent")]
    Type(String),
    /// Not base64.
    #[error("the envelope's {what} is not base64")]
    Encoding {
        /// Which part.
        what: &'static str,
        /// Cause.
        #[source]
        source: base64::DecodeError,
    },
    /// No pinned key signed it.
    #[error(
        "no pinned policy key signed this policy: the management point is not this site's, or the site's key changed; compare the bundle's policyKeys with the Site's status"
    )]
    Signature,
    /// Signed, but not a policy of a known form.
    #[error("the signed policy cannot be read: update the agent")]
    Form(#[source] serde_json::Error),
    /// Signed with a form newer than this agent knows.
    #[error("the policy has form {0}, this agent knows {known}: update the agent", known = patchtide_model::policy::POLICY_VERSION)]
    Version(u32),
}

/// The bytes that are signed (DSSE PAE).
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Key id of a public key.
pub fn key_id(public_key: &[u8]) -> String {
    Digest::of(public_key).to_string()[..16].to_owned()
}

impl Envelope {
    /// Wraps a payload with signatures made over [`pre_authentication_encoding`].
    pub fn new(payload: &[u8], signatures: Vec<EnvelopeSignature>) -> Self {
        Self { payload: STANDARD.encode(payload), payload_type: POLICY_TYPE.to_owned(), signatures }
    }

    /// The statement inside, if one of `keys` signed it and its form is known. Nothing of the payload is parsed before.
    pub fn open(&self, keys: &[PolicyKey]) -> Result<Statement, EnvelopeError> {
        if self.payload_type != POLICY_TYPE {
            return Err(EnvelopeError::Type(self.payload_type.chars().take(80).collect()));
        }
        let payload = STANDARD
            .decode(&self.payload)
            .map_err(|source| EnvelopeError::Encoding { what: "payload", source })?;
        let signed = pre_authentication_encoding(&self.payload_type, &payload);
        let good = self.signatures.iter().any(|signature| {
            keys.iter().filter(|key| key.key_id == signature.keyid).any(|key| {
                let (Ok(public), Ok(sig)) =
                    (STANDARD.decode(&key.public_key), STANDARD.decode(&signature.sig))
                else {
                    return false;
                };
                UnparsedPublicKey::new(&ED25519, public).verify(&signed, &sig).is_ok()
            })
        });
        if !good {
            return Err(EnvelopeError::Signature);
        }
        let form: Form = serde_json::from_slice(&payload).map_err(EnvelopeError::Form)?;
        if form.version != patchtide_model::policy::POLICY_VERSION {
            return Err(EnvelopeError::Version(form.version));
        }
        serde_json::from_slice(&payload).map_err(EnvelopeError::Form)
    }
}

#[derive(Deserialize)]
struct Form {
    version: u32,
}
