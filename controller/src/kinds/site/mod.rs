//! `Site`: exactly one per namespace; publishes the enrolment bundle, shows clients and keys. The enrolment itself is
//! [`enrolment`], a loop of its own.

pub mod approval;
pub mod enrolment;
pub mod limits;
pub mod status;

use std::sync::Arc;

use kube::ResourceExt;
use patchtide_crds::{Site, SiteSpec, SiteStatus, conditions::reason};
use tokio::sync::watch;

use crate::{
    cache::Cache,
    context::Context,
    driver::Reconciler,
    error::{Disposition, Failure, Outcome, chain},
    keys,
    kinds::{database, supported},
};

/// Annotation on a Site: ids of enrolment requests (64 hexadecimal digits, or at least 8 of their first ones),
/// separated by blanks or commas, that a person approves whatever the rules say.
pub const APPROVE: &str = "patchtide.dev/approve";
/// Annotation on a Site: client ids, separated by blanks or commas, that are revoked. Taking one out does not bring the
/// client back: it has to enrol again.
pub const REVOKE: &str = "patchtide.dev/revoke";

/// The kind.
pub struct Sites;

impl Reconciler for Sites {
    type Object = Site;

    fn cache(ctx: &Context) -> &Arc<Cache<Site>> {
        &ctx.caches.sites
    }

    fn wakes(&self, ctx: &Context) -> Vec<watch::Receiver<u64>> {
        vec![
            ctx.caches.sites.version(),
            ctx.caches.secrets.subscribe(),
            ctx.caches.config_maps.subscribe(),
            ctx.store.changes(),
            ctx.alerting_version.subscribe(),
        ]
    }

    async fn reconcile(
        &self,
        ctx: &Context,
        object: &Site,
        status: &mut SiteStatus,
    ) -> Result<Outcome, Failure> {
        let generation = object.metadata.generation.unwrap_or_default();
        match in_force(ctx) {
            Some(site) if site.uid() == object.uid() => {}
            Some(site) => {
                return Err(Failure::stalled(
                    reason::MORE_THAN_ONE_SITE,
                    format!(
                        "a namespace holds one Site and {} is older: delete this one, or put it into another namespace",
                        site.name_any()
                    ),
                ));
            }
            None => {
                return Err(Failure::wait(
                    reason::DEPENDENCY_NOT_READY,
                    "the Site is not in the watch cache yet",
                ));
            }
        }
        supported(status, generation, &ctx.clock.time(), &without_effect(&object.spec));
        let limits = limits::limits(&object.spec.limits)?;
        ctx.store.set_site_limits(&limits).await.map_err(|error| database(&error))?;
        let bundle = ctx.signer.bundle(&ctx.site, &object.spec.management_point.addresses);
        keys::publish_bundle(&ctx.client, &ctx.namespace, &bundle).await.map_err(|error| {
            let message = chain(&error);
            Failure {
                disposition: Disposition::Retry,
                reason: reason::RECONCILIATION_FAILED,
                message,
                again: None,
            }
        })?;
        status::fill(ctx, status, object).await?;
        let counts = status.clients.unwrap_or_default();
        Ok(Outcome::ready(format!("{} active clients, {} pending", counts.active, counts.pending))
            .again(status::LOOK_AGAIN))
    }
}

/// The Site that is in force: the oldest.
pub fn in_force(ctx: &Context) -> Option<Arc<Site>> {
    oldest(ctx.caches.sites.all())
}

fn oldest(sites: Vec<Arc<Site>>) -> Option<Arc<Site>> {
    sites
        .into_iter()
        .filter(|site| site.metadata.deletion_timestamp.is_none())
        .min_by_key(|site| (site.metadata.creation_timestamp.as_ref().map(|time| time.0), site.name_any()))
}

/// The fields that are accepted without effect.
fn without_effect(spec: &SiteSpec) -> Vec<&'static str> {
    let retention = patchtide_crds::site::Retention::default();
    [
        (
            // Clients are given the addresses that the roles advertise.
            "softwareUpdatePoint",
            spec.software_update_point.is_some(),
        ),
        ("distribution", spec.distribution.is_some()),
        ("retention.stateMessages", spec.retention.state_messages != retention.state_messages),
        ("retention.complianceHistory", spec.retention.compliance_history != retention.compliance_history),
        ("retention.audit", spec.retention.audit != retention.audit),
        (
            "retention.removeClientsAfter",
            spec.retention.remove_clients_after != retention.remove_clients_after,
        ),
        ("enrolment.renewBefore", spec.enrolment.renew_before.is_some()),
    ]
    .into_iter()
    .filter_map(|(field, set)| set.then_some(field))
    .collect()
}

/// The words of an annotation.
pub fn words<'a>(object: &'a Site, annotation: &str) -> Vec<&'a str> {
    let text = object.annotations().get(annotation).map(String::as_str).unwrap_or_default();
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_sites_the_oldest_is_in_force() {
        let site = |name: &str, created: &str| {
            let yaml = format!(
                "apiVersion: patchtide.dev/v1alpha1\nkind: Site\nmetadata: {{name: {name}, uid: {name}, creationTimestamp: '{created}'}}\nspec: {{managementPoint: {{addresses: ['https://mp.example:8443']}}}}\n"
            );
            Arc::new(serde_saphyr::from_str::<Site>(&yaml).unwrap())
        };
        let sites = vec![site("b", "2026-01-01T00:00:00Z"), site("a", "2026-01-02T00:00:00Z")];
        assert_eq!(oldest(sites).unwrap().name_any(), "b");
    }
}
