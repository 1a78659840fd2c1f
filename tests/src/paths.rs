//! Where things are: the checkout, the cache, the programs that cargo builds.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The checkout's top folder.
pub fn workspace() -> PathBuf {
    // The crate lies directly below the workspace root.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// The user's cache folder for Patchtide: `$XDG_CACHE_HOME/patchtide` or `~/.cache/patchtide`.
pub fn cache() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()) {
        return Ok(PathBuf::from(folder).join("patchtide"));
    }
    let home = std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set: set one of them")?;
    Ok(PathBuf::from(home).join(".cache/patchtide"))
}

/// The program `name` of the workspace's package `package`, built when needed.
///
/// `PATCHTIDE_BIN_DIR` names a folder of built programs and is then the only place looked at; `cargo xtask test` and
/// `cargo xtask demo` set it, so that one build serves all suites.
pub fn program(package: &str, name: &str) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("PATCHTIDE_BIN_DIR") {
        let path = PathBuf::from(folder).join(name);
        if !path.is_file() {
            bail!(
                "PATCHTIDE_BIN_DIR is set and {} does not exist: build it, or unset the variable",
                path.display()
            );
        }
        return Ok(path);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    crate::process::run(
        Command::new(cargo)
            .args(["build", "--quiet", "--package", package, "--bin", name])
            .current_dir(workspace()),
    )?;
    let path = target_folder()?.join(name);
    if !path.is_file() {
        bail!("cargo built {package} but {} does not exist: set PATCHTIDE_BIN_DIR", path.display());
    }
    Ok(path)
}

/// The folder that cargo puts debug programs into, seen from the running program (`target/debug/[deps/]x`).
fn target_folder() -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot tell where this program lies")?;
    let folder = this.parent().context("this program lies in no folder")?;
    let folder = if folder.ends_with("deps") || folder.ends_with("examples") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    // A release test process still wants the programs that the plain `cargo build` above has made.
    Ok(if folder.ends_with("release") { folder.with_file_name("debug") } else { folder.to_owned() })
}
