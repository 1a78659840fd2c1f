//! Starts the loops, under the leader's lease, and stops them.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use kube::Client;
use patchtide_model::SiteName;
use patchtide_signer::Signer;
use patchtide_store::{SiteStore, library::Library};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    alerts,
    clock::Clock,
    compile, content,
    context::{Advertise, Caches, Context},
    driver,
    events::Events,
    integrity,
    kinds::{
        client_settings::ClientSettingsKind, collection::Collections, deployment_package::DeploymentPackages,
        deployment_template::DeploymentTemplates, distribution_point::DistributionPoints, git_source,
        maintenance_window::MaintenanceWindows, search_folder::SearchFolders, site, site::Sites,
        software_update_point::SoftwareUpdatePoints, update_deployment::UpdateDeployments,
        update_list::UpdateLists,
    },
    lease,
    metrics::Metrics,
    reach, register, wake,
};

/// Writes of other processes (roles that run apart) are looked for this often.
const POLL: Duration = Duration::from_secs(1);

/// Folders in which a keyring named by path may lie, where the installation says nothing else.
pub const KEYRING_FOLDERS: [&str; 2] = ["/usr/share/keyrings", "/etc/apt/keyrings"];

/// What the controller is started with.
pub struct ControllerConfig {
    /// Kubernetes.
    pub client: Client,
    /// The namespace of the site.
    pub namespace: String,
    /// The site database.
    pub store: SiteStore,
    /// Content by digest.
    pub library: Library,
    /// The site's keys: see [`crate::keys::ensure_signer_keys`].
    pub signer: Arc<dyn Signer>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Folder for what can be made again.
    pub cache_dir: PathBuf,
    /// Whether a Git source may name a repository on this machine.
    pub allow_local_git: bool,
    /// Addresses of the roles.
    pub advertise: Advertise,
    /// Folders in which a keyring named by path may lie; empty: [`KEYRING_FOLDERS`].
    pub keyring_folders: Vec<PathBuf>,
    /// Figures: see [`Metrics::register`].
    pub metrics: Metrics,
    /// Name of this process for events and the lease (a pod's name); none: random.
    pub instance: Option<String>,
}

/// Why the controller ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The namespace cannot be a site.
    #[error("namespace {0:?} cannot be a site: use a name of 1 to 63 of a-z, 0-9 and -")]
    Namespace(String),
    /// A loop ended that never should.
    #[error("a loop of the controller ended: see the log; the process is to be started again")]
    Loop,
}

/// Runs the controller until `shutdown` is done. Only the leader works; the others wait. Losing the lease stops every
/// loop at once.
pub async fn run(
    config: ControllerConfig,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let site = SiteName::new(&config.namespace).map_err(|_| RunError::Namespace(config.namespace.clone()))?;
    let (mut leading, keeper) = lease::compete(
        config.client.clone(),
        &config.namespace,
        config.instance.clone(),
        Arc::clone(&config.clock),
    );
    let events = Events::new(config.client.clone(), config.instance.clone());
    tokio::pin!(shutdown);
    let result = loop {
        tracing::info!(namespace = config.namespace, "waiting for the lease");
        tokio::select! {
            () = &mut shutdown => break Ok(()),
            led = leading.wait_for(|leads| *leads) => if led.is_err() { break Err(RunError::Loop) },
        }
        tracing::info!(namespace = config.namespace, "leading");
        config.metrics.leads(true);
        let ctx = Arc::new(context(&config, &site, &events));
        let mut tasks = JoinSet::new();
        start(&ctx, &mut tasks);
        let end = tokio::select! {
            () = &mut shutdown => Some(Ok(())),
            lost = leading.wait_for(|leads| !*leads) => lost.is_err().then_some(Err(RunError::Loop)),
            ended = tasks.join_next() => {
                tracing::error!(?ended, "a loop of the controller ended");
                Some(Err(RunError::Loop))
            }
        };
        config.metrics.leads(false);
        config.metrics.shows(None);
        tasks.shutdown().await;
        if let Some(end) = end {
            break end;
        }
        tracing::warn!("lease lost");
    };
    // Gives the lease back, so that the next one need not wait for its end.
    drop(leading);
    let _ = tokio::time::timeout(Duration::from_secs(5), keeper).await;
    result
}

fn context(config: &ControllerConfig, site: &SiteName, events: &Events) -> Context {
    let keyring_folders = if config.keyring_folders.is_empty() {
        KEYRING_FOLDERS.iter().map(PathBuf::from).collect()
    } else {
        config.keyring_folders.clone()
    };
    Context {
        client: config.client.clone(),
        namespace: config.namespace.clone(),
        site: site.clone(),
        store: config.store.clone(),
        library: config.library.clone(),
        signer: Arc::clone(&config.signer),
        events: events.clone(),
        clock: Arc::clone(&config.clock),
        cache_dir: config.cache_dir.clone(),
        allow_local_git: config.allow_local_git,
        advertise: config.advertise.clone(),
        compiled: watch::Sender::default(),
        compiled_version: watch::Sender::default(),
        silent: tokio::sync::Mutex::default(),
        content_progress: watch::Sender::default(),
        capacity_left_out: std::sync::Mutex::default(),
        alerting: watch::Sender::default(),
        alerting_version: watch::Sender::default(),
        sync_progress: watch::Sender::default(),
        keyring_folders,
        caches: Caches::default(),
        metrics: config.metrics.clone(),
    }
}

/// Starts watches first; every loop waits until all of them have a complete list.
fn start(ctx: &Arc<Context>, tasks: &mut JoinSet<()>) {
    ctx.caches.spawn(tasks, &ctx.client, &ctx.namespace);
    macro_rules! after_lists {
        ($($loop:expr),+ $(,)?) => {
            $({
                let shared = Arc::clone(ctx);
                let work = $loop;
                tasks.spawn(async move {
                    shared.caches.complete().await;
                    work.await;
                });
            })+
        };
    }
    let shared = || Arc::clone(ctx);
    after_lists!(
        driver::run(shared(), Sites),
        site::enrolment::run(shared()),
        git_source::run(shared()),
        driver::run(shared(), SoftwareUpdatePoints::new(shared())),
        driver::run(shared(), SearchFolders),
        driver::run(shared(), UpdateLists),
        driver::run(shared(), DeploymentTemplates),
        driver::run(shared(), UpdateDeployments),
        driver::run(shared(), DeploymentPackages::default()),
        content::run(shared()),
        integrity::run(shared()),
        driver::run(shared(), DistributionPoints),
        driver::run(shared(), Collections),
        driver::run(shared(), MaintenanceWindows),
        driver::run(shared(), ClientSettingsKind),
        compile::run(shared()),
        register::run(shared()),
        alerts::run(shared()),
        wake::run(shared()),
        reach::run(shared()),
    );
    let shown = shared();
    tasks.spawn(async move {
        // Half a list would look as if the rest were gone.
        shown.caches.complete().await;
        shown.metrics.shows(Some((shown.namespace.clone(), shown.caches.clone())));
        std::future::pending::<()>().await;
    });
    let poller = ctx.store.spawn_change_poller(POLL);
    tasks.spawn(async move {
        let _stop = StopOnDrop(poller);
        std::future::pending::<()>().await;
    });
}

/// Ends a task with its owner.
struct StopOnDrop(tokio::task::JoinHandle<()>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
