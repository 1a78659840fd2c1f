//! Keeps the register: after a compilation, and when a list or the catalogue changed, the site database says in rows what
//! the objects come to, for reports and SQL. A failure is tried again and holds nothing else up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::tz::TimeZone;
use kube::ResourceExt;
use patchtide_intent::{maintenance_window, update_list::Members};
use patchtide_model::{
    ObjectName,
    deployment::Deployment,
    object::{PackageContent, SiteObjects},
    window::Window,
};
use patchtide_planner::{
    site::SitePlan,
    times::{available, deadline},
};
use patchtide_store::{
    ObjectRow, StoreError,
    register::{
        Origin, Register, RegisteredCollection, RegisteredDeployment, RegisteredList, RegisteredPackage,
        RegisteredWindow,
    },
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    cache::Cache,
    context::Context,
    error::chain,
    kinds::deployment_package::PACKAGE_CONTENT,
    kinds::{COLLECTION, DEPLOYMENT_PACKAGE, MAINTENANCE_WINDOW, UPDATE_LIST},
    pace,
    status::Object,
};

/// Changes that come within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(300);
/// It is looked at this often although nothing woke it.
const RESYNC: Duration = Duration::from_mins(5);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Runs until the task is dropped.
pub(crate) async fn run(ctx: Arc<Context>) {
    let mut compiled = ctx.compiled.subscribe();
    let mut changes = ctx.store.changes();
    let mut written = None;
    loop {
        compiled.mark_unchanged();
        changes.mark_unchanged();
        let started = Instant::now();
        let pause = match keep(&ctx, &mut written).await {
            Ok(rows) => {
                if rows > 0 {
                    tracing::debug!(rows, ms = started.elapsed().as_millis(), "register kept");
                }
                RESYNC
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the register for reports is not kept; tried again");
                RETRY
            }
        };
        let rest = pace::rest(started.elapsed()).max(DEBOUNCE);
        let wake = async {
            tokio::select! {
                _ = compiled.changed() => {}
                _ = changes.changed() => {}
            }
            sleep(rest).await;
        };
        let _ = timeout(pause.max(rest), wake).await;
    }
}

/// Writes what is other; how many rows.
async fn keep(ctx: &Context, written: &mut Option<Register>) -> Result<u64, StoreError> {
    let compiled = ctx.compiled.borrow().clone();
    // Before the first compilation nobody knows who is where; what was written last is the best answer.
    let (Some(plan), Some(input)) = (&compiled.plan, compiled.input()) else { return Ok(0) };
    let register = register(ctx, &input.objects, plan).await?;
    // Given back at the end: after a failure nobody knows what is written.
    let before = written.take();
    let rows = ctx.store.put_register(&register, before.as_ref(), ctx.clock.now()).await?;
    *written = Some(register);
    Ok(rows)
}

/// What the objects come to.
async fn register(ctx: &Context, objects: &SiteObjects, plan: &SitePlan) -> Result<Register, StoreError> {
    let store = &ctx.store;
    let rows = |kind| async move {
        let rows = store.objects(kind).await?;
        Ok::<_, StoreError>(rows.into_iter().map(|row| (row.name.clone(), row)).collect::<BTreeMap<_, _>>())
    };
    let caches = &ctx.caches;
    let of_collections = rows(COLLECTION).await?;
    let collections = objects.collections.iter().filter_map(|(name, collection)| {
        let spec = caches.collections.get(name.as_str());
        let registered = RegisteredCollection {
            origin: origin(&caches.collections, of_collections.get(name.as_str())?)
                .describe(spec.and_then(|object| object.spec.description.clone())),
            parent: collection.parent.clone(),
            members: plan.membership.get(name).cloned().unwrap_or_default(),
        };
        Some((name.clone(), registered))
    });
    let of_lists = rows(UPDATE_LIST).await?;
    let lists = of_lists.values().filter_map(|row| {
        let members: Members = serde_json::from_str(&row.json).ok()?;
        let spec = caches.update_lists.get(&row.name);
        let registered = RegisteredList {
            origin: origin(&caches.update_lists, row)
                .describe(spec.and_then(|object| object.spec.description.clone())),
            folder: members.folder,
            members: members.members,
        };
        Some((ObjectName::new(&row.name).ok()?, registered))
    });
    let deployments = objects.deployments.iter().map(|(name, of)| {
        let targets = plan.targets.get(name).cloned().unwrap_or_default();
        (name.clone(), deployment(ctx, of, targets))
    });
    let of_windows = rows(MAINTENANCE_WINDOW).await?;
    let windows = objects.windows.iter().filter_map(|(name, of)| {
        let row = of_windows.get(name.as_str())?;
        Some((name.clone(), window(ctx, row, of)))
    });
    let (of_packages, contents) = (rows(DEPLOYMENT_PACKAGE).await?, rows(PACKAGE_CONTENT).await?);
    let packages = objects.packages.iter().filter_map(|(name, of)| {
        let spec = caches.deployment_packages.get(name.as_str());
        let content = contents.get(name.as_str());
        let content = content.and_then(|row| serde_json::from_str::<PackageContent>(&row.json).ok());
        let registered = RegisteredPackage {
            origin: origin(&caches.deployment_packages, of_packages.get(name.as_str())?)
                .describe(spec.and_then(|object| object.spec.description.clone())),
            version: of.version,
            updates: of.updates.iter().cloned().collect(),
            files: content.map(|content| content.files.into_keys().collect()).unwrap_or_default(),
            points: of.distribution_points.clone(),
        };
        Some((name.clone(), registered))
    });
    Ok(Register {
        collections: collections.collect(),
        lists: lists.collect(),
        deployments: deployments.collect(),
        windows: windows.collect(),
        packages: packages.collect(),
    })
}

trait Describe {
    fn describe(self, words: Option<String>) -> Self;
}

impl Describe for Origin {
    fn describe(self, words: Option<String>) -> Self {
        Self { description: words, ..self }
    }
}

/// Where a row comes from.
fn origin<K: Object>(cache: &Cache<K>, row: &ObjectRow) -> Origin {
    let made = cache.get(&row.name).and_then(|object| object.creation_timestamp());
    Origin {
        uid: row.uid.clone(),
        generation: row.generation,
        description: None,
        created: made.map(|made| made.0),
    }
}

fn deployment(
    ctx: &Context,
    of: &Deployment,
    targets: patchtide_model::shared::Shared<BTreeSet<patchtide_model::ClientId>>,
) -> RegisteredDeployment {
    let object = ctx.caches.update_deployments.get(of.name.as_str());
    let made = object.as_ref().and_then(|object| object.creation_timestamp());
    RegisteredDeployment {
        origin: Origin {
            uid: of.uid.clone(),
            generation: of.generation,
            description: object.as_ref().and_then(|object| object.spec.description.clone()),
            created: made.map(|made| made.0),
        },
        deployment: of.clone(),
        list: object
            .and_then(|object| object.spec.update_list.clone())
            .and_then(|name| ObjectName::new(name).ok()),
        available: available(&of.settings, of.anchor, &TimeZone::UTC),
        deadline: deadline(&of.settings, of.anchor, &TimeZone::UTC),
        targets,
    }
}

fn window(ctx: &Context, row: &ObjectRow, of: &Window) -> RegisteredWindow {
    let object = ctx.caches.maintenance_windows.get(&row.name);
    let enabled = object.as_ref().is_none_or(|object| object.spec.enabled);
    // What never opens is kept as a day long past; people want to read when it would.
    let as_written = object.as_ref().filter(|_| !enabled).and_then(|object| {
        let mut spec = object.spec.clone();
        spec.enabled = true;
        maintenance_window::validate(&row.name, &spec).ok()
    });
    RegisteredWindow {
        origin: origin(&ctx.caches.maintenance_windows, row)
            .describe(object.and_then(|object| object.spec.description.clone())),
        window: as_written.unwrap_or_else(|| of.clone()),
        enabled,
    }
}
