//! Metrics of the listeners, and the one way in which the roles register theirs.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry, Unit},
};

/// Registers the metrics of one role; the registry gives the prefix `patchtide`.
#[derive(Debug)]
pub struct Names<'a>(pub &'a mut Registry);

impl Names<'_> {
    /// One metric, with its text for people.
    #[must_use]
    pub fn name(self, name: &str, help: &str, metric: &(impl Metric + Clone)) -> Self {
        self.0.register(name, help, metric.clone());
        self
    }

    /// One metric that counts in a unit, which becomes a part of its name.
    #[must_use]
    pub fn unit(self, name: &str, unit: Unit, help: &str, metric: &(impl Metric + Clone)) -> Self {
        self.0.register_with_unit(name, help, unit, metric.clone());
        self
    }
}

/// More in a gauge for as long as it lives, also when what it stands for ends by a defect.
#[derive(Debug)]
pub struct Held(Gauge, i64);

impl Held {
    /// Counts one.
    #[must_use]
    pub fn new(gauge: Gauge) -> Self {
        Self::many(gauge, 1)
    }

    /// Counts so many.
    #[must_use]
    pub fn many(gauge: Gauge, n: usize) -> Self {
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        gauge.inc_by(n);
        Self(gauge, n)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec_by(self.1);
    }
}

/// Metrics of all listeners of a process. Labels are the listener, the route and the status: never a client.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) connections: Family<ListenerLabel, Gauge>,
    pub(crate) refused: Family<RefusedLabel, Counter>,
    pub(crate) requests: Family<RequestLabel, Counter>,
    pub(crate) refusals: Family<CodeLabel, Counter>,
    pub(crate) seconds: Family<RouteLabel, Histogram, fn() -> Histogram>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ListenerLabel {
    pub(crate) listener: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RefusedLabel {
    pub(crate) listener: &'static str,
    pub(crate) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabel {
    pub(crate) listener: &'static str,
    pub(crate) route: &'static str,
    pub(crate) status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CodeLabel {
    pub(crate) listener: &'static str,
    pub(crate) code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RouteLabel {
    pub(crate) listener: &'static str,
    pub(crate) route: &'static str,
}

fn histogram() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0])
}

impl Metrics {
    /// Registers them; the registry gives the prefix `patchtide`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            connections: Family::default(),
            refused: Family::default(),
            requests: Family::default(),
            refusals: Family::default(),
            seconds: Family::new_with_constructor(histogram),
        };
        let _ = Names(registry)
            .name("http_connections", "Open connections, handshakes included", &metrics.connections)
            .name(
                "http_connections_refused",
                "Connections that were refused, or closed for being late or breaking the rules, by reason",
                &metrics.refused,
            )
            .name("http_requests", "Answered requests by route and status", &metrics.requests)
            .name(
                "http_refusals",
                "Requests that were refused, by the symbol that the client was told",
                &metrics.refusals,
            )
            .unit(
                "http_request",
                Unit::Seconds,
                "Time from the end of a request's head to the head of its answer; long polls wait on purpose",
                &metrics.seconds,
            );
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
        let listener = "mp";
        metrics.connections.get_or_create(&ListenerLabel { listener }).inc();
        metrics.refused.get_or_create(&RefusedLabel { listener, reason: "idle" }).inc();
        metrics.requests.get_or_create(&RequestLabel { listener, route: "/v1/site", status: 200 }).inc();
        metrics.refusals.get_or_create(&CodeLabel { listener, code: "RATE" }).inc();
        metrics.seconds.get_or_create(&RouteLabel { listener, route: "/v1/site" }).observe(0.2);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "patchtide_http_connections{listener=\"mp\"} 1",
            "patchtide_http_connections_refused_total{listener=\"mp\",reason=\"idle\"} 1",
            "patchtide_http_requests_total{listener=\"mp\",route=\"/v1/site\",status=\"200\"} 1",
            "patchtide_http_refusals_total{listener=\"mp\",code=\"RATE\"} 1",
            "patchtide_http_request_seconds_count{listener=\"mp\",route=\"/v1/site\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
