//! `ClientSettings`: validated and kept; status says whom they reach. Nothing to dereference or plan.

use std::{collections::BTreeSet, sync::Arc};

use kube::ResourceExt;
use patchtide_crds::{ClientSettings, ClientSettingsStatus, conditions::reason};
use patchtide_intent::{Problem, client_settings};
use patchtide_model::{ObjectName, shared::Shared};
use patchtide_planner::site::Verdict;
use tokio::sync::watch;

use crate::{
    cache::Cache,
    context::Context,
    driver::Reconciler,
    error::{Failure, Outcome},
    kinds::{self, CLIENT_SETTINGS, supported, sweep_rows},
};

/// The kind.
pub struct ClientSettingsKind;

impl Reconciler for ClientSettingsKind {
    type Object = ClientSettings;

    fn cache(ctx: &Context) -> &Arc<Cache<ClientSettings>> {
        &ctx.caches.client_settings
    }

    fn wakes(&self, ctx: &Context) -> Vec<watch::Receiver<u64>> {
        vec![ctx.caches.collections.version(), ctx.compiled_version.subscribe()]
    }

    async fn reconcile(
        &self,
        ctx: &Context,
        object: &ClientSettings,
        status: &mut ClientSettingsStatus,
    ) -> Result<Outcome, Failure> {
        let name = object.name_any();
        let (valid, missing) = match client_settings::validate(&name, &object.spec) {
            Ok(valid) => valid,
            Err(failure) => {
                let collection = object.spec.collection.as_ref().and_then(|name| ObjectName::new(name).ok());
                if failure.reason == reason::RESTRICTION_NOT_BUILT {
                    kinds::block(ctx, CLIENT_SETTINGS, object, failure.message.clone(), collection).await?;
                }
                return Err(failure.into());
            }
        };
        kinds::keep(ctx, CLIENT_SETTINGS, object, &valid).await?;
        supported(status, object.metadata.generation.unwrap_or_default(), &ctx.clock.time(), &missing);
        let compiled = ctx.compiled.borrow().clone();
        if let Some(plan) = &compiled.plan {
            let selected: Shared<BTreeSet<_>> = match &valid.collection {
                Some(collection) => plan.membership.get(collection).cloned().unwrap_or_default(),
                None => plan.policies.keys().copied().collect(),
            };
            let applied = plan
                .policies
                .iter()
                .filter(|(id, verdict)| {
                    selected.contains(id)
                        && matches!(verdict, Verdict::Policy(body) if body.settings.name == name)
                })
                .count() as u64;
            status.clients = Some(applied);
            status.overridden = Some((selected.len() as u64).saturating_sub(applied));
        }
        if let Some(collection) =
            object.spec.collection.as_ref().filter(|name| ctx.caches.collections.get(name).is_none())
        {
            return Err(Problem::missing("collection", collection).into());
        }
        Ok(Outcome::ready(format!("{} clients apply these settings", status.clients.unwrap_or_default())))
    }

    async fn sweep(&self, ctx: &Context, names: &BTreeSet<String>) -> Result<(), Failure> {
        sweep_rows(ctx, CLIENT_SETTINGS, names).await
    }
}
