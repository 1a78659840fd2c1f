//! `cargo xtask test`

use std::process::Command;

use anyhow::Result;

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
            command.args(["test", "--workspace", "--no-fail-fast"]).args(selection).env("PATCHTIDE_BIN_DIR", &programs);
            command.args(&self.filter);
            command
        };
        run(&mut cargo_test(&["--lib", "--bins"]))?;
        // Suites start whole machines; one at a time tells more when something is slow.
        run(cargo_test(&["--test", "*"]).env("RUST_TEST_THREADS", "1"))?;
        run(&mut cargo_test(&["--doc"]))
    }
}
