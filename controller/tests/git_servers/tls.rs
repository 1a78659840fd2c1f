//! A Git server over https: TLS of its own authority, the real `git http-backend` behind it, and the ways in which a
//! server misbehaves.

use std::{
    io::{BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// User and password that are let in.
pub const USER: (&str, &str) = ("robot", "s3cret");

/// How the server behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// As Git does.
    Honest,
    /// Takes the connection and says nothing, not even TLS.
    Silent,
    /// One byte a second, for ever.
    Drip,
    /// References without end, as fast as they go.
    Endless,
    /// As Git does, with this many last bytes of every pack cut off.
    Truncated(usize),
    /// As Git does, with the bytes in the middle of every pack changed.
    Damaged,
    /// Sends the client to another host.
    Redirect,
    /// Answers with an error that repeats the password, and with what a terminal would obey.
    Echo,
    /// As Git does, but a pack comes only when the server is told to be honest.
    Held,
    /// As Git does, but every pack is this one.
    Pack(Arc<Vec<u8>>),
}

/// The certificate that it shows.
pub struct Identity {
    pub authority: String,
    config: Arc<ServerConfig>,
}

impl Identity {
    /// A certificate for `name`, of an authority valid until the year `until`.
    pub fn new(name: &str, until: i32) -> Self {
        let mut request = CertificateParams::default();
        request.distinguished_name.push(DnType::CommonName, format!("authority of {name} until {until}"));
        request.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        request.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        request.not_before = date_time_ymd(2020, 1, 1);
        request.not_after = date_time_ymd(until, 1, 1);
        let issuer = CertifiedIssuer::self_signed(request, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut request = CertificateParams::new(vec![name.to_owned()]).unwrap();
        request.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = request.signed_by(&key, &issuer).unwrap();
        let chain = vec![CertificateDer::from(leaf.der().to_vec())];
        let secret = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .unwrap();
        Self { authority: issuer.pem(), config: Arc::new(config) }
    }
}

/// A running server; its threads end with the test process.
pub struct Server {
    pub port: u16,
    /// Connections taken so far.
    pub connections: Arc<AtomicUsize>,
    /// Set to be honest from now on.
    pub honest: Arc<AtomicBool>,
    /// A client waits for a pack that is held back.
    pub held: Arc<AtomicBool>,
}

impl Server {
    /// Serves the repositories below `root`.
    pub fn start(root: &Path, identity: &Identity, manner: Manner) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::default(),
            honest: Arc::default(),
            held: Arc::default(),
        };
        let (root, config) = (root.to_owned(), Arc::clone(&identity.config));
        let (count, honest) = (Arc::clone(&server.connections), Arc::clone(&server.honest));
        let held = Arc::clone(&server.held);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                let manner = if honest.load(Ordering::Relaxed) { Manner::Honest } else { manner.clone() };
                let (root, config) = (root.clone(), Arc::clone(&config));
                let (honest, held) = (Arc::clone(&honest), Arc::clone(&held));
                let release = move || {
                    held.store(true, Ordering::Relaxed);
                    while !honest.load(Ordering::Relaxed) {
                        thread::sleep(Duration::from_millis(20));
                    }
                };
                // A client that goes away is no matter of the server's.
                thread::spawn(move || serve(stream, &config, &root, &manner, &release));
            }
        });
        server
    }

    pub fn url(&self, repository: &str) -> String {
        format!("https://localhost:{}/{repository}", self.port)
    }
}

fn serve(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    root: &Path,
    manner: &Manner,
    release: &dyn Fn(),
) -> std::io::Result<()> {
    if *manner == Manner::Silent {
        thread::sleep(Duration::from_mins(10));
        return Ok(());
    }
    let tls = ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(tls, stream));
    while let Some(request) = Request::read(&mut stream)? {
        let out = stream.get_mut();
        match manner {
            Manner::Drip | Manner::Endless => return advertise(out, *manner == Manner::Drip),
            Manner::Redirect => {
                out.write_all(b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/r.git/info/refs?service=git-upload-pack\r\nContent-Length: 0\r\n\r\n")?;
                out.flush()?;
                continue;
            }
            _ => {}
        }
        let wanted = format!("Basic {}", STANDARD.encode(format!("{}:{}", USER.0, USER.1)));
        if request.header("authorization") != Some(wanted.as_str()) {
            out.write_all(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"\r\nContent-Length: 0\r\n\r\n")?;
            out.flush()?;
            continue;
        }
        if *manner == Manner::Echo {
            let line = format!("ERR {} is not the password of \x1b[31m{}", USER.1, USER.0);
            let body = format!("001e# service=git-upload-pack\n0000{:04x}{line}", line.len() + 4);
            write!(
                out,
                "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )?;
            out.flush()?;
            continue;
        }
        if *manner == Manner::Held && request.method == "POST" {
            release();
        }
        let (head, mut body) = backend(root, &request)?;
        if request.method == "POST" {
            match manner {
                Manner::Pack(pack) => body = banded(pack),
                Manner::Truncated(bytes) => body.truncate(body.len().saturating_sub(*bytes)),
                Manner::Damaged => {
                    let middle = body.len() / 2;
                    body[middle..].iter_mut().take(8).for_each(|byte| *byte ^= 0xff);
                }
                _ => {}
            }
        }
        write!(out, "HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n", body.len())?;
        out.write_all(&body)?;
        out.flush()?;
    }
    Ok(())
}

/// A pack as the answer to a request for one, in the first band.
fn banded(pack: &[u8]) -> Vec<u8> {
    let mut body = b"0008NAK\n".to_vec();
    for part in pack.chunks(65_000) {
        body.extend_from_slice(format!("{:04x}\x01", part.len() + 5).as_bytes());
        body.extend_from_slice(part);
    }
    body.extend_from_slice(b"0000");
    body
}

/// References, one line after the other, without an end.
fn advertise(out: &mut impl Write, slowly: bool) -> std::io::Result<()> {
    out.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nTransfer-Encoding: chunked\r\n\r\n22\r\n001e# service=git-upload-pack\n0000\r\n")?;
    for number in 0_u64.. {
        let line = format!("{:040x} refs/heads/{number:020}\n", number + 1);
        let line = format!("{:04x}{line}", line.len() + 4);
        for part in line.as_bytes().chunks(if slowly { 1 } else { 4096 }) {
            write!(out, "{:x}\r\n", part.len())?;
            out.write_all(part)?;
            out.write_all(b"\r\n")?;
            out.flush()?;
            if slowly {
                thread::sleep(Duration::from_secs(1));
            }
        }
    }
    Ok(())
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &mut impl std::io::BufRead) -> std::io::Result<Option<Self>> {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let (path, query) = (path.to_owned(), query.to_owned());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self { method, path, query, headers, body: Vec::new() };
        if request.header("transfer-encoding") == Some("chunked") {
            loop {
                let mut size = String::new();
                stream.read_line(&mut size)?;
                let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
                let mut chunk = vec![0; size + 2];
                stream.read_exact(&mut chunk)?;
                if size == 0 {
                    break;
                }
                request.body.extend_from_slice(&chunk[..size]);
            }
        } else {
            let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            request.body.resize(length, 0);
            stream.read_exact(&mut request.body)?;
        }
        Ok(Some(request))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Headers and body of what `git http-backend` answers.
fn backend(root: &Path, request: &Request) -> std::io::Result<(String, Vec<u8>)> {
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env("REQUEST_METHOD", &request.method)
        .env("CONTENT_TYPE", request.header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", request.header("content-encoding").unwrap_or_default())
        .env("REMOTE_USER", USER.0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().unwrap().write_all(&request.body)?;
    let mut output = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut output)?;
    child.wait()?;
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(0);
    let head = String::from_utf8_lossy(&output[..end]).into_owned() + "\r\n";
    Ok((head, output.split_off((end + 4).min(output.len()))))
}

/// Where the repository of a worktree lies, as the server calls it.
pub fn exported(worktree: &Path) -> (PathBuf, String) {
    let name = worktree.file_name().unwrap().to_string_lossy().into_owned();
    (worktree.parent().unwrap().to_owned(), format!("{name}/.git"))
}
