//! Asking for an identity, and renewing it.

use std::time::Duration;

use patchtide_model::client::Facts;
use patchtide_protocol::{
    VERSION,
    bundle::Bundle,
    enrolment::{EnrolmentAnswer, EnrolmentRequest, EnrolmentState, RenewalRequest, SiteGreeting},
    limits, path,
};
use reqwest::Method;

use super::{DeviceKey, Identity, IdentityError};
use crate::transport::{SHORT, Transport, TransportError, read_json};

/// Why an enrolment or renewal did not get on.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// No usable answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The key or the certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The management point serves another site than the bundle's.
    #[error(
        "the management point serves the site {found}, the bundle is for {expected}: fetch the right bundle"
    )]
    OtherSite {
        /// The bundle's.
        expected: String,
        /// The management point's.
        found: String,
    },
    /// The site speaks other versions of the protocol.
    #[error(
        "the site speaks protocol versions {oldest} to {newest}, this agent {VERSION}: update the agent or the site"
    )]
    Versions {
        /// Oldest served.
        oldest: u32,
        /// Newest served.
        newest: u32,
    },
    /// The site said no.
    #[error("the site refused this machine: {0}")]
    Refused(String),
}

/// Where an enrolment stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Approved; the identity is new.
    Approved(Box<Identity>),
    /// Waits at the site, for a rule or a person.
    Pending(String),
    /// The site does not know of a request of this key.
    NotAsked,
}

/// Checks that the management point is this bundle's site and speaks this protocol.
pub async fn greet(transport: &Transport, bundle: &Bundle) -> Result<(), EnrolError> {
    let response = transport.ask(Method::GET, path::SITE, SHORT, |r| r).await?;
    let greeting: SiteGreeting = read_json(response, limits::ENROLMENT_BYTES).await?;
    if greeting.site != bundle.site {
        return Err(EnrolError::OtherSite {
            expected: bundle.site.to_string(),
            found: greeting.site.to_string(),
        });
    }
    if !(greeting.oldest_version..=greeting.newest_version).contains(&VERSION) {
        return Err(EnrolError::Versions {
            oldest: greeting.oldest_version,
            newest: greeting.newest_version,
        });
    }
    Ok(())
}

/// Asks for an identity. Asking again with the same key is the same request.
pub async fn request(
    transport: &Transport,
    bundle: &Bundle,
    key: &DeviceKey,
    name: &str,
    facts: &Facts,
) -> Result<Standing, EnrolError> {
    let body = EnrolmentRequest {
        csr_pem: key.signing_request()?,
        token: bundle.token.clone(),
        name: name.to_owned(),
        facts: facts.clone(),
    };
    let response = transport.ask(Method::POST, path::ENROLMENTS, SHORT, |r| r.json(&body)).await?;
    judge(read_json(response, limits::ENROLMENT_BYTES).await?, key, bundle)
}

/// Asks how the request of this key stands.
pub async fn poll(transport: &Transport, key: &DeviceKey, bundle: &Bundle) -> Result<Standing, EnrolError> {
    let path = format!("{}/{}", path::ENROLMENTS, key.enrolment_id());
    match transport.ask(Method::GET, &path, SHORT, |r| r).await {
        Ok(response) => judge(read_json(response, limits::ENROLMENT_BYTES).await?, key, bundle),
        Err(error) if error.status() == Some(404) => Ok(Standing::NotAsked),
        Err(error) => Err(error.into()),
    }
}

/// Asks for a new certificate of the same key, over the present one.
pub async fn renew(transport: &Transport, key: &DeviceKey, bundle: &Bundle) -> Result<Standing, EnrolError> {
    let body = RenewalRequest { csr_pem: key.signing_request()? };
    let response = transport.ask(Method::POST, path::RENEWALS, SHORT, |r| r.json(&body)).await?;
    judge(read_json(response, limits::ENROLMENT_BYTES).await?, key, bundle)
}

fn judge(answer: EnrolmentAnswer, key: &DeviceKey, bundle: &Bundle) -> Result<Standing, EnrolError> {
    match answer.state {
        EnrolmentState::Pending { reason } => Ok(Standing::Pending(reason)),
        EnrolmentState::Refused { reason } => Err(EnrolError::Refused(reason)),
        // The certificate says itself for which client it is.
        EnrolmentState::Approved { certificate_pem, .. } => {
            Ok(Standing::Approved(Box::new(Identity::accept(certificate_pem, key, bundle)?)))
        }
    }
}

/// First and longest wait between two looks at a pending request.
pub const PENDING: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
