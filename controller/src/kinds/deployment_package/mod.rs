//! `DeploymentPackage`: which files its updates need, where they come from, which distribution points get them. The
//! files themselves are fetched by [`crate::content`].

pub mod dereference;
pub mod plan;
pub mod room;
pub mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

use kube::ResourceExt;
use patchtide_crds::{
    DeploymentPackage, DeploymentPackageStatus,
    conditions::{CATALOGUE_CONFLICT, reason},
};
use patchtide_intent::distribution_point::is_held;
use patchtide_model::{Digest, ObjectName, object};
pub use patchtide_store::site::PACKAGE_CONTENT;
use patchtide_store::{ObjectRow, content::WantedContent};
use tokio::sync::{Mutex, watch};

use self::plan::Content;
use crate::{
    cache::Cache,
    context::Context,
    dependencies::conflict_message,
    driver::Reconciler,
    error::{Failure, Outcome},
    kinds::{self, DEPLOYMENT_PACKAGE, database, flag, intact, supported, sweep_rows},
};

/// The kind. What a distribution point shall have is the union over packages, so that is written by one at a time.
#[derive(Default)]
pub struct DeploymentPackages {
    distribution: Mutex<()>,
}

impl Reconciler for DeploymentPackages {
    type Object = DeploymentPackage;

    fn cache(ctx: &Context) -> &Arc<Cache<DeploymentPackage>> {
        &ctx.caches.deployment_packages
    }

    fn wakes(&self, ctx: &Context) -> Vec<watch::Receiver<u64>> {
        vec![
            ctx.store.changes(),
            ctx.caches.distribution_points.version(),
            ctx.caches.software_update_points.version(),
            ctx.caches.update_lists.version(),
            ctx.content_progress.subscribe(),
        ]
    }

    async fn reconcile(
        &self,
        ctx: &Context,
        object: &DeploymentPackage,
        status: &mut DeploymentPackageStatus,
    ) -> Result<Outcome, Failure> {
        let inputs = dereference::dereference(ctx, object).await?;
        let next = plan::plan(object, &inputs)?;
        let generation = object.metadata.generation.unwrap_or_default();
        supported(status, generation, &ctx.clock.time(), &plan::without_effect(&object.spec));
        let conflict = conflict_message(&inputs.conflicts);
        let told = conflict.as_ref().map(|text| (true, "CatConflict", text.as_str()));
        flag(status, CATALOGUE_CONFLICT, generation, &ctx.clock.time(), told);
        apply(ctx, object, &next).await?;
        self.distribute(ctx).await?;
        let damages = ctx.store.content_damages().await.map_err(|error| database(&error))?;
        let mine = damages.iter().filter(|damaged| {
            next.files.contains_key(&damaged.digest)
                && damaged.dp.as_ref().is_none_or(|point| inputs.points.contains(point))
        });
        intact::tell(ctx, object, status, generation, intact::judge(mine)).await;
        let progress = status::fill(ctx, status, &inputs, &next).await?;
        if !inputs.missing_lists.is_empty() || !inputs.missing_points.is_empty() {
            let missing: Vec<String> =
                (inputs.missing_lists.iter().map(|name| format!("update list {name}")))
                    .chain(inputs.missing_points.iter().map(|name| format!("distribution point {name}")))
                    .collect();
            return Err(Failure::wait(
                reason::DEPENDENCY_NOT_READY,
                format!(
                    "{} not there yet: create it or take the name out; the rest is in force",
                    missing.join(", ")
                ),
            ));
        }
        Ok(progress)
    }

    async fn sweep(&self, ctx: &Context, names: &BTreeSet<String>) -> Result<(), Failure> {
        sweep_rows(ctx, DEPLOYMENT_PACKAGE, names).await?;
        sweep_rows(ctx, PACKAGE_CONTENT, names).await?;
        self.distribute(ctx).await
    }
}

impl DeploymentPackages {
    /// Says what every distribution point shall have: the files of all packages on it.
    async fn distribute(&self, ctx: &Context) -> Result<(), Failure> {
        let _one = self.distribution.lock().await;
        let rows = ctx.store.objects(PACKAGE_CONTENT).await.map_err(|error| database(&error))?;
        let mut sent: BTreeMap<String, Vec<room::Sent>> = BTreeMap::new();
        for point in ctx.caches.distribution_points.names() {
            sent.insert(point, Vec::new());
        }
        for row in rows {
            let content: Content = serde_json::from_str(&row.json).map_err(|error| {
                Failure::of("a package's content cannot be read back from the site database", &error)
            })?;
            let package = ctx.caches.deployment_packages.get(&row.name);
            let priority = package.map(|package| package.spec.sending_priority).unwrap_or_default();
            for point in &content.points {
                let package = room::Sent { priority, name: row.name.clone(), content: content.clone() };
                sent.entry(point.to_string()).or_default().push(package);
            }
        }
        let mut left_out = BTreeMap::new();
        for (name, packages) in sent {
            if let Ok(point) = ObjectName::new(&name) {
                left_out.insert(name, send(ctx, &point, packages).await?);
            }
        }
        *ctx.capacity_left_out.lock().unwrap_or_else(PoisonError::into_inner) = left_out;
        Ok(())
    }
}

/// Says what one point shall have; returns the files that it has no room for.
async fn send(
    ctx: &Context,
    point: &ObjectName,
    packages: Vec<room::Sent>,
) -> Result<BTreeSet<Digest>, Failure> {
    let spec = ctx.caches.distribution_points.get(point.as_str()).map(|object| object.spec.clone());
    let had = ctx.store.dp_wanted(point).await.map_err(|error| database(&error))?;
    let held = spec.as_ref().is_some_and(is_held);
    let capacity = spec.and_then(|spec| spec.capacity).and_then(|size| size.bytes().ok());
    let (wanted, left_out) = if held {
        // Out of service: it keeps what it has and gets nothing more.
        let list: Vec<Digest> = had.iter().copied().collect();
        let holders = ctx.store.dps_with(&list).await.map_err(|error| database(&error))?;
        let has = |digest: &Digest| holders.get(digest).is_some_and(|holders| holders.contains(point));
        (had.iter().copied().filter(has).collect(), BTreeSet::new())
    } else {
        room::share(capacity, packages, &had)
    };
    if wanted != had {
        ctx.store.set_dp_wanted(point, wanted).await.map_err(|error| database(&error))?;
    }
    Ok(left_out)
}

/// Writes the plan into the site database.
async fn apply(ctx: &Context, object: &DeploymentPackage, next: &plan::Next) -> Result<(), Failure> {
    let wanted: Vec<WantedContent> = next
        .files
        .iter()
        .map(|(digest, file)| WantedContent {
            digest: *digest,
            size: file.size,
            url: file.url.clone(),
            update: file.update.clone(),
        })
        .collect();
    ctx.store.put_content_wanted(wanted).await.map_err(|error| database(&error))?;
    let json = serde_json::to_string(&next.content)
        .map_err(|error| Failure::of("the package's content cannot be written as JSON", &error))?;
    let row = ObjectRow {
        kind: PACKAGE_CONTENT.to_owned(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        json,
    };
    ctx.store.put_object(row).await.map_err(|error| database(&error))?;
    let package = object::DeploymentPackage {
        name: kinds::object_name(&object.name_any())?,
        distribution_points: next.content.points.clone(),
        updates: next.updates.clone(),
        version: next.content.version,
    };
    kinds::keep(ctx, DEPLOYMENT_PACKAGE, object, &package).await?;
    Ok(())
}
