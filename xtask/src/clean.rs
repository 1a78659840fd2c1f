//! `cargo xtask clean`

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::metadata;
use crate::shell::{cargo, run, workspace};

/// Options of cleaning.
#[derive(Debug, clap::Args)]
pub(crate) struct Clean {
    /// Also the folder of builds, as `cargo clean` does
    #[arg(long)]
    target: bool,
}

impl Clean {
    pub(crate) fn run(self) -> Result<()> {
        // Sweeping needs the program; without it nothing was ever started.
        for profile in ["debug", "release"] {
            let program = metadata::target_folder()?.join(profile).join("patchtide-testbed");
            if program.is_file() {
                run(Command::new(program).arg("sweep"))?;
                break;
            }
        }
        let demo = workspace().join(".demo");
        if demo.exists() {
            fs::remove_dir_all(&demo).with_context(|| format!("cannot remove {}", demo.display()))?;
            println!("removed {}", demo.display());
        }
        if self.target { run(cargo().arg("clean")) } else { Ok(()) }
    }
}
