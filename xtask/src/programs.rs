//! The demo and the measurements: the product's programs are built, then the test bed is called.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::metadata;
use crate::setup;
use crate::shell::{cargo, run};

/// Programs that the demo starts.
const PROGRAMS: [&str; 2] = ["patchtide", "patchtide-agent"];

/// Options of the demo.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Leave everything running until Ctrl-C, as on a terminal
    #[arg(long, env = "KEEP", num_args = 0..=1, default_missing_value = "1", value_parser = clap::builder::FalseyValueParser::new(), default_value = "")]
    keep: bool,
    /// Build and use optimised programs
    #[arg(long)]
    release: bool,
}

impl Demo {
    pub(crate) fn run(self) -> Result<()> {
        setup::packages()?;
        let programs =
            build(self.release, &[&PROGRAMS[..], &["patchtide-testbed", "patchtide-testinit"]].concat())?;
        let mut command = Command::new(programs.join("patchtide-testbed"));
        command.arg("demo").env("PATCHTIDE_BIN_DIR", &programs);
        if self.keep {
            command.arg("--keep");
        }
        // In our place, so that Ctrl-C reaches the one process that tidies up.
        Err(command.exec()).context("cannot start the test bed")
    }
}

/// The measurements that live beside what they measure.
const EXAMPLES: [(&str, &str); 6] = [
    ("patchtide-catalog", "apt_sync"),
    ("patchtide-controller", "bench_compile"),
    ("patchtide-distribution-point", "bench_dp"),
    ("patchtide-management-point", "bench_intake"),
    ("patchtide-planner", "bench_sim"),
    ("patchtide-planner", "bench_site"),
];

/// Measurements of one crate alone, which cargo starts itself: name, package and bench target.
const ALONE: [(&str, &str, &str); 3] = [
    ("rows", "patchtide-store", "intake"),
    ("catalogue", "patchtide-store", "catalogue"),
    ("windows", "patchtide-model", "windows"),
];

/// Options of the measurements.
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// What to measure: apt-sync, distribution-point, intake, simulator, site-planner, policy-compiler, rows (intake of the site database against a row layout),
    /// catalogue (syncs into the site database), windows (answers about maintenance windows); all when none is named
    names: Vec<String>,
}

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        setup::packages()?;
        setup::bench_packages()?;
        let (alone, others): (Vec<_>, Vec<_>) =
            self.names.iter().partition(|name| ALONE.iter().any(|(known, ..)| known == name));
        // Packages of their own: what is measured is built as it is shipped, without what other crates add to features.
        if self.names.is_empty() || !others.is_empty() {
            let mut command = cargo();
            command.args(["build", "--release"]);
            for (package, example) in EXAMPLES {
                command.args(["--package", package, "--example", example]);
            }
            run(&mut command)?;
            let programs = build(false, &["patchtide-testbed"])?;
            let examples = metadata::target_folder()?.join("release/examples");
            run(Command::new(programs.join("patchtide-testbed"))
                .arg("bench")
                .arg("--examples")
                .arg(examples)
                .args(others))?;
        }
        for (name, package, target) in ALONE {
            if self.names.is_empty() || alone.iter().any(|wanted| *wanted == name) {
                run(cargo().args(["bench", "--package", package, "--bench", target]))?;
            }
        }
        Ok(())
    }
}

/// Builds programs of the workspace with the features of a workspace build, so that nothing is compiled twice; returns their
/// folder.
pub(crate) fn build(release: bool, programs: &[&str]) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--workspace"]);
    for program in programs {
        command.args(["--bin", program]);
    }
    if release {
        command.arg("--release");
    }
    run(&mut command)?;
    Ok(metadata::target_folder()?.join(if release { "release" } else { "debug" }))
}
