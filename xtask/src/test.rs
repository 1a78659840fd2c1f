//! `cargo xtask test`

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::programs;
use crate::setup;
use crate::shell::{cargo, run};

/// Options of the tests.
#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    /// Only tests whose name contains this
    filter: Option<String>,
}

impl Test {
    pub(crate) fn run(self) -> Result<()> {
        setup::packages()?;
        let bins =
            ["patchtide", "patchtide-agent", "kubectl-patchtide", "patchtide-testbed", "patchtide-testinit"];
        let programs = programs::build(false, &bins)?;
        run(Command::new(programs.join("patchtide-testbed")).arg("setup"))?;
        // The same packages each time, so that features, and with them builds, stay the same.
        let cargo_test = |selection: &[&str]| {
            let mut command = cargo();
            command
                .args(["test", "--workspace", "--no-fail-fast"])
                .args(selection)
                .env("PATCHTIDE_BIN_DIR", &programs);
            command.args(&self.filter);
            command
        };
        // Suites start whole machines; one at a time tells more when something is slow.
        let mut suites = cargo_test(&["--test", "*"]);
        suites.env("RUST_TEST_THREADS", "1");
        // All of them, so that one run tells everything that is broken.
        let parts = [
            ("unit tests", cargo_test(&["--lib", "--bins"])),
            ("suites", suites),
            ("documentation tests", cargo_test(&["--doc"])),
        ];
        let mut failed = Vec::new();
        for (name, mut part) in parts {
            let start = Instant::now();
            let result = run(&mut part);
            println!("==> {name}: {:.0} s", start.elapsed().as_secs_f64());
            if let Err(error) = result {
                eprintln!("{name}: {error:#}");
                failed.push(name);
            }
        }
        if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
    }
}
