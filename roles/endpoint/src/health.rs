//! `/livez`, `/readyz` and `/metrics`, plain HTTP, on a listener of their own that is not for clients.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
};

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::{HeaderMap, StatusCode, header};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, text::encode},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What must be so before a process is ready; each condition has a name and, while it is not met, a reason.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<RwLock<BTreeMap<&'static str, Option<String>>>>);

impl Health {
    /// The condition holds.
    pub fn good(&self, name: &'static str) {
        self.set(name, None);
    }

    /// The condition does not hold, and why.
    pub fn bad(&self, name: &'static str, reason: impl Into<String>) {
        self.set(name, Some(reason.into()));
    }

    fn set(&self, name: &'static str, reason: Option<String>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, reason);
    }

    /// Whether all conditions hold, and a line for each.
    pub fn report(&self) -> (bool, String) {
        let conditions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (name, reason) in conditions.iter() {
            let _ = match reason {
                None => writeln!(text, "[+] {name} ok"),
                Some(reason) => writeln!(text, "[-] {name}: {reason}"),
            };
        }
        (conditions.values().all(Option::is_none), text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Condition {
    condition: &'static str,
}

impl Collector for Health {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Whether a condition of being ready holds: 1 yes, 0 no, as /readyz says";
        let mut family = encoder.encode_descriptor("ready_condition", help, None, MetricType::Gauge)?;
        for (condition, reason) in self.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let gauge = ConstGauge::new(u64::from(reason.is_none()));
            gauge.encode(family.encode_family(&Condition { condition })?)?;
        }
        Ok(())
    }
}

/// Serves health and metrics until `stop`. Gives the bound address at once, through `bound`.
pub async fn serve(
    address: SocketAddr,
    health: Health,
    registry: Arc<Registry>,
    stop: CancellationToken,
    bound: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    bound(listener.local_addr()?);
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state((health, registry));
    axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await
}

type Shared = (Health, Arc<Registry>);

async fn ready(State((health, _)): State<Shared>) -> impl IntoResponse {
    let (good, text) = health.report();
    (if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

const OPEN_METRICS: &str = "application/openmetrics-text";

async fn metrics(State((_, registry)): State<Shared>, headers: HeaderMap) -> impl IntoResponse {
    let mut text = String::new();
    if encode(&mut text, &registry).is_err() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n").into_response();
    }
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accepted.into_iter().any(|accepted| accepted.contains(OPEN_METRICS)) {
        let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(header::CONTENT_TYPE, form)], text).into_response()
    } else {
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], plain(&text)).into_response()
    }
}

/// The older form, for whoever does not ask for `OpenMetrics`: there a metric is described under the name that its values
/// have, it knows no kind *info*, and units and the end are not said.
fn plain(open_metrics: &str) -> String {
    let named: BTreeMap<&str, String> = open_metrics
        .lines()
        .filter_map(|line| match line.strip_prefix("# TYPE ")?.split_once(' ')? {
            (name, "counter") => Some((name, format!("{name}_total"))),
            (name, "info") => Some((name, format!("{name}_info"))),
            _ => None,
        })
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        let described = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("UNIT" | "EOF"), ..) => continue,
            (Some("#"), Some(what), Some(name), Some(rest)) => {
                let name = named.get(name).map_or(name, String::as_str);
                let rest = if (what, rest) == ("TYPE", "info") { "gauge" } else { rest };
                format!("# {what} {name} {rest}")
            }
            _ => line.to_owned(),
        };
        text.push_str(&described);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use prometheus_client::{
        metrics::{counter::Counter, info::Info},
        registry::Unit,
    };

    use super::*;

    #[test]
    fn the_older_form_describes_counters_under_the_name_of_their_values() {
        let mut registry = Registry::with_prefix("p");
        let counter: Counter = Counter::default();
        registry.register_with_unit("read", "What was read", Unit::Bytes, counter);
        registry.register("build", "Which build", Info::new([("version", "1")]));
        let health = Health::default();
        health.good("database");
        health.bad("stopping", "a signal came");
        registry.register_collector(Box::new(health));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("# UNIT p_read_bytes bytes\n") && text.ends_with("# EOF\n"), "{text}");
        assert_eq!(
            plain(&text),
            "# HELP p_read_bytes_total What was read.\n# TYPE p_read_bytes_total counter\np_read_bytes_total 0\n\
             # HELP p_build_info Which build.\n# TYPE p_build_info gauge\np_build_info{version=\"1\"} 1\n\
             # HELP p_ready_condition Whether a condition of being ready holds: 1 yes, 0 no, as /readyz says\n\
             # TYPE p_ready_condition gauge\np_ready_condition{condition=\"database\"} 1\n\
             p_ready_condition{condition=\"stopping\"} 0\n"
        );
    }
}
