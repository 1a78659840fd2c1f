//! Who is slow, or silent (reliability.md 4 #86): closed at the limit, and counted.

use std::time::{Duration, Instant};

use patchtide_endpoint::{Limits, body::Pace};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    BIG,
    bed::{Bed, Options, Running},
    router,
};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

async fn server(bed: &Bed) -> Running {
    let limits = Limits {
        handshake: ms(200),
        header: ms(250),
        idle: ms(350),
        stalled: ms(400),
        body: Pace { whole: ms(900), window: ms(300), least: 100 },
        ..Limits::default()
    };
    bed.serve(router(), Options { limits, ..Options::default() }).await
}

/// What comes until the server closes, and how long that took; panics when it does not.
async fn until_closed(mut stream: impl AsyncRead + Unpin) -> (String, Duration) {
    let begin = Instant::now();
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut bytes)).await.unwrap();
    (String::from_utf8_lossy(&bytes).into_owned(), begin.elapsed())
}

const ASK: &str = "GET /v1/site HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn bad_input_86_a_handshake_that_never_comes() {
    let bed = Bed::new("lab");
    let server = server(&bed).await;
    let (_, took) = until_closed(TcpStream::connect(server.address).await.unwrap()).await;
    assert!(took >= ms(150), "{took:?}");
    assert_eq!(server.refused("handshake-time"), 1);
}

#[tokio::test]
async fn bad_input_86_a_head_that_comes_drop_by_drop() {
    let bed = Bed::new("lab");
    let server = server(&bed).await;
    let (read, mut write) = tokio::io::split(bed.raw(server.address, None).await);
    let drip = tokio::spawn(async move {
        for byte in ASK.as_bytes() {
            if write.write_all(&[*byte]).await.and(write.flush().await).is_err() {
                return;
            }
            tokio::time::sleep(ms(50)).await;
        }
    });
    // Each drop comes within every limit; the whole does not.
    let (answer, took) = until_closed(read).await;
    assert!(answer.is_empty() && took >= ms(200) && took < ms(1500), "{answer} {took:?}");
    assert_eq!(server.refused("header-time"), 1);
    drip.await.unwrap();
}

#[tokio::test]
async fn bad_input_86_a_body_that_comes_drop_by_drop_is_answered_408() {
    let bed = Bed::new("lab");
    let server = server(&bed).await;
    let head = "POST /v1/echo HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\nContent-Length: 900\r\n\r\n";
    // Less than the least in a window; then enough of it, but not all of it in time.
    for (pause, piece, least, most) in [(ms(50), 1, ms(250), ms(700)), (ms(50), 30, ms(850), ms(1600))] {
        let (read, mut write) = tokio::io::split(bed.raw(server.address, None).await);
        let drip = tokio::spawn(async move {
            write.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..29 {
                if write.write_all(&vec![b'x'; piece]).await.and(write.flush().await).is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        });
        let (answer, took) = until_closed(read).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("BODY-TIME"), "{answer}");
        assert!(took >= least && took < most, "{took:?}");
        drip.await.unwrap();
    }
    assert_eq!(server.figure("http_requests_total{listener=\"test\",route=\"/v1/\",status=\"408\"}"), 2);
}

#[tokio::test]
async fn bad_input_86_an_answer_that_nobody_takes() {
    let bed = Bed::new("lab");
    let server = server(&bed).await;
    let mut stream = bed.raw(server.address, None).await;
    stream.write_all(b"GET /v1/big HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\n\r\n").await.unwrap();
    let begin = Instant::now();
    while server.refused("answer-time") == 0 {
        assert!(begin.elapsed() < Duration::from_secs(5), "it is waited for");
        tokio::time::sleep(ms(20)).await;
    }
    assert!(begin.elapsed() >= ms(350));
    let (answer, _) = until_closed(stream).await;
    assert!(answer.len() < BIG, "cut off");
}

/// Sending an answer has no time limit while the other side takes it: the idle time begins when it is gone.
#[tokio::test]
async fn a_large_answer_is_sent_to_the_end_over_a_slow_link() {
    let bed = Bed::new("lab");
    let server = server(&bed).await;
    let mut stream = bed.raw(server.address, None).await;
    stream.write_all(b"GET /v1/big HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\n\r\n").await.unwrap();
    let mut piece = vec![0; 1 << 20];
    let (mut got, begin) = (0, Instant::now());
    while got < BIG {
        let read = stream.read(&mut piece).await.unwrap();
        assert!(read > 0, "cut off after {got} bytes and {:?}", begin.elapsed());
        // Some 1.3 seconds for the whole, far beyond the times for heads and for being idle.
        if got >> 20 != (got + read) >> 20 {
            tokio::time::sleep(ms(20)).await;
        }
        got += read;
    }
    assert!(begin.elapsed() > ms(1000), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn bad_input_86_a_connection_that_says_nothing() {
    let bed = Bed::new("lab");
    let server = server(&bed).await;
    let (_, took) = until_closed(bed.raw(server.address, None).await).await;
    assert!(took >= ms(300), "{took:?}");
    assert_eq!(server.refused("idle"), 1);
    // Also after a request; and what a handler works on for longer is waited for.
    let mut stream = bed.raw(server.address, None).await;
    let ask = "GET /v1/work HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let (answer, took) = until_closed(stream).await;
    assert!(answer.ends_with("done"), "{answer}");
    assert!(took >= ms(700), "400 ms of work, then 350 ms of silence: {took:?}");
    assert_eq!(server.refused("idle"), 2);
}

#[tokio::test]
async fn bad_input_86_a_side_that_is_closed_is_not_waited_for() {
    let bed = Bed::new("lab");
    let server = server(&bed).await;
    let slow = "GET /v1/slow HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\n\r\n";
    for (sent, broken) in [("", 0), ("GET /v1/site HTTP/1.1\r\nHos", 1), (slow, 1)] {
        let before = server.refused("protocol");
        let mut stream = bed.raw(server.address, None).await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let (_, took) = until_closed(stream).await;
        assert!(took < ms(200), "{sent:?}: {took:?}");
        tokio::time::sleep(ms(50)).await;
        assert_eq!(server.refused("protocol") - before, broken, "{sent:?}");
    }
    assert_eq!(server.figure("http_connections{listener=\"test\"}"), 0);
}
