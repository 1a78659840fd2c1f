//! Reports that do not come, or not whole (reliability.md 4 #72, #86).

use std::time::{Duration, Instant};

use patchtide_endpoint::{Limits, body::Pace};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Options, Point};

/// #72: a body that is announced and does not come is answered with 408; nothing of it is taken in.
#[tokio::test]
async fn bad_input_72_a_report_that_never_ends_is_answered_408() {
    let pace = Pace { whole: Duration::from_millis(400), ..Pace::default() };
    let limits = Limits { body: pace, ..Limits::default() };
    let point = Point::with(Options { limits, ..Options::default() }).await;
    let (device, _) = point.client(1).await;
    let begin = Instant::now();
    let mut stream = point.bed.raw(point.server.address, Some(&device)).await;
    let head = "POST /v1/state-messages HTTP/1.1\r\nHost: x\r\npatchtide-protocol: 1\r\n\
                Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{\"incarnation\":";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("BODY-TIME"), "{answer}");
    assert!(begin.elapsed() >= Duration::from_millis(350), "{:?}", begin.elapsed());
    assert_eq!(
        point.server.figure("http_requests_total{listener=\"test\",route=\"/v1/\",status=\"408\"}"),
        1
    );
    assert!(point.site.store.client_states(device.id).await.unwrap().is_empty());
}
