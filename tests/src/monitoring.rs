//! What `manifests/monitoring` asks of the metrics: rules and dashboards, with their variables filled in.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::paths;

/// The folder.
pub fn folder() -> PathBuf {
    paths::workspace().join("manifests/monitoring")
}

/// A query, and where it stands.
#[derive(Debug, Clone)]
pub struct Query {
    /// The dashboard and the panel, or the rule.
    pub of: String,
    /// PromQL.
    pub expression: String,
}

/// The dashboards, by file name.
pub fn dashboards() -> Result<Vec<(String, Value)>> {
    let mut found = Vec::new();
    let folder = folder().join("dashboards");
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        let board = serde_json::from_str(&text).with_context(|| format!("{name} is no JSON"))?;
        found.push((name, board));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    ensure!(found.len() == 2, "{} dashboards instead of two", found.len());
    Ok(found)
}

/// The panels of a dashboard that show something.
pub fn panels(board: &Value) -> impl Iterator<Item = &Value> {
    board["panels"].as_array().into_iter().flatten().filter(|panel| panel["type"] != "row")
}

/// Every query of every dashboard, for one namespace and with rates over `window`.
pub fn dashboard_queries(namespace: &str, window: &str) -> Result<Vec<Query>> {
    let mut queries = Vec::new();
    for (name, board) in dashboards()? {
        for panel in panels(&board) {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expression = target["expr"].as_str().unwrap_or_default();
                let expression = expression
                    .replace("$namespace", namespace)
                    .replace("$deployment", ".*")
                    .replace("$__rate_interval", window);
                ensure!(!expression.contains('$'), "{name}: a variable is not known here: {expression}");
                queries.push(Query { of: format!("{name}: {}", panel["title"]), expression });
            }
        }
        for variable in board["templating"]["list"].as_array().into_iter().flatten() {
            let definition = variable["definition"].as_str().unwrap_or_default();
            let Some(inner) = definition.strip_prefix("label_values(") else { continue };
            let (selector, _) = inner.rsplit_once(',').context("a variable without a label")?;
            let expression = selector.replace("$namespace", namespace);
            queries.push(Query { of: format!("{name}: variable {}", variable["name"]), expression });
        }
    }
    Ok(queries)
}

/// The selectors in an expression, with range and offset left off: each is to have data.
pub fn selectors(expression: &str) -> BTreeSet<String> {
    let bytes = expression.as_bytes();
    let mut found = BTreeSet::new();
    let mut at = 0;
    while let Some(start) = expression[at..].find("patchtide").map(|start| at + start) {
        let mut end = start;
        while end < bytes.len() && (bytes[end].is_ascii_alphanumeric() || matches!(bytes[end], b'_' | b':')) {
            end += 1;
        }
        // Not the name, but the value of a label.
        let quoted = start > 0 && bytes[start - 1] == b'"';
        if bytes.get(end) == Some(&b'{') {
            end += expression[end..].find('}').map_or(0, |close| close + 1);
        }
        if !quoted {
            found.insert(expression[start..end].to_owned());
        }
        at = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_found_with_their_labels() {
        let expression =
            "sum(rate(patchtide_a_total{x=\"patchtide\",y=~\"b|c\"}[5m])) / patchtide:b:ratio > 2";
        let found: Vec<String> = selectors(expression).into_iter().collect();
        assert_eq!(found, ["patchtide:b:ratio", "patchtide_a_total{x=\"patchtide\",y=~\"b|c\"}"]);
        assert!(selectors("up{job=\"patchtide\"} == 0").is_empty());
    }
}
