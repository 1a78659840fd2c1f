//! `DistributionPoint`: validated and kept; status says what it holds. Nothing to dereference or plan.

use std::{collections::BTreeSet, sync::Arc};

use kube::ResourceExt;
use patchtide_crds::{DistributionPoint, DistributionPointStatus, conditions::HEALTHY};
use patchtide_intent::distribution_point;
use patchtide_model::ObjectName;
use tokio::sync::watch;

use crate::{
    cache::Cache,
    context::Context,
    driver::Reconciler,
    error::{Failure, Outcome},
    kinds::{self, DISTRIBUTION_POINT, bytes, database, flag, intact, sweep_rows},
};

/// The kind.
pub struct DistributionPoints;

impl Reconciler for DistributionPoints {
    type Object = DistributionPoint;

    fn cache(ctx: &Context) -> &Arc<Cache<DistributionPoint>> {
        &ctx.caches.distribution_points
    }

    fn wakes(&self, ctx: &Context) -> Vec<watch::Receiver<u64>> {
        vec![ctx.store.changes(), ctx.caches.deployment_packages.version()]
    }

    async fn reconcile(
        &self,
        ctx: &Context,
        object: &DistributionPoint,
        status: &mut DistributionPointStatus,
    ) -> Result<Outcome, Failure> {
        let name = object.name_any();
        let valid = distribution_point::validate(&name, &object.spec)?;
        let generation = object.metadata.generation.unwrap_or_default();
        let now = ctx.clock.time();
        if object.spec.suspend {
            // Out of service: clients are not sent to it.
            ctx.store.delete_object(DISTRIBUTION_POINT, &name).await.map_err(|error| database(&error))?;
            flag(status, HEALTHY, generation, &now, None);
            intact::tell(ctx, object, status, generation, None).await;
            return Ok(Outcome::Suspended {
                message: "out of service: clients are not sent to it".to_owned(),
            });
        }
        kinds::keep(ctx, DISTRIBUTION_POINT, object, &valid).await?;
        let point = kinds::object_name(&name)?;
        let files = ctx.store.dp_states(&point).await.map_err(|error| database(&error))?;
        let (held, pending) = packages(ctx, &point);
        status.packages = Some(held);
        status.packages_pending = Some(pending);
        status.bytes_used = Some(files.bytes);
        let capacity = object.spec.capacity.as_ref().and_then(|size| size.bytes().ok());
        status.bytes_free = capacity.map(|capacity| capacity.saturating_sub(files.bytes));
        status.free = status.bytes_free.map(bytes);
        let first = files.errors.values().next();
        let full = too_small(ctx, &name);
        let health = match first {
            None if full > 0 => (
                false,
                "CapacityExceeded",
                format!(
                    "{full} files do not fit into spec.capacity: raise it, or take packages off this point"
                ),
            ),
            None => (true, "Working", format!("holds {} of {} files", files.present, files.wanted)),
            Some(error) => {
                (false, "ContentFailed", format!("{} files could not be taken: {error}", files.errors.len()))
            }
        };
        flag(status, HEALTHY, generation, &now, Some((health.0, health.1, &health.2)));
        let damages = ctx.store.content_damages().await.map_err(|error| database(&error))?;
        let here = damages.iter().filter(|damaged| damaged.dp.as_ref() == Some(&point));
        intact::tell(ctx, object, status, generation, intact::judge(here)).await;
        Ok(Outcome::ready(format!("{held} packages, {} of {} files", files.present, files.wanted)))
    }

    async fn sweep(&self, ctx: &Context, names: &BTreeSet<String>) -> Result<(), Failure> {
        sweep_rows(ctx, DISTRIBUTION_POINT, names).await
    }
}

/// Files of packages that wait because the point has no room for them.
fn too_small(ctx: &Context, point: &str) -> u64 {
    let capacity = ctx.capacity_left_out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    capacity.get(point).map_or(0, |files| files.len() as u64)
}

/// Packages that are complete on the point, and those on their way.
fn packages(ctx: &Context, point: &ObjectName) -> (u64, u64) {
    let (mut held, mut pending) = (0, 0);
    for package in ctx.caches.deployment_packages.all() {
        let Some(status) = &package.status else {
            continue;
        };
        match status.distribution_points.iter().find(|state| state.name == point.as_str()) {
            Some(state) if state.version.is_some() && state.version == status.version => held += 1,
            Some(_) => pending += 1,
            None => {}
        }
    }
    (held, pending)
}
