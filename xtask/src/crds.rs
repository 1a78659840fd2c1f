//! `cargo xtask crds`: the checked-in custom resource definitions.
//!
//! The types' own crate knows how to write them (its test `generated`); linking it here would make xtask heavy.

use anyhow::Result;

use crate::shell::{cargo, run};

/// Options of the generation.
#[derive(Debug, clap::Args)]
pub(crate) struct Crds {
    /// Write nothing; fail when crds/generated/ differs from the types
    #[arg(long)]
    check: bool,
}

impl Crds {
    pub(crate) fn check() -> Self {
        Self { check: true }
    }

    pub(crate) fn run(self) -> Result<()> {
        let mut command = cargo();
        command.args(["test", "--quiet", "--package", "patchtide-crds", "generated"]);
        if !self.check {
            command.env("PATCHTIDE_WRITE_CRDS", "1");
        }
        run(&mut command)
    }
}
