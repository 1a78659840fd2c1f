//! Building the control plane's programs from pinned Go modules, once per state of their `go.sum` files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::KUBERNETES_VERSION;
use crate::paths;
use crate::process::{find_program, run};
use crate::progress::Step;

/// What a control plane consists of: program, Go package, folder of its module below `tests/tools`.
const PROGRAMS: [(&str, &str, &str); 4] = [
    ("etcd", "go.etcd.io/etcd/server/v3", "etcd"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", "kubernetes"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", "kubernetes"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl", "kubernetes"),
];

/// The folder that holds the control plane's programs.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// The path of one of them, for example `kubectl`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The programs: from `KUBEBUILDER_ASSETS` when that is set, else from the cache, built first when they are not there.
///
/// A build from cold caches takes about seven minutes on two cores; it says what it is doing.
pub fn programs() -> Result<Programs> {
    if let Some(folder) = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty()) {
        let folder = PathBuf::from(folder);
        let missing: Vec<_> =
            PROGRAMS.iter().map(|(name, ..)| *name).filter(|name| !folder.join(name).is_file()).collect();
        if !missing.is_empty() {
            bail!(
                "KUBEBUILDER_ASSETS={} lacks {}: add them, or unset the variable to have all built",
                folder.display(),
                missing.join(", ")
            );
        }
        return Ok(Programs { folder });
    }
    let tools = paths::workspace().join("tests/tools");
    let folder = paths::cache()?.join("control-plane").join(key(&tools)?);
    if complete(&folder) {
        return Ok(Programs { folder });
    }
    let parent = folder.parent().context("the cache folder has no parent")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    // One builder at a time; whoever waited finds the result.
    let lock = fs::File::create(parent.join("lock")).context("cannot create the lock of the build")?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).context("cannot lock the build")?;
    if !complete(&folder) {
        build(&tools, parent, &folder)?;
    }
    Ok(Programs { folder })
}

fn complete(folder: &Path) -> bool {
    PROGRAMS.iter().all(|(name, ..)| folder.join(name).is_file())
}

fn key(tools: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(KUBERNETES_VERSION);
    for module in ["kubernetes", "etcd"] {
        let file = tools.join(module).join("go.sum");
        hash.update(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(hex::encode(&hash.finalize()[..8]))
}

fn build(tools: &Path, parent: &Path, folder: &Path) -> Result<()> {
    let go = find_program("go")
        .or_else(|| Some(PathBuf::from("/usr/local/go/bin/go")).filter(|path| path.is_file()))
        .context(
            "Go is missing: install Go 1.26 or newer to build the control plane, or set KUBEBUILDER_ASSETS",
        )?;
    println!(
        "The control plane is built once from Go modules and kept in {}; from cold caches this takes some seven minutes.",
        folder.display()
    );
    let temporary = tempfile::Builder::new()
        .prefix("building-")
        .tempdir_in(parent)
        .with_context(|| format!("cannot create a folder in {}", parent.display()))?;
    let mut flags = format!("-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}");
    let mut numbers = KUBERNETES_VERSION.trim_start_matches('v').split('.');
    for part in ["gitMajor", "gitMinor"] {
        let number = numbers.next().unwrap_or_default();
        flags.extend([" -X k8s.io/component-base/version.", part, "=", number]);
    }
    for (name, package, module) in PROGRAMS {
        let step = Step::start(format!("building {name}"));
        run(Command::new(&go)
            .args(["build", "-trimpath", "-ldflags", &flags, "-o"])
            .arg(temporary.path().join(name))
            .arg(package)
            .current_dir(tools.join(module))
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-mod=readonly")
            .env("GOWORK", "off"))
        .with_context(|| format!("cannot build {name}"))?;
        step.done("built");
    }
    fs::rename(temporary.keep(), folder).with_context(|| format!("cannot create {}", folder.display()))
}
