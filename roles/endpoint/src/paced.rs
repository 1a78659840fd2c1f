//! The clock of a connection. Two layers, one below TLS and one above it, see every byte: the lower one notices that the
//! other side takes nothing, the upper one that it says nothing, or says it drop by drop.
//!
//! The HTTP library has one timer for the idle time and the head together, and none for answers; what is right for one of
//! them is wrong for the others. The upper layer also refuses lines of a head that end in a bare line feed, which the
//! library would take: a proxy in front may see other lines than we do (reliability.md 4 #85).

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::framing::Framing;

/// What both layers and the service know about one connection.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Requests that a handler is working on; a long poll may do so for minutes.
    busy: AtomicU32,
    late: OnceLock<&'static str>,
    /// The reader, while it need not hurry the other side; the library does not ask it again by itself.
    waits: AtomicWaker,
}

impl Activity {
    /// A request is being worked on until the guard is dropped.
    pub(crate) fn work(self: &Arc<Self>) -> Working {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Working(Arc::clone(self))
    }

    /// Why the connection was closed for being late; the word is a label of a metric.
    pub(crate) fn late(&self) -> Option<&'static str> {
        self.late.get().copied()
    }

    fn close(&self, why: &'static str) -> io::Error {
        let _ = self.late.set(why);
        io::Error::new(io::ErrorKind::TimedOut, why)
    }
}

/// See [`Activity::work`].
#[derive(Debug)]
pub(crate) struct Working(Arc<Activity>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
        self.0.waits.wake();
    }
}

/// A timer that is made when first needed and is cheap to move: it sleeps until some earlier deadline and looks again then.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Whether `deadline` has passed; wakes the task when it may have.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> bool {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= deadline {
                return true;
            }
            sleep.as_mut().reset(deadline);
        }
        false
    }
}

/// Below TLS: gives up when nothing of what is to be sent is taken for so long.
#[derive(Debug)]
pub(crate) struct Outgoing<S> {
    inner: S,
    activity: Arc<Activity>,
    limit: Duration,
    /// Since when the other side has taken nothing although something is to be sent.
    stuck: Option<Instant>,
    sent: Instant,
    alarm: Alarm,
}

impl<S> Outgoing<S> {
    pub(crate) fn new(inner: S, activity: Arc<Activity>, limit: Duration) -> Self {
        Self { inner, activity, limit, stuck: None, sent: Instant::now(), alarm: Alarm::default() }
    }

    fn after<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.sent = Instant::now();
            if self.stuck.take().is_some() {
                self.activity.waits.wake();
            }
            return result;
        }
        let since = *self.stuck.get_or_insert_with(Instant::now);
        if self.alarm.poll(cx, since + self.limit) {
            return Poll::Ready(Err(self.activity.close("answer-time")));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Outgoing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Outgoing<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.after(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.after(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// How long a connection may say nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quiet {
    /// Between requests.
    pub(crate) idle: Duration,
    /// From the first byte of a head to its end.
    pub(crate) head: Duration,
}

/// What is below TLS, seen from above it.
pub(crate) trait Sending {
    /// When something was last taken by the other side; none while it takes nothing of what is to be sent.
    fn sent(&self) -> Option<Instant>;
}

impl<S> Sending for Outgoing<S> {
    fn sent(&self) -> Option<Instant> {
        self.stuck.is_none().then_some(self.sent)
    }
}

impl<S: Sending> Sending for tokio_rustls::server::TlsStream<S> {
    fn sent(&self) -> Option<Instant> {
        self.get_ref().0.sent()
    }
}

/// Above TLS: follows requests and gives up when one does not come, or does not end.
#[derive(Debug)]
pub(crate) struct Incoming<S> {
    inner: S,
    activity: Arc<Activity>,
    quiet: Quiet,
    framing: Framing,
    /// When the head that is coming began.
    head: Option<Instant>,
    heard: Instant,
    alarm: Alarm,
}

impl<S> Incoming<S> {
    pub(crate) fn new(inner: S, activity: Arc<Activity>, quiet: Quiet) -> Self {
        Self {
            inner,
            activity,
            quiet,
            framing: Framing::default(),
            head: None,
            heard: Instant::now(),
            alarm: Alarm::default(),
        }
    }
}

impl<S: Sending> Incoming<S> {
    /// Until when more must come, and what is late then. While a handler works and while an answer is being sent, the
    /// other side may be silent.
    fn deadline(&self) -> Option<(Instant, &'static str)> {
        if let Some(since) = self.head {
            return Some((since + self.quiet.head, "header-time"));
        }
        let sent = self.inner.sent()?;
        let working = self.activity.busy.load(Ordering::Relaxed) > 0;
        (!working).then(|| (self.heard.max(sent) + self.quiet.idle, "idle"))
    }
}

impl<S: AsyncRead + Sending + Unpin> AsyncRead for Incoming<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let result = Pin::new(&mut this.inner).poll_read(cx, buffer);
        if result.is_pending() {
            // First the waker, then the look: what ends in between wakes.
            this.activity.waits.register(cx.waker());
            return match this.deadline() {
                Some((deadline, why)) if this.alarm.poll(cx, deadline) => {
                    Poll::Ready(Err(this.activity.close(why)))
                }
                _ => Poll::Pending,
            };
        }
        ready!(result)?;
        if let Some(fresh) = buffer.filled_mut().get_mut(before..).filter(|fresh| !fresh.is_empty()) {
            this.heard = Instant::now();
            this.framing.take(fresh);
            let heard = this.heard;
            this.head = this.framing.in_head().then(|| this.head.unwrap_or(heard));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Incoming<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
