use patchtide_endpoint::metrics::Names;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

/// Metrics of a management point.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(crate) reports: Family<Outcome, Counter>,
    pub(crate) messages: Counter,
    pub(crate) waiting: Gauge,
    pub(crate) waiting_messages: Gauge,
    pub(crate) waiting_bytes: Gauge,
    pub(crate) dropped_facts: Counter,
    pub(crate) long_polls: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Outcome {
    pub(crate) outcome: &'static str,
}

impl Metrics {
    /// Registers them; the registry gives the prefix `patchtide`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        // A rate needs a first value.
        for outcome in ["durable", "not-entitled", "rate", "unavailable", "malformed"] {
            let _ = metrics.reports.get_or_create(&Outcome { outcome });
        }
        let _ = Names(registry)
            .name("reports", "State reports by outcome: durable, or why not", &metrics.reports)
            .name(
                "report_messages",
                "State messages in durable reports, repetitions included",
                &metrics.messages,
            )
            .name(
                "reports_waiting",
                "State reports that wait for their commit now: a backlog when it stays high",
                &metrics.waiting,
            )
            .name(
                "reports_waiting_messages",
                "State messages in the reports that wait for their commit now",
                &metrics.waiting_messages,
            )
            .unit(
                "reports_waiting",
                Unit::Bytes,
                "Size of the reports that wait for their commit now, as they were after decompression",
                &metrics.waiting_bytes,
            )
            .name(
                "facts_dropped",
                "Facts of clients that were left out because a client may have so many (CARDINALITY)",
                &metrics.dropped_facts,
            )
            .name("policy_long_polls", "Clients that wait for a new policy now", &metrics.long_polls);
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_documentation() {
        let mut registry = Registry::with_prefix("patchtide");
        let metrics = Metrics::register(&mut registry);
        metrics.reports.get_or_create(&Outcome { outcome: "durable" }).inc();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for name in [
            "patchtide_reports_total{outcome=\"durable\"} 1",
            "patchtide_report_messages_total 0",
            "patchtide_reports_waiting 0",
            "patchtide_reports_waiting_messages 0",
            "patchtide_reports_waiting_bytes 0",
            "patchtide_policy_long_polls 0",
        ] {
            assert!(text.contains(name), "{name} is not in {text}");
        }
    }
}
