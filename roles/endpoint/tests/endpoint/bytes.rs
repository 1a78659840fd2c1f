//! Requests that are none, or more than one.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    bed::{self, Bed, Options},
    router,
};

/// Sends bytes and reads until the server closes; what came, and whether it closed within two seconds.
async fn say(bed: &Bed, server: &bed::Running, bytes: &[u8]) -> (String, bool) {
    let mut stream = bed.raw(server.address, None).await;
    // What is refused early may be closed before all of it was sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await.is_ok();
    (String::from_utf8_lossy(&answer).into_owned(), closed)
}

/// reliability.md 4 #85: refused with 400, 411, 414 or 431, and closed; what stands behind is never a request.
#[tokio::test]
async fn bad_input_85_nothing_can_be_smuggled_behind_a_request() {
    let bed = Bed::new("lab");
    let server = bed.serve(router(), Options::default()).await;
    let hidden = "GET /v1/site HTTP/1.1\r\nHost: x\r\n\r\n";
    let post = "POST /v1/echo HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\n";
    let bad = [
        // Content-Length and Transfer-Encoding, in both orders; Transfer-Encoding alone; obfuscated.
        format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{post}Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n{hidden}"),
        format!("{post}Transfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n{hidden}"),
        // Two lengths, a signed one, a list.
        format!("{post}Content-Length: 0\r\nContent-Length: 40\r\n\r\n{hidden}"),
        format!("{post}Content-Length: +0\r\n\r\n{hidden}"),
        format!("{post}Content-Length: 0, 40\r\n\r\n{hidden}"),
        // Folded header, bare line feeds in each place, NUL, absolute form, asterisk, CONNECT.
        format!("GET /v1/site HTTP/1.1\nHost: x\n\n{hidden}"),
        format!("{post}X: a\nContent-Length: 0\r\n\r\n{hidden}"),
        format!("{post}Content-Length: 0\r\n\n{hidden}"),
        format!("{post}X: a\rContent-Length: 0\r\n\r\n{hidden}"),
        format!("{post}X: a\r\n b\r\n\r\n{hidden}"),
        format!("{post}X: a\0b\r\n\r\n{hidden}"),
        format!("GET http://elsewhere/v1/site HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\n\r\n{hidden}"),
        format!("GET * HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\n\r\n{hidden}"),
        format!("CONNECT elsewhere:443 HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\n\r\n{hidden}"),
        format!("{}{}\r\n\r\n{hidden}", post, "X: y\r\n".repeat(10_000)),
        format!("{post}X: {}\r\n\r\n{hidden}", "y".repeat(1 << 20)),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n{hidden}", "y".repeat(1 << 17)),
    ];
    let sent = bad.len() as u64;
    for request in bad {
        let (answer, closed) = say(&bed, &server, request.as_bytes()).await;
        let head: String = request.chars().take(160).collect();
        let answers = answer.matches("HTTP/1.1 ").count();
        assert!(answers <= 1, "{head:?} got {answers} answers: {answer}");
        let status = answer.get(9..12).unwrap_or_default();
        assert!(["400", "411", "414", "431"].contains(&status), "{head:?} got {answer:?}");
        assert!(closed, "{head:?} left the connection open");
    }
    // Counted where the parser refused, and as answers where we did.
    let answers = |route: &str, status| {
        server.figure(&format!(
            "http_requests_total{{listener=\"test\",route=\"{route}\",status=\"{status}\"}}"
        ))
    };
    let answered = answers("/v1/", 411) + answers("/v1/", 400) + answers("other", 400);
    assert_eq!(server.refused("protocol") + answered, sent);
}

/// reliability.md 4 #84.
#[tokio::test]
async fn bad_input_84_paths_are_names_not_files() {
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
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\nConnection: close\r\n\r\n");
        let (answer, _) = say(&bed, &server, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 40"), "{path}: {answer}");
    }
}

/// reliability.md 4 #87: resets, continuations, settings, pings and windows are attacks on HTTP/2, which is not offered.
#[tokio::test]
async fn bad_input_87_http_2_is_not_spoken() {
    let bed = Bed::new("lab");
    let server = bed.serve(router(), Options::default()).await;
    let chosen = async |offered: &[&[u8]]| {
        let mut tls = bed.tls(None);
        tls.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let mut stream = bed.shake(server.address, tls).await.ok()?;
        stream.shutdown().await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        Some(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
    };
    assert_eq!(chosen(&[b"h2"]).await, None, "no protocol in common: no connection");
    assert_eq!(chosen(&[b"h2", b"http/1.1"]).await, Some(Some(b"http/1.1".to_vec())));
    assert_eq!(server.refused("handshake"), 1);

    // Frames that nobody agreed on: preface, SETTINGS, and a flood of RST_STREAM, CONTINUATION and PING.
    let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for _ in 0..10_000 {
        frames.extend_from_slice(b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08");
        frames.extend_from_slice(b"\0\0\0\x09\0\0\0\0\x01");
        frames.extend_from_slice(b"\0\0\x08\x06\0\0\0\0\0........");
    }
    let (answer, closed) = say(&bed, &server, &frames).await;
    assert!(closed && (answer.is_empty() || answer.starts_with("HTTP/1.1 400")), "{answer}");
    assert_eq!(server.refused("protocol"), 1);
}
