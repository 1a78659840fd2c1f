//! Package files: verified while they stream, resumed when interrupted (reliability.md 4 #47, #51, #55, #59).

#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use patchtide_catalog::http::{Expected, FetchError, Transfer, join};
use patchtide_model::Digest;
use patchtide_model::catalogue::ContentFile;
use support::server::{Answer, Server};

const SENT: &str = "pool/main/g/g%2B%2B_1%3A2%7Erc1_amd64.deb";

fn body() -> Vec<u8> {
    (0..200_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn content(bytes: &[u8]) -> ContentFile {
    let path = "pool/main/g/g++_1:2~rc1_amd64.deb".to_owned();
    ContentFile { sha256: Digest::of(bytes), size: bytes.len() as u64, path }
}

fn expected(file: &ContentFile) -> Expected {
    Expected { size: file.size, sha256: file.sha256 }
}

async fn get(server: &Server, file: &ContentFile) -> Result<Vec<u8>, FetchError> {
    let url = server.url.parse().unwrap();
    let mut out = Vec::new();
    let received = AtomicU64::new(0);
    let count = |bytes| {
        received.fetch_add(bytes, Ordering::Relaxed);
    };
    let url = join(&url, &file.path)?;
    support::fetcher().expected(&url, expected(file), &mut out, &count).await?;
    assert_eq!(received.into_inner(), out.len() as u64);
    Ok(out)
}

#[tokio::test]
async fn a_file_is_fetched_by_its_escaped_path_and_resumed_where_it_broke() {
    let server = Server::start().await;
    server.file(SENT, body());
    assert_eq!(get(&server, &content(&body())).await.unwrap(), body());
    server.take_requests();
    server.set(SENT, Answer::CutOnce(body(), 300_000));
    assert_eq!(get(&server, &content(&body())).await.unwrap(), body());
    let requests = server.take_requests();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(requests[1].1.starts_with("bytes="), "{requests:?}");
    // A server that knows no ranges sends everything again; what came before is not written twice.
    let cut = Box::new(Answer::CutOnce(body(), 300_000));
    server.set(SENT, Answer::Then(cut, Box::new(Answer::Whole(body()))));
    assert_eq!(get(&server, &content(&body())).await.unwrap(), body());
}

#[tokio::test]
async fn a_transfer_goes_on_after_the_process_was_gone() {
    let server = Server::start().await;
    server.file(SENT, body());
    let file = content(&body());
    let url = join(&server.url.parse().unwrap(), &file.path).unwrap();
    let mut transfer = Transfer::new(expected(&file));
    let mut out = body()[..123_456].to_vec();
    transfer.already_have(&out);
    support::fetcher().resume(&url, &mut transfer, &mut out, &|_| {}).await.unwrap();
    assert_eq!(out, body());
    assert_eq!(server.take_requests()[0].1, "bytes=123456-");
    // What was left behind was spoilt on the disk: noticed at the end.
    let mut transfer = Transfer::new(expected(&file));
    transfer.already_have(&vec![0; 123_456]);
    let result = support::fetcher().resume(&url, &mut transfer, &mut out, &|_| {}).await;
    assert!(matches!(result, Err(FetchError::Hash { .. })));
}

#[tokio::test]
async fn bad_input_59_wrong_length_and_wrong_hash() {
    let server = Server::start().await;
    let file = content(&body());
    server.file(SENT, [body(), b"x".to_vec()].concat());
    assert!(matches!(get(&server, &file).await, Err(FetchError::Size { .. })));
    server.file(SENT, body()[1..].to_vec());
    assert!(matches!(get(&server, &file).await, Err(FetchError::Size { .. })));
    let mut other = body();
    other[77] ^= 1;
    server.file(SENT, other);
    assert!(matches!(get(&server, &file).await, Err(FetchError::Hash { .. })));
    server.set(SENT, Answer::Status(200, "", "<html>log in"));
    assert!(matches!(get(&server, &file).await, Err(FetchError::Size { html: true, .. })));
    server.remove(SENT);
    assert!(matches!(get(&server, &file).await, Err(FetchError::NotFound { .. })));
    server.set(SENT, Answer::Status(503, "", ""));
    assert!(matches!(get(&server, &file).await, Err(FetchError::Status { status: 503, .. })));
    let outside = ContentFile { path: "../../etc/passwd".into(), ..file };
    assert!(matches!(get(&server, &outside).await, Err(FetchError::Path(_))));
}

#[tokio::test]
async fn a_server_that_dribbles_or_falls_silent_is_given_up() {
    let server = Server::start().await;
    let file = content(&body());
    server.set(SENT, Answer::Dribble(body(), Duration::from_millis(50)));
    let begin = std::time::Instant::now();
    let result = get(&server, &file).await;
    assert!(matches!(result, Err(FetchError::Slow { .. })), "{result:?}");
    server.set(SENT, Answer::Dribble(body(), Duration::from_hours(1)));
    let result = get(&server, &file).await;
    assert!(matches!(result, Err(FetchError::Network { .. })), "{result:?}");
    assert!(begin.elapsed() < Duration::from_mins(1));
}

/// Progress buys more attempts only at the rate that any transfer must have.
#[tokio::test]
async fn a_server_that_hangs_up_after_each_byte_is_given_up() {
    let server = Server::start().await;
    let file = content(&body());
    server.set(SENT, Answer::CutAlways(body(), 1));
    assert!(matches!(get(&server, &file).await, Err(FetchError::Network { .. })));
    assert!(server.take_requests().len() < 10);
    // One that gets on is followed to the end, however often it hangs up.
    server.set(SENT, Answer::CutAlways(body(), 100_000));
    assert_eq!(get(&server, &file).await.unwrap(), body());
    assert_eq!(server.take_requests().len(), 8);
}

#[tokio::test]
async fn a_disk_that_is_full_is_told_apart() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let server = Server::start().await;
    server.file(SENT, body());
    let file = content(&body());
    let url = join(&server.url.parse().unwrap(), &file.path).unwrap();
    let result = support::fetcher().expected(&url, expected(&file), &mut Full, &|_| {}).await;
    assert!(matches!(result, Err(FetchError::Write { .. })));
}
