//! The edges between the workspace's crates, held against a checked-in list; and who may use which heavy dependency.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, Metadata, PackageId};

use crate::metadata;
use crate::shell::workspace;

/// The checked-in list, seen from the workspace root.
const GOLDEN: &str = "tests/output/crate-edges.txt";

/// Crates without I/O: nothing of this may be anywhere below them.
const PURE: [&str; 3] = ["patchtide-model", "patchtide-packaging", "patchtide-planner"];
const NOT_PURE: [&str; 9] =
    ["tokio", "reqwest", "hyper", "sqlx", "kube", "git2", "rustls", "mio", "tempfile"];

/// Nowhere below the client agent.
const NOT_IN_AGENT: [&str; 5] = ["kube", "k8s-openapi", "sqlx", "git2", "axum"];

/// A dependency that only these crates name themselves.
const ONLY: [(&str, &[&str]); 2] = [
    ("sqlx", &["patchtide-store"]),
    ("git2", &["patchtide-cli", "patchtide-controller", "patchtide-intent"]),
];

/// Options of the edge check.
#[derive(Debug, clap::Args)]
pub(crate) struct Edges {
    /// Write the list anew: a new edge is a decision, to be told in the commit message
    #[arg(long)]
    bless: bool,
}

impl Edges {
    pub(crate) fn check() -> Self {
        Self { bless: false }
    }

    pub(crate) fn run(self) -> Result<()> {
        let metadata = metadata::resolved()?;
        let path = workspace().join(GOLDEN);
        let found = render(&edges(&metadata));
        if self.bless {
            fs::write(&path, &found).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let golden = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut faults = differences(&golden, &found);
        faults.extend(forbidden(&metadata)?);
        if faults.is_empty() {
            println!("crate edges: as in {GOLDEN}");
            return Ok(());
        }
        bail!("crate edges:\n  {}", faults.join("\n  "));
    }
}

/// Normal and build dependencies among the workspace's own crates; tests may reach further.
fn edges(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let members: BTreeSet<_> =
        metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    metadata
        .workspace_packages()
        .iter()
        .map(|package| {
            let targets = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != DependencyKind::Development)
                .map(|dependency| dependency.name.clone())
                .filter(|name| members.contains(name))
                .collect();
            (package.name.to_string(), targets)
        })
        .collect()
}

fn render(edges: &BTreeMap<String, BTreeSet<String>>) -> String {
    let mut text =
        "# Which crate may use which: `cargo xtask edges`. A new edge is a decision (`--bless` writes this file).\n".to_owned();
    for (from, targets) in edges {
        let targets: Vec<_> = targets.iter().map(String::as_str).collect();
        let line = format!("{from} -> {}", targets.join(" "));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn differences(golden: &str, found: &str) -> Vec<String> {
    let lines = |text: &str| -> BTreeSet<String> {
        text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned).collect()
    };
    let (golden, found) = (lines(golden), lines(found));
    let missing = golden.difference(&found).map(|line| format!("- {line}"));
    let added = found.difference(&golden).map(|line| format!("+ {line}"));
    missing.chain(added).collect()
}

/// Rules that hold over the whole tree below a crate.
fn forbidden(metadata: &Metadata) -> Result<Vec<String>> {
    let resolve = metadata.resolve.as_ref().context("cargo metadata gave no resolved graph")?;
    let names: BTreeMap<&PackageId, &str> =
        metadata.packages.iter().map(|package| (&package.id, package.name.as_str())).collect();
    let mut children: BTreeMap<&PackageId, Vec<&PackageId>> = BTreeMap::new();
    for node in &resolve.nodes {
        let normal = node
            .deps
            .iter()
            .filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal));
        children.insert(&node.id, normal.map(|dep| &dep.pkg).collect());
    }
    let mut faults = Vec::new();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let below = reach(&package.id, &children, &names);
        let refused: &[&str] = if PURE.contains(&name) {
            &NOT_PURE
        } else if name == "patchtide-agent" {
            &NOT_IN_AGENT
        } else {
            &[]
        };
        faults.extend(
            refused.iter().filter(|bad| below.contains(*bad)).map(|bad| format!("{name} has {bad} below it")),
        );
        for (dependency, allowed) in ONLY {
            let uses = package
                .dependencies
                .iter()
                .any(|used| used.name == dependency && used.kind != DependencyKind::Development);
            if uses && !allowed.contains(&name) {
                faults.push(format!("{name} uses {dependency}; only {} may", allowed.join(", ")));
            }
        }
    }
    Ok(faults)
}

fn reach<'a>(
    start: &'a PackageId,
    children: &BTreeMap<&'a PackageId, Vec<&'a PackageId>>,
    names: &BTreeMap<&'a PackageId, &'a str>,
) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open = vec![start];
    while let Some(id) = open.pop() {
        for &child in children.get(id).into_iter().flatten() {
            if seen.insert(child) {
                open.push(child);
            }
        }
    }
    seen.into_iter().filter_map(|id| names.get(id).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crate_edges_are_as_decided() {
        Edges::check().run().unwrap();
    }

    #[test]
    fn a_new_edge_is_told_with_its_line() {
        let golden = "# x\na -> b\nc ->\n";
        assert_eq!(differences(golden, "a -> b\nc ->\n"), Vec::<String>::new());
        assert_eq!(differences(golden, "a -> b d\nc ->\n"), ["- a -> b", "+ a -> b d"]);
    }
}
