//! Bodies with limits that hold before anything is parsed.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::Instant;

use crate::{Refusal, paced::Alarm};

/// How slowly a body may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Longest time for the whole of it.
    pub whole: Duration,
    /// Window in which [`Pace::least`] must come.
    pub window: Duration,
    /// Fewest bytes in each window, unless the body ends in it.
    pub least: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { whole: Duration::from_secs(30), window: Duration::from_secs(10), least: 10 * 1024 }
    }
}

/// The body came too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the body came too slowly: at least {} bytes in {} s, all of it in {} s", .0.least, .0.window.as_secs(), .0.whole.as_secs())]
struct Late(Pace);

/// A body with its pace.
#[derive(Debug)]
pub(crate) struct Paced {
    inner: Incoming,
    pace: Pace,
    end: Instant,
    window: Instant,
    came: u64,
    alarm: Alarm,
}

impl Paced {
    pub(crate) fn new(inner: Incoming, pace: Pace) -> Self {
        let now = Instant::now();
        Self {
            inner,
            pace,
            end: now + pace.whole,
            window: now + pace.window,
            came: 0,
            alarm: Alarm::default(),
        }
    }
}

impl hyper::body::Body for Paced {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            if let Some(Ok(data)) = frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
                this.came += data.map_or(0, |data| data.len() as u64);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        loop {
            let next = this.end.min(this.window);
            if !this.alarm.poll(cx, next) {
                return Poll::Pending;
            }
            if next == this.end || this.came < this.pace.least {
                return Poll::Ready(Some(Err(Late(this.pace).into())));
            }
            this.came = 0;
            this.window = next + this.pace.window;
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Reads a body of at most `limit` bytes. A `Content-Length` above the limit is refused before a byte is read; one that
/// comes more slowly than the listener's [`Pace`] is answered with 408.
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
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Err(error) => Err(match late(error.as_ref()) {
            Some(late) => Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "BODY-TIME",
                late.to_string(),
                "send less at once, or over a faster link",
            ),
            None => Refusal::new(
                StatusCode::BAD_REQUEST,
                "BODY-BROKEN",
                "the connection ended before the body did",
                "send it again",
            ),
        }
        .closing()),
    }
}

fn late<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Late> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(late) = error.downcast_ref() {
            return Some(late);
        }
        next = error.source();
    }
    None
}
