//! The signer: the site's certificate authority and its policy key, apart from everything that talks to clients.
//!
//! Architecture Invariant: only the controller (and the start of a role that needs its own TLS certificate) holds
//! [`SignerKeys`]; the management point sees signed bytes. [`Signer`] is the edge at which a separate process or a
//! hardware module can take over.

mod certificate;
mod error;
mod keys;

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{ClientId, Digest, SiteName};
use patchtide_protocol::{
    bundle::{Bundle, PolicyKey},
    policy::Statement,
};

pub use error::SignerError;
pub use keys::{SECRET_CA_CERTIFICATE, SECRET_CA_KEY, SECRET_POLICY_KEY, SignerKeys};

/// A server's certificate chain and its private key.
pub struct ServerCertificate {
    /// PEM, leaf first.
    pub chain_pem: String,
    /// PKCS#8, PEM. A secret.
    pub key_pem: String,
    /// Replace it before this instant.
    pub not_after: Timestamp,
}

/// A name of a server in its certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerName {
    /// A DNS name.
    Dns(String),
    /// An address.
    Address(IpAddr),
}

impl From<&str> for ServerName {
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Dns(text.to_owned()), Self::Address)
    }
}

/// What the site asks of whoever holds its keys. Implementations do no I/O but to their key store.
pub trait Signer: Send + Sync {
    /// The signed envelope of a policy's statement, as JSON bytes.
    fn sign_policy(&self, statement: &Statement) -> Result<Vec<u8>, SignerError>;

    /// A client certificate, PEM, leaf first. The request's signature is checked, its subject and extensions are
    /// ignored: the certificate names `client` of `site` and nothing else. Valid from an hour before `now` (clocks
    /// differ) until `lifetime` after it.
    fn issue_client_certificate(
        &self,
        csr_pem: &str,
        client: ClientId,
        site: &SiteName,
        lifetime: SignedDuration,
        now: Timestamp,
    ) -> Result<String, SignerError>;

    /// A server certificate with a fresh key, valid 90 days.
    fn issue_server_certificate(
        &self,
        names: &[ServerName],
        now: Timestamp,
    ) -> Result<ServerCertificate, SignerError>;

    /// The site CA's certificate, PEM.
    fn ca_pem(&self) -> &str;

    /// Public policy keys, the one that signs first.
    fn policy_keys(&self) -> Vec<PolicyKey>;

    /// The enrolment bundle for machines of `site`, without a token.
    fn bundle(&self, site: &SiteName, management_points: &[String]) -> Bundle {
        Bundle {
            site: site.clone(),
            management_points: management_points.to_vec(),
            ca_pem: self.ca_pem().to_owned(),
            policy_keys: self.policy_keys(),
            token: None,
        }
    }
}

/// SHA-256 of the public key in a signing request whose signature is good: the enrolment's id.
pub fn spki_digest(csr_pem: &str) -> Result<Digest, SignerError> {
    let (_, digest) = patchtide_protocol::certificate::read_request(csr_pem).map_err(SignerError::Request)?;
    Ok(digest)
}

#[cfg(test)]
use keys::pem as keys_pem_for_tests;
#[cfg(test)]
mod tests;
