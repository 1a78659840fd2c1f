//! A small HTTPS server whose every byte the tests decide.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use patchtide_model::ClientId;
use patchtide_protocol::identity::client_uri;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier},
};

/// A site's CA.
pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Arc<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "test site");
        Arc::new(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() })
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A client certificate for the key of a signing request, issued a day ago and valid for `seconds` from now.
    pub(crate) fn client(&self, csr_pem: &str, client: ClientId, seconds: i64) -> String {
        let mut request = rcgen::CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        request.params.not_before = time(-1);
        request.params.not_after = time(0) + time::Duration::seconds(seconds);
        let uri = client_uri(&"lab".parse().unwrap(), client);
        request.params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
        request.params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        request.signed_by(&self.issuer).unwrap().pem()
    }

    fn server_config(&self, days: (i64, i64)) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (time(days.0), time(days.1));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&tokio_rustls::rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
            )
            .unwrap()
    }
}

fn time(days: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::now_utc() + time::Duration::days(days)
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Whether the other side showed a certificate of the CA.
    pub(crate) authenticated: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection breaks after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// After so many bytes of the body nothing more comes, and the connection stays.
    pub(crate) stall: Option<usize>,
    /// After so many bytes of the body the rest comes byte by byte, ten a second.
    pub(crate) drip: Option<usize>,
    /// Whoever sets it ends the dripping: the rest comes at once.
    pub(crate) hurry: Arc<AtomicBool>,
    /// The head comes like that.
    pub(crate) slow_head: bool,
}

impl Reply {
    pub(crate) fn json(value: &impl serde::Serialize) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", "application/json".to_owned())],
            body: serde_json::to_vec(value).unwrap(),
            ..Self::default()
        }
    }

    /// A part of a policy.
    pub(crate) fn part(body: &[u8]) -> Self {
        let headers = [("content-type", "application/json"), ("content-encoding", "zstd")];
        Self { headers: headers.map(|(name, value)| (name, value.to_owned())).into(), ..Self::bytes(body) }
    }

    pub(crate) fn bytes(body: &[u8]) -> Self {
        Self { status: 200, body: body.to_vec(), ..Self::default() }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// A file with ranges, as a distribution point serves it.
    pub(crate) fn file(request: &Request, body: &[u8]) -> Self {
        let from = request
            .headers
            .get("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        match from {
            Some(from) if from < body.len() => Self {
                status: 206,
                headers: vec![("content-range", format!("bytes {from}-{}/{}", body.len() - 1, body.len()))],
                body: body[from..].to_vec(),
                ..Self::default()
            },
            Some(_) => Self::status(416),
            None => Self::bytes(body),
        }
    }
}

type Answer = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Handler = Arc<dyn Fn(Request) -> Answer + Send + Sync>;

/// A running server; it ends with its runtime.
pub(crate) struct Server {
    pub(crate) url: String,
}

pub(crate) async fn serve<F, R>(ca: &Ca, handler: F) -> Server
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = Reply> + Send + 'static,
{
    serve_valid(ca, (-1, 30), handler).await
}

/// With a certificate that is valid from and until so many days from now.
pub(crate) async fn serve_valid<F, R>(ca: &Ca, days: (i64, i64), handler: F) -> Server
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = Reply> + Send + 'static,
{
    let acceptor = TlsAcceptor::from(Arc::new(ca.server_config(days)));
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, handler) = (acceptor.clone(), Arc::clone(&handler));
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = answer(stream, handler).await;
                }
            });
        }
    });
    Server { url }
}

/// Byte by byte, ten a second, until somebody is in a hurry.
async fn drip(
    stream: &mut tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    bytes: &[u8],
    hurry: &AtomicBool,
) -> std::io::Result<()> {
    for (at, byte) in bytes.iter().enumerate() {
        if hurry.load(Ordering::SeqCst) {
            return stream.write_all(&bytes[at..]).await;
        }
        stream.write_all(&[*byte]).await?;
        stream.flush().await?;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn answer(
    mut stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    handler: Handler,
) -> std::io::Result<()> {
    let authenticated = stream.get_ref().1.peer_certificates().is_some();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let mut request = Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
        authenticated,
        ..Request::default()
    };
    let length = request.headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    request.body = vec![0; length];
    stream.read_exact(&mut request.body).await?;
    let reply = handler(request).await;
    let mut out = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    if !reply.headers.iter().any(|(name, _)| *name == "content-length") && reply.status != 304 {
        let _ = write!(out, "content-length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        let _ = write!(out, "{name}: {value}\r\n");
    }
    out.push_str("\r\n");
    let fast = if reply.slow_head { 0 } else { out.len() };
    stream.write_all(&out.as_bytes()[..fast]).await?;
    drip(&mut stream, &out.as_bytes()[fast..], &reply.hurry).await?;
    if let Some(stall) = reply.stall {
        stream.write_all(&reply.body[..stall]).await?;
        stream.flush().await?;
        std::future::pending::<()>().await;
    }
    if let Some(at) = reply.drip {
        stream.write_all(&reply.body[..at]).await?;
        drip(&mut stream, &reply.body[at..], &reply.hurry).await?;
    }
    if let Some(cut) = reply.cut {
        stream.write_all(&reply.body[..cut.min(reply.body.len())]).await?;
        stream.flush().await?;
        // Without a goodbye, as when the other machine dies.
        drop(stream.into_inner().0);
    } else {
        stream.write_all(&reply.body).await?;
        stream.shutdown().await?;
    }
    Ok(())
}
