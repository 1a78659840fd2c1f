//! What the status of the objects says, as metrics: the same numbers that kubectl shows, of the leader alone. Labels are
//! names of objects and closed sets of states, so their number follows what people wrote, never how many clients there are.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use patchtide_crds::{
    DeploymentPackage, DistributionPoint, GitSource, Site, SoftwareUpdatePoint, StatusContract as _,
    UpdateDeployment, conditions, deployment_package::PackagePointState, update_deployment::StateCount,
};
use patchtide_model::state::{Compliance, DeploymentEnforcement};
use prometheus_client::{
    collector::Collector,
    encoding::DescriptorEncoder,
    registry::Unit::{self, Bytes, Seconds},
};

use super::families::{Family, Values};
use crate::{cache::Cache, context::Caches, status::Object};

const NO_UNIT: Option<Unit> = None;

/// Everything that is told here.
pub(super) const FAMILIES: &[Family] = &[
    ("objects", NO_UNIT, "Objects by kind, and by the status of their condition Ready"),
    ("deployment_targeted_clients", NO_UNIT, "Clients that a deployment reaches"),
    (
        "deployment_compliance_clients",
        NO_UNIT,
        "Targeted clients by compliance state; they add up to the targeted ones",
    ),
    (
        "deployment_enforcement_clients",
        NO_UNIT,
        "Targeted clients that are not compliant, by enforcement state of the deployment",
    ),
    ("deployment_failed_clients", NO_UNIT, "Clients whose download or installation failed"),
    (
        "deployment_late_clients",
        NO_UNIT,
        "Clients that are not compliant although the deadline is past for them: what is behind its deadline",
    ),
    (
        "deployment_overdue_clients",
        NO_UNIT,
        "Clients whose enforcement state should have moved by now: its lease is over",
    ),
    ("deployment_silent_clients", NO_UNIT, "Of the overdue ones, those that were not heard of for long"),
    ("deployment_updates", NO_UNIT, "Updates of a deployment that are in force"),
    ("deployment_content", Some(Bytes), "Content that a deployment needs"),
    ("deployment_suspended", NO_UNIT, "Whether a deployment is held: 1 yes, 0 no"),
    (
        "deployment_deadline_timestamp",
        Some(Seconds),
        "Deadline in Unix time; where it is each client's own wall-clock time, that time read as UTC. Without a value: optional",
    ),
    (
        "deployment_counted_timestamp",
        Some(Seconds),
        "When the counts of a deployment last changed, in Unix time",
    ),
    (
        "deployment_wake_clients",
        NO_UNIT,
        "Clients that were called by Wake on LAN, that answered, that cannot be woken",
    ),
    ("clients", NO_UNIT, "Clients by where they stand"),
    (
        "clients_inactive",
        NO_UNIT,
        "Active clients that were not heard of for the site's retention.inactiveAfter",
    ),
    ("site_resyncs_open", NO_UNIT, "Clients that were asked to send everything again and did not yet"),
    ("role_instances", NO_UNIT, "Processes of a role that give signs of life, and those that fell silent"),
    (
        "key_expiry_timestamp",
        Some(Seconds),
        "End of a certificate in Unix time: the site's CA, the first server's",
    ),
    ("catalogue_version", NO_UNIT, "Version of the catalogue that clients scan against"),
    ("catalogue_updates", NO_UNIT, "Updates of the catalogue: current ones, and superseded or expired ones"),
    (
        "catalogue_sync_changes",
        NO_UNIT,
        "What the last synchronisation changed: new, revised, superseded, expired, malformed updates",
    ),
    ("catalogue_sync_failures", NO_UNIT, "Synchronisations that failed one after the other until now"),
    (
        "catalogue_sync_success_timestamp",
        Some(Seconds),
        "End of the last synchronisation that succeeded, in Unix time",
    ),
    (
        "catalogue_source_success_timestamp",
        Some(Seconds),
        "When a source was last read to its end, in Unix time",
    ),
    ("catalogue_source_ok", NO_UNIT, "Whether the last synchronisation of a source succeeded: 1 yes, 0 no"),
    ("catalogue_source_updates", NO_UNIT, "Current updates of a source"),
    (
        "catalogue_source_valid_until_timestamp",
        Some(Seconds),
        "When the first of a source's signed indices ends, in Unix time",
    ),
    ("package_size", Some(Bytes), "Content of a deployment package"),
    ("package_fetched", Some(Bytes), "Content of a deployment package that the site's library has"),
    ("package_points", NO_UNIT, "Distribution points of a package, by where it stands there"),
    (
        "distribution_point_healthy",
        NO_UNIT,
        "Whether a distribution point holds what it should, as its status says: 1 yes, 0 no",
    ),
    (
        "distribution_point_packages",
        NO_UNIT,
        "Packages that are complete on a distribution point, and those on their way",
    ),
    ("distribution_point_used", Some(Bytes), "Content on a distribution point"),
    (
        "distribution_point_free",
        Some(Bytes),
        "Room for content on a distribution point whose capacity is set",
    ),
    ("git_source_fetched_timestamp", Some(Seconds), "When a Git source was last fetched, in Unix time"),
    ("git_source_commit_timestamp", Some(Seconds), "Time of the commit in force, in Unix time"),
    ("git_source_failed_objects", NO_UNIT, "Objects of a Git source's last revision that were not applied"),
];

/// What is looked at.
struct Seen {
    namespace: String,
    caches: Caches,
}

/// Shows the objects, as long as this process leads.
#[derive(Clone, Default)]
pub(super) struct Objects(Arc<Mutex<Option<Seen>>>);

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").finish_non_exhaustive()
    }
}

impl Objects {
    /// From now on these are shown; none: nothing is.
    pub(super) fn show(&self, seen: Option<(String, Caches)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            seen.map(|(namespace, caches)| Seen { namespace, caches });
    }
}

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut values = Values::default();
        if let Some(seen) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            seen.fill(&mut values);
        }
        values.encode(FAMILIES, &mut encoder)
    }
}

impl Seen {
    fn fill(&self, values: &mut Values) {
        let (namespace, caches) = (self.namespace.as_str(), &self.caches);
        macro_rules! count {
            ($($cache:ident),+) => {
                $(objects(values, namespace, &caches.$cache);)+
            };
        }
        count!(
            sites,
            git_sources,
            software_update_points,
            search_folders,
            update_lists,
            deployment_templates,
            update_deployments,
            deployment_packages,
            distribution_points,
            collections,
            maintenance_windows,
            client_settings
        );
        caches.update_deployments.all().iter().for_each(|one| deployment(values, namespace, one));
        caches.sites.all().iter().for_each(|one| site(values, namespace, one));
        caches.software_update_points.all().iter().for_each(|one| catalogue(values, namespace, one));
        caches.deployment_packages.all().iter().for_each(|one| package(values, namespace, one));
        caches.distribution_points.all().iter().for_each(|one| point(values, namespace, one));
        caches.git_sources.all().iter().for_each(|one| git_source(values, namespace, one));
    }
}

/// Exact up to 2^53: no count and no size here comes near.
#[expect(clippy::cast_precision_loss, reason = "no count and no size here comes near 2^53")]
fn n(number: u64) -> f64 {
    number as f64
}

fn yes(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

fn at(time: Option<&Time>) -> Option<f64> {
    time.map(|time| time.0.as_duration().as_secs_f64())
}

fn objects<K: Object>(values: &mut Values, namespace: &str, cache: &Cache<K>) {
    let kind = K::kind(&());
    let all = cache.all();
    for ready in ["True", "False", "Unknown"] {
        let is = |object: &&Arc<K>| {
            let condition = object.status().and_then(|status| status.condition(conditions::READY));
            condition.map_or("Unknown", |condition| condition.status.as_str()) == ready
        };
        let labels = [("namespace", namespace), ("kind", kind.as_ref()), ("ready", ready)];
        values.put("objects", &labels, n(all.iter().filter(is).count() as u64));
    }
}

fn deployment(values: &mut Values, namespace: &str, object: &UpdateDeployment) {
    let Some(status) = &object.status else { return };
    let name = object.name_any();
    let labels = [("namespace", namespace), ("deployment", name.as_str())];
    let counts = [
        ("deployment_targeted_clients", status.targeted),
        ("deployment_failed_clients", status.failed),
        ("deployment_late_clients", status.past_deadline),
        ("deployment_overdue_clients", status.overdue),
        ("deployment_silent_clients", status.silent),
        ("deployment_updates", status.updates),
        ("deployment_content", status.content_bytes),
    ];
    for (metric, count) in counts {
        values.maybe(metric, &labels, count.map(n));
    }
    values.put("deployment_suspended", &labels, yes(object.spec.suspend));
    values.maybe("deployment_deadline_timestamp", &labels, status.deadline.as_deref().and_then(deadline));
    values.maybe("deployment_counted_timestamp", &labels, at(status.counted_time.as_ref()));
    let mut by_state = |metric, state: &str, clients: u64| {
        values.put(metric, &[labels[0], labels[1], ("state", state)], n(clients));
    };
    if status.targeted.is_some() {
        // All of them, so that a state that nobody is in is 0 and not unknown.
        for state in Compliance::ALL {
            by_state("deployment_compliance_clients", state.name(), of(&status.compliance, state.id()));
        }
        for state in DeploymentEnforcement::ALL {
            by_state("deployment_enforcement_clients", state.name(), of(&status.enforcement, state.id()));
        }
    }
    if let Some(wake) = &status.wake_on_lan {
        for (state, clients) in
            [("called", wake.called), ("answered", wake.answered), ("unable", wake.unable)]
        {
            by_state("deployment_wake_clients", state, clients);
        }
    }
}

fn of(counts: &[StateCount], id: u8) -> u64 {
    counts.iter().find(|count| count.id == u32::from(id)).map_or(0, |count| count.clients)
}

/// An instant, or a wall-clock time read as UTC.
fn deadline(text: &str) -> Option<f64> {
    let instant = text.parse::<Timestamp>().ok();
    let civil = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp());
    instant.or_else(civil).map(|at| at.as_duration().as_secs_f64())
}

fn site(values: &mut Values, namespace: &str, object: &Site) {
    let Some(status) = &object.status else { return };
    let namespace = ("namespace", namespace);
    if let Some(clients) = status.clients {
        let states = [
            ("active", clients.active),
            ("pending", clients.pending),
            ("revoked", clients.revoked),
            ("quarantined", clients.quarantined),
        ];
        for (state, count) in states {
            values.put("clients", &[namespace, ("state", state)], n(count));
        }
        values.put("clients_inactive", &[namespace], n(clients.inactive));
    }
    if let Some(backlog) = &status.backlog {
        values.put("site_resyncs_open", &[namespace], n(backlog.resyncs));
    }
    let mut roles: Vec<&str> = status.roles.iter().map(|role| role.name.as_str()).collect();
    roles.dedup();
    for role in roles {
        for (state, healthy) in [("working", true), ("silent", false)] {
            let is = |one: &&_| {
                let one: &patchtide_crds::site::RoleHealth = one;
                one.name == role && one.healthy == healthy
            };
            let labels = [namespace, ("role", role), ("state", state)];
            values.put("role_instances", &labels, n(status.roles.iter().filter(is).count() as u64));
        }
    }
    if let Some(keys) = &status.keys {
        let ends = [("ca", &keys.ca_expires), ("server", &keys.server_certificate_expires)];
        for (key, end) in ends {
            values.maybe("key_expiry_timestamp", &[namespace, ("key", key)], at(end.as_ref()));
        }
    }
}

fn catalogue(values: &mut Values, namespace: &str, object: &SoftwareUpdatePoint) {
    let Some(status) = &object.status else { return };
    let name = object.name_any();
    let labels = [("namespace", namespace), ("point", name.as_str())];
    values.maybe("catalogue_version", &labels, status.catalogue_version.map(n));
    values.maybe("catalogue_sync_failures", &labels, status.failures_in_a_row.map(f64::from));
    values.maybe("catalogue_sync_success_timestamp", &labels, at(status.last_success_time.as_ref()));
    if let Some(counts) = &status.updates {
        let old = counts.total.saturating_sub(counts.current);
        for (state, count) in [("current", counts.current), ("superseded or expired", old)] {
            values.put("catalogue_updates", &[labels[0], labels[1], ("state", state)], n(count));
        }
        let changes = [
            ("new", counts.new),
            ("revised", counts.revised),
            ("superseded", counts.superseded),
            ("expired", counts.expired),
            ("malformed", counts.malformed),
        ];
        for (change, count) in changes {
            values.put("catalogue_sync_changes", &[labels[0], labels[1], ("change", change)], n(count));
        }
    }
    for source in &status.sources {
        let labels = [labels[0], labels[1], ("source", source.name.as_str())];
        values.put("catalogue_source_ok", &labels, yes(source.ok));
        values.maybe("catalogue_source_success_timestamp", &labels, at(source.last_success_time.as_ref()));
        let updates = source.lines.iter().map(|line| line.updates).sum();
        values.put("catalogue_source_updates", &labels, n(updates));
        let ends = source.lines.iter().filter_map(|line| at(line.valid_until.as_ref()));
        values.maybe("catalogue_source_valid_until_timestamp", &labels, ends.min_by(f64::total_cmp));
    }
}

fn package(values: &mut Values, namespace: &str, object: &DeploymentPackage) {
    let Some(status) = &object.status else { return };
    let name = object.name_any();
    let labels = [("namespace", namespace), ("package", name.as_str())];
    values.maybe("package_size", &labels, status.bytes.map(n));
    values.maybe("package_fetched", &labels, status.bytes_fetched.map(n));
    use PackagePointState::{Failed, Installed, Pending, Sending};
    for (state, word) in
        [(Pending, "pending"), (Sending, "sending"), (Installed, "installed"), (Failed, "failed")]
    {
        let count = status.distribution_points.iter().filter(|point| point.state == state).count();
        values.put("package_points", &[labels[0], labels[1], ("state", word)], n(count as u64));
    }
}

fn point(values: &mut Values, namespace: &str, object: &DistributionPoint) {
    let Some(status) = &object.status else { return };
    let name = object.name_any();
    let labels = [("namespace", namespace), ("distribution_point", name.as_str())];
    if let Some(healthy) = status.condition(conditions::HEALTHY) {
        values.put("distribution_point_healthy", &labels, yes(healthy.status == "True"));
    }
    for (state, count) in [("held", status.packages), ("pending", status.packages_pending)] {
        values.maybe("distribution_point_packages", &[labels[0], labels[1], ("state", state)], count.map(n));
    }
    values.maybe("distribution_point_used", &labels, status.bytes_used.map(n));
    values.maybe("distribution_point_free", &labels, status.bytes_free.map(n));
}

fn git_source(values: &mut Values, namespace: &str, object: &GitSource) {
    let Some(status) = &object.status else { return };
    let name = object.name_any();
    let labels = [("namespace", namespace), ("source", name.as_str())];
    values.maybe("git_source_fetched_timestamp", &labels, at(status.last_fetch_time.as_ref()));
    values.maybe("git_source_commit_timestamp", &labels, at(status.last_applied_commit_time.as_ref()));
    let failed = status.inventory.as_ref().map(|inventory| n(inventory.failed));
    values.maybe("git_source_failed_objects", &labels, failed);
}

#[cfg(test)]
mod tests;
