//! The test bed as a command: what `cargo xtask setup`, `demo` and `clean` call.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use patchtide_tests::progress::Step;
use patchtide_tests::{archive, bench, control_plane, demo, host};

/// The test bed of Patchtide.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Build what is kept in the cache: the control plane's programs and the client root.
    Setup,
    /// From a Git commit to patched machines, in `.demo/` of the checkout.
    Demo {
        /// Keep everything running until Ctrl-C.
        #[arg(long)]
        keep: bool,
        /// Another folder for its files.
        #[arg(long)]
        folder: Option<std::path::PathBuf>,
    },
    /// Measure, with the peer or limit in the same run.
    Bench {
        /// Folder of cargo's built examples.
        #[arg(long)]
        examples: std::path::PathBuf,
        /// What to measure; all when none is named.
        names: Vec<String>,
    },
    /// End what a killed run left behind: hosts, bridges, network namespaces.
    Sweep,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    match Arguments::parse().command {
        Subcommands::Setup => {
            let programs = control_plane::programs()?;
            println!("control plane: {}", programs.folder().display());
            let step = Step::start("client root");
            let root = host::ClientRoot::build(&archive::Archive::detect()?, &[])?;
            step.done(root.path().display());
            Ok(())
        }
        Subcommands::Demo { keep, folder } => demo::run(folder, keep),
        Subcommands::Bench { examples, names } => bench::run_all(&examples, &names),
        Subcommands::Sweep => {
            let swept = host::sweep()?;
            println!("{swept} left-over networks ended");
            Ok(())
        }
    }
}
