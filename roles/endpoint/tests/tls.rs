//! The listener against real TLS clients: who gets in, as whom, and what happens to those who do not keep the rules.
//! Bad input by the numbers of reliability.md section 4 (HTTP/TLS 84 to 90).

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "../../testing/bed.rs"]
mod bed;

use std::time::Duration;

use axum::{
    Extension, Router,
    body::Body,
    routing::{get, post},
};
use bed::{Bed, Options};
use http::HeaderMap;
use jiff::SignedDuration;
use patchtide_endpoint::{
    AuthenticatedClient, Draining, Limits, Peer, Refusal, VersionRule, body, tls::CertificateSlot,
    unknown_path, wrong_method,
};
use patchtide_protocol::Problem;
use patchtide_signer::{ServerName, Signer as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn who(client: AuthenticatedClient) -> String {
    client.id.to_string()
}

async fn anyone(Extension(peer): Extension<Peer>) -> String {
    format!("{:?}", peer.identity.is_ok())
}

async fn echo(headers: HeaderMap, body: Body) -> Result<String, Refusal> {
    Ok(body::read(&headers, body, 1000).await?.len().to_string())
}

async fn slow(Extension(Draining(draining)): Extension<Draining>) -> String {
    tokio::select! {
        () = draining.cancelled() => "drained".to_owned(),
        () = tokio::time::sleep(Duration::from_secs(30)) => "late".to_owned(),
    }
}

async fn work() -> String {
    tokio::time::sleep(Duration::from_millis(400)).await;
    "done".to_owned()
}

fn router() -> Router {
    Router::new()
        .route("/v1/who", get(who).fallback(wrong_method))
        .route("/v1/site", get(anyone))
        .route("/v1/echo", post(echo).fallback(wrong_method))
        .route("/v1/slow", get(slow))
        .route("/v1/work", get(work))
        .fallback(unknown_path)
}

async fn problem(response: reqwest::Response) -> (u16, String) {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["patchtide-protocol"], "1");
    let problem: Problem = response.json().await.unwrap();
    assert!(!problem.remedy.is_empty());
    (problem.status, problem.code)
}

#[tokio::test]
async fn only_a_certificate_of_the_site_ca_is_an_identity() {
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
    let wrong = bed::Device { chain_pem: own.chain_pem, key_pem: own.key_pem, ..device };
    assert!(ask(bed.client(Some(&wrong))).await.is_err());
}

#[tokio::test]
async fn identity_headers_are_nobodys() {
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
    let offset = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(0));
    let (system, shift) = (bed.clock.clone(), offset.clone());
    bed.clock = std::sync::Arc::new(move || {
        system() + SignedDuration::from_secs(shift.load(std::sync::atomic::Ordering::Relaxed))
    });
    let server = bed.serve(router(), Options::default()).await;
    let client = bed.client(Some(&device));
    assert_eq!(client.get(server.url("/v1/who")).send().await.unwrap().status(), 200);
    offset.store(120, std::sync::atomic::Ordering::Relaxed);
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
    let plain = bed.client_h2(Some(&bed.device(1)), reqwest::ClientBuilder::http2_prior_knowledge);
    let response = plain.get(server.url("/v1/who")).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
}

#[tokio::test]
async fn other_protocol_versions_are_told_what_to_do() {
    let bed = Bed::new("lab");
    let server = bed.serve(router(), Options::default()).await;
    let bare = bed.client_with(Some(&bed.device(1)), |b| b);
    let ask = async |version: Option<&str>, path: &str| {
        let mut request = bare.get(server.url(path));
        if let Some(version) = version {
            request = request.header("patchtide-protocol", version);
        }
        request.send().await.unwrap()
    };
    for version in [None, Some("0"), Some("2"), Some("one"), Some("99999999999999999999")] {
        assert_eq!(problem(ask(version, "/v1/who").await).await, (426, "PROTOCOL-VERSION".into()));
    }
    assert_eq!(ask(None, "/v1/site").await.status(), 200, "how else would one learn the versions");
    assert_eq!(ask(Some("1"), "/v1/who").await.status(), 200);
    let newer: Problem = ask(Some("2"), "/v1/who").await.json().await.unwrap();
    assert!(newer.remedy.contains("upgrade the site"));
    let older: Problem = ask(Some("0"), "/v1/who").await.json().await.unwrap();
    assert!(older.remedy.contains("upgrade the agent"));
}

#[tokio::test]
async fn bodies_have_a_limit_before_and_while_they_are_read() {
    let bed = Bed::new("lab");
    let server = bed.serve(router(), Options::default()).await;
    let client = bed.client(None);
    let send = async |bytes: usize| {
        client.post(server.url("/v1/echo")).body(vec![b'x'; bytes]).send().await.unwrap()
    };
    assert_eq!(send(1000).await.text().await.unwrap(), "1000");
    assert_eq!(problem(send(1001).await).await, (413, "BODY-SIZE".into()));
    assert_eq!(
        problem(client.get(server.url("/v1/echo")).send().await.unwrap()).await,
        (405, "METHOD".into())
    );
    assert_eq!(
        problem(client.get(server.url("/v2")).send().await.unwrap()).await,
        (404, "PATH-UNKNOWN".into())
    );
}

/// Sends bytes and reads until the server closes or is silent for a second.
async fn say(bed: &Bed, server: &bed::Running, bytes: &[u8]) -> String {
    let mut stream = bed.raw(server.address, None).await;
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn nothing_can_be_smuggled_behind_a_request() {
    let bed = Bed::new("lab");
    let server = bed.serve(router(), Options::default()).await;
    let hidden = "GET /v1/site HTTP/1.1\r\nHost: x\r\n\r\n";
    let post = "POST /v1/echo HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\n";
    let bad = [
        // 85: Content-Length and Transfer-Encoding, in both orders; Transfer-Encoding alone; obfuscated.
        format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{post}Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n{hidden}"),
        format!("{post}Transfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n{hidden}"),
        // Two lengths, a signed one, a list.
        format!("{post}Content-Length: 0\r\nContent-Length: 40\r\n\r\n{hidden}"),
        format!("{post}Content-Length: +0\r\n\r\n{hidden}"),
        format!("{post}Content-Length: 0, 40\r\n\r\n{hidden}"),
        // Folded header, bare line feeds, NUL, a space before the colon, no version, absolute form, asterisk.
        format!("{post}X: a\r\n b\r\n\r\n{hidden}"),
        format!("{post}X: a\0b\r\n\r\n{hidden}"),
        format!("GET http://elsewhere/v1/site HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\n\r\n{hidden}"),
        format!("GET * HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\n\r\n{hidden}"),
        format!("CONNECT elsewhere:443 HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\n\r\n{hidden}"),
        format!("{}{}\r\n\r\n{hidden}", post, "X: y\r\n".repeat(10_000)),
        format!("{post}X: {}\r\n\r\n{hidden}", "y".repeat(1 << 20)),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n{hidden}", "y".repeat(1 << 17)),
    ];
    for request in bad {
        let answer = say(&bed, &server, request.as_bytes()).await;
        let head: String = request.chars().take(160).collect();
        let answers = answer.matches("HTTP/1.1 ").count();
        assert!(answers <= 1, "{head:?} got {answers} answers: {answer}");
        assert!(!answer.contains("HTTP/1.1 2"), "{head:?} was served: {answer}");
    }
}

#[tokio::test]
async fn paths_are_names_not_files() {
    let bed = Bed::new("lab");
    let server = bed.serve(router(), Options::default()).await;
    for path in [
        "/../etc/passwd",
        "/v1/../v1/site",
        "/v1/%2e%2e/site",
        "/v1//site",
        "//v1/site",
        "/v1/site/",
        "/v1\\site",
        "/v1/site;x=1",
        "/v1/%73ite%00",
        "/v1/..%c0%af",
        "/v1/%",
        "/v1/\u{7f}",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\n\r\n");
        let answer = say(&bed, &server, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 40"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let bed = Bed::new("lab");
    let limits = Limits {
        handshake: Duration::from_millis(200),
        header: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = bed.serve(router(), Options { limits, ..Options::default() }).await;
    let closed = async |mut stream: Box<dyn tokio::io::AsyncRead + Unpin>| {
        let mut bytes = Vec::new();
        tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut bytes)).await.is_ok()
    };
    let silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    assert!(closed(Box::new(silent)).await, "a handshake that never comes");
    let mut half = bed.raw(server.address, None).await;
    half.write_all(b"GET /v1/site HTTP/1.1\r\nHos").await.unwrap();
    assert!(closed(Box::new(half)).await, "a head that never ends");
}

#[tokio::test]
async fn connections_are_limited_by_source_until_they_show_a_certificate() {
    let bed = Bed::new("lab");
    let limits = Limits { per_source: 2, per_client: 2, ..Limits::default() };
    let server = bed.serve(router(), Options { limits, ..Options::default() }).await;
    let (first, second) = (bed.device(1), bed.device(2));
    let get = "GET /v1/who HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\n\r\n";
    let mut open = Vec::new();
    // Four known connections do not count against the source.
    for device in [&first, &first, &second, &second] {
        let mut stream = bed.raw(server.address, Some(device)).await;
        stream.write_all(get.as_bytes()).await.unwrap();
        let mut bytes = [0; 12];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"HTTP/1.1 200");
        open.push(stream);
    }
    // A third of one client is closed.
    let mut third = bed.raw(server.address, Some(&first)).await;
    let _ = third.write_all(get.as_bytes()).await;
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(2), third.read_to_end(&mut bytes)).await.unwrap();
    assert!(bytes.is_empty());
    // Two that show nothing are all there may be.
    let _one = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let _two = tokio::net::TcpStream::connect(server.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut refused = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(2), refused.read_to_end(&mut bytes)).await.unwrap();
}

#[tokio::test]
async fn stopping_finishes_what_was_accepted_and_wakes_who_waits() {
    let bed = Bed::new("lab");
    let server = bed.serve(router(), Options::default()).await;
    let client = bed.client(None);
    let ask = |path: &str| {
        let request = client.get(server.url(path)).send();
        tokio::spawn(async move { request.await.unwrap().text().await.unwrap() })
    };
    let (work, slow) = (ask("/v1/work"), ask("/v1/slow"));
    tokio::time::sleep(Duration::from_millis(150)).await;
    server.stop.cancel();
    assert_eq!(work.await.unwrap(), "done");
    assert_eq!(slow.await.unwrap(), "drained");
    tokio::time::timeout(Duration::from_secs(2), server.task).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn the_server_certificate_can_be_replaced_while_serving() {
    let bed = Bed::new("lab");
    let issue = |name: &str| bed.keys.issue_server_certificate(&[ServerName::from(name)], bed.now()).unwrap();
    let old = issue("old.example");
    let slot = CertificateSlot::new(&old.chain_pem, &old.key_pem).unwrap();
    let server = bed.serve_with(router(), Options::default(), slot.clone()).await;
    let status = async || {
        let answer = bed.client(None).get(server.url("/v1/site")).send().await;
        answer.map(|response| response.status().as_u16()).ok()
    };
    assert_eq!(status().await, None, "the name does not fit");
    let new = issue("127.0.0.1");
    assert!(slot.replace(&new.chain_pem, &old.key_pem).is_err(), "key and certificate must fit");
    slot.replace(&new.chain_pem, &new.key_pem).unwrap();
    assert_eq!(status().await, Some(200));
}
