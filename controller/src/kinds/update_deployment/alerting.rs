//! Whether silences and alerts that a deployment asks for are told (R-DEPL-15, R-DEPL-16).

use patchtide_crds::{
    Site, UpdateDeploymentStatus,
    conditions::{self, ALERTS_DELIVERED, SUPPORTED, reason},
};
use patchtide_model::deployment::DeploymentSettings;

use crate::{
    alerts::{Alerting, is_asked_for},
    context::Context,
    kinds::{flag, site, supported},
};

/// Says which fields are without effect, because they are not built or because the Site names no Alertmanager, and whether
/// the one that it names takes what it is told.
pub fn tell(
    ctx: &Context,
    status: &mut UpdateDeploymentStatus,
    generation: i64,
    settings: &DeploymentSettings,
    missing: &[&'static str],
) {
    let now = ctx.clock.time();
    supported(status, generation, &now, missing);
    let site = site::in_force(ctx);
    let is_named = site.as_ref().is_some_and(|site| site.spec.alertmanager.is_some());
    if let Some(message) = without_alertmanager(settings, site.as_deref()).filter(|_| missing.is_empty()) {
        conditions::put(
            status,
            SUPPORTED,
            "False",
            generation,
            &now,
            reason::ALERTS_NOT_CONFIGURED,
            &message,
        );
    }
    let alerting = ctx.alerting.borrow().clone();
    let failed = match &alerting {
        Alerting::Failed(text) if is_named && is_asked_for(settings) => {
            Some((false, reason::ALERTMANAGER_FAILED, text.as_str()))
        }
        _ => None,
    };
    flag(status, ALERTS_DELIVERED, generation, &now, failed);
}

fn without_alertmanager(settings: &DeploymentSettings, site: Option<&Site>) -> Option<String> {
    if site.is_some_and(|site| site.spec.alertmanager.is_some()) {
        return None;
    }
    let asked = [
        (settings.disable_alerts, "alerts.offDuringInstallation"),
        (settings.alert_on_failure, "alerts.onFailure"),
    ];
    let asked: Vec<&str> = asked.into_iter().filter_map(|(set, field)| set.then_some(field)).collect();
    let site = site.and_then(|site| site.metadata.name.as_deref()).unwrap_or("of this namespace");
    (!asked.is_empty()).then(|| {
        format!(
            "accepted without effect: {}: the Site {site} names no Alertmanager: set spec.alertmanager.urls there",
            asked.join(", ")
        )
    })
}
