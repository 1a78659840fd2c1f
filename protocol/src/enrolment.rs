//! Enrolment: a machine asks for an identity. Pending means nothing: no policy, no content.

use jiff::Timestamp;
use patchtide_model::{ClientId, Digest, SiteName, client::Facts};
use serde::{Deserialize, Serialize};

/// Answer of `GET /v1/site`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteGreeting {
    /// The site.
    pub site: SiteName,
    /// Oldest protocol version served.
    pub oldest_version: u32,
    /// Newest protocol version served.
    pub newest_version: u32,
    /// The site's time; a hint for the agent's diagnosis, never trusted.
    pub time: Timestamp,
}

/// A machine's request. The key in the CSR is the device key; it stays on the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentRequest {
    /// PKCS#10, PEM. Its subject is ignored; its signature proves possession of the key.
    pub csr_pem: String,
    /// Token, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Host name, for people.
    pub name: String,
    /// Facts, so that approval rules and people can judge.
    #[serde(default)]
    pub facts: Facts,
}

/// A client's request for a new certificate, over its present one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewalRequest {
    /// PKCS#10, PEM, of the same key.
    pub csr_pem: String,
}

/// Where a request stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentAnswer {
    /// The request: SHA-256 of the public key (`SubjectPublicKeyInfo`, DER). Asking again gives the same id.
    pub id: Digest,
    /// State.
    pub state: EnrolmentState,
}

/// State of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum EnrolmentState {
    /// Waits for a rule or a person.
    Pending {
        /// For what, in words.
        reason: String,
    },
    /// Here is the certificate.
    Approved {
        /// The client's identity.
        client: ClientId,
        /// The chain, PEM, leaf first.
        certificate_pem: String,
    },
    /// No.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}
