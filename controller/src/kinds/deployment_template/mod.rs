//! `DeploymentTemplate`: checked by itself; deployments read it from the cache. Nothing to apply.

use std::sync::Arc;

use kube::ResourceExt;
use patchtide_crds::{DeploymentTemplate, DeploymentTemplateStatus, conditions::reason};
use patchtide_intent::{deployment_template::digest, update_deployment::settings};
use tokio::sync::watch;

use crate::{
    cache::Cache,
    context::Context,
    driver::Reconciler,
    error::{Failure, Outcome},
    kinds::supported,
};

/// The kind.
pub struct DeploymentTemplates;

impl Reconciler for DeploymentTemplates {
    type Object = DeploymentTemplate;

    fn cache(ctx: &Context) -> &Arc<Cache<DeploymentTemplate>> {
        &ctx.caches.deployment_templates
    }

    fn wakes(&self, ctx: &Context) -> Vec<watch::Receiver<u64>> {
        vec![ctx.caches.update_deployments.version(), ctx.compiled_version.subscribe()]
    }

    async fn reconcile(
        &self,
        ctx: &Context,
        object: &DeploymentTemplate,
        status: &mut DeploymentTemplateStatus,
    ) -> Result<Outcome, Failure> {
        // A time that only a deployment's own timeEvaluation makes sense of is not the template's fault.
        let missing = match settings::resolve(&object.spec.settings) {
            Ok((_, missing)) => missing,
            Err(_) if object.spec.settings.time_evaluation.is_none() => Vec::new(),
            Err(error) => return Err(Failure::stalled(reason::INVALID_SPEC, error.to_string())),
        };
        supported(status, object.metadata.generation.unwrap_or_default(), &ctx.clock.time(), &missing);
        let name = object.name_any();
        let digest = digest(&object.spec);
        let users: Vec<_> = ctx
            .caches
            .update_deployments
            .all()
            .into_iter()
            .filter(|deployment| deployment.spec.template.as_deref() == Some(name.as_str()))
            .collect();
        let differing = users.iter().filter(|deployment| {
            let pinned = deployment.status.as_ref().and_then(|status| status.template_digest.as_deref());
            pinned.is_some_and(|pinned| pinned != digest)
        });
        status.used_by_differing = Some(differing.count() as u64);
        status.used_by = Some(users.len() as u64);
        status.digest = Some(digest);
        Ok(Outcome::ready(format!("used by {} deployments", users.len())))
    }
}
