//! `UpdateDeployment`: references resolved and perhaps pinned, settings merged, kept for the policy compiler; status
//! tells how far the clients are.

pub mod alerting;
pub mod awaited;
pub mod dereference;
pub mod left;
pub mod plan;
pub mod status;

use std::{collections::BTreeSet, sync::Arc};

use kube::ResourceExt;
use patchtide_crds::{
    UpdateDeployment, UpdateDeploymentStatus,
    conditions::{REFERENCE_DIFFERS, RESOLVED, SUSPENDED, reason},
};
use patchtide_intent::update_deployment::{pin, validate};
use patchtide_model::ObjectName;
use tokio::sync::watch;

use crate::{
    cache::Cache,
    context::Context,
    driver::Reconciler,
    error::{Disposition, Failure, Outcome},
    kinds::{self, LEFT_UPDATES, PINNED, UPDATE_DEPLOYMENT, flag, sweep_rows},
};

/// The kind.
pub struct UpdateDeployments;

impl Reconciler for UpdateDeployments {
    type Object = UpdateDeployment;

    fn cache(ctx: &Context) -> &Arc<Cache<UpdateDeployment>> {
        &ctx.caches.update_deployments
    }

    fn wakes(&self, ctx: &Context) -> Vec<watch::Receiver<u64>> {
        vec![
            ctx.store.changes(),
            ctx.caches.deployment_templates.version(),
            ctx.caches.update_lists.version(),
            ctx.caches.collections.version(),
            ctx.caches.deployment_packages.version(),
            ctx.compiled_version.subscribe(),
            ctx.alerting_version.subscribe(),
            ctx.caches.sites.version(),
        ]
    }

    async fn reconcile(
        &self,
        ctx: &Context,
        object: &UpdateDeployment,
        status: &mut UpdateDeploymentStatus,
    ) -> Result<Outcome, Failure> {
        let generation = object.metadata.generation.unwrap_or_default();
        let now = ctx.clock.time();
        let result = accept(ctx, object, status).await;
        let resolved = match &result {
            Ok(_) => (true, reason::SUCCEEDED, "all references are found".to_owned()),
            Err(failure) => (false, failure.reason, failure.message.clone()),
        };
        flag(status, RESOLVED, generation, &now, Some((resolved.0, resolved.1, &resolved.2)));
        let suspended = (true, reason::SUSPENDED, "held at every client by spec.suspend");
        flag(status, SUSPENDED, generation, &now, object.spec.suspend.then_some(suspended));
        let deployment = match result {
            Ok(deployment) => deployment,
            Err(failure) => {
                if failure.reason == reason::RESTRICTION_NOT_BUILT {
                    let target = object.spec.collection.as_ref().and_then(|name| ObjectName::new(name).ok());
                    kinds::block(ctx, UPDATE_DEPLOYMENT, object, failure.message.clone(), target).await?;
                }
                suspend_all_the_same(ctx, object, &failure).await?;
                return Err(failure);
            }
        };
        let left = left::notice(ctx, object, &deployment).await?;
        kinds::keep(ctx, UPDATE_DEPLOYMENT, object, &deployment).await?;
        let compiled = ctx.compiled.borrow().clone();
        if compiled.plan.is_none() && status.observed_generation == Some(generation) {
            // Right after a start: what was true of this generation before is still the best answer.
            return Ok(Outcome::Unchanged);
        }
        // For a large site this takes a while, and others are to go on meanwhile.
        let (reckoned, name) = (Arc::clone(&compiled), deployment.name.clone());
        let standing = tokio::task::spawn_blocking(move || reckoned.standing(&name).cloned())
            .await
            .map_err(|error| Failure::of("what the deployment comes to could not be reckoned", &error))?;
        status::fill(ctx, status, generation, &deployment, &compiled).await?;
        if let Some(standing) =
            standing.filter(|_| compiled.has(&object.name_any(), &deployment.uid, generation))
        {
            plan::tell(status, generation, &standing, ctx.clock.now());
        }
        left::tell(ctx, status, generation, &left).await?;
        let uid = object.uid().unwrap_or_default();
        if !compiled.has(&object.name_any(), &uid, generation) {
            return Ok(Outcome::Progressing {
                message: "policies are being compiled".to_owned(),
                again: None,
            });
        }
        if let Some((clients, why)) = status::withheld(&deployment, &compiled) {
            return Err(Failure::wait(
                reason::DEPENDENCY_NOT_READY,
                format!("no new policy goes to {clients} clients: {why}"),
            ));
        }
        let updates = deployment.updates.len();
        let targeted = status.targeted.unwrap_or_default();
        let message = format!("{updates} updates for {targeted} clients");
        let reason = if object.spec.suspend { reason::SUSPENDED } else { reason::RECONCILIATION_SUCCEEDED };
        let message = if object.spec.suspend { format!("held: {message}") } else { message };
        Ok(Outcome::Ready { reason, message, again: Some(status::LOOK_AGAIN) })
    }

    async fn sweep(&self, ctx: &Context, names: &BTreeSet<String>) -> Result<(), Failure> {
        sweep_rows(ctx, UPDATE_DEPLOYMENT, names).await?;
        sweep_rows(ctx, PINNED, names).await?;
        sweep_rows(ctx, LEFT_UPDATES, names).await
    }
}

/// From the spec to what the policy compiler takes: dereference, pin, validate.
async fn accept(
    ctx: &Context,
    object: &UpdateDeployment,
    status: &mut UpdateDeploymentStatus,
) -> Result<patchtide_model::deployment::Deployment, Failure> {
    let generation = object.metadata.generation.unwrap_or_default();
    let inputs = dereference::dereference(ctx, object).await?;
    let pinned = pin(&object.spec, &inputs)?;
    dereference::remember(ctx, object, &pinned.memory).await?;
    let (deployment, resolved, missing) = validate(object, &inputs, &pinned)?;
    let now = ctx.clock.time();
    alerting::tell(ctx, status, generation, &deployment.settings, &missing);
    status.resolved_settings = Some(resolved);
    status.collection = Some(deployment.collection.to_string());
    status.updates = Some(deployment.updates.len() as u64);
    status.expired_updates = Some(pinned.expired(&inputs));
    status.list_digest.clone_from(&pinned.list_digest);
    status.list_differs = pinned.list_digest.as_ref().map(|_| pinned.list_differs);
    status.template_digest.clone_from(&pinned.template_digest);
    status.template_differs = pinned.template_digest.as_ref().map(|_| pinned.template_differs);
    let differs = match (pinned.list_differs, pinned.template_differs) {
        (false, false) => None,
        (true, false) => Some(
            "the list says something else now; to take it over, pin it again or use listReference: Follow",
        ),
        (false, true) => Some(
            "the template says something else now; to take it over, pin it again or use templateReference: Follow",
        ),
        (true, true) => {
            Some("list and template say something else now; to take it over, pin them again or use Follow")
        }
    };
    flag(status, REFERENCE_DIFFERS, generation, &now, differs.map(|message| (true, "Differs", message)));
    Ok(deployment)
}

/// A hold is obeyed even when the rest of the new generation cannot be accepted: the last good row is held.
async fn suspend_all_the_same(
    ctx: &Context,
    object: &UpdateDeployment,
    failure: &Failure,
) -> Result<(), Failure> {
    if !object.spec.suspend || failure.disposition == Disposition::Retry {
        return Ok(());
    }
    let name = object.name_any();
    let row = ctx.store.object(UPDATE_DEPLOYMENT, &name).await.map_err(|error| kinds::database(&error))?;
    let Some(mut row) = row.filter(|row| Some(&row.uid) == object.uid().as_ref()) else {
        return Ok(());
    };
    let Ok(mut deployment) = serde_json::from_str::<patchtide_model::deployment::Deployment>(&row.json)
    else {
        return Ok(());
    };
    deployment.suspend = true;
    row.json = serde_json::to_string(&deployment)
        .map_err(|error| Failure::of("the held deployment cannot be written as JSON", &error))?;
    ctx.store.put_object(row).await.map_err(|error| kinds::database(&error))?;
    Ok(())
}
