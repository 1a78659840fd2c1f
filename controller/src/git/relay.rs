//! A relay on the loopback device between libgit2 and the server: it holds what libgit2 cannot be told to hold, the
//! time of a whole fetch and the bytes that come in, from the first byte of the connection on (bad-input catalogue
//! #37, #38). When a limit is reached both sockets are closed, and libgit2 returns at once.
//!
//! It connects to the one server it was made for, and to nothing else: a redirect to another host ends here.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, ToSocketAddrs as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Bytes of a CONNECT request.
const REQUEST_BYTES: usize = 8 << 10;
/// How often the relay looks at its clock.
const TICK: Duration = Duration::from_millis(20);
/// Longest wait for one address of the server.
const CONNECT: Duration = Duration::from_secs(10);

/// What the relay leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether the client asks by an HTTP CONNECT first (https), or speaks to the server at once (ssh).
    pub connect: bool,
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
    /// The server sent the client to another host.
    Redirect(String),
}

/// A running relay; ends when dropped.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    target: Target,
    bytes: usize,
    deadline: Instant,
    received: AtomicUsize,
    stop: AtomicBool,
    verdict: Mutex<Option<Verdict>>,
    streams: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// Starts a relay to `target` that lets `bytes` in until `deadline`.
    pub fn start(target: Target, bytes: usize, deadline: Instant) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            target,
            bytes,
            deadline,
            received: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            verdict: Mutex::new(None),
            streams: Mutex::new(Vec::new()),
        });
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name("git-relay".into()).spawn(move || serve(&listener, &of_thread))?;
        Ok(Self { port, shared, thread: Some(thread) })
    }

    /// Port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What it found, if it broke something off.
    pub fn verdict(&self) -> Option<Verdict> {
        lock(&self.shared.verdict).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.close();
        if let Some(thread) = self.thread.take() {
            // It ends within a tick; a panic of it has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn find(&self, verdict: Verdict) {
        lock(&self.verdict).get_or_insert(verdict);
        self.close();
    }

    fn close(&self) {
        for stream in lock(&self.streams).drain(..) {
            // Closed already is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn ended(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || lock(&self.verdict).is_some()
    }

    /// Remembers a stream, so that it is closed with the relay.
    fn keep(&self, stream: &TcpStream) -> io::Result<()> {
        lock(&self.streams).push(stream.try_clone()?);
        if self.ended() {
            self.close();
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.ended() {
        if Instant::now() >= shared.deadline {
            shared.find(Verdict::Time);
            return;
        }
        match listener.accept() {
            Ok((client, _)) => {
                let shared = Arc::clone(shared);
                let started = thread::Builder::new().name("git-relay".into()).spawn(move || {
                    if let Err(error) = connection(client, &shared) {
                        tracing::debug!(%error, "a connection of the Git relay ended");
                    }
                });
                if let Err(error) = started {
                    tracing::warn!(%error, "no thread for a connection of the Git relay");
                }
            }
            Err(_) => thread::sleep(TICK),
        }
    }
}

fn connection(mut client: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_nodelay(true)?;
    shared.keep(&client)?;
    if shared.target.connect {
        let asked = request(&mut client)?;
        if !asked.eq_ignore_ascii_case(&authority(&shared.target)) {
            client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")?;
            shared.find(Verdict::Redirect(asked));
            return Ok(());
        }
    }
    let mut server = match connect(shared) {
        Ok(server) => server,
        Err(error) => {
            shared.find(Verdict::Unreachable(error.to_string()));
            return Ok(());
        }
    };
    server.set_nodelay(true)?;
    shared.keep(&server)?;
    if shared.target.connect {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    }
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    let up = thread::Builder::new().name("git-relay".into()).spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    })?;
    down(&mut server, &mut client, shared)?;
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
    let _ = up.join();
    Ok(())
}

/// What the server sends, counted.
fn down(server: &mut TcpStream, client: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = server.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let received = shared.received.fetch_add(length, Ordering::Relaxed) + length;
        if received > shared.bytes {
            shared.find(Verdict::Bytes);
            return Ok(());
        }
        client.write_all(&buffer[..length])?;
    }
}

/// The authority that a CONNECT request names.
fn request(client: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > REQUEST_BYTES || client.read(&mut byte)? == 0 {
            return Err(io::Error::other("not a CONNECT request"));
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.split_whitespace();
    match (words.next(), words.next()) {
        (Some("CONNECT"), Some(authority)) => Ok(authority.to_owned()),
        _ => Err(io::Error::other("not a CONNECT request")),
    }
}

fn authority(target: &Target) -> String {
    if target.host.contains(':') {
        format!("[{}]:{}", target.host, target.port)
    } else {
        format!("{}:{}", target.host, target.port)
    }
}

fn connect(shared: &Shared) -> io::Result<TcpStream> {
    let target = &shared.target;
    let mut last = io::Error::other("the name has no address");
    for address in (target.host.as_str(), target.port).to_socket_addrs()? {
        let left = shared.deadline.saturating_duration_since(Instant::now()).min(CONNECT);
        if left.is_zero() || shared.ended() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
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

    fn relay(port: u16, connect: bool, bytes: usize, time: Duration) -> Relay {
        Relay::start(Target { host: "127.0.0.1".into(), port, connect }, bytes, Instant::now() + time).unwrap()
    }

    #[test]
    fn bytes_pass_both_ways_until_the_limit() {
        let relay = relay(echo(), false, 8, Duration::from_secs(20));
        let mut stream = TcpStream::connect(("127.0.0.1", relay.port())).unwrap();
        let mut back = [0; 5];
        stream.write_all(b"hello").unwrap();
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"hello");
        stream.write_all(b"again").unwrap();
        assert!(stream.read_exact(&mut back).is_err());
        assert_eq!(relay.verdict(), Some(Verdict::Bytes));
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let relay = relay(echo(), false, 8, Duration::from_millis(200));
        let mut stream = TcpStream::connect(("127.0.0.1", relay.port())).unwrap();
        let started = Instant::now();
        assert!(!matches!(stream.read(&mut [0]), Ok(1)));
        assert!(started.elapsed() < Duration::from_secs(5));
        assert_eq!(relay.verdict(), Some(Verdict::Time));
    }

    #[test]
    fn it_leads_to_its_own_server_only() {
        let relay = relay(echo(), true, 800, Duration::from_secs(20));
        let mut stream = TcpStream::connect(("127.0.0.1", relay.port())).unwrap();
        stream.write_all(b"CONNECT elsewhere.example:443 HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        // The relay closes both sides; what was on its way may be lost with them.
        let _ = stream.read_to_string(&mut answer);
        assert!(!answer.contains("200"), "{answer}");
        assert_eq!(relay.verdict(), Some(Verdict::Redirect("elsewhere.example:443".into())));
    }
}
