//! Accepting connections and serving them until the role stops.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use patchtide_protocol::{
    certificate::read_identity,
    identity::{ClientIdentity, SiteName},
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Clock, Metrics, Peer, Unidentified, VersionRule,
    admission::Admission,
    metrics::{ListenerLabel, RefusedLabel},
    service::Gate,
};

/// Limits of a listener (reliability.md 3.9).
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections in all.
    pub connections: usize,
    /// Open connections from one address (IPv6: one /64) that have not shown a certificate.
    pub per_source: u32,
    /// Open connections of one client.
    pub per_client: u32,
    /// Longest TLS handshake.
    pub handshake: Duration,
    /// Longest time for a request's head, idle time before it included: HTTP/1 has one timer for both. Who sends
    /// heads slowly without a certificate is bounded by `per_source`.
    pub header: Duration,
    /// After the stop signal, longest time that accepted requests get to finish.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            per_source: 64,
            per_client: 16,
            handshake: Duration::from_secs(5),
            header: Duration::from_mins(1),
            drain: Duration::from_secs(20),
        }
    }
}

/// What a listener needs.
pub struct ListenerConfig {
    /// Name in metrics and logs, for example `management-point`.
    pub name: &'static str,
    /// Where to listen; port 0 picks a free one.
    pub address: SocketAddr,
    /// The site whose clients are known here.
    pub site: SiteName,
    /// From [`crate::tls::server_config`].
    pub tls: Arc<ServerConfig>,
    /// Limits.
    pub limits: Limits,
    /// Protocol version rule.
    pub version: VersionRule,
    /// Path prefixes that get a label of their own in metrics.
    pub routes: &'static [&'static str],
    /// Metrics of the process.
    pub metrics: Metrics,
    /// The clock.
    pub clock: Clock,
}

/// Why a listener does not start.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// The address cannot be listened on.
    #[error("{name} cannot listen on {address}: choose an address of this machine and a free port")]
    Bind {
        /// Which listener.
        name: &'static str,
        /// Where.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// A bound listener.
pub struct Listener {
    config: ListenerConfig,
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds the address. Connections wait in the kernel until [`Listener::serve`].
    pub async fn bind(config: ListenerConfig) -> Result<Self, ListenerError> {
        let error = |source| ListenerError::Bind { name: config.name, address: config.address, source };
        let socket = TcpListener::bind(config.address).await.map_err(error)?;
        let address = socket.local_addr().map_err(error)?;
        Ok(Self { config, socket, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`; then accepts nothing more, tells long polls ([`crate::Draining`]), lets what was accepted
    /// finish within the drain time, and returns.
    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let Self { config, socket, address } = self;
        let name = config.name;
        let drain = config.limits.drain;
        let places = Arc::new(Semaphore::new(config.limits.connections));
        let server = Arc::new(Server::new(config, router, stop.clone()));
        let tasks = TaskTracker::new();
        tracing::info!(listener = name, %address, "serving");
        loop {
            let (stream, source) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = socket.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of descriptors, most likely: those that end make room.
                        tracing::warn!(listener = name, %error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                server.refused("total");
                continue;
            };
            let server = Arc::clone(&server);
            tasks.spawn(async move {
                server.connection(stream, source).await;
                drop(place);
            });
        }
        drop(socket);
        tasks.close();
        if timeout(drain, tasks.wait()).await.is_err() {
            tracing::warn!(listener = name, open = tasks.len(), "stopped before every connection ended");
        }
        server.abort.cancel();
        tracing::info!(listener = name, "stopped");
    }
}

struct Server {
    name: &'static str,
    site: SiteName,
    limits: Limits,
    metrics: Metrics,
    acceptor: TlsAcceptor,
    admission: Admission,
    gate: Arc<Gate>,
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
    stop: CancellationToken,
    /// Ends connections that outlive the drain time.
    abort: CancellationToken,
}

impl Server {
    fn new(config: ListenerConfig, router: Router, stop: CancellationToken) -> Self {
        let ListenerConfig { name, address: _, site, tls, limits, version, routes, metrics, clock } = config;
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header)
            .max_headers(64)
            .max_buf_size(32 * 1024);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(100)
            .max_header_list_size(16 * 1024)
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(50)
            .initial_stream_window_size(128 * 1024)
            .initial_connection_window_size(512 * 1024)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        let gate = Gate {
            listener: name,
            routes,
            version,
            metrics: metrics.clone(),
            clock,
            draining: stop.clone(),
            router,
        };
        Self {
            name,
            site,
            limits,
            metrics,
            acceptor: TlsAcceptor::from(tls),
            admission: Admission::default(),
            gate: Arc::new(gate),
            http1: builder.clone().http1_only(),
            http2: builder.http2_only(),
            stop,
            abort: CancellationToken::new(),
        }
    }

    fn refused(&self, reason: &'static str) {
        self.metrics.refused.get_or_create(&RefusedLabel { listener: self.name, reason }).inc();
    }

    async fn connection(&self, stream: TcpStream, source: SocketAddr) {
        let Some(place) = self.admission.source(source.ip(), self.limits.per_source) else {
            return self.refused("source");
        };
        let open = self.metrics.connections.get_or_create_owned(&ListenerLabel { listener: self.name });
        open.inc();
        // Without it, an answer in two segments waits for the other side's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        match timeout(self.limits.handshake, self.acceptor.accept(stream)).await {
            Err(_) => self.refused("handshake-time"),
            Ok(Err(error)) => {
                tracing::debug!(listener = self.name, %source, %error, "TLS handshake failed");
                self.refused("handshake");
            }
            Ok(Ok(stream)) => {
                let identity = self.identify(&stream);
                // Who has shown a certificate is counted by it: many clients may share one address.
                let client = match &identity {
                    Ok(identity) => self.admission.client(identity.client, self.limits.per_client),
                    Err(_) => None,
                };
                let place = client.is_none().then_some(place);
                if identity.is_ok() && client.is_none() {
                    self.refused("client");
                } else {
                    self.http(stream, Peer { address: source, identity }).await;
                }
                drop((client, place));
            }
        }
        open.dec();
    }

    fn identify(&self, stream: &TlsStream<TcpStream>) -> Result<Arc<ClientIdentity>, Unidentified> {
        let (_, session) = stream.get_ref();
        let certificate =
            session.peer_certificates().and_then(|chain| chain.first()).ok_or(Unidentified::NoCertificate)?;
        let identity =
            read_identity(certificate).map_err(|error| Unidentified::NoClient(error.to_string()))?;
        if identity.site == self.site { Ok(Arc::new(identity)) } else { Err(Unidentified::OtherSite) }
    }

    async fn http(&self, stream: TlsStream<TcpStream>, peer: Peer) {
        let source = peer.address;
        let gate = Arc::clone(&self.gate);
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = Arc::clone(&gate).handle(peer.clone(), request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        // By ALPN, not by looking at the first bytes: waiting for those has no time limit.
        let second = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let builder = if second { &self.http2 } else { &self.http1 };
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut stopping = false;
        let ended = loop {
            tokio::select! {
                ended = connection.as_mut() => break ended,
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.abort.cancelled() => return self.refused("drain"),
            }
        };
        if let Err(error) = ended {
            tracing::debug!(listener = self.name, %source, %error, "connection ended with an error");
            let late = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout);
            self.refused(if late { "idle" } else { "protocol" });
        }
    }
}
