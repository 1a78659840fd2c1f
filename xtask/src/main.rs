//! `cargo xtask`: what the Makefile's targets do.
//!
//! Needs nothing but Rust to build, so that `setup` can install the rest.

mod clean;
mod crds;
mod edges;
mod lint;
mod metadata;
mod policy;
mod programs;
mod requirements;
mod setup;
mod shell;
mod spdx;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Build, test and try Patchtide.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// From a Git commit to patched machines: the whole line on this machine, in a few minutes
    Demo(programs::Demo),
    /// Set up what is missing, then run every test
    Test(test::Test),
    /// Formatting, clippy, licences, duplicate crates, crate edges, named proofs, generated CRDs
    Lint,
    /// Measure, with the peer or limit in the same run
    Bench(programs::Bench),
    /// Write crds/generated/ from the types, or check that it is up to date
    Crds(crds::Crds),
    /// Install the Debian packages and build the programs that tests and demo need
    Setup,
    /// Check the edges between the workspace's crates against tests/output/crate-edges.txt
    Edges(edges::Edges),
    /// Check licences and duplicate versions of all dependencies against deny.toml
    Policy,
    /// Check that every proof named in docs/requirements.md exists
    Requirements,
    /// End left-over test hosts and remove what builds, tests and the demo made (not the caches)
    Clean(clean::Clean),
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
    match Arguments::parse().task {
        Task::Demo(task) => task.run(),
        Task::Test(task) => task.run(),
        Task::Lint => lint::run(),
        Task::Bench(task) => task.run(),
        Task::Crds(task) => task.run(),
        Task::Setup => setup::everything(),
        Task::Edges(task) => task.run(),
        Task::Policy => policy::run(),
        Task::Requirements => requirements::run(),
        Task::Clean(task) => task.run(),
    }
}
