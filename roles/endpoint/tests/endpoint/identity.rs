//! Who gets in, and as whom.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use jiff::SignedDuration;
use patchtide_endpoint::VersionRule;
use patchtide_signer::{ServerName, Signer as _};

use crate::{
    bed::{self, Bed, Options},
    problem, router,
};

/// reliability.md 4 #90.
#[tokio::test]
async fn bad_input_90_only_a_certificate_of_the_site_ca_is_an_identity() {
    let bed = Bed::new("lab");
    let server = bed.serve(router(), Options::default()).await;
    let ask = async |client: reqwest::Client| client.get(server.url("/v1/who")).send().await;

    let device = bed.device(7);
    let response = ask(bed.client(Some(&device))).await.unwrap();
    assert_eq!(response.text().await.unwrap(), device.id.to_string());

    // No certificate.
    let response = ask(bed.client(None)).await.unwrap();
    assert_eq!(problem(response).await, (401, "TLS-NO-CERTIFICATE".into()));

    // Another CA's certificate, same names in it: the handshake ends.
    let other = Bed::new("lab").device(7);
    assert!(ask(bed.client(Some(&other))).await.is_err());

    // Our CA's, but of another site.
    let foreign = bed.device_for(7, &"prod".parse().unwrap(), SignedDuration::from_hours(1));
    let response = ask(bed.client(Some(&foreign))).await.unwrap();
    assert_eq!(problem(response).await, (403, "TLS-OTHER-SITE".into()));

    // Our CA's, but past its end: the handshake ends.
    let past = bed.device_for(7, &bed.site, SignedDuration::from_mins(-30));
    assert!(ask(bed.client(Some(&past))).await.is_err());

    // A server's certificate is not a client's: wrong extended key usage.
    let own = bed.keys.issue_server_certificate(&[ServerName::from("x.example")], bed.now()).unwrap();
    let wrong = bed::Device { chain_pem: own.chain_pem, key_pem: own.key_pem, ..device.clone() };
    assert!(ask(bed.client(Some(&wrong))).await.is_err());

    // Valid from an hour on.
    let early = bed.now().saturating_add(SignedDuration::from_hours(3)).unwrap();
    let life = SignedDuration::from_hours(1);
    let issued = bed.keys.issue_client_certificate(&device.csr_pem, device.id, &bed.site, life, early);
    let early = bed::Device { chain_pem: issued.unwrap(), ..device.clone() };
    assert!(ask(bed.client(Some(&early))).await.is_err());

    // A chain of more than 40 KiB: refused, or read by its first certificate; never nobody's.
    let more = bed.keys.ca_pem().repeat(110);
    let long = bed::Device { chain_pem: format!("{}{more}", device.chain_pem), ..device.clone() };
    assert!(more.len() * 3 / 4 > 40 << 10);
    if let Ok(response) = ask(bed.client(Some(&long))).await {
        assert_eq!(response.text().await.unwrap(), device.id.to_string());
    }
    let endless = bed::Device { chain_pem: format!("{}{}", device.chain_pem, more.repeat(4)), ..device };
    assert!(ask(bed.client(Some(&endless))).await.is_err(), "more than a handshake may have");
    assert_eq!(server.refused("handshake"), 5, "each of them is counted");
}

/// reliability.md 4 #90: an older TLS is no connection.
#[tokio::test]
async fn bad_input_90_tls_before_1_3_is_refused() {
    let bed = Bed::new("lab");
    let server = bed.serve(router(), Options::default()).await;
    assert!(bed.shake(server.address, bed.tls(None)).await.is_ok());
    assert!(bed.shake(server.address, bed.tls_of(&[&rustls::version::TLS12])).await.is_err());
    assert_eq!(server.refused("handshake"), 1);
}

/// reliability.md 4 #89.
#[tokio::test]
async fn bad_input_89_identity_headers_are_nobodys() {
    let bed = Bed::new("lab");
    let server = bed.serve(router(), Options::default()).await;
    let mut request = bed.client(None).get(server.url("/v1/who"));
    for name in ["x-forwarded-for", "x-ssl-client", "x-client-cert", "forwarded"] {
        request = request.header(name, "spiffe://lab.patchtide/client/00000000-0000-0000-0000-000000000007");
    }
    assert_eq!(problem(request.send().await.unwrap()).await.0, 401);
}

#[tokio::test]
async fn a_certificate_that_ends_ends_on_open_connections_too() {
    let mut bed = Bed::new("lab");
    let device = bed.device_for(7, &bed.site, SignedDuration::from_mins(1));
    let offset = Arc::new(AtomicI64::new(0));
    let (system, shift) = (bed.clock.clone(), offset.clone());
    bed.clock = Arc::new(move || system() + SignedDuration::from_secs(shift.load(Ordering::Relaxed)));
    let server = bed.serve(router(), Options::default()).await;
    let client = bed.client(Some(&device));
    assert_eq!(client.get(server.url("/v1/who")).send().await.unwrap().status(), 200);
    offset.store(120, Ordering::Relaxed);
    let response = client.get(server.url("/v1/who")).send().await.unwrap();
    assert_eq!(problem(response).await, (403, "TLS-EXPIRED".into()));
}

#[tokio::test]
async fn where_a_certificate_is_required_none_is_no_connection() {
    let bed = Bed::new("lab");
    let options =
        Options { certificate_required: true, version: VersionRule::WhenPresent, ..Options::default() };
    let server = bed.serve(router(), options).await;
    assert!(bed.client(None).get(server.url("/v1/site")).send().await.is_err());
    // Plain tools need not say a version.
    let plain = bed.client_with(Some(&bed.device(1)), |builder| builder);
    assert_eq!(plain.get(server.url("/v1/who")).send().await.unwrap().status(), 200);
}
