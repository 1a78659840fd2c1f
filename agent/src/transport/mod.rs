//! HTTPS to the site: TLS 1.3, the bundle's CA as the only root, this machine's certificate, bounded bodies.

mod content;
pub mod error;
pub mod retry;

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};
use patchtide_protocol::{Problem, VERSION, VERSION_HEADER, bundle::Bundle};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde::de::DeserializeOwned;

use crate::clock::{self, Heard};

pub use content::Content;
pub use error::TransportError;

/// Total time of a short request.
pub const SHORT: Duration = Duration::from_mins(1);
/// How long another machine may stay silent, or next to silent, before it counts as gone.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until a connection stands; 10 s.
    pub connect: Duration,
    /// Until an answer begins, and while content arrives; 30 s.
    pub silence: Duration,
    /// Bytes a second of content that have to come, on average over `slow_for`; 1 KiB.
    pub least_rate: u64,
    /// 30 s.
    pub slow_for: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let moment = Duration::from_secs(30);
        Self { connect: Duration::from_secs(10), silence: moment, least_rate: 1024, slow_for: moment }
    }
}

/// Bytes of a [`Problem`] that are read.
const PROBLEM_BYTES: usize = 16 * 1024;

#[derive(Clone)]
struct Clients {
    /// To management points; each request has its own time limit.
    short: reqwest::Client,
    /// To software update and distribution points: no total limit, but no silence either.
    content: reqwest::Client,
}

/// Connections to the site. Cheap to clone; a renewed certificate reaches every clone.
#[derive(Clone)]
pub struct Transport {
    roots: Arc<RootCertStore>,
    clients: Arc<RwLock<Clients>>,
    management_points: Arc<[String]>,
    preferred: Arc<AtomicUsize>,
    patience: Patience,
    heard: Arc<Mutex<Option<Heard>>>,
}

impl Transport {
    /// Connections that trust only the bundle's CA; without an identity, as for enrolment.
    pub fn new(bundle: &Bundle) -> Result<Self, TransportError> {
        Self::with(bundle, Patience::default())
    }

    /// The same with other patience.
    pub fn with(bundle: &Bundle, patience: Patience) -> Result<Self, TransportError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle.ca_pem.as_bytes()) {
            let certificate = certificate.map_err(|_| TransportError::Setup("the bundle's CA is not PEM"))?;
            roots
                .add(certificate)
                .map_err(|_| TransportError::Setup("the bundle's CA is not an X.509 certificate"))?;
        }
        let roots = Arc::new(roots);
        let clients = clients(&roots, None, patience)?;
        Ok(Self {
            roots,
            clients: Arc::new(RwLock::new(clients)),
            management_points: bundle
                .management_points
                .iter()
                .map(|url| url.trim_end_matches('/').to_owned())
                .collect(),
            preferred: Arc::default(),
            patience,
            heard: Arc::default(),
        })
    }

    /// From now on this machine shows this certificate.
    pub fn set_identity(&self, certificate_pem: &str, private_key: Vec<u8>) -> Result<(), TransportError> {
        let chain = CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| TransportError::Setup("the client certificate is not PEM"))?;
        let fresh = clients(&self.roots, Some((chain, private_key)), self.patience)?;
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    fn clients(&self) -> Clients {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the management points in order, from the one that answered last, until one is reached.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        timeout: Duration,
        build: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, TransportError> {
        let client = self.clients().short;
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = TransportError::Setup("the bundle names no management point");
        for step in 0..self.management_points.len() {
            let index = (first + step) % self.management_points.len();
            let url = format!("{}{path}", self.management_points[index]);
            let request = build(client.request(method.clone(), &url).timeout(timeout));
            match checked(request, &url).await.and_then(|response| from_the_site(response, &url)) {
                Err(error) if error.is_unreachable() => last = error,
                answered => {
                    self.preferred.store(index, Ordering::Relaxed);
                    if let Some(date) = answered.as_ref().ok().and_then(date) {
                        let heard = Heard { date, running: clock::read().running };
                        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
                    }
                    return answered;
                }
            }
        }
        Err(last)
    }

    /// The time that a management point said last, over a connection that only the site can answer.
    pub fn heard(&self) -> Option<Heard> {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to fetch `url`, from byte `from`, from a software update or distribution point.
    pub async fn fetch(&self, url: &str, from: u64) -> Result<Content, TransportError> {
        let mut request = self.clients().content.get(url);
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let response = checked(request, url).await?;
        is_content(&response, url)?;
        Ok(Content::new(response, url, self.patience))
    }
}

fn clients(
    roots: &Arc<RootCertStore>,
    identity: Option<(Vec<CertificateDer<'static>>, Vec<u8>)>,
    patience: Patience,
) -> Result<Clients, TransportError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TransportError::Tls)?
        .with_root_certificates(Arc::clone(roots));
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let key = PrivateKeyDer::try_from(key)
                .map_err(|_| TransportError::Setup("the device key is not PKCS#8"))?;
            builder.with_client_auth_cert(chain, key).map_err(TransportError::Tls)?
        }
    };
    let mut headers = header::HeaderMap::new();
    headers.insert(VERSION_HEADER, header::HeaderValue::from(VERSION));
    let builder = || {
        reqwest::Client::builder()
            .tls_backend_preconfigured(config.clone())
            .https_only(true)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(patience.connect)
            .default_headers(headers.clone())
            .user_agent(concat!("patchtide-agent/", env!("CARGO_PKG_VERSION")))
    };
    let build = |builder: reqwest::ClientBuilder| builder.build().map_err(TransportError::Client);
    Ok(Clients { short: build(builder())?, content: build(builder().read_timeout(patience.silence))? })
}

/// When an answer was made.
fn date(response: &Response) -> Option<Timestamp> {
    let text = response.headers().get(header::DATE)?.to_str().ok()?;
    DateTimeParser::new().parse_timestamp(text).ok()
}

/// Sends a request; an answer other than success, *not modified* or *range not satisfiable* is an error.
async fn checked(request: RequestBuilder, url: &str) -> Result<Response, TransportError> {
    let response = request.send().await.map_err(|source| TransportError::send(url, source))?;
    let status = response.status();
    if status.is_success() || matches!(status, StatusCode::NOT_MODIFIED | StatusCode::RANGE_NOT_SATISFIABLE) {
        return Ok(response);
    }
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.trim().parse().ok())
        .map(Duration::from_secs);
    let body = read(response, url, PROBLEM_BYTES).await.unwrap_or_default();
    let problem = serde_json::from_slice::<Problem>(&body).ok().map(Box::new);
    let url = url.to_owned();
    // Proxies and portals speak with these; a site never does.
    let portal = matches!(
        status,
        StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::NETWORK_AUTHENTICATION_REQUIRED
    );
    if portal && problem.is_none() {
        return Err(TransportError::NotTheSite { url });
    }
    Err(match status {
        StatusCode::UPGRADE_REQUIRED => TransportError::Version { url, problem },
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            TransportError::Busy { url, status: status.as_u16(), retry_after, problem }
        }
        _ => TransportError::Refused { url, status: status.as_u16(), problem },
    })
}

/// The whole body, at most `limit` bytes; not one more is kept.
pub async fn read(mut response: Response, url: &str, limit: usize) -> Result<Vec<u8>, TransportError> {
    let too_large = || TransportError::TooLarge { url: url.to_owned(), limit };
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|source| TransportError::send(url, source))? {
        if body.len() + chunk.len() > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Media type of the body, without parameters.
fn media_type(response: &Response) -> &str {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim()
}

/// A management point speaks JSON. Anything else with a body did not come from one (NET-CAPTIVE).
fn from_the_site(response: Response, url: &str) -> Result<Response, TransportError> {
    let bodiless = matches!(response.status(), StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT);
    if bodiless || media_type(&response).ends_with("json") {
        return Ok(response);
    }
    Err(TransportError::NotTheSite { url: url.to_owned() })
}

/// Catalogues and packages are bytes. A page for people did not come from a distribution point (NET-CAPTIVE).
fn is_content(response: &Response, url: &str) -> Result<(), TransportError> {
    if media_type(response).eq_ignore_ascii_case("text/html") {
        return Err(TransportError::NotTheSite { url: url.to_owned() });
    }
    Ok(())
}

/// A JSON body of at most `limit` bytes.
pub async fn read_json<T: DeserializeOwned>(response: Response, limit: usize) -> Result<T, TransportError> {
    let url = response.url().to_string();
    let body = read(response, &url, limit).await?;
    serde_json::from_slice(&body).map_err(|source| TransportError::Form { url, source })
}
