//! Answers that are written while they are read, compressed as the reader accepts it. A reader that is slow holds up the
//! reading, not the memory.

use std::{future::Future, io, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::compress::{Compression, Encoder};

/// Takes the pieces of an answer.
pub type Sender = mpsc::Sender<io::Result<Bytes>>;

/// Compressed bytes are passed on when there are this many.
const PASS: usize = 64 * 1024;
/// Longest time for an answer that ends: the kube-apiserver waits 60 s for any.
const WHOLE: Duration = Duration::from_secs(55);

/// A document on its way out.
pub(crate) struct Output {
    encoder: Encoder,
    ready: Vec<u8>,
    to: Sender,
}

impl Output {
    pub(crate) fn new(compression: Compression, to: &Sender) -> io::Result<Self> {
        Ok(Self { encoder: Encoder::new(compression)?, ready: Vec::new(), to: to.clone() })
    }

    pub(crate) async fn text(&mut self, text: impl AsRef<[u8]>) -> io::Result<()> {
        self.ready.extend_from_slice(&self.encoder.take(text.as_ref())?);
        if self.ready.len() >= PASS {
            let ready = std::mem::take(&mut self.ready);
            pass(&self.to, ready).await?;
        }
        Ok(())
    }

    pub(crate) async fn value(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.text(serde_json::to_vec(value)?).await
    }

    pub(crate) async fn end(self) -> io::Result<()> {
        let Self { encoder, mut ready, to } = self;
        ready.extend_from_slice(&encoder.finish()?);
        pass(&to, ready).await
    }
}

/// Passes bytes on; an error: nobody takes them any more.
pub(crate) async fn pass(to: &Sender, bytes: Vec<u8>) -> io::Result<()> {
    to.send(Ok(bytes.into())).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// A comma before everything but the first.
#[derive(Default)]
pub(crate) struct Comma(bool);

impl Comma {
    pub(crate) fn next(&mut self) -> &'static str {
        if std::mem::replace(&mut self.0, true) { "," } else { "" }
    }
}

/// The answer that `write` writes, which has 55 s for it. `held` is let go when it has ended. If it fails the reader sees
/// an answer that breaks off, and the log says `what` and why.
pub(crate) fn answer<F, E>(
    headers: &HeaderMap,
    what: String,
    held: impl Send + 'static,
    write: impl FnOnce(Compression, Sender) -> F,
) -> Response
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: std::fmt::Display + Send,
{
    let compression = Compression::accepted(headers);
    let (sender, receiver) = mpsc::channel(4);
    let writing = write(compression, sender.clone());
    tokio::spawn(async move {
        let failure = match tokio::time::timeout(WHOLE, writing).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("it takes too long: ask for less at once".to_owned()),
        };
        if let Some(failure) = failure {
            tracing::warn!(what, failure, "an answer ended in the middle");
            let _ = sender.send(Err(io::Error::other(failure))).await;
        }
        drop(held);
    });
    let mut response = response(receiver);
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Some(name) = compression.name() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    response
}

/// The answer whose pieces are received.
pub(crate) fn response(mut receiver: mpsc::Receiver<io::Result<Bytes>>) -> Response {
    let stream = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let mut response = Response::new(Body::from_stream(stream.fuse()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
