//! What a fresh Debian 12 machine with Rust, Go and git lacks.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell::{cargo, run};

/// A Debian package and what it is needed for.
type Package = (&'static str, &'static str);

/// For building the workspace, and for the tests and the demo.
const PACKAGES: [Package; 19] = [
    ("build-essential", "C compiler and linker for crates with C parts"),
    ("pkg-config", "finds OpenSSL"),
    ("libssl-dev", "https and ssh of libgit2"),
    ("ca-certificates", "https to Git servers"),
    ("git", "repositories of the tests and the demo"),
    ("openssh-client", "ssh of Git, signed commits"),
    ("openssh-server", "Git servers of the tests, reached by ssh"),
    ("gnupg", "commits of the tests, signed with OpenPGP"),
    ("mmdebstrap", "client hosts are Debian roots"),
    ("debian-archive-keyring", "the archive's signature"),
    ("iproute2", "client hosts have their own network"),
    ("util-linux", "client hosts have their own namespaces"),
    ("postgresql", "the site database is tested on a real server"),
    ("prometheus-alertmanager", "silences and alerts are tested on a real one"),
    ("prometheus", "rules and dashboards are tested on a real one; promtool"),
    ("systemd", "busctl shows notices of the agent on desktops"),
    ("dbus-daemon", "session bus of a desktop that the agent tells"),
    ("python3-dbus", "the desktop itself"),
    ("python3-gi", "the desktop's loop"),
];

/// Peers of the measurements.
const BENCH_PACKAGES: [Package; 3] = [
    ("nginx-light", "peer of the distribution point"),
    ("aptly", "peer of the archive sync"),
    ("xz-utils", "limit of the archive sync"),
];

/// Debian packages, then the control plane and the client root in the cache.
pub(crate) fn everything() -> Result<()> {
    packages()?;
    run(cargo().args([
        "run",
        "--quiet",
        "--package",
        "patchtide-tests",
        "--bin",
        "patchtide-testbed",
        "--",
        "setup",
    ]))
}

/// Installs the missing Debian packages.
pub(crate) fn packages() -> Result<()> {
    install(&PACKAGES)
}

/// Installs what only the measurements need.
pub(crate) fn bench_packages() -> Result<()> {
    install(&BENCH_PACKAGES)
}

fn install(packages: &[Package]) -> Result<()> {
    let mut missing = Vec::new();
    for package in packages {
        if !installed(package.0)? {
            missing.push(*package);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    println!("==> Debian packages to install");
    for (name, reason) in &missing {
        println!("    {name}: {reason}");
    }
    let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    if !is_root()? {
        bail!("not root; run: sudo apt-get install --no-install-recommends {}", names.join(" "));
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).args(["--quiet", "--yes"]);
        command
    };
    run(apt().arg("update"))?;
    run(apt().args(["install", "--no-install-recommends"]).args(names))
}

fn installed(package: &str) -> Result<bool> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${db:Status-Status}", package])
        .output()
        .context("dpkg-query is missing: tests and demo need Debian 12")?;
    Ok(output.stdout == b"installed")
}

fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output().context("cannot run `id -u`")?;
    Ok(output.stdout.trim_ascii() == b"0")
}
