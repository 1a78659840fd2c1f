//! `Collection`: accepted when its references exist and lead in no circle; members come from the policy compiler.
//! Plan is the planner's own check of references; apply is one row.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::ResourceExt;
use patchtide_crds::{Collection, CollectionStatus, DurationText, conditions::reason};
use patchtide_intent::collection;
use patchtide_model::{ObjectName, object};
use patchtide_planner::site::{CollectionProblem, check_collections};
use tokio::sync::watch;

use crate::{
    cache::Cache,
    context::Context,
    driver::Reconciler,
    error::{Failure, Outcome},
    kinds::{self, COLLECTION, site, sweep_rows, time},
};

/// The kind.
pub struct Collections;

impl Reconciler for Collections {
    type Object = Collection;

    fn cache(ctx: &Context) -> &Arc<Cache<Collection>> {
        &ctx.caches.collections
    }

    fn wakes(&self, ctx: &Context) -> Vec<watch::Receiver<u64>> {
        vec![
            ctx.caches.collections.version(),
            ctx.caches.maintenance_windows.version(),
            ctx.caches.update_deployments.version(),
            ctx.compiled_version.subscribe(),
        ]
    }

    async fn reconcile(
        &self,
        ctx: &Context,
        object: &Collection,
        status: &mut CollectionStatus,
    ) -> Result<Outcome, Failure> {
        let name = kinds::object_name(&object.name_any())?;
        let others = all(ctx);
        let accepted = collection::validate(&name, &object.spec)
            .map_err(Failure::from)
            .and_then(|valid| problems(&name, &others).map_or(Ok(valid), Err));
        let valid = match accepted {
            Ok(valid) => valid,
            // What is missing may come; until then it has no members from there.
            Err(failure) if failure.reason == reason::REFERENCE_NOT_FOUND => {
                let valid = collection::validate(&name, &object.spec)?;
                kinds::keep(ctx, COLLECTION, object, &valid).await?;
                return Err(failure);
            }
            Err(failure) => {
                // Its members are not known. Where a window is bound to them anyone may be meant, so all are held.
                let concerned = if has_window(ctx, &name, &others) { None } else { Some(name) };
                kinds::block(ctx, COLLECTION, object, failure.message.clone(), concerned).await?;
                return Err(failure);
            }
        };
        kinds::keep(ctx, COLLECTION, object, &valid).await?;
        count(ctx, object, &name, &others, status).await?;
        let members = status.members.unwrap_or_default();
        Ok(Outcome::ready(format!("{members} members")))
    }

    async fn sweep(&self, ctx: &Context, names: &BTreeSet<String>) -> Result<(), Failure> {
        sweep_rows(ctx, COLLECTION, names).await
    }
}

/// Every collection that the watch has seen and that is valid by itself.
fn all(ctx: &Context) -> BTreeMap<ObjectName, object::Collection> {
    ctx.caches
        .collections
        .all()
        .iter()
        .filter_map(|other| {
            let name = ObjectName::new(other.name_any()).ok()?;
            let valid = collection::validate(&name, &other.spec).ok()?;
            Some((name, valid))
        })
        .collect()
}

/// Whether a window is bound to the collection, or to one that takes members from it.
fn has_window(ctx: &Context, name: &ObjectName, all: &BTreeMap<ObjectName, object::Collection>) -> bool {
    let mut reached = BTreeSet::from([name.clone()]);
    loop {
        let more: Vec<ObjectName> = all
            .values()
            .filter(|other| !reached.contains(&other.name))
            .filter(|other| {
                !other.include.is_disjoint(&reached)
                    || !other.exclude.is_disjoint(&reached)
                    || other.limiting.as_ref().is_some_and(|limiting| reached.contains(limiting))
            })
            .map(|other| other.name.clone())
            .collect();
        if more.is_empty() {
            break;
        }
        reached.extend(more);
    }
    let windows = ctx.caches.maintenance_windows.all();
    windows.iter().any(|window| reached.iter().any(|name| name.as_str() == window.spec.collection))
}

/// What of the references between collections concerns `name`.
fn problems(name: &ObjectName, all: &BTreeMap<ObjectName, object::Collection>) -> Option<Failure> {
    let mine: Vec<CollectionProblem> = check_collections(all)
        .into_iter()
        .filter(|problem| match problem {
            CollectionProblem::Cycle(path) => path.contains(name),
            CollectionProblem::Missing { collection, .. } => collection == name,
        })
        .collect();
    let cycle = mine.iter().find(|problem| matches!(problem, CollectionProblem::Cycle(_)));
    if let Some(cycle) = cycle {
        return Some(Failure::stalled(reason::REFERENCE_CYCLE, format!("REF-CYCLE: {cycle}")));
    }
    let missing: Vec<String> = mine.iter().map(ToString::to_string).collect();
    (!missing.is_empty()).then(|| Failure::wait(reason::REFERENCE_NOT_FOUND, missing.join("; ")))
}

async fn count(
    ctx: &Context,
    object: &Collection,
    name: &ObjectName,
    all: &BTreeMap<ObjectName, object::Collection>,
    status: &mut CollectionStatus,
) -> Result<(), Failure> {
    let compiled = ctx.compiled.borrow().clone();
    let now = ctx.clock.now();
    let inactive_after = site::in_force(ctx)
        .map_or(DurationText("30d".to_owned()), |site| site.spec.retention.inactive_after.clone());
    let horizon = inactive_after.seconds().unwrap_or(30 * 86_400);
    let silent = ctx.silent_for(horizon).await.map_err(|error| kinds::database(&error))?;
    if let Some(plan) = &compiled.plan {
        let members = plan.membership.get(name);
        let total = members.map_or(0, |members| members.len()) as u64;
        let active = members.into_iter().flatten().filter(|id| !silent.contains(*id)).count() as u64;
        if status.members != Some(total) {
            status.changed_time = Some(time(now));
        }
        status.members = Some(total);
        status.active = Some(active);
        let mut unknown: BTreeSet<&str> = object.spec.direct_members.iter().map(String::as_str).collect();
        unknown.retain(|member| member.parse().ok().and_then(|id| compiled.client(id)).is_none());
        if !unknown.is_empty() {
            unknown = compiled.clients.iter().fold(unknown, |mut unknown, client| {
                unknown.remove(client.name.as_str());
                unknown
            });
        }
        status.unknown_direct_members = Some(unknown.len() as u64);
    }
    let under = ancestors(name, all);
    let deployments = ctx.caches.update_deployments.all();
    let mine = |deployment: &&Arc<patchtide_crds::UpdateDeployment>| {
        let target = deployment.status.as_ref().and_then(|status| status.collection.clone());
        let target = deployment.spec.collection.clone().or(target);
        let template = deployment.spec.template.as_ref();
        let template = template.and_then(|name| ctx.caches.deployment_templates.get(name));
        let below = deployment
            .spec
            .include_subcollections
            .or_else(|| template.and_then(|template| template.spec.include_subcollections));
        target.is_some_and(|target| {
            target == name.as_str() || (below == Some(true) && under.contains(target.as_str()))
        })
    };
    status.deployments = Some(deployments.iter().filter(mine).count() as u64);
    let windows = ctx.caches.maintenance_windows.all();
    status.windows =
        Some(windows.iter().filter(|window| window.spec.collection == name.as_str()).count() as u64);
    Ok(())
}

/// The collections above `name`.
fn ancestors(name: &ObjectName, all: &BTreeMap<ObjectName, object::Collection>) -> BTreeSet<String> {
    let mut above = BTreeSet::new();
    let mut at = all.get(name).and_then(|collection| collection.parent.clone());
    while let Some(parent) = at {
        if !above.insert(parent.to_string()) {
            break;
        }
        at = all.get(&parent).and_then(|collection| collection.parent.clone());
    }
    above
}
