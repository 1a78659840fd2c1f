//! Accepting connections and serving them until the role stops.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
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
    body::Pace,
    metrics::{Held, ListenerLabel, RefusedLabel},
    paced::{self, Activity, Outgoing, Quiet},
    service::Gate,
};

/// Limits of a listener (reliability.md 3.9).
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections in all.
    pub connections: usize,
    /// Open connections from one address (IPv6: one /64) that have not shown a certificate.
    pub per_source: u32,
    /// Open connections of one client. An agent has up to four to one role: its parallel downloads from a distribution
    /// point; a long poll, a report and a renewal with a management point. The default is twice that, because those of
    /// before a change of network or certificate stay open until they are found to be dead.
    pub per_client: u32,
    /// Longest TLS handshake.
    pub handshake: Duration,
    /// Longest time from the first byte of a request's head to its end.
    pub header: Duration,
    /// Longest time between requests.
    pub idle: Duration,
    /// How slowly a request's body may come.
    pub body: Pace,
    /// Longest time in which the other side takes nothing of an answer.
    pub stalled: Duration,
    /// After the stop signal, longest time that accepted requests get to finish.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            per_source: 64,
            per_client: 8,
            handshake: Duration::from_secs(5),
            header: Duration::from_secs(5),
            idle: Duration::from_mins(1),
            body: Pace::default(),
            stalled: Duration::from_secs(30),
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
    http: http1::Builder,
    stop: CancellationToken,
    /// Ends connections that outlive the drain time.
    abort: CancellationToken,
}

impl Server {
    fn new(config: ListenerConfig, router: Router, stop: CancellationToken) -> Self {
        let ListenerConfig { name, address: _, site, tls, limits, version, routes, metrics, clock } = config;
        let mut http = http1::Builder::new();
        // Times are kept by `paced`.
        http.header_read_timeout(None).max_headers(64).max_buf_size(32 * 1024);
        let gate = Gate {
            listener: name,
            routes,
            version,
            metrics: metrics.clone(),
            clock,
            draining: stop.clone(),
            pace: limits.body,
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
            http,
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
        let listener = ListenerLabel { listener: self.name };
        let _open = Held::new(self.metrics.connections.get_or_create_owned(&listener));
        // Without it, an answer in two segments waits for the other side's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let activity = Arc::new(Activity::default());
        let stream = Outgoing::new(stream, Arc::clone(&activity), self.limits.stalled);
        let stream = match timeout(self.limits.handshake, self.acceptor.accept(stream)).await {
            Err(_) => return self.refused("handshake-time"),
            Ok(Err(error)) => {
                tracing::debug!(listener = self.name, %source, %error, "TLS handshake failed");
                return self.refused("handshake");
            }
            Ok(Ok(stream)) => stream,
        };
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
            let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let certificates = shown.iter().map(|certificate| certificate.clone().into_owned()).collect();
            self.http(stream, activity, Peer { address: source, identity, certificates }).await;
        }
        drop((client, place));
    }

    fn identify(&self, stream: &TlsStream<Outgoing<TcpStream>>) -> Result<Arc<ClientIdentity>, Unidentified> {
        let (_, session) = stream.get_ref();
        let certificate =
            session.peer_certificates().and_then(|chain| chain.first()).ok_or(Unidentified::NoCertificate)?;
        let identity =
            read_identity(certificate).map_err(|error| Unidentified::NoClient(error.to_string()))?;
        if identity.site == self.site { Ok(Arc::new(identity)) } else { Err(Unidentified::OtherSite) }
    }

    async fn http(&self, stream: TlsStream<Outgoing<TcpStream>>, activity: Arc<Activity>, peer: Peer) {
        let source = peer.address;
        let (gate, working) = (Arc::clone(&self.gate), Arc::clone(&activity));
        let service = service_fn(move |request: Request<Incoming>| {
            let working = working.work();
            let answer = Arc::clone(&gate).handle(peer.clone(), request);
            async move {
                let answer = answer.await;
                drop(working);
                Ok::<_, Infallible>(answer)
            }
        });
        let quiet = Quiet { idle: self.limits.idle, head: self.limits.header };
        let stream = paced::Incoming::new(stream, Arc::clone(&activity), quiet);
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service));
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
        if let Some(late) = activity.late() {
            tracing::debug!(listener = self.name, %source, late, "connection closed");
            self.refused(late);
        } else if let Err(error) = ended {
            tracing::debug!(listener = self.name, %source, %error, "connection ended with an error");
            self.refused("protocol");
        }
    }
}
