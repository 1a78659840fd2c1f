//! Rules and dashboards as files: promtool reads them, a real Prometheus loads them, and people find what to do. That their
//! queries answer on the running roles is shown where these run: `line/monitoring.rs`.

use std::collections::BTreeSet;
use std::fs;

use patchtide_tests::monitoring::{dashboard_queries, dashboards, folder, panels};
use patchtide_tests::paths;
use patchtide_tests::prometheus::{Prometheus, promtool};
use serde_json::Value;

/// Comments and the groups.
fn rules() -> String {
    fs::read_to_string(folder().join("rules.yaml")).unwrap()
}

fn prometheus(folder: &std::path::Path) -> Prometheus {
    Prometheus::start(folder, &self::folder().join("rules.yaml"), "site", &[]).unwrap()
}

/// Their tests: each alert fires when it should and only then, with the words that a person reads.
#[test]
fn the_rules_pass_promtool_and_their_unit_tests() {
    promtool(&folder(), &["check", "rules", "rules.yaml"], "").unwrap();
    promtool(&folder(), &["test", "rules", "rules_test.yaml"], "").unwrap();
}

#[test]
fn the_operator_gets_the_same_rules() {
    let rules = rules();
    let groups = &rules[rules.find("groups:").unwrap()..];
    let indented: String = groups.lines().map(|line| format!("  {line}\n")).collect();
    let path = folder().join("operator/prometheus-rule.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let head = &text[..text.find("  groups:").unwrap()];
    let expected = format!("{head}{indented}");
    if std::env::var_os("PATCHTIDE_WRITE_MONITORING").is_some() {
        fs::write(&path, &expected).unwrap();
    } else {
        assert_eq!(text, expected, "PATCHTIDE_WRITE_MONITORING=1 writes it anew");
    }
}

/// Summary, description, severity, and a section of the documentation that says what to do.
#[test]
fn every_alert_says_what_it_is_and_what_to_do() {
    let place = tempfile::tempdir().unwrap();
    let loaded = prometheus(place.path()).rules().unwrap();
    let alerts: Vec<&Value> = loaded.iter().filter(|rule| rule["type"] == "alerting").collect();
    assert!(alerts.len() >= 20, "{} alerts", alerts.len());
    let documentation = fs::read_to_string(paths::workspace().join("docs/monitoring.md")).unwrap();
    let tests = fs::read_to_string(folder().join("rules_test.yaml")).unwrap();
    let sections: BTreeSet<&str> =
        documentation.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    for alert in &alerts {
        let name = alert["name"].as_str().unwrap();
        let text = |of: &str| alert["annotations"][of].as_str().unwrap_or_default();
        assert!(text("summary").len() > 10 && text("description").len() > 20, "{name} says nothing");
        assert!(!text("summary").contains("{{"), "{name}: a summary is the same for all, so that they group");
        assert_eq!(text("runbook"), format!("docs/monitoring.md#{}", name.to_lowercase()));
        let severity = alert["labels"]["severity"].as_str().unwrap_or_default();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity}");
        assert!(sections.contains(name), "docs/monitoring.md has no section {name}");
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} has no test that it fires");
    }
    let names: BTreeSet<&str> = alerts.iter().filter_map(|alert| alert["name"].as_str()).collect();
    for section in sections.iter().filter(|section| section.starts_with("Patchtide")) {
        assert!(names.contains(section), "docs/monitoring.md explains {section}, which is no alert");
    }
}

/// Every panel has a title, a text and queries that are PromQL, on the data source of the dashboard.
#[test]
fn the_dashboards_are_whole() {
    let place = tempfile::tempdir().unwrap();
    let prometheus = prometheus(place.path());
    let mut uids = BTreeSet::new();
    for (name, board) in dashboards().unwrap() {
        assert!(uids.insert(board["uid"].as_str().unwrap().to_owned()), "{name}: its uid is another's");
        let mut ids = BTreeSet::new();
        for panel in panels(&board) {
            let title = panel["title"].as_str().unwrap_or_default();
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {title}: an id comes twice");
            assert!(!title.is_empty() && panel["description"].as_str().is_some_and(|text| text.len() > 3));
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {title}");
            let place = &panel["gridPos"];
            let right = place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap();
            assert!(right <= 24, "{name}: {title} is wider than the page");
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{name}: {title} shows nothing");
        }
    }
    for query in dashboard_queries("site", "1m").unwrap() {
        prometheus.format(&query.expression).unwrap_or_else(|error| panic!("{}: {error:#}", query.of));
    }
}
