use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Metrics of all listeners of a process. Labels are the listener, the route and the status: never a client.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) connections: Family<ListenerLabel, Gauge>,
    pub(crate) refused: Family<RefusedLabel, Counter>,
    pub(crate) requests: Family<RequestLabel, Counter>,
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
            seconds: Family::new_with_constructor(histogram),
        };
        registry.register(
            "http_connections",
            "Open connections, handshakes included",
            metrics.connections.clone(),
        );
        registry.register(
            "http_connections_refused",
            "Connections that were refused or broken before a request, by reason",
            metrics.refused.clone(),
        );
        registry.register("http_requests", "Answered requests by route and status", metrics.requests.clone());
        registry.register_with_unit(
            "http_request",
            "Time from the end of a request's head to the head of its answer; long polls wait on purpose",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        metrics
    }
}
