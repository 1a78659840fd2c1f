//! A real Prometheus scrapes the running site: every query of rules and dashboards answers, the metrics are what the
//! documentation says, and none names a client.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use patchtide_tests::demo::{Line, NAMESPACE};
use patchtide_tests::monitoring::{Query, dashboard_queries, folder, selectors};
use patchtide_tests::process::run;
use patchtide_tests::prometheus::{Prometheus, promtool};
use patchtide_tests::{paths, wait};

use crate::snapshot;

/// Alerts that may stand here although the site is well: this machine's disk is its own affair.
const MAY_STAND: [&str; 1] = ["PatchtideDiskAlmostFull"];

pub(crate) fn every_query(line: &Line, place: &Path) -> Result<()> {
    // One request that is refused, so that there is something to count.
    let refused = format!("https://{}:8443/v1/policy", line.network().gateway());
    run(Command::new("curl").args(["--silent", "--insecure", "--noproxy", "*", &refused]))?;
    let port = line.metrics_port();
    let prometheus =
        Prometheus::start(&place.join("prometheus"), &folder().join("rules.yaml"), NAMESPACE, &[port])?;
    let rules = prometheus.rules()?;
    let (mut queries, mut alerts) = (dashboard_queries(NAMESPACE, "1m")?, Vec::new());
    for rule in &rules {
        let text = |of: &str| rule[of].as_str().unwrap_or_default().to_owned();
        let (name, expression) = (text("name"), text("query"));
        if rule["type"] == "recording" {
            queries.push(Query { of: name.clone(), expression });
            queries.push(Query { of: name.clone(), expression: name });
        } else {
            // Rightly empty when all is well; what it looks at is not.
            let looked_at = selectors(&expression).into_iter();
            queries.extend(looked_at.map(|selector| Query { of: name.clone(), expression: selector }));
            alerts.push(Query { of: name, expression });
        }
    }
    queries.push(Query {
        of: "PatchtideProcessDown".to_owned(),
        expression: "up{job=\"patchtide\"}".to_owned(),
    });
    println!("{} queries, {} alerts", queries.len(), alerts.len());
    wait::every("every query to answer", Duration::from_secs(45), Duration::from_secs(1), || {
        let mut silent = Vec::new();
        for query in &queries {
            let found = prometheus.query(&query.expression).map_err(|error| format!("{error:#}"))?;
            if found.is_empty() {
                silent.push(format!("{}: {}", query.of, query.expression));
            }
        }
        queries.retain(|query| silent.iter().any(|line| line.ends_with(&query.expression)));
        if silent.is_empty() { Ok(()) } else { Err(silent.join("\n")) }
    })?;
    for alert in &alerts {
        let standing = prometheus.query(&alert.expression)?;
        ensure!(
            standing.is_empty() || MAY_STAND.contains(&alert.of.as_str()),
            "{} would fire although all is well: {standing:?}",
            alert.of
        );
    }
    for target in prometheus.targets()? {
        ensure!(target["health"] == "up", "{target}");
    }

    let scrape = run(Command::new("curl")
        .args(["--silent", "--fail", "--noproxy", "*"])
        .arg(format!("http://127.0.0.1:{port}/metrics")))?;
    promtool(place, &["check", "metrics"], &scrape)?;
    documented(&scrape)?;
    names_nobody(line, &scrape)
}

/// The table of the documentation has every metric of the scrape, and no other.
fn documented(scrape: &str) -> Result<()> {
    let text = std::fs::read_to_string(paths::workspace().join("docs/monitoring.md"))?;
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `patchtide_")?.split_once('`'));
    let told: BTreeSet<String> = rows.map(|(name, _)| format!("patchtide_{name}")).collect();
    let there: BTreeSet<String> = scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, _)| name.to_owned())
        .collect();
    let undocumented: Vec<_> = there.difference(&told).collect();
    let gone: Vec<_> = told.difference(&there).collect();
    ensure!(
        undocumented.is_empty() && gone.is_empty(),
        "docs/monitoring.md lacks {undocumented:?}, and has {gone:?} which are not there"
    );
    Ok(())
}

/// No label names a client, by whatever it is known.
fn names_nobody(line: &Line, scrape: &str) -> Result<()> {
    let clients = snapshot(line)?["input"]["clients"].as_array().cloned().unwrap_or_default();
    ensure!(clients.len() >= 3, "{} clients", clients.len());
    for client in clients {
        for field in ["id", "name", "address"] {
            let Some(known) = client[field].as_str() else { continue };
            let label =
                scrape.lines().filter(|line| !line.starts_with('#')).find(|line| line.contains(known));
            ensure!(label.is_none(), "{known} is in {}", label.context("a label")?);
        }
    }
    Ok(())
}
