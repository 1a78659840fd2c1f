//! Reading client certificates and signing requests. Feature `certificates`.

use jiff::Timestamp;
use patchtide_model::Digest;
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::GeneralName,
    pem::parse_x509_pem,
    prelude::{FromDer, X509Certificate},
};

use crate::identity::{ClientIdentity, parse_client_uri};

/// Why a signing request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not PEM, not PKCS#10, or with bytes after it.
    #[error("csr_pem is not one PEM block `CERTIFICATE REQUEST`: send a PKCS#10 request")]
    Form,
    /// Its signature is not of its own key.
    #[error("the request's signature does not belong to its key: sign it with the device key")]
    Signature,
    /// A kind of key that is not accepted.
    #[error("the request's key is not accepted: use ECDSA P-256, ECDSA P-384 or Ed25519")]
    Key,
}

/// Why a certificate names no client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not an X.509 certificate.
    #[error("the client certificate cannot be read: enrol again")]
    Form,
    /// Not exactly one URI of the form [`crate::identity::client_uri`].
    #[error("the client certificate does not name exactly one client of a site: enrol again")]
    Name,
}

/// Checks a PEM signing request's form, key and proof of possession, and gives the DER of it with the SHA-256 of its
/// `SubjectPublicKeyInfo`, which is the enrolment's id.
pub fn read_request(csr_pem: &str) -> Result<(Vec<u8>, Digest), RequestError> {
    let (rest, pem) = parse_x509_pem(csr_pem.as_bytes()).map_err(|_| RequestError::Form)?;
    if pem.label != "CERTIFICATE REQUEST" || rest.iter().any(|b| !b.is_ascii_whitespace()) {
        return Err(RequestError::Form);
    }
    let (rest, request) =
        X509CertificationRequest::from_der(&pem.contents).map_err(|_| RequestError::Form)?;
    if !rest.is_empty() {
        return Err(RequestError::Form);
    }
    let key = &request.certification_request_info.subject_pki;
    let algorithm = key.algorithm.algorithm.to_id_string();
    let curve = key.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).map(|oid| oid.to_id_string());
    let accepted = match algorithm.as_str() {
        "1.2.840.10045.2.1" => {
            matches!(curve.as_deref(), Some("1.2.840.10045.3.1.7" | "1.3.132.0.34"))
        }
        "1.3.101.112" => true,
        _ => false,
    };
    if !accepted {
        return Err(RequestError::Key);
    }
    request.verify_signature().map_err(|_| RequestError::Signature)?;
    let digest = Digest::of(key.raw);
    Ok((pem.contents, digest))
}

/// Whom a client certificate names. The chain to the site CA, the validity and the extended key usage were verified by
/// TLS before.
pub fn read_identity(certificate_der: &[u8]) -> Result<ClientIdentity, IdentityError> {
    let (_, certificate) = X509Certificate::from_der(certificate_der).map_err(|_| IdentityError::Form)?;
    let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Form)?;
    let mut uris = names.iter().flat_map(|ext| &ext.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (Some(uri), None) = (uris.next(), uris.next()) else { return Err(IdentityError::Name) };
    let (site, client) = parse_client_uri(uri).ok_or(IdentityError::Name)?;
    let not_after = Timestamp::from_second(certificate.validity().not_after.timestamp())
        .map_err(|_| IdentityError::Form)?;
    Ok(ClientIdentity { site, client, not_after })
}

/// SHA-256 of the public key (`SubjectPublicKeyInfo`, DER) in a certificate: on renewal the key must be the same.
pub fn certificate_key_digest(certificate_der: &[u8]) -> Result<Digest, IdentityError> {
    let (_, certificate) = X509Certificate::from_der(certificate_der).map_err(|_| IdentityError::Form)?;
    Ok(Digest::of(certificate.public_key().raw))
}
