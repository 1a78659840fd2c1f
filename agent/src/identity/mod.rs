//! Who this machine is: its device key, its certificate, and whom it trusts (R-CLI, reliability.md 3.2).
//!
//! The key is made here and never leaves the machine. The site gives the certificate; the certificate alone says who
//! the client is.

pub mod enrol;
pub mod machine;

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{ClientId, Digest};
use patchtide_protocol::{bundle::Bundle, certificate::read_identity};
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::state::{StateError, StateFolder, read_json, write_file};

const KEY: &str = "key.pem";
const CERTIFICATE: &str = "client.pem";

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No bundle.
    #[error(
        "there is no enrolment bundle at {0}: ask the site's administrator for it (`patchtide bundle --namespace SITE`) and put it there"
    )]
    NoBundle(PathBuf),
    /// The bundle cannot be used.
    #[error("the enrolment bundle {path} cannot be used ({reason}): fetch it anew with `patchtide bundle`")]
    Bundle {
        /// File.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A file.
    #[error(transparent)]
    State(#[from] StateError),
    /// The device key cannot be made or read.
    #[error("the device key cannot be used: remove key.pem and client.pem and enrol this machine anew")]
    Key(#[source] rcgen::Error),
    /// The certificate that the site sent is not for this machine's key, or cannot be read.
    #[error("the certificate that the site sent cannot be used ({0}): tell the site's administrator")]
    Certificate(&'static str),
}

/// Reads and checks the bundle.
pub fn load_bundle(path: &Path) -> Result<Bundle, IdentityError> {
    let wrong = |reason| IdentityError::Bundle { path: path.to_owned(), reason };
    let bundle: Bundle = match read_json(path) {
        Ok(Some(bundle)) => bundle,
        Ok(None) => return Err(IdentityError::NoBundle(path.to_owned())),
        Err(StateError::Damaged { .. }) => return Err(wrong("it is not a bundle of this version")),
        Err(error) => return Err(error.into()),
    };
    if bundle.management_points.is_empty() {
        return Err(wrong("it names no management point"));
    }
    if bundle.management_points.iter().any(|url| !url.starts_with("https://")) {
        return Err(wrong("a management point is not an https:// address"));
    }
    if bundle.policy_keys.is_empty() {
        return Err(wrong("it pins no policy key"));
    }
    if CertificateDer::pem_slice_iter(bundle.ca_pem.as_bytes()).flatten().next().is_none() {
        return Err(wrong("it pins no CA certificate"));
    }
    Ok(bundle)
}

/// The device key.
pub struct DeviceKey {
    pair: KeyPair,
}

impl DeviceKey {
    /// The key of this machine; made at the first call (ECDSA P-256).
    pub fn load_or_make(state: &StateFolder) -> Result<Self, IdentityError> {
        let path = state.path(KEY);
        let pair = match std::fs::read_to_string(&path) {
            Ok(pem) => KeyPair::from_pem(&pem).map_err(IdentityError::Key)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let pair = KeyPair::generate().map_err(IdentityError::Key)?;
                write_file(&path, pair.serialize_pem().as_bytes(), 0o600)?;
                pair
            }
            Err(source) => return Err(StateError::Read { path, source }.into()),
        };
        Ok(Self { pair })
    }

    /// Identity of this machine's enrolment request: SHA-256 of its public key.
    pub fn enrolment_id(&self) -> Digest {
        Digest::of(&self.pair.subject_public_key_info())
    }

    /// A certificate signing request, PEM. Its signature proves possession; its subject says nothing.
    pub fn signing_request(&self) -> Result<String, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "patchtide client");
        params.serialize_request(&self.pair).and_then(|request| request.pem()).map_err(IdentityError::Key)
    }

    /// The private key, PKCS#8, for the TLS handshake.
    pub fn private_key(&self) -> Vec<u8> {
        self.pair.serialize_der()
    }
}

/// An approved identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The client.
    pub client: ClientId,
    /// The chain, PEM, leaf first.
    pub certificate_pem: String,
    /// First instant of the certificate.
    pub not_before: Timestamp,
    /// Last instant of the certificate.
    pub not_after: Timestamp,
}

impl Identity {
    /// Judges a certificate that a management point sent for `key`. Who this machine is, the site's CA says: a management
    /// point alone cannot make it another client, whose policy it would then obey.
    pub fn accept(certificate_pem: String, key: &DeviceKey, bundle: &Bundle) -> Result<Self, IdentityError> {
        let leaf = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| IdentityError::Certificate("it is not PEM"))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf)
            .map_err(|_| IdentityError::Certificate("it is not X.509"))?;
        if parsed.public_key().raw != key.pair.subject_public_key_info() {
            return Err(IdentityError::Certificate("it is for another key"));
        }
        let of_the_site = CertificateDer::pem_slice_iter(bundle.ca_pem.as_bytes()).flatten().any(|ca| {
            x509_parser::parse_x509_certificate(&ca)
                .is_ok_and(|(_, ca)| parsed.verify_signature(Some(ca.public_key())).is_ok())
        });
        if !of_the_site {
            return Err(IdentityError::Certificate("it is not of the CA that the bundle pins"));
        }
        let named = read_identity(&leaf).map_err(|_| IdentityError::Certificate("it names no client"))?;
        if named.site != bundle.site {
            return Err(IdentityError::Certificate("it is of another site"));
        }
        let instant = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp())
                .map_err(|_| IdentityError::Certificate("its times cannot be read"))
        };
        let (not_before, not_after) =
            (instant(parsed.validity().not_before)?, instant(parsed.validity().not_after)?);
        Ok(Self { client: named.client, certificate_pem, not_before, not_after })
    }

    /// The identity kept on disk, if this machine is enrolled.
    pub fn load(
        state: &StateFolder,
        key: &DeviceKey,
        bundle: &Bundle,
    ) -> Result<Option<Self>, IdentityError> {
        let path = state.path(CERTIFICATE);
        match std::fs::read_to_string(&path) {
            Ok(pem) => Self::accept(pem, key, bundle).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::Read { path, source }.into()),
        }
    }

    /// Keeps it durably.
    pub fn save(&self, state: &StateFolder) -> Result<(), IdentityError> {
        Ok(write_file(&state.path(CERTIFICATE), self.certificate_pem.as_bytes(), 0o600)?)
    }

    /// When it is to be renewed: after two thirds of its life.
    pub fn renew_at(&self) -> Timestamp {
        let life = self.not_after.duration_since(self.not_before);
        self.not_before
            .checked_add(SignedDuration::from_secs(life.as_secs() / 3 * 2))
            .unwrap_or(self.not_after)
    }
}

#[cfg(test)]
mod tests {
    use patchtide_protocol::identity::client_uri;
    use rcgen::CertifiedIssuer;

    use super::*;

    fn bundle_with(
        folder: &Path,
        change: impl FnOnce(&mut serde_json::Value),
    ) -> Result<Bundle, IdentityError> {
        let path = folder.join("bundle.json");
        let ca = rcgen::generate_simple_self_signed(["ca".to_owned()])
            .map_or_else(|_| String::new(), |c| c.cert.pem());
        let mut value = serde_json::json!({
            "site": "lab", "management_points": ["https://mp.example:8443"], "ca_pem": ca,
            "policy_keys": [{"key_id": "0123456789abcdef", "public_key": "AAAA"}],
        });
        change(&mut value);
        write_file(&path, value.to_string().as_bytes(), 0o600)?;
        load_bundle(&path)
    }

    #[test]
    fn a_bundle_that_pins_nothing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(bundle_with(folder.path(), |_| {}).is_ok());
        for (change, word) in [
            (("management_points", serde_json::json!([])), "management point"),
            (("management_points", serde_json::json!(["http://mp.example"])), "https"),
            (("policy_keys", serde_json::json!([])), "policy key"),
            (("ca_pem", serde_json::json!("")), "CA"),
            (("surprise", serde_json::json!(1)), "version"),
        ] {
            let error = bundle_with(folder.path(), |value| value[change.0] = change.1.clone())
                .unwrap_err()
                .to_string();
            assert!(error.contains(word), "{error}");
        }
        let missing = load_bundle(Path::new("/nonexistent/bundle.json")).unwrap_err();
        assert!(missing.to_string().contains("patchtide bundle"));
    }

    #[test]
    fn the_key_and_the_certificate_stay() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        let key = DeviceKey::load_or_make(&state).unwrap();
        assert_eq!(key.enrolment_id(), DeviceKey::load_or_make(&state).unwrap().enrolment_id());
        assert!(key.signing_request().unwrap().contains("CERTIFICATE REQUEST"));

        let ca = authority();
        let bundle = bundle_with(folder.path(), |value| value["ca_pem"] = ca.pem().into()).unwrap();
        let client = ClientId(uuid::Uuid::from_u128(7));
        let uri = client_uri(&"lab".parse().unwrap(), client);
        let identity = Identity::accept(certificate(&uri, &key.pair, &ca), &key, &bundle).unwrap();
        assert_eq!(identity.client, client);
        assert_eq!(identity.renew_at(), "2026-01-21T00:00:00Z".parse().unwrap());
        assert_eq!(Identity::load(&state, &key, &bundle).unwrap(), None);
        identity.save(&state).unwrap();
        assert_eq!(Identity::load(&state, &key, &bundle).unwrap(), Some(identity));
    }

    /// A management point holds no key of the CA: what it makes up is not this machine's identity, hence another client's
    /// policy is never this machine's (reliability.md 3.2).
    #[test]
    fn only_the_pinned_ca_says_who_this_machine_is() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        let key = DeviceKey::load_or_make(&state).unwrap();
        let ca = authority();
        let bundle = bundle_with(folder.path(), |value| value["ca_pem"] = ca.pem().into()).unwrap();
        let uri = |site: &str| client_uri(&site.parse().unwrap(), ClientId(uuid::Uuid::from_u128(7)));
        let own = uri("lab");
        let stranger = KeyPair::generate().unwrap();
        for (pem, word) in [
            (certificate(&own, &stranger, &ca), "another key"),
            (certificate(&own, &key.pair, &authority()), "not of the CA"),
            (certificate(&uri("prod"), &key.pair, &ca), "another site"),
            (certificate("https://lab.example/client", &key.pair, &ca), "names no client"),
            ("garbage".to_owned(), "not PEM"),
        ] {
            let error = Identity::accept(pem, &key, &bundle).unwrap_err().to_string();
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn certificate(uri: &str, key: &KeyPair, ca: &CertifiedIssuer<'static, KeyPair>) -> String {
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 31);
        params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
        params.signed_by(key, ca).unwrap().pem()
    }
}
