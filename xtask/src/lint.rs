//! `cargo xtask lint`: everything that can be said about the code without running it.

use anyhow::{Result, bail};

use crate::shell::{cargo, run as command};
use crate::{crds, edges, policy, requirements, setup};

/// Runs all checks and names every one that failed, not only the first.
fn run_all() -> Vec<&'static str> {
    let checks: [(&'static str, &dyn Fn() -> Result<()>); 6] = [
        ("formatting", &|| command(cargo().args(["fmt", "--all", "--check"]))),
        ("edges", &|| edges::Edges::check().run()),
        ("policy", &policy::run),
        ("requirements", &requirements::run),
        ("crds", &|| crds::Crds::check().run()),
        ("clippy", &|| {
            command(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
        }),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        if let Err(error) = check() {
            eprintln!("{name}: {error:#}");
            failed.push(name);
        }
    }
    failed
}

pub(crate) fn run() -> Result<()> {
    setup::packages()?;
    let failed = run_all();
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}
