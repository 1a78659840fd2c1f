//! What Prometheus is given does not grow with the fleet, and names nobody in it (bad input 75: whatever a client says of
//! itself is data).

use std::collections::BTreeSet;

use patchtide_model::client::Facts;
use patchtide_protocol::state::StateBody;
use prometheus_client::{encoding::text::encode, registry::Registry};

use super::{
    Point, acknowledged, refused,
    site::{report, scan},
};

/// Everything that the process would show: names and labels, without values.
fn series(point: &Point, store: &Registry) -> BTreeSet<String> {
    let mut text = point.server.figures();
    for registry in [&point.registry, store] {
        encode(&mut text, registry).unwrap();
    }
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series.to_owned()).collect()
}

async fn busy(point: &Point, line: &patchtide_model::LineId, clients: std::ops::Range<u64>) -> Vec<String> {
    let mut names = Vec::new();
    for id in clients {
        let (device, client) = point.client(u128::from(id)).await;
        let name = format!("machine-{id}");
        let facts: Facts = [("name".to_owned(), name.clone())].into();
        let told = report(id, point.site.now, vec![(1, StateBody::Facts { facts })]);
        acknowledged(point.post(&client, serde_json::to_vec(&told).unwrap())).await;
        let scanned = scan(line, id, 2, 20, 0, point.site.now);
        acknowledged(point.post(&client, serde_json::to_vec(&scanned).unwrap())).await;
        refused(point.post(&client, name.clone())).await;
        let missing = client.get(point.server.url(&format!("/v1/{name}")));
        refused(missing).await;
        names.extend([device.id.to_string(), name]);
    }
    names
}

#[tokio::test]
async fn figures_name_no_client_and_do_not_grow_with_them() {
    let point = Point::start().await;
    let mut store = Registry::with_prefix("patchtide");
    point.site.store.store().register_metrics(&mut store);
    let line = point.site.catalogue(50).await;
    let mut names = busy(&point, &line, 1..4).await;
    let few = series(&point, &store);
    names.extend(busy(&point, &line, 4..40).await);
    let many = series(&point, &store);
    assert_eq!(few, many, "more clients made more series");
    for name in &names {
        assert!(!many.iter().any(|series| series.contains(name.as_str())), "{name} is in a label");
    }
    for some in ["patchtide_intake_durable_seconds_count", "http_refusals_total", "reports_total{outcome"] {
        assert!(many.iter().any(|series| series.contains(some)), "{some} is not in {many:?}");
    }
    let mut text = String::new();
    encode(&mut text, &store).unwrap();
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
    };
    // 39 clients: a report with facts and one with 20 states in one message each.
    assert!((value("patchtide_intake_durable_seconds_count") - 78.0).abs() < 0.5, "{text}");
    assert!((value("patchtide_intake_commit_messages_sum") - 78.0).abs() < 0.5, "{text}");
    assert!(value("patchtide_intake_oldest_seconds") < 1.0 && value("patchtide_intake_queued_reports") < 1.0);
    assert!(value("patchtide_intake_sync_seconds_count") >= 1.0);
    assert!(value("patchtide_database_file_bytes{file=\"database\"}") > 0.0);
    assert!(value("patchtide_database_errors_total{operation=\"write\"}") < 0.5);
}
