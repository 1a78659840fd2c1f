//! Requests that do not come through the kube-apiserver.

use std::{fs, sync::Arc, time::Duration};

use patchtide_planner::snapshot::Snapshot;
use patchtide_signer::Signer as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use reqwest::{Response, StatusCode};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::ground::{Ground, PATH};

/// A certificate with its key, PEM.
struct Identity {
    chain: String,
    key: String,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut request = CertificateParams::default();
    request.distinguished_name.push(DnType::CommonName, name);
    request.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    request.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    CertifiedIssuer::self_signed(request, KeyPair::generate().unwrap()).unwrap()
}

fn issued(by: &Authority, name: &str) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut request = CertificateParams::new(Vec::new()).unwrap();
    request.distinguished_name.push(DnType::CommonName, name);
    request.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Identity { chain: request.signed_by(&key, by).unwrap().pem(), key: key.serialize_pem() }
}

fn client(ground: &Ground, identity: Option<&Identity>) -> reqwest::Client {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ground.bed.keys.ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let tls = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(identity.chain.as_bytes());
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain.collect::<Result<_, _>>().unwrap(), key).unwrap()
        }
    };
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

async fn ask(
    ground: &Ground,
    identity: Option<&Identity>,
    path: &str,
    headers: &[(&str, &str)],
) -> reqwest::Result<Response> {
    let mut request = client(ground, identity).get(format!("https://{}{path}", ground.address));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await
}

/// The front proxy's own certificate.
fn front_proxy(ground: &Ground) -> Identity {
    let read =
        |name: &str| fs::read_to_string(ground.folder.path().join("plane/certificates").join(name)).unwrap();
    Identity { chain: read("front-proxy.crt"), key: read("front-proxy.key") }
}

const MASTER: [(&str, &str); 2] = [("X-Remote-User", "root"), ("X-Remote-Group", "system:masters")];

pub(crate) async fn only_the_front_proxy_is_believed(ground: &Ground) {
    // Who shows no certificate is nobody, whatever its headers say; health is for everybody.
    let forged = ask(ground, None, PATH, &MASTER).await.unwrap();
    assert_eq!(forged.status(), StatusCode::UNAUTHORIZED);
    let status: serde_json::Value = forged.json().await.unwrap();
    assert_eq!((status["kind"].as_str(), status["reason"].as_str()), (Some("Status"), Some("Unauthorized")));
    let token = ground.plane.kubectl(&["create", "token", "patchtide", "-n", "patchtide"]).unwrap();
    let bearer = format!("Bearer {}", token.trim());
    let direct = ask(ground, None, PATH, &[("Authorization", &bearer)]).await.unwrap();
    assert_eq!(direct.status(), StatusCode::UNAUTHORIZED);
    for path in ["/apis", "/openapi/v3", "/other"] {
        assert_eq!(
            ask(ground, None, path, &MASTER).await.unwrap().status(),
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
    }
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(ask(ground, None, path, &[]).await.unwrap().status(), StatusCode::OK, "{path}");
    }

    // A certificate of the site, or of anybody else, does not get as far as that.
    let device = ground.bed.device(7);
    let device = Identity { chain: device.chain_pem, key: device.key_pem };
    let next = authority("the next front proxy CA");
    for other in [&device, &issued(&next, "front-proxy")] {
        assert!(ask(ground, Some(other), "/healthz", &[]).await.is_err());
    }

    // The real one is believed, and only what it says.
    let proxy = front_proxy(ground);
    let whole = ask(ground, Some(&proxy), PATH, &MASTER).await.unwrap();
    assert_eq!((whole.status(), whole.headers().get("content-encoding")), (StatusCode::OK, None));
    let whole: Snapshot = whole.json().await.unwrap();
    assert_eq!(ask(ground, Some(&proxy), PATH, &[]).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let eve = ask(ground, Some(&proxy), PATH, &[("X-Remote-User", "eve")]).await.unwrap();
    assert_eq!(eve.status(), StatusCode::FORBIDDEN);
    for encoding in ["gzip", "zstd"] {
        let headers = [MASTER[0], MASTER[1], ("Accept-Encoding", encoding)];
        let packed = ask(ground, Some(&proxy), PATH, &headers).await.unwrap();
        assert_eq!(packed.headers()["content-encoding"], encoding);
        let bytes = packed.bytes().await.unwrap();
        let mut text = Vec::new();
        if encoding == "zstd" {
            text = zstd::decode_all(&bytes[..]).unwrap();
        } else {
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut text).unwrap();
        }
        let again: Snapshot = serde_json::from_slice(&text).unwrap();
        assert_eq!((&again.input, &again.reports), (&whole.input, &whole.reports));
    }

    // Another CA comes into force while this serves; of its certificates too only the named one counts.
    let maps = ["configmap", "extension-apiserver-authentication", "-n", "kube-system"];
    let map = ground.plane.get(&maps).unwrap();
    let both = format!("{}{}", map["data"]["requestheader-client-ca-file"].as_str().unwrap(), next.pem());
    let patch = serde_json::json!({"data": {"requestheader-client-ca-file": both}}).to_string();
    ground
        .plane
        .kubectl(&["patch", maps[0], maps[1], maps[2], maps[3], "--type=merge", "-p", &patch])
        .unwrap();
    let named = issued(&next, "front-proxy");
    let mut tries = 0;
    let status = loop {
        match ask(ground, Some(&named), PATH, &MASTER).await {
            Ok(answer) => break answer.status(),
            Err(error) if tries > 100 => panic!("the new CA is not believed: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        tries += 1;
    };
    assert_eq!(status, StatusCode::OK);
    let unnamed = issued(&next, "somebody");
    assert_eq!(ask(ground, Some(&unnamed), PATH, &MASTER).await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

pub(crate) async fn without_an_answer_about_rights_nobody_reads(ground: Ground) {
    let proxy = front_proxy(&ground);
    ground.plane.apiserver().unwrap().kill().unwrap();
    // Somebody about whom no answer is remembered.
    let answer = ask(&ground, Some(&proxy), PATH, &[("X-Remote-User", "carol")]).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
}
