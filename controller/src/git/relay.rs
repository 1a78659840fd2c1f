//! A relay on the loopback device between libgit2 and the server: it holds what libgit2 cannot be told to hold, the
//! time of a whole fetch and the bytes that come in, from the first byte of the connection on (bad-input catalogue
//! #37, #38). For https it is the end of TLS as well, so that it is rustls that judges the server (#39): libgit2
//! speaks plain HTTP to the relay and to nobody else.
//!
//! It connects to the one server it was made for. A redirect is not followed but told.

use std::{
    io,
    net::{Ipv4Addr, TcpListener as StdListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
    time::{sleep_until, timeout},
};
use tokio_rustls::TlsConnector;

/// Longest wait for a connection and its handshake.
const CONNECT: Duration = Duration::from_secs(30);
/// Bytes of a status line that tell a redirect: `HTTP/1.1 30`.
const STATUS_LINE: usize = 11;

/// What the relay leads to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How TLS is spoken to it; none: bytes are passed on as they are (ssh).
    pub tls: Option<Arc<ClientConfig>>,
}

/// Why a relay broke a connection off, or did not make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// More bytes came than allowed.
    Bytes,
    /// The time is over.
    Time,
    /// The server cannot be reached; why.
    Unreachable(String),
    /// The server is not the one that is meant; why.
    Peer(String),
    /// The server sends the client elsewhere.
    Redirect(String),
}

/// A running relay; ends when dropped.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
    verdict: Arc<Mutex<Option<Verdict>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    target: Target,
    /// The header that libgit2 sends, and the one that the server expects.
    host: (Vec<u8>, Vec<u8>),
    bytes: AtomicUsize,
    received: AtomicUsize,
}

impl Relay {
    /// Starts a relay to `target` that lets `bytes` in until `deadline`.
    pub fn start(target: Target, bytes: usize, deadline: Instant) -> io::Result<Self> {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let bracketed =
            if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
        let authority = if target.port == 443 { bracketed } else { format!("{bracketed}:{}", target.port) };
        let host = (
            format!("Host: 127.0.0.1:{port}\r\n").into_bytes(),
            format!("Host: {authority}\r\n").into_bytes(),
        );
        let shared =
            Arc::new(Shared { target, host, bytes: AtomicUsize::new(bytes), received: AtomicUsize::new(0) });
        let verdict = Arc::new(Mutex::new(None));
        let (found, serving) = (Arc::clone(&verdict), Arc::clone(&shared));
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("git-relay".into()).spawn(move || {
            let end = runtime.block_on(async {
                tokio::select! {
                    // What was found counts, also when the client stops because of it.
                    biased;
                    verdict = serve(listener, serving) => Some(verdict),
                    () = sleep_until(deadline.into()) => Some(Verdict::Time),
                    _ = stopped => None,
                }
            });
            *found.lock().unwrap_or_else(PoisonError::into_inner) = end;
            // Resolving a name may hang on; it ends by itself.
            runtime.shutdown_background();
        })?;
        Ok(Self { port, shared, verdict, stop: Some(stop), thread: Some(thread) })
    }

    /// Port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Lets `bytes` in from now on, those counted that came already.
    pub fn allow(&self, bytes: usize) {
        self.shared.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Ends it; what it found, if it broke something off.
    pub fn end(mut self) -> Option<Verdict> {
        self.finish();
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn finish(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It has ended already otherwise.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // A panic of it has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Takes connections until one of them ends with a verdict; the others are closed with it.
async fn serve(listener: StdListener, shared: Arc<Shared>) -> Verdict {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return Verdict::Unreachable(error.to_string()),
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(connection(client, Arc::clone(&shared)));
                }
            }
            Some(ended) = connections.join_next() => {
                if let Ok(Err(verdict)) = ended {
                    return verdict;
                }
            }
        }
    }
}

async fn connection(client: TcpStream, shared: Arc<Shared>) -> Result<(), Verdict> {
    let target = &shared.target;
    let unreachable = |error: io::Error| Verdict::Unreachable(error.to_string());
    let slow = |_| Verdict::Unreachable(format!("no answer within {} s", CONNECT.as_secs()));
    client.set_nodelay(true).map_err(unreachable)?;
    let connect = TcpStream::connect((target.host.as_str(), target.port));
    let server = timeout(CONNECT, connect).await.map_err(slow)?.map_err(unreachable)?;
    server.set_nodelay(true).map_err(unreachable)?;
    let Some(config) = &target.tls else {
        return pass(client, server, &shared, false).await;
    };
    let name = ServerName::try_from(target.host.clone())
        .map_err(|_| Verdict::Peer(format!("{} is no name that a certificate can be for", target.host)))?;
    let server = TlsConnector::from(Arc::clone(config)).connect(name, server).await.map_err(|error| {
        // What TLS has against the server is inside of the I/O error.
        let of_tls = error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>);
        if of_tls { Verdict::Peer(format!("TLS: {error}")) } else { Verdict::Unreachable(error.to_string()) }
    })?;
    pass(client, server, &shared, true).await
}

/// Passes bytes on in both directions until one side ends.
async fn pass(
    client: TcpStream,
    server: impl AsyncRead + AsyncWrite,
    shared: &Shared,
    http: bool,
) -> Result<(), Verdict> {
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(server);
    let asked = AtomicBool::new(false);
    tokio::select! {
        result = up(from_client, to_server, shared, http, &asked) => {
            // A side that goes away ends the connection; what that means libgit2 knows best.
            if let Err(error) = result {
                tracing::debug!(%error, "the Git relay's way to the server ended");
            }
            Ok(())
        }
        result = down(from_server, to_client, shared, http, &asked) => result,
    }
}

/// What libgit2 sends, with the server's own name instead of the relay's.
async fn up(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    shared: &Shared,
    http: bool,
    asked: &AtomicBool,
) -> io::Result<()> {
    let (ours, theirs) = &shared.host;
    let mut buffer = vec![0; 16 << 10];
    let mut held: Vec<u8> = Vec::new();
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        held.extend_from_slice(&buffer[..length]);
        if http {
            while let Some(at) = held.windows(ours.len()).position(|window| window == ours) {
                held.splice(at..at + ours.len(), theirs.iter().copied());
            }
        }
        // The beginning of the header may be at the end of what came.
        let keep =
            if http { (1..ours.len()).rev().find(|n| held.ends_with(&ours[..*n])).unwrap_or(0) } else { 0 };
        let rest = held.split_off(held.len() - keep);
        asked.store(true, Ordering::Relaxed);
        to.write_all(&held).await?;
        to.flush().await?;
        held = rest;
    }
}

/// What the server sends, counted; the answer to a request is looked at for a redirect.
async fn down(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    shared: &Shared,
    http: bool,
    asked: &AtomicBool,
) -> Result<(), Verdict> {
    let mut buffer = vec![0; 64 << 10];
    let mut head: Vec<u8> = Vec::new();
    loop {
        // An end without a goodbye is an end.
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return Ok(()) };
        let received = shared.received.fetch_add(length, Ordering::Relaxed) + length;
        if received > shared.bytes.load(Ordering::Relaxed) {
            return Err(Verdict::Bytes);
        }
        let mut out = &buffer[..length];
        if http && asked.load(Ordering::Relaxed) {
            head.extend_from_slice(out);
            if head.len() < STATUS_LINE && !head.contains(&b'\n') {
                continue;
            }
            asked.store(false, Ordering::Relaxed);
            if let Some(to) = redirect(&head) {
                return Err(Verdict::Redirect(to));
            }
            out = &head;
        }
        if to.write_all(out).await.is_err() {
            return Ok(());
        }
        head.clear();
    }
}

/// Where an answer sends the client, if it does.
fn redirect(head: &[u8]) -> Option<String> {
    let code = head.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..4));
    if code != Some(b"30") {
        return None;
    }
    let text = String::from_utf8_lossy(head);
    let to = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("location"));
    Some(to.map_or_else(|| "another place".to_owned(), |(_, to)| super::verdict::clean(to.trim())))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream as Stream,
    };

    use super::*;

    fn echo() -> u16 {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut to = stream.try_clone().unwrap();
                let mut from = stream;
                thread::spawn(move || io::copy(&mut from, &mut to));
            }
        });
        port
    }

    fn relay(bytes: usize, time: Duration) -> Relay {
        let target = Target { host: "127.0.0.1".into(), port: echo(), tls: None };
        Relay::start(target, bytes, Instant::now() + time).unwrap()
    }

    #[test]
    fn bytes_pass_both_ways_until_the_limit() {
        let relay = relay(8, Duration::from_secs(20));
        let mut stream = Stream::connect(("127.0.0.1", relay.port())).unwrap();
        let mut back = [0; 5];
        stream.write_all(b"hello").unwrap();
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"hello");
        stream.write_all(b"again").unwrap();
        assert!(stream.read_exact(&mut back).is_err());
        assert_eq!(relay.end(), Some(Verdict::Bytes));
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let relay = relay(8, Duration::from_millis(200));
        let mut stream = Stream::connect(("127.0.0.1", relay.port())).unwrap();
        let started = Instant::now();
        assert!(!matches!(stream.read(&mut [0]), Ok(1)));
        assert!(started.elapsed() < Duration::from_secs(5));
        assert_eq!(relay.end(), Some(Verdict::Time));
    }

    #[test]
    fn only_redirects_are_redirects() {
        let to = redirect(b"HTTP/1.1 301 Moved\r\nLocation: https://elsewhere.example/r\r\n\r\n");
        assert_eq!(to.as_deref(), Some("https://elsewhere.example/r"));
        assert_eq!(redirect(b"HTTP/1.1 200 OK\r\nLocation: x\r\n\r\n"), None);
    }
}
