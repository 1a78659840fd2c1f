//! The Debian archive that this machine uses, as apt itself names it. Nothing about it is written down here.

use std::process::Command;

/// One suite of the machine's apt configuration.
#[derive(Debug, Clone)]
pub struct Suite {
    /// Address of the archive.
    pub archive: String,
    /// The suite.
    pub suite: String,
}

/// Suites of the machine's apt configuration; empty when apt has none.
pub fn suites() -> Vec<Suite> {
    let output = Command::new("apt-get").args(["update", "--print-uris"]).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let mut suites = Vec::new();
    for uri in text.lines().filter_map(|line| line.strip_prefix('\'')?.split('\'').next()) {
        let Some((archive, rest)) = uri.split_once("/dists/") else { continue };
        let Some(suite) = rest.strip_suffix("/InRelease") else { continue };
        suites.push(Suite { archive: archive.to_owned(), suite: suite.to_owned() });
    }
    suites
}

/// The machine's architecture.
pub fn architecture() -> String {
    let output = Command::new("dpkg").arg("--print-architecture").output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

/// Where Debian's archive keys are.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
