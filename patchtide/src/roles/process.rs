//! One process: its database, its listeners, its health, and the order in which it stops.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use axum::Router;
use kube::Client;
use patchtide_controller::ControllerConfig;
use patchtide_distribution_point::{DistributionPoint, Names};
use patchtide_endpoint::{
    CancellationToken, Clock, Limits, Listener, ListenerConfig, Metrics, VersionRule, clock,
    health::{self, Health},
    tls::{server_config, server_config_with},
};
use patchtide_management_point::{Config, ManagementPoint};
use patchtide_protocol::path;
use patchtide_reporting_point::{Registration, ReportingPoint};
use patchtide_software_update_point::SoftwareUpdatePoint;
use patchtide_store::{SiteStore, Store, StoreError, content::ScrubPace, library::Library};
use prometheus_client::registry::Registry;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{
    beat::{self, Listening},
    figures, open_store,
    tls::{Source, Tls},
};
use crate::{args, stop};

/// A process that is being put together, then run.
pub(crate) struct Process {
    site: args::Site,
    store: Store,
    library: Library,
    clock: Clock,
    registry: Registry,
    metrics: Metrics,
    health: Health,
    /// Cancelled by a signal: listeners and controller finish.
    stop: CancellationToken,
    /// Roles; that one of them ends before the stop is a failure.
    roles: JoinSet<(&'static str, anyhow::Result<()>)>,
    /// Helpers that are aborted at the end.
    helpers: Vec<JoinHandle<()>>,
    /// Roles that listen, for their signs of life.
    listening: Vec<Listening>,
}

const DATABASE: &str = "database";
const STOPPING: &str = "stopping";
/// How often the database is asked whether it answers.
const PING: Duration = Duration::from_secs(5);
/// Writes of other processes are looked for this often.
const FOLLOW: Duration = Duration::from_millis(500);

impl Process {
    pub(crate) async fn start(site: &args::Site) -> anyhow::Result<Self> {
        stop::raise_file_limit();
        let stop = stop::on_signals()?;
        let store = open_store(site).await?;
        let folder = site.library.clone().unwrap_or_else(|| site.data.join("library"));
        let kept = folder.clone();
        let library = blocking(move || Library::open(folder)).await??;
        let mut registry = Registry::with_prefix("patchtide");
        let metrics = Metrics::register(&mut registry);
        store.register_metrics(&mut registry);
        let health = Health::default();
        registry.register_collector(Box::new(health.clone()));
        figures::register(&mut registry, site.data.clone(), kept);
        Ok(Self {
            site: site.clone(),
            store,
            library,
            clock: clock::system(),
            registry,
            metrics,
            health,
            stop,
            roles: JoinSet::new(),
            helpers: Vec::new(),
            listening: Vec::new(),
        })
    }

    pub(crate) fn store(&self) -> SiteStore {
        self.store.site(&self.site.of.namespace)
    }

    pub(crate) fn library(&self) -> Library {
        self.library.clone()
    }

    pub(crate) fn controller_metrics(&mut self) -> patchtide_controller::metrics::Metrics {
        patchtide_controller::metrics::Metrics::register(&mut self.registry)
    }

    /// Sees what other processes write; the controller does that by itself.
    pub(crate) fn follow_other_processes(&mut self) {
        self.helpers.push(self.store().spawn_change_poller(FOLLOW));
    }

    /// TLS of the listeners, and the task that keeps its certificate good.
    pub(crate) fn tls(&mut self, source: Source) -> anyhow::Result<Tls> {
        let tls = source.open(&self.clock)?;
        let keep = source.keep(Arc::clone(&tls.slot), tls.chain.clone(), Arc::clone(&self.clock));
        self.helpers.push(tokio::spawn(keep));
        Ok(tls)
    }

    async fn listen(
        &mut self,
        name: &'static str,
        address: SocketAddr,
        tls: &Tls,
        paths: &'static [&'static str],
        version: VersionRule,
        router: Router,
    ) -> anyhow::Result<SocketAddr> {
        // Only a management point talks to machines that have no certificate yet.
        let certificate_required = version == VersionRule::WhenPresent;
        let config = ListenerConfig {
            name,
            address,
            site: self.site.of.namespace.clone(),
            tls: server_config(Arc::clone(&tls.slot), &tls.client_ca, certificate_required)?,
            limits: Limits::default(),
            version,
            routes: paths,
            metrics: self.metrics.clone(),
            clock: Arc::clone(&self.clock),
        };
        self.serve(config, tls, router).await
    }

    async fn serve(
        &mut self,
        config: ListenerConfig,
        tls: &Tls,
        router: Router,
    ) -> anyhow::Result<SocketAddr> {
        let name = config.name;
        let listener = Listener::bind(config).await?;
        let address = listener.address();
        let stop = self.stop.clone();
        self.health.good(name);
        self.listening.push(Listening {
            role: name,
            address: address.to_string(),
            chain: tls.chain.subscribe(),
        });
        self.roles.spawn(async move {
            listener.serve(router, stop).await;
            (name, Ok(()))
        });
        Ok(address)
    }

    pub(crate) async fn management_point(
        &mut self,
        address: SocketAddr,
        tls: &Tls,
        software_update_points: Vec<String>,
    ) -> anyhow::Result<SocketAddr> {
        let config = Config { software_update_points, ..Config::default() };
        let metrics = patchtide_management_point::Metrics::register(&mut self.registry);
        let (point, index) = ManagementPoint::start(self.store(), config, Arc::clone(&self.clock), metrics);
        self.helpers.push(index);
        let version = VersionRule::RequiredExcept(path::SITE);
        let routes = patchtide_management_point::ROUTES;
        self.listen("management-point", address, tls, routes, version, point.router()).await
    }

    pub(crate) async fn software_update_point(
        &mut self,
        address: SocketAddr,
        tls: &Tls,
    ) -> anyhow::Result<SocketAddr> {
        let metrics = patchtide_software_update_point::Metrics::register(&mut self.registry);
        let point = SoftwareUpdatePoint::new(self.store(), self.library(), Arc::clone(&self.clock), metrics);
        let routes = patchtide_software_update_point::ROUTES;
        self.listen("software-update-point", address, tls, routes, VersionRule::WhenPresent, point.router())
            .await
    }

    pub(crate) async fn distribution_point(
        &mut self,
        address: SocketAddr,
        tls: &Tls,
        names: Names,
    ) -> anyhow::Result<SocketAddr> {
        let metrics = patchtide_distribution_point::Metrics::register(&mut self.registry);
        let (store, source, clock) = (self.store(), self.library(), Arc::clone(&self.clock));
        let folder = self.site.data.join("distribution-point");
        let pace = ScrubPace::default();
        let open = move || DistributionPoint::new(store, names, source, &folder, clock, metrics, pace);
        let point = blocking(open).await??;
        let (run, stop) = (Arc::clone(&point), self.stop.clone());
        self.roles.spawn(async move {
            run.run(stop).await;
            ("distribution-point library", Ok(()))
        });
        let routes = patchtide_distribution_point::ROUTES;
        self.listen("distribution-point", address, tls, routes, VersionRule::WhenPresent, point.router())
            .await
    }

    pub(crate) async fn reporting_point(
        &mut self,
        address: SocketAddr,
        tls: &Tls,
        client: &Client,
        registration: Registration,
    ) -> anyhow::Result<SocketAddr> {
        let (point, following) = ReportingPoint::start(self.store.clone(), client, Arc::clone(&self.clock));
        self.helpers.push(following);
        self.helpers.push(tokio::spawn(registration.keep(client.clone())));
        let config = ListenerConfig {
            name: "reporting-point",
            address,
            site: self.site.of.namespace.clone(),
            tls: server_config_with(Arc::clone(&tls.slot), point.verifier())?,
            limits: ReportingPoint::limits(),
            version: VersionRule::WhenPresent,
            routes: patchtide_reporting_point::ROUTES,
            metrics: self.metrics.clone(),
            clock: Arc::clone(&self.clock),
        };
        self.serve(config, tls, point.router()).await
    }

    pub(crate) fn controller(&mut self, config: ControllerConfig) {
        let stop = self.stop.clone();
        let health = self.health.clone();
        self.roles.spawn(async move {
            health.good("controller");
            let shutdown = async move { stop.cancelled().await };
            let ended = patchtide_controller::run(config, shutdown).await;
            health.bad("controller", "stopped");
            ("controller", ended.map_err(Into::into))
        });
    }

    /// Serves until a signal comes or a role fails; then finishes what was accepted, closes the database, and ends.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let ended = CancellationToken::new();
        let registry = Arc::new(std::mem::take(&mut self.registry));
        let bound = |address| tracing::info!(%address, "health and metrics");
        let serving =
            health::serve(self.site.metrics_listen, self.health.clone(), registry, ended.clone(), bound);
        let mut health = tokio::spawn(serving);
        let (store, told, stop) = (self.store.clone(), self.health.clone(), self.stop.clone());
        self.roles.spawn(async move {
            let ended = tokio::select! {
                () = stop.cancelled() => Ok(()),
                error = ping(store, told) => Err(anyhow!(error)),
            };
            ("site database", ended)
        });
        let listening = std::mem::take(&mut self.listening);
        self.helpers.push(tokio::spawn(beat::run(self.store(), Arc::clone(&self.clock), listening)));

        let mut failure = None;
        tokio::select! {
            // The signal first: roles that end after it have not failed.
            biased;
            () = self.stop.cancelled() => {}
            Some(role) = self.roles.join_next() => failure = Some(failed(role)),
            served = &mut health => failure = Some(match served {
                Ok(Err(error)) => anyhow!(error)
                    .context(format!("health and metrics cannot be served on {}", self.site.metrics_listen)),
                _ => anyhow!("health and metrics are not served any more"),
            }),
        }
        self.stop.cancel();
        // Who asks whether to send anything more here is told not to.
        self.health.bad(STOPPING, "what was accepted is finished, nothing more is taken");
        while let Some(role) = self.roles.join_next().await {
            if let Ok((name, Err(error))) = role {
                failure.get_or_insert(error.context(format!("{name} failed")));
            }
        }
        for helper in &self.helpers {
            helper.abort();
        }
        // After the roles: everything acknowledged is committed, and what they still wrote is in.
        self.store.close().await.context("the site database cannot be closed")?;
        ended.cancel();
        if !health.is_finished() {
            let _ = timeout(Duration::from_secs(1), health).await;
        }
        tracing::info!("stopped");
        failure.map_or(Ok(()), Err)
    }
}

type Ended = Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>;

fn failed(role: Ended) -> anyhow::Error {
    match role {
        Ok((name, Err(error))) => error.context(format!("{name} failed")),
        Ok((name, Ok(()))) => anyhow!("{name} ended"),
        Err(error) => anyhow!(error).context("a role ended by a defect"),
    }
}

/// Ends when nothing can be made durable any more: only a process that reads anew what is on the disk can go on.
async fn ping(store: Store, health: Health) -> StoreError {
    loop {
        match timeout(PING, store.ping()).await {
            Ok(Ok(())) => health.good(DATABASE),
            Ok(Err(error)) => {
                health.bad(DATABASE, error.to_string());
                if matches!(error, StoreError::Durable { .. }) {
                    return error;
                }
            }
            Err(_) => health.bad(DATABASE, "does not answer in time"),
        }
        sleep(PING).await;
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("a start-up task was stopped")
}
