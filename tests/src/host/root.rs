//! The Debian root that client hosts are copies of.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::archive::{Archive, release_date};
use crate::paths;
use crate::process::{find_program, run};

/// Roots that nobody has built or asked for in this time are removed from the cache.
const KEPT: Duration = Duration::from_hours(14 * 24);

/// A root folder in the cache, made from `bookworm main` alone, so that real security updates are pending in it.
#[derive(Debug, Clone)]
pub struct ClientRoot {
    path: PathBuf,
}

impl ClientRoot {
    /// The root with apt and the packages `include`; from the cache when the archive's release file has the same date,
    /// else built by mmdebstrap (about 15 seconds, 180 MB). Needs root.
    pub fn build(archive: &Archive, include: &[&str]) -> Result<Self> {
        let date = release_date(&archive.main)?;
        let mut hash = Sha256::new();
        for part in [&date, &archive.main.url, &archive.architecture, &include.join(",")] {
            hash.update(part);
            hash.update([0]);
        }
        let key = hex::encode(&hash.finalize()[..8]);
        let parent = paths::cache()?.join("client-root");
        fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
        let path = parent.join(key);
        let lock = fs::File::create(parent.join("lock")).context("cannot create the lock of the build")?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .context("cannot lock the build")?;
        if !path.is_dir() {
            remove_old(&parent);
            build(archive, include, &parent, &path)?;
        }
        Ok(Self { path })
    }

    /// The folder; never to be changed, copies of it are.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn build(archive: &Archive, include: &[&str], parent: &Path, path: &Path) -> Result<()> {
    let mmdebstrap =
        find_program("mmdebstrap").context("mmdebstrap is missing: `cargo xtask setup` installs it")?;
    let temporary = tempfile::Builder::new()
        .prefix("building-")
        .tempdir_in(parent)
        .with_context(|| format!("cannot create a folder in {}", parent.display()))?;
    // apt's download user must be able to enter it.
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o755))
        .context("cannot change a mode")?;
    let root = temporary.path().join("root");
    let mut command = Command::new(mmdebstrap);
    command.args(["--quiet", "--variant=apt"]);
    if !include.is_empty() {
        command.arg(format!("--include={}", include.join(",")));
    }
    command.arg(&archive.main.suite).arg(&root).arg(archive.main.source_line());
    run(&mut command).context("cannot build the client root")?;
    fs::rename(&root, path).with_context(|| format!("cannot create {}", path.display()))
}

/// What cannot be removed stays; it costs space only.
fn remove_old(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
        if entry.path().is_dir() && age.is_some_and(|age| age > KEPT) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
