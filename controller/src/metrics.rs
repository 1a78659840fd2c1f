//! Figures about the controller itself, for the registry that the server exposes. No label names a client.

mod families;
mod objects;

use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use self::objects::Objects;
use crate::context::Caches;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciled {
    kind: String,
    result: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSite {
    namespace: String,
    intervals: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPoint {
    namespace: String,
    distribution_point: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Round {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Told {
    what: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: String,
}

/// Counters of the controller. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    reconciles: Family<Reconciled, Counter>,
    seconds: Family<OfKind, Histogram>,
    leader: Gauge,
    policies: Counter,
    compile_seconds: Histogram,
    withheld: Gauge,
    woken: Counter,
    packets: Counter,
    packets_failed: Counter,
    damaged: Counter,
    checked: Counter,
    check_left: Gauge,
    check_completed: Gauge,
    silent: Family<OfSite, Gauge>,
    reachable: Family<OfPoint, Gauge>,
    compile_failures: Counter,
    alerting_rounds: Family<Round, Counter>,
    alerting_wanted: Family<Told, Gauge>,
    alerting_success: Gauge,
    objects: Objects,
}

/// After how many polling intervals without a word silent clients are counted.
pub const SILENT_INTERVALS: [u32; 3] = [2, 6, 24];

impl Metrics {
    /// Counters, registered in `registry`, which should prefix them with `patchtide`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let part = registry.sub_registry_with_prefix("controller");
        part.register("reconciles", "Reconciles by kind and result", metrics.reconciles.clone());
        part.register_with_unit("reconcile", "Time of a reconcile", Unit::Seconds, metrics.seconds.clone());
        part.register("leader", "Whether this process is the leader", metrics.leader.clone());
        part.register("policies", "Policies signed and stored", metrics.policies.clone());
        part.register_with_unit(
            "policy_compile",
            "Time to compile the policies of a site",
            Unit::Seconds,
            metrics.compile_seconds.clone(),
        );
        part.register(
            "policies_withheld",
            "Clients that get no new policy for now",
            metrics.withheld.clone(),
        );
        let wake = registry.sub_registry_with_prefix("wake");
        wake.register("calls", "Clients called by Wake on LAN, each time counted", metrics.woken.clone());
        wake.register("packets", "Magic packets sent", metrics.packets.clone());
        wake.register(
            "packets_failed",
            "Magic packets that could not be sent",
            metrics.packets_failed.clone(),
        );
        let content = registry.sub_registry_with_prefix("content");
        content.register(
            "damaged",
            "Files of the site's library that were not what they should be",
            metrics.damaged.clone(),
        );
        content.register_with_unit(
            "checked",
            "Bytes read to compare files of the site's library with their digests",
            Unit::Bytes,
            metrics.checked.clone(),
        );
        content.register(
            "check_left",
            "Files that the check under way has still to read",
            metrics.check_left.clone(),
        );
        content.register_with_unit(
            "check_completed_timestamp",
            "When all files of the site's library were last read, in Unix time",
            Unit::Seconds,
            metrics.check_completed.clone(),
        );
        metrics.register_more(registry);
        metrics
    }

    fn register_more(&self, registry: &mut Registry) {
        registry.register(
            "clients_silent",
            "Active clients that were not heard of for more than so many of their polling intervals, 7 minutes at least",
            self.silent.clone(),
        );
        registry.register(
            "distribution_point_reachable",
            "Whether a distribution point takes a connection from here: 1 yes, 0 no; looked at once a minute",
            self.reachable.clone(),
        );
        registry.register(
            "policy_compile_failures",
            "Compilations of policies that failed; each is tried again",
            self.compile_failures.clone(),
        );
        let alerting = registry.sub_registry_with_prefix("alertmanager");
        alerting.register(
            "rounds",
            "Rounds of telling the Alertmanagers of the Site, by result",
            self.alerting_rounds.clone(),
        );
        alerting.register(
            "wanted",
            "Silences and alerts that should stand at the Alertmanagers, and those beyond the most that may",
            self.alerting_wanted.clone(),
        );
        alerting.register_with_unit(
            "success_timestamp",
            "When the Alertmanagers last took everything, in Unix time",
            Unit::Seconds,
            self.alerting_success.clone(),
        );
        for result in ["ok", "failed"] {
            let _ = self.alerting_rounds.get_or_create(&Round { result });
        }
        self.alerts_wanted(0, 0, 0);
        registry.register_collector(Box::new(self.objects.clone()));
    }

    /// The status of these objects is shown from now on, or of none.
    pub fn shows(&self, caches: Option<(String, Caches)>) {
        if caches.is_none() {
            self.silent.clear();
            self.reachable.clear();
            self.alerts_wanted(0, 0, 0);
            self.withheld.set(0);
        }
        self.objects.show(caches);
    }

    /// Clients that are silent for more than each of [`SILENT_INTERVALS`].
    pub fn silent(&self, namespace: &str, counts: [u64; SILENT_INTERVALS.len()]) {
        for (intervals, count) in SILENT_INTERVALS.into_iter().zip(counts) {
            let label = OfSite { namespace: namespace.to_owned(), intervals };
            self.silent.get_or_create(&label).set(count.cast_signed());
        }
    }

    /// Which distribution points take connections.
    pub fn reachable(&self, namespace: &str, points: &[(String, bool)]) {
        // Cleared first: a point that is gone is not unreachable.
        let label =
            |point: &str| OfPoint { namespace: namespace.to_owned(), distribution_point: point.to_owned() };
        self.reachable.clear();
        for (point, reached) in points {
            self.reachable.get_or_create(&label(point)).set(i64::from(*reached));
        }
    }

    /// Policies could not be compiled.
    pub fn not_compiled(&self) {
        self.compile_failures.inc();
    }

    /// A round of telling the Alertmanagers ended; `at` when they took everything.
    pub fn alerted(&self, at: Option<Timestamp>) {
        let result = if at.is_some() { "ok" } else { "failed" };
        self.alerting_rounds.get_or_create(&Round { result }).inc();
        if let Some(at) = at {
            self.alerting_success.set(at.as_second());
        }
    }

    /// What should stand at the Alertmanagers.
    pub fn alerts_wanted(&self, silences: usize, alerts: usize, beyond: usize) {
        for (what, count) in [("silences", silences), ("alerts", alerts), ("beyond", beyond)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.alerting_wanted.get_or_create(&Told { what }).set(count);
        }
    }

    /// A reconcile ended.
    pub fn reconciled(&self, kind: &str, result: &str, took: Duration) {
        self.reconciles.get_or_create(&Reconciled { kind: kind.to_owned(), result: result.to_owned() }).inc();
        self.seconds.get_or_create(&OfKind { kind: kind.to_owned() }).observe(took.as_secs_f64());
    }

    /// This process became the leader, or is it no longer.
    pub fn leads(&self, leader: bool) {
        self.leader.set(i64::from(leader));
    }

    /// Policies were compiled: how many are new, for how many clients none may go out.
    pub fn compiled(&self, took: Duration, signed: usize, withheld: usize) {
        self.compile_seconds.observe(took.as_secs_f64());
        self.policies.inc_by(signed as u64);
        self.withheld.set(i64::try_from(withheld).unwrap_or(i64::MAX));
    }

    /// So many clients were called with magic packets, of which some may not have gone out.
    pub fn woken(&self, clients: usize, packets: u64, failed: u64) {
        self.woken.inc_by(clients as u64);
        self.packets.inc_by(packets);
        self.packets_failed.inc_by(failed);
    }

    /// A file of the site's library was damaged.
    pub fn damaged(&self) {
        self.damaged.inc();
    }

    /// A file of so many bytes was read to compare it with its digest.
    pub fn checked(&self, bytes: u64) {
        self.checked.inc_by(bytes);
    }

    /// Files still to be read.
    pub fn check_left(&self, files: usize) {
        self.check_left.set(i64::try_from(files).unwrap_or(i64::MAX));
    }

    /// All files were read.
    pub fn check_completed(&self, at: Timestamp) {
        self.check_completed.set(at.as_second());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reconciles: Family::default(),
            seconds: Family::new_with_constructor(buckets),
            leader: Gauge::default(),
            policies: Counter::default(),
            compile_seconds: buckets(),
            withheld: Gauge::default(),
            woken: Counter::default(),
            packets: Counter::default(),
            packets_failed: Counter::default(),
            damaged: Counter::default(),
            checked: Counter::default(),
            check_left: Gauge::default(),
            check_completed: Gauge::default(),
            silent: Family::default(),
            reachable: Family::default(),
            compile_failures: Counter::default(),
            alerting_rounds: Family::default(),
            alerting_wanted: Family::default(),
            alerting_success: Gauge::default(),
            objects: Objects::default(),
        }
    }
}

/// 1 ms to about half a minute.
fn buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_documentation() {
        let mut registry = Registry::with_prefix("patchtide");
        let metrics = Metrics::register(&mut registry);
        metrics.reconciled("Site", "ready", Duration::from_millis(3));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains(r#"patchtide_controller_reconciles_total{kind="Site",result="ready"} 1"#),
            "{text}"
        );
        assert!(text.contains("patchtide_controller_reconcile_seconds_bucket"), "{text}");
        for name in [
            "patchtide_content_damaged_total 0",
            "patchtide_wake_calls_total 0",
            "patchtide_wake_packets_total 0",
            "patchtide_wake_packets_failed_total 0",
            "patchtide_content_checked_bytes_total 0",
            "patchtide_content_check_left 0",
            "patchtide_content_check_completed_timestamp_seconds 0",
        ] {
            assert!(text.contains(name), "{name} is not in {text}");
        }
    }
}
