//! Bodies with limits that hold before anything is parsed.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};

use crate::Refusal;

/// Longest time a body may take.
pub const BODY_TIME: Duration = Duration::from_secs(30);

/// Reads a body of at most `limit` bytes within [`BODY_TIME`]. A `Content-Length` above the limit is refused before
/// a byte is read.
pub async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let too_large = || {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "BODY-SIZE",
            format!("the body is larger than {limit} bytes"),
            "send less at once: split the report",
        )
        .closing()
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIME, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "BODY-BROKEN",
            "the connection ended before the body did",
            "send it again",
        )
        .closing()),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "BODY-TIME",
            format!("the body did not arrive within {} s", BODY_TIME.as_secs()),
            "send less at once, or over a faster link",
        )
        .closing()),
    }
}
