//! What every loop of the controller is given.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use patchtide_crds as crds;
use patchtide_model::{ClientId, Digest, SiteName};
use patchtide_signer::Signer;
use patchtide_store::{SiteStore, StoreError, library::Library};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    alerts::Alerting,
    cache::{self, Cache},
    clock::Clock,
    compile::Compiled,
    events::Events,
    metrics::Metrics,
};

/// What every loop of the controller is given. Shared by an `Arc`; nothing in it is global.
pub struct Context {
    /// Kubernetes.
    pub client: Client,
    /// The namespace of the site.
    pub namespace: String,
    /// The site: the namespace's name as the database keys by it.
    pub site: SiteName,
    /// The site database.
    pub store: SiteStore,
    /// Content by digest: packages' files and published catalogues.
    pub library: Library,
    /// The site's keys.
    pub signer: Arc<dyn Signer>,
    /// Publishes events.
    pub events: Events,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Folder for what can be made again: repositories of Git sources, working files of synchronisations.
    pub cache_dir: PathBuf,
    /// Whether a Git source may name a repository on this machine (`file://`): tests and demos.
    pub allow_local_git: bool,
    /// Addresses under which the roles of this installation are reached.
    pub advertise: Advertise,
    /// What the policy compiler found last.
    pub compiled: watch::Sender<Arc<Compiled>>,
    /// Rises when that says something new.
    pub compiled_version: watch::Sender<u64>,
    /// Clients that were not heard of for a while, as they were a moment ago.
    pub silent: tokio::sync::Mutex<Silent>,
    /// Rises when a file was fetched or failed.
    pub content_progress: watch::Sender<u64>,
    /// Files that distribution points have no room for, by point.
    pub capacity_left_out: Mutex<BTreeMap<String, BTreeSet<Digest>>>,
    /// How telling the monitoring system goes.
    pub alerting: watch::Sender<Alerting>,
    /// Rises when that says something new.
    pub alerting_version: watch::Sender<u64>,
    /// Rises when a synchronisation ended.
    pub sync_progress: watch::Sender<u64>,
    /// Folders in which a keyring named by path may lie.
    pub keyring_folders: Vec<PathBuf>,
    /// What the watches have seen.
    pub caches: Caches,
    /// Figures.
    pub metrics: Metrics,
}

/// Active clients that were not heard of for a while. All collections ask, so one answer stands for a minute.
#[derive(Debug, Default)]
pub struct Silent {
    clients: Arc<BTreeSet<ClientId>>,
    /// When it was asked, and for how many seconds of silence.
    asked: Option<(Timestamp, i64)>,
}

/// For how many seconds an answer stands.
const STANDS: i64 = 60;

impl Context {
    /// Active clients that were not heard of for so many seconds, as of at most a minute ago.
    pub async fn silent_for(&self, seconds: i64) -> Result<Arc<BTreeSet<ClientId>>, StoreError> {
        let now = self.clock.now();
        let mut known = self.silent.lock().await;
        let stands = |(at, of): (Timestamp, i64)| {
            of == seconds && (0..STANDS).contains(&now.duration_since(at).as_secs())
        };
        if !known.asked.is_some_and(stands) {
            let since = now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN);
            known.clients = Arc::new(self.store.silent_since(since).await?);
            known.asked = Some((now, seconds));
        }
        Ok(Arc::clone(&known.clients))
    }
}

/// Base URLs of the roles, as clients reach them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advertise {
    /// Management points.
    pub management_points: Vec<String>,
    /// Software update points.
    pub software_update_points: Vec<String>,
    /// Distribution points that no object describes.
    pub distribution_points: Vec<String>,
}

/// One cache per kind, and counters for the foreign kinds that specs refer to.
#[derive(Clone, Default)]
#[allow(missing_docs, reason = "each is the kind of its name")]
pub struct Caches {
    pub sites: Arc<Cache<crds::Site>>,
    pub git_sources: Arc<Cache<crds::GitSource>>,
    pub software_update_points: Arc<Cache<crds::SoftwareUpdatePoint>>,
    pub search_folders: Arc<Cache<crds::SearchFolder>>,
    pub update_lists: Arc<Cache<crds::UpdateList>>,
    pub deployment_templates: Arc<Cache<crds::DeploymentTemplate>>,
    pub update_deployments: Arc<Cache<crds::UpdateDeployment>>,
    pub deployment_packages: Arc<Cache<crds::DeploymentPackage>>,
    pub distribution_points: Arc<Cache<crds::DistributionPoint>>,
    pub collections: Arc<Cache<crds::Collection>>,
    pub maintenance_windows: Arc<Cache<crds::MaintenanceWindow>>,
    pub client_settings: Arc<Cache<crds::ClientSettings>>,
    /// Rises when a Secret of the namespace changes.
    pub secrets: watch::Sender<u64>,
    /// Rises when a `ConfigMap` of the namespace changes.
    pub config_maps: watch::Sender<u64>,
}

impl Caches {
    /// Starts the watches that fill the caches.
    pub fn spawn(&self, tasks: &mut JoinSet<()>, client: &Client, namespace: &str) {
        macro_rules! fill {
            ($($cache:ident),+) => {
                $(tasks.spawn(cache::fill(client.clone(), namespace.to_owned(), Arc::clone(&self.$cache)));)+
            };
        }
        fill!(
            sites,
            git_sources,
            software_update_points,
            search_folders,
            update_lists,
            deployment_templates,
            update_deployments,
            deployment_packages,
            distribution_points,
            collections,
            maintenance_windows,
            client_settings
        );
        tasks.spawn(cache::notice::<Secret>(client.clone(), namespace.to_owned(), self.secrets.clone()));
        tasks.spawn(cache::notice::<ConfigMap>(
            client.clone(),
            namespace.to_owned(),
            self.config_maps.clone(),
        ));
    }

    /// Waits until every cache holds a complete list: before that, nothing may be concluded from an absence
    /// (no membership, no policy, no sweep, no prune).
    pub async fn complete(&self) {
        macro_rules! wait {
            ($($cache:ident),+) => {
                $({
                    let mut events = self.$cache.events();
                    while !self.$cache.is_complete() {
                        if events.changed().await.is_err() {
                            break;
                        }
                    }
                })+
            };
        }
        wait!(
            sites,
            git_sources,
            software_update_points,
            search_folders,
            update_lists,
            deployment_templates,
            update_deployments,
            deployment_packages,
            distribution_points,
            collections,
            maintenance_windows,
            client_settings
        );
    }
}
