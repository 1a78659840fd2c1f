//! `kubectl patchtide simulate`: what would happen, without a cluster.

mod expect;
mod fields;
mod happen;
mod run;
mod scenario;
#[cfg(test)]
mod tests;
mod timeline;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use patchtide_intent::yaml::{
    document::{Limits, Node, parse},
    verdict::Finding,
};
use serde_json::json;

use scenario::Scenario;

/// Bytes of a scenario, and of each file that it names.
const BYTES: u64 = 1 << 20;

/// Form of the output.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum Output {
    /// A timeline for people
    #[default]
    Text,
    /// JSON
    Json,
}

/// Runs the scenario in a file and prints what happens: whether every expectation holds.
pub(crate) fn simulate(file: &Path, seed: u64, output: Output) -> anyhow::Result<bool> {
    let scenario = read(file)?;
    let (text, held) = tell(&scenario, seed, output)?;
    print!("{text}");
    Ok(held)
}

/// Reads a scenario with the files that it names.
fn read(file: &Path) -> anyhow::Result<Scenario> {
    let shown = file.display().to_string();
    let documents = documents(file, &shown)?;
    let [document] = documents.as_slice() else {
        bail!("{shown}: a scenario is one YAML document; this file has {}", documents.len());
    };
    let folder = file.parent().unwrap_or(Path::new(".")).to_owned();
    let open = move |name: &str| -> Result<Vec<Node>, String> {
        let path: PathBuf = folder.join(name);
        self::documents(&path, name).map_err(|error| format!("{error:#}"))
    };
    scenario::read(document, &open).map_err(|fault| anyhow::anyhow!("{shown}:{fault}"))
}

fn documents(file: &Path, shown: &str) -> anyhow::Result<Vec<Node>> {
    let size = fs::metadata(file).with_context(|| format!("cannot read {shown}"))?.len();
    if size > BYTES {
        bail!("{shown} has {size} bytes; at most {BYTES} are read");
    }
    let bytes = fs::read(file).with_context(|| format!("cannot read {shown}"))?;
    let (documents, findings) = parse(shown, &bytes, Limits::default());
    match findings.iter().find(|finding| Finding::is_failure(finding)) {
        Some(finding) => bail!("{finding}"),
        None => Ok(documents),
    }
}

/// What a scenario comes to, and whether every expectation holds.
fn tell(scenario: &Scenario, seed: u64, output: Output) -> anyhow::Result<(String, bool)> {
    let done = run::run(scenario, seed)?;
    let zone = &scenario.times.zone;
    let lines = timeline::lines(&done.world, zone);
    let failed = done.outcomes.iter().filter(|outcome| !outcome.held()).count();
    let total = done.outcomes.len();
    let text = match output {
        Output::Text => {
            let mut text = String::new();
            for line in scenario.description.lines() {
                let _ = writeln!(text, "# {line}");
            }
            let _ = writeln!(text, "# times in {}, seed {seed}\n", scenario.zone);
            text.push_str(&timeline::print(&lines, zone));
            text.push('\n');
            for outcome in &done.outcomes {
                let mark = if outcome.held() { "ok    " } else { "FAILED" };
                let _ = writeln!(text, "{mark} line {}, {}: {}", outcome.line, outcome.at, outcome.expected);
                for found in &outcome.found {
                    let _ = writeln!(text, "       but {found}");
                }
            }
            let _ = writeln!(text, "\n{} of {total} expectations hold", total - failed);
            text
        }
        Output::Json => {
            let outcomes: Vec<_> = done
                .outcomes
                .iter()
                .map(|outcome| {
                    json!({
                        "at": outcome.at.to_string(),
                        "line": outcome.line,
                        "expected": outcome.expected,
                        "held": outcome.held(),
                        "found": outcome.found,
                    })
                })
                .collect();
            let value = json!({
                "seed": seed,
                "timeline": timeline::to_json(&lines),
                "expectations": outcomes,
                "passed": failed == 0,
            });
            format!("{value:#}\n")
        }
    };
    Ok((text, failed == 0))
}
