//! The listener against real TLS clients: who gets in, as whom, and what happens to those who do not keep the rules.
//! Bad input by the numbers of reliability.md section 4 (HTTP/TLS 84 to 90): `bytes` what is sent, `times` how fast,
//! `identity` by whom.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "../../../testing/bed.rs"]
mod bed;
mod bytes;
mod identity;
mod times;

use std::time::Duration;

use axum::{
    Extension, Router,
    body::Body,
    routing::{get, post},
};
use bed::{Bed, Options};
use http::HeaderMap;
use patchtide_endpoint::{
    AuthenticatedClient, Draining, Limits, Peer, Refusal, body, tls::CertificateSlot, unknown_path,
    wrong_method,
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

/// More than the buffers of both kernels take.
const BIG: usize = 64 << 20;

async fn big() -> Vec<u8> {
    vec![b'x'; BIG]
}

fn router() -> Router {
    Router::new()
        .route("/v1/big", get(big))
        .route("/v1/who", get(who).fallback(wrong_method))
        .route("/v1/site", get(anyone))
        .route("/v1/echo", post(echo).fallback(wrong_method))
        .route("/v1/slow", get(slow))
        .route("/v1/work", get(work))
        .fallback(unknown_path)
}

async fn problem(response: reqwest::Response) -> (u16, String) {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["patchtide-protocol"], "2");
    let problem: Problem = response.json().await.unwrap();
    assert!(!problem.remedy.is_empty());
    (problem.status, problem.code)
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
    for version in [None, Some("0"), Some("3"), Some("one"), Some("99999999999999999999")] {
        assert_eq!(problem(ask(version, "/v1/who").await).await, (426, "PROTOCOL-VERSION".into()));
    }
    assert_eq!(ask(None, "/v1/site").await.status(), 200, "how else would one learn the versions");
    for served in ["1", "2"] {
        assert_eq!(ask(Some(served), "/v1/who").await.status(), 200);
    }
    let newer: Problem = ask(Some("3"), "/v1/who").await.json().await.unwrap();
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

/// reliability.md 3.9: four downloads at once, after a change of network beside those of before; no more.
#[tokio::test]
async fn a_client_has_room_for_what_an_agent_does_twice_over() {
    let bed = Bed::new("lab");
    let server = bed.serve(router(), Options::default()).await;
    let device = bed.device(1);
    let get = "GET /v1/who HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\n\r\n";
    let mut open = Vec::new();
    let mut bytes = [0; 12];
    for _ in 0..8 {
        let mut stream = bed.raw(server.address, Some(&device)).await;
        stream.write_all(get.as_bytes()).await.unwrap();
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"HTTP/1.1 200");
        open.push(stream);
    }
    let mut ninth = bed.raw(server.address, Some(&device)).await;
    let _ = ninth.write_all(get.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(2), ninth.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty());
    assert_eq!(server.refused("client"), 1);
    // One that ends makes room.
    drop(open.pop());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut again = bed.raw(server.address, Some(&device)).await;
    again.write_all(get.as_bytes()).await.unwrap();
    again.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"HTTP/1.1 200");
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
