use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{ClientId, Digest, SiteName, policy::POLICY_VERSION};
use patchtide_protocol::{
    certificate::{RequestError, certificate_key_digest, read_identity},
    envelope::{Envelope, EnvelopeError},
    policy::{Part, Statement},
};
use rcgen::{CertificateParams, KeyPair};
use uuid::Uuid;
use x509_parser::pem::parse_x509_pem;

use crate::{ServerName, Signer as _, SignerError, SignerKeys, spki_digest};

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn site() -> SiteName {
    "lab".parse().unwrap()
}

fn statement() -> Statement {
    let part = |text: &str| Part { digest: Digest::of(text.as_bytes()), size: 7, expanded: 9 };
    Statement {
        version: POLICY_VERSION,
        site: site(),
        client: ClientId(Uuid::from_u128(7)),
        epoch: 1,
        number: 3,
        issued_at: now(),
        orders: part("orders"),
        updates: part("updates"),
    }
}

fn request(names: &[&str]) -> (KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let csr = CertificateParams::new(names).unwrap().serialize_request(&key).unwrap().pem().unwrap();
    (key, csr)
}

#[test]
fn keys_survive_the_secret_and_sign_what_the_bundle_verifies() {
    let keys = SignerKeys::generate(&site(), now()).unwrap();
    let read = SignerKeys::from_secret(&keys.to_secret()).unwrap();
    let bundle = keys.bundle(&site(), &["https://mp.example:8443".to_owned()]);
    assert_eq!(bundle, read.bundle(&site(), &["https://mp.example:8443".to_owned()]));
    let envelope: Envelope = serde_json::from_slice(&read.sign_policy(&statement()).unwrap()).unwrap();
    assert_eq!(envelope.open(&bundle.policy_keys).unwrap(), statement());

    let other = SignerKeys::generate(&site(), now()).unwrap();
    assert!(matches!(envelope.open(&other.policy_keys()), Err(EnvelopeError::Signature)));
}

#[test]
fn mixed_up_or_missing_secrets_are_refused_with_what_to_do() {
    let one = SignerKeys::generate(&site(), now()).unwrap().to_secret();
    let two = SignerKeys::generate(&site(), now()).unwrap().to_secret();
    let mut mixed = one.clone();
    mixed.insert("ca.pem".into(), two["ca.pem"].clone());
    assert!(matches!(SignerKeys::from_secret(&mixed).err(), Some(SignerError::Mismatch)));
    let mut wrong = one.clone();
    wrong.insert("policy-key".into(), one["ca-key.pem"].clone());
    assert!(matches!(SignerKeys::from_secret(&wrong).err(), Some(SignerError::PolicyKey)));
    let error = SignerKeys::from_secret(&BTreeMap::new()).err().unwrap();
    assert!(error.to_string().contains("backup"));
}

#[test]
fn a_client_certificate_names_the_client_and_nothing_the_request_asked_for() {
    let keys = SignerKeys::generate(&site(), now()).unwrap();
    let (_, csr) = request(&["admin.example", "10.0.0.1"]);
    let client = ClientId(Uuid::from_u128(42));
    let lifetime = SignedDuration::from_hours(24);
    let pem = keys.issue_client_certificate(&csr, client, &site(), lifetime, now()).unwrap();
    let (_, block) = parse_x509_pem(pem.as_bytes()).unwrap();
    let identity = read_identity(&block.contents).unwrap();
    assert_eq!((identity.site, identity.client), (site(), client));
    assert_eq!(identity.not_after, now() + lifetime);
    assert_eq!(certificate_key_digest(&block.contents).unwrap(), spki_digest(&csr).unwrap());

    let x509 = block.parse_x509().unwrap();
    assert_eq!(x509.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
    let usage = x509.extended_key_usage().unwrap().unwrap().value.clone();
    assert!(usage.client_auth && !usage.server_auth);
    assert!(!x509.is_ca());

    let again = keys.issue_client_certificate(&csr, client, &site(), lifetime, now()).unwrap();
    let (_, second) = parse_x509_pem(again.as_bytes()).unwrap();
    assert_ne!(x509.raw_serial(), second.parse_x509().unwrap().raw_serial());
}

#[test]
fn requests_without_possession_of_the_key_are_refused() {
    let keys = SignerKeys::generate(&site(), now()).unwrap();
    let (_, csr) = request(&[]);
    let (_, block) = parse_x509_pem(csr.as_bytes()).unwrap();
    let mut forged = block.contents.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let forged = super::keys_pem_for_tests("CERTIFICATE REQUEST", &forged);
    let refused = |csr: &str| match keys.issue_client_certificate(
        csr,
        ClientId(Uuid::nil()),
        &site(),
        SignedDuration::ZERO,
        now(),
    ) {
        Err(SignerError::Request(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&forged), RequestError::Signature);
    assert_eq!(refused("garbage"), RequestError::Form);
    assert_eq!(refused(&format!("{csr}{csr}")), RequestError::Form);
    assert_eq!(refused(keys.ca_pem()), RequestError::Form);
}

#[test]
fn a_server_certificate_carries_its_names() {
    let keys = SignerKeys::generate(&site(), now()).unwrap();
    let names = [ServerName::from("mp.example"), ServerName::from("127.0.0.1"), ServerName::from("::1")];
    let server = keys.issue_server_certificate(&names, now()).unwrap();
    let (_, block) = parse_x509_pem(server.chain_pem.as_bytes()).unwrap();
    let x509 = block.parse_x509().unwrap();
    assert_eq!(x509.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 3);
    assert!(read_identity(&block.contents).is_err(), "a server certificate is not a client's");
    assert_ne!(Digest::of(server.key_pem.as_bytes()), Digest::of(b""));
    assert!(matches!(
        keys.issue_server_certificate(&[ServerName::Dns("bücher.example".into())], now()).err(),
        Some(SignerError::Name { .. })
    ));
}
