//! `MaintenanceWindow`: validated, kept, and shown: next openings, whom it selects, what can never fit.

pub mod status;

use std::{collections::BTreeSet, sync::Arc};

use kube::ResourceExt;
use patchtide_crds::{MaintenanceWindow, MaintenanceWindowStatus, conditions::NO_OCCURRENCE};
use patchtide_intent::{Problem, maintenance_window};
use patchtide_model::ObjectName;
use tokio::sync::watch;

use crate::{
    cache::Cache,
    context::Context,
    driver::Reconciler,
    error::{Failure, Outcome},
    kinds::{self, MAINTENANCE_WINDOW, flag, sweep_rows},
};

/// The kind.
pub struct MaintenanceWindows;

impl Reconciler for MaintenanceWindows {
    type Object = MaintenanceWindow;

    fn cache(ctx: &Context) -> &Arc<Cache<MaintenanceWindow>> {
        &ctx.caches.maintenance_windows
    }

    fn wakes(&self, ctx: &Context) -> Vec<watch::Receiver<u64>> {
        vec![ctx.caches.collections.version(), ctx.compiled_version.subscribe()]
    }

    async fn reconcile(
        &self,
        ctx: &Context,
        object: &MaintenanceWindow,
        status: &mut MaintenanceWindowStatus,
    ) -> Result<Outcome, Failure> {
        let collection = ObjectName::new(&object.spec.collection).ok();
        let valid = match maintenance_window::validate(&object.name_any(), &object.spec) {
            Ok(valid) => valid,
            Err(failure) => {
                // A window that cannot be honoured holds its clients: no new policy that ignores it.
                kinds::block(ctx, MAINTENANCE_WINDOW, object, failure.message.clone(), collection).await?;
                return Err(failure.into());
            }
        };
        kinds::keep(ctx, MAINTENANCE_WINDOW, object, &valid).await?;
        let now = ctx.clock.now();
        let compiled = ctx.compiled.borrow().clone();
        let again = status::fill(status, &valid, &compiled, now);
        let told = if object.spec.enabled {
            status::no_occurrence(&valid, now)
        } else {
            status::disable(status, &valid)
        };
        let told = told.as_ref().map(|text| (true, "DaysLeftOut", text.as_str()));
        let generation = object.metadata.generation.unwrap_or_default();
        flag(status, NO_OCCURRENCE, generation, &ctx.clock.time(), told);
        if compiled.plan.is_some() {
            let never = status::never_fitting(&valid, &compiled, now);
            status.never_fitting = Some(never.len() as u64);
            status.never_fit = never.into_iter().take(20).collect();
        }
        if ctx.caches.collections.get(&object.spec.collection).is_none() {
            return Err(Problem::missing("collection", &object.spec.collection).into());
        }
        let mut outcome = Outcome::ready(status.next.clone().unwrap_or_else(|| "in force".to_owned()));
        if let Some(again) = again {
            outcome = outcome.again(again);
        }
        Ok(outcome)
    }

    async fn sweep(&self, ctx: &Context, names: &BTreeSet<String>) -> Result<(), Failure> {
        sweep_rows(ctx, MAINTENANCE_WINDOW, names).await
    }
}
