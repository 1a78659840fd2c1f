//! From a Git commit to patched machines: the path that `make demo` shows and that the end-to-end test holds on to.
//!
//! [`Line::start`] makes the ground (cluster, server, repository, hosts); [`Line::follow`] watches until every host is
//! compliant, and fails when something happens that must not; [`Line::verify`] looks at the hosts themselves.

mod follow;
mod line;
mod outcome;
mod quickstart;

pub use follow::Followed;
pub use line::{Line, NAMESPACE, exclusion};
pub use outcome::{HostOutcome, Outcome};

use std::fs::{self, File};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::paths;

/// Runs the demo in `folder`, by default `.demo/` of the checkout; an error when anything was not as it should be.
pub fn run(folder: Option<PathBuf>, keep: bool) -> Result<()> {
    let start = Instant::now();
    let folder = folder.unwrap_or_else(|| paths::workspace().join(".demo"));
    let folder = std::path::absolute(&folder).context("cannot resolve the demo's folder")?;
    let _lock = lock(&folder)?;
    crate::host::sweep()?;
    // Three Debian roots take a while to remove; that need not be waited for.
    let old = set_aside(&folder)?;
    let _removal = old.map(|old| std::thread::spawn(move || fs::remove_dir_all(old)));
    println!(
        "Patchtide: from a Git commit to patched machines. Everything of it lies in {}.",
        folder.display()
    );
    let mut line = Line::start(&folder)?;
    let followed = line.follow(Duration::from_mins(8)).inspect_err(|_| line.print_logs())?;
    let outcome = line.verify(&followed).inspect_err(|_| line.print_logs())?;
    outcome.print(&line)?;
    println!("\nAll of it was checked. {:.0} s in all.", start.elapsed().as_secs_f64());
    line.print_how_to_look(&folder);
    if keep || std::io::stdin().is_terminal() {
        println!("\nEverything keeps running. Ctrl-C stops it.");
        wait_for_interrupt()?;
    } else {
        println!("\nNot on a terminal: everything is stopped now; `KEEP=1 make demo` keeps it running.");
    }
    drop(line);
    println!("Stopped. {} holds the logs; `make clean` removes it.", folder.display());
    Ok(())
}

/// Moves what the last run left into `folder/old`, out of the way of this one; none when there was nothing.
fn set_aside(folder: &Path) -> Result<Option<PathBuf>> {
    if !folder.exists() {
        return Ok(None);
    }
    let aside = folder.with_extension("old");
    let inside = folder.join("old");
    let moved = || -> std::io::Result<()> {
        if aside.exists() {
            fs::remove_dir_all(&aside)?;
        }
        fs::rename(folder, &aside)?;
        fs::create_dir_all(folder)?;
        fs::rename(&aside, &inside)
    };
    moved().with_context(|| format!("cannot move {} out of the way", folder.display()))?;
    Ok(Some(inside))
}

/// One demo at a time in one folder: a second one would take the first one's files away.
fn lock(folder: &Path) -> Result<File> {
    let name = hex::encode(&Sha256::digest(folder.as_os_str().as_encoded_bytes())[..8]);
    let path = std::env::temp_dir().join(format!("patchtide-demo-{name}.lock"));
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        anyhow!("another demo runs in {}: stop it first (Ctrl-C), or give another --folder", folder.display())
    })?;
    Ok(file)
}

/// Returns after Ctrl-C or SIGTERM.
fn wait_for_interrupt() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot wait for signals")?;
    runtime
        .block_on(async {
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            tokio::select! {
                result = tokio::signal::ctrl_c() => result,
                _ = terminate.recv() => Ok(()),
            }
        })
        .context("cannot wait for signals")
}
