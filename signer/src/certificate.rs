//! Certificates of the site CA.

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{ClientId, SiteName};
use patchtide_protocol::{certificate::read_request, identity::client_uri};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData as _, SanType, SerialNumber,
};
use time::OffsetDateTime;
use x509_parser::pem::parse_x509_pem;

use crate::{ServerCertificate, ServerName, SignerError};

/// Ten years of 365 days.
const CA_LIFETIME: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
const SERVER_LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Clocks of clients may be behind by so much.
const BACKDATE: SignedDuration = SignedDuration::from_hours(1);

pub(crate) fn authority(site: &SiteName, key: &KeyPair, now: Timestamp) -> Result<String, SignerError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("Patchtide site {site}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial()?);
    (params.not_before, params.not_after) = validity(now, CA_LIFETIME)?;
    let certificate =
        params.self_signed(key).map_err(|source| SignerError::Sign { what: "CA certificate", source })?;
    Ok(certificate.pem())
}

pub(crate) fn belongs(ca_pem: &str, key: &KeyPair) -> bool {
    parse_x509_pem(ca_pem.as_bytes())
        .ok()
        .and_then(|(_, pem)| {
            let certificate = pem.parse_x509().ok()?;
            Some(certificate.public_key().raw == key.subject_public_key_info())
        })
        .unwrap_or(false)
}

pub(crate) fn client(
    issuer: &Issuer<'static, KeyPair>,
    csr_pem: &str,
    client: ClientId,
    site: &SiteName,
    lifetime: SignedDuration,
    now: Timestamp,
) -> Result<String, SignerError> {
    let sign = |source| SignerError::Sign { what: "client certificate", source };
    let (der, _) = read_request(csr_pem).map_err(SignerError::Request)?;
    let mut request = CertificateSigningRequestParams::from_der(&der.as_slice().into()).map_err(sign)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&client.to_string());
    params.subject_alt_names = vec![SanType::URI(client_uri(site, client).try_into().map_err(sign)?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial()?);
    (params.not_before, params.not_after) = validity(now, lifetime)?;
    // Whatever the request asked for is dropped: only its key is used.
    request.params = params;
    Ok(request.signed_by(issuer).map_err(sign)?.pem())
}

pub(crate) fn server(
    issuer: &Issuer<'static, KeyPair>,
    names: &[ServerName],
    now: Timestamp,
) -> Result<ServerCertificate, SignerError> {
    let sign = |source| SignerError::Sign { what: "server certificate", source };
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|source| SignerError::Generate { what: "server key", source })?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Patchtide server");
    for name in names {
        params.subject_alt_names.push(match name {
            ServerName::Address(address) => SanType::IpAddress(*address),
            ServerName::Dns(name) => SanType::DnsName(
                name.clone().try_into().map_err(|source| SignerError::Name { name: name.clone(), source })?,
            ),
        });
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial()?);
    (params.not_before, params.not_after) = validity(now, SERVER_LIFETIME)?;
    let certificate = params.signed_by(&key, issuer).map_err(sign)?;
    let not_after = now.checked_add(SERVER_LIFETIME).map_err(|_| SignerError::Validity)?;
    Ok(ServerCertificate { chain_pem: certificate.pem(), key_pem: key.serialize_pem(), not_after })
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// 127 random bits: positive, and never the same twice.
fn serial() -> Result<SerialNumber, SignerError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SignerError::Random)?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn validity(
    now: Timestamp,
    lifetime: SignedDuration,
) -> Result<(OffsetDateTime, OffsetDateTime), SignerError> {
    let at = |instant: Result<Timestamp, jiff::Error>| {
        let second = instant.map_err(|_| SignerError::Validity)?.as_second();
        OffsetDateTime::from_unix_timestamp(second).map_err(|_| SignerError::Validity)
    };
    Ok((at(now.checked_sub(BACKDATE))?, at(now.checked_add(lifetime))?))
}
