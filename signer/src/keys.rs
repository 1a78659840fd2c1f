//! The local key store: PEM as it lies in the Secret `patchtide-signer`.

use std::collections::BTreeMap;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use patchtide_model::{ClientId, SiteName};
use patchtide_protocol::{
    bundle::PolicyKey,
    envelope::{Envelope, EnvelopeSignature, POLICY_TYPE, key_id, pre_authentication_encoding},
    policy::Statement,
};
use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::{ServerCertificate, ServerName, Signer, SignerError, certificate};

/// Key of the Secret: the CA's certificate, PEM.
pub const SECRET_CA_CERTIFICATE: &str = "ca.pem";
/// Key of the Secret: the CA's private key, PKCS#8 PEM.
pub const SECRET_CA_KEY: &str = "ca-key.pem";
/// Key of the Secret: the policy key, Ed25519 PKCS#8 PEM.
pub const SECRET_POLICY_KEY: &str = "policy-key";

const PKCS8: &str = "PRIVATE KEY";

/// The site's keys in memory. Has no `Debug`, no `Clone`, no `Serialize`: keys are not to be printed or copied about.
pub struct SignerKeys {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
    policy: Ed25519KeyPair,
    policy_pem: String,
}

impl SignerKeys {
    /// Makes new keys and a self-signed CA certificate of ten years for `site`.
    pub fn generate(site: &SiteName, now: Timestamp) -> Result<Self, SignerError> {
        let generate = |what| move |source| SignerError::Generate { what, source };
        let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(generate("CA key"))?;
        let ca_pem = certificate::authority(site, &ca_key, now)?;
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| SignerError::Random)?;
        let policy_pem = pem(PKCS8, document.as_ref());
        Self::assemble(ca_pem, ca_key, policy_pem)
    }

    /// Reads keys back from the entries of the Secret.
    pub fn from_secret(entries: &BTreeMap<String, Vec<u8>>) -> Result<Self, SignerError> {
        let text = |what: &'static str| {
            entries
                .get(what)
                .and_then(|bytes| std::str::from_utf8(bytes).ok())
                .ok_or(SignerError::Load { what, source: rcgen::Error::CouldNotParseKeyPair })
        };
        let ca_key = KeyPair::from_pem(text(SECRET_CA_KEY)?)
            .map_err(|source| SignerError::Load { what: SECRET_CA_KEY, source })?;
        Self::assemble(text(SECRET_CA_CERTIFICATE)?.to_owned(), ca_key, text(SECRET_POLICY_KEY)?.to_owned())
    }

    /// The entries of the Secret. Secrets: they go to the API server and nowhere else.
    pub fn to_secret(&self) -> BTreeMap<String, Vec<u8>> {
        [
            (SECRET_CA_CERTIFICATE, self.ca_pem.clone()),
            (SECRET_CA_KEY, self.issuer.key().serialize_pem()),
            (SECRET_POLICY_KEY, self.policy_pem.clone()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.into_bytes()))
        .collect()
    }

    fn assemble(ca_pem: String, ca_key: KeyPair, policy_pem: String) -> Result<Self, SignerError> {
        if !certificate::belongs(&ca_pem, &ca_key) {
            return Err(SignerError::Mismatch);
        }
        let policy = unpem(PKCS8, &policy_pem)
            .and_then(|der| Ed25519KeyPair::from_pkcs8(&der).ok())
            .ok_or(SignerError::PolicyKey)?;
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key)
            .map_err(|source| SignerError::Load { what: SECRET_CA_CERTIFICATE, source })?;
        Ok(Self { ca_pem, issuer, policy, policy_pem })
    }
}

impl Signer for SignerKeys {
    fn sign_policy(&self, statement: &Statement) -> Result<Vec<u8>, SignerError> {
        let encode = |source| SignerError::Encode { client: statement.client, source };
        let payload = serde_json::to_vec(statement).map_err(encode)?;
        let signature = self.policy.sign(&pre_authentication_encoding(POLICY_TYPE, &payload));
        let signatures = vec![EnvelopeSignature {
            keyid: key_id(self.policy.public_key().as_ref()),
            sig: STANDARD.encode(signature.as_ref()),
        }];
        serde_json::to_vec(&Envelope::new(&payload, signatures)).map_err(encode)
    }

    fn issue_client_certificate(
        &self,
        csr_pem: &str,
        client: ClientId,
        site: &SiteName,
        lifetime: SignedDuration,
        now: Timestamp,
    ) -> Result<String, SignerError> {
        certificate::client(&self.issuer, csr_pem, client, site, lifetime, now)
    }

    fn issue_server_certificate(
        &self,
        names: &[ServerName],
        now: Timestamp,
    ) -> Result<ServerCertificate, SignerError> {
        certificate::server(&self.issuer, names, now)
    }

    fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    fn policy_keys(&self) -> Vec<PolicyKey> {
        let public = self.policy.public_key().as_ref();
        vec![PolicyKey { key_id: key_id(public), public_key: STANDARD.encode(public) }]
    }
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for start in (0..text.len()).step_by(64) {
        out.push_str(&text[start..text.len().min(start + 64)]);
        out.push('\n');
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}

fn unpem(label: &str, text: &str) -> Option<Vec<u8>> {
    let body = text
        .trim()
        .strip_prefix(&format!("-----BEGIN {label}-----"))?
        .strip_suffix(&format!("-----END {label}-----"))?;
    let compact: String = body.split_whitespace().collect();
    STANDARD.decode(compact).ok()
}
