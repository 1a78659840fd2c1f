//! A site with real keys, real TLS listeners and real clients, for the tests and benchmarks of the roles. Included by
//! path; each user needs another part of it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    missing_docs,
    unreachable_pub
)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use jiff::{SignedDuration, Timestamp};
use patchtide_endpoint::{
    CancellationToken, Clock, Limits, Listener, ListenerConfig, Metrics, VersionRule, clock,
    tls::{CertificateSlot, server_config},
};
use patchtide_model::{ClientId, SiteName};
use patchtide_protocol::{VERSION, VERSION_HEADER};
use patchtide_signer::{ServerName, Signer as _, SignerKeys};
use prometheus_client::registry::Registry;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{net::TcpStream, task::JoinHandle};
use uuid::Uuid;

pub struct Bed {
    pub site: SiteName,
    pub keys: SignerKeys,
    pub clock: Clock,
}

/// A device key with the certificate that a site gave it.
#[derive(Clone)]
pub struct Device {
    pub id: ClientId,
    pub csr_pem: String,
    pub key_pem: String,
    pub chain_pem: String,
}

pub struct Running {
    pub address: SocketAddr,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
    registry: Registry,
}

impl Running {
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// The listener's metrics.
    #[allow(dead_code, reason = "not every suite looks at all of them")]
    pub fn figures(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// A figure of the listener's metrics, by its name and labels as they are written there; 0 when it is not there yet.
    pub fn figure(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    /// Connections that were refused or closed for this reason.
    pub fn refused(&self, reason: &str) -> u64 {
        self.figure(&format!("http_connections_refused_total{{listener=\"test\",reason=\"{reason}\"}}"))
    }
}

pub struct Options {
    pub name: &'static str,
    pub certificate_required: bool,
    pub version: VersionRule,
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        let limits = Limits { drain: Duration::from_secs(5), ..Limits::default() };
        Self {
            name: "test",
            certificate_required: false,
            version: VersionRule::RequiredExcept("/v1/site"),
            limits,
        }
    }
}

impl Bed {
    pub fn new(site: &str) -> Self {
        let clock = clock::system();
        let site: SiteName = site.parse().unwrap();
        let keys = SignerKeys::generate(&site, clock()).unwrap();
        Self { site, keys, clock }
    }

    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub fn device(&self, id: u128) -> Device {
        self.device_for(id, &self.site, SignedDuration::from_hours(24))
    }

    pub fn device_for(&self, id: u128, site: &SiteName, lifetime: SignedDuration) -> Device {
        let id = ClientId(Uuid::from_u128(id));
        let key = KeyPair::generate().unwrap();
        let csr_pem = CertificateParams::new([]).unwrap().serialize_request(&key).unwrap().pem().unwrap();
        let chain_pem = self.keys.issue_client_certificate(&csr_pem, id, site, lifetime, self.now()).unwrap();
        Device { id, csr_pem, key_pem: key.serialize_pem(), chain_pem }
    }

    pub async fn serve(&self, router: Router, options: Options) -> Running {
        let names = [ServerName::from("127.0.0.1"), ServerName::from("localhost")];
        let server = self.keys.issue_server_certificate(&names, self.now()).unwrap();
        let slot = CertificateSlot::new(&server.chain_pem, &server.key_pem).unwrap();
        self.serve_with(router, options, slot).await
    }

    pub async fn serve_with(&self, router: Router, options: Options, slot: Arc<CertificateSlot>) -> Running {
        let mut registry = Registry::default();
        let tls = server_config(slot, self.keys.ca_pem(), options.certificate_required).unwrap();
        let config = ListenerConfig {
            name: options.name,
            address: "127.0.0.1:0".parse().unwrap(),
            site: self.site.clone(),
            tls,
            limits: options.limits,
            version: options.version,
            routes: &["/v1/"],
            metrics: Metrics::register(&mut registry),
            clock: Arc::clone(&self.clock),
        };
        let listener = Listener::bind(config).await.unwrap();
        let (address, stop) = (listener.address(), CancellationToken::new());
        let task = tokio::spawn(listener.serve(router, stop.clone()));
        Running { address, stop, task, registry }
    }

    pub fn tls(&self, device: Option<&Device>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.keys.ca_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match device {
            None => builder.with_no_client_auth(),
            Some(device) => {
                let chain = CertificateDer::pem_slice_iter(device.chain_pem.as_bytes())
                    .collect::<Result<Vec<_>, _>>()
                    .unwrap();
                let key = PrivateKeyDer::from_pem_slice(device.key_pem.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }

    /// A client without a certificate that speaks these versions of TLS alone.
    pub fn tls_of(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.keys.ca_pem().as_bytes()).unwrap()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// A client as agents are, with the version header.
    pub fn client(&self, device: Option<&Device>) -> reqwest::Client {
        self.client_with(device, |builder| {
            let mut headers = reqwest::header::HeaderMap::new();
            headers.insert(VERSION_HEADER, VERSION.into());
            builder.default_headers(headers)
        })
    }

    pub fn client_with(
        &self,
        device: Option<&Device>,
        set: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> reqwest::Client {
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls(device))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        set(builder).build().unwrap()
    }

    /// A bare TLS connection, to say what no HTTP library would.
    pub async fn raw(
        &self,
        address: SocketAddr,
        device: Option<&Device>,
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut tls = self.tls(device);
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        self.shake(address, tls).await.unwrap()
    }

    /// The same with a configuration of its own; the handshake may fail.
    pub async fn shake(
        &self,
        address: SocketAddr,
        tls: ClientConfig,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        connector.connect("127.0.0.1".try_into().unwrap(), stream).await
    }
}
