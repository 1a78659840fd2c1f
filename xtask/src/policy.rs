//! Licences and duplicate versions of all dependencies, by the rules of `deny.toml` (a part of cargo-deny's format).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::metadata;
use crate::shell::{cargo, workspace};
use crate::spdx;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Licenses {
    allow: BTreeSet<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

/// Licences for one crate alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    name: String,
    allow: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Bans {
    #[serde(default)]
    deny: Vec<Denied>,
    #[serde(default)]
    skip: Vec<Skipped>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Denied {
    name: String,
    reason: String,
}

/// An older version that somebody else still needs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Skipped {
    name: String,
    version: String,
    reason: String,
}

struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

pub(crate) fn run() -> Result<()> {
    let path = workspace().join("deny.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let rules: Rules = toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))?;
    let packages = built()?;
    let faults = check(&rules, &packages);
    if faults.is_empty() {
        println!("dependency policy: {} crates as deny.toml asks", packages.len());
        return Ok(());
    }
    bail!("dependency policy:\n  {}", faults.join("\n  "));
}

/// What is really compiled into programs for Linux, as `cargo tree` has it (`cargo metadata` also lists optional crates that
/// no feature turns on).
fn built() -> Result<Vec<Package>> {
    let mut command = cargo();
    command.args(["tree", "--workspace", "--quiet", "--edges", "normal,build", "--prefix", "none"]);
    command.args(["--target", metadata::PLATFORM, "--format", "{p}|{l}"]);
    let output = command.output().context("cannot start `cargo tree`")?;
    if !output.status.success() {
        bail!("`cargo tree` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: BTreeSet<_> = text.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let mut packages = Vec::new();
    for line in lines {
        let (package, license) = line.split_once('|').unwrap_or((line, ""));
        let mut words = package.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        // Our own crates are told by their path.
        if package.contains("(/") {
            continue;
        }
        packages.push(Package {
            name: name.to_owned(),
            version: version.trim_start_matches('v').to_owned(),
            license: Some(license.to_owned()).filter(|license| !license.is_empty()),
        });
    }
    Ok(packages)
}

fn check(rules: &Rules, packages: &[Package]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        let Package { name, version, license } = package;
        versions.entry(name).or_default().insert(version);
        let extra = rules.licenses.exceptions.iter().find(|exception| exception.name == *name);
        let allowed = |license: &str| {
            rules.licenses.allow.contains(license) || extra.is_some_and(|extra| extra.allow.contains(license))
        };
        match license {
            Some(license) if spdx::satisfied(license, &allowed) => {}
            Some(license) => faults.push(format!("{name} {version}: licence {license} is not allowed")),
            None => faults.push(format!("{name} {version}: states no licence")),
        }
        if let Some(denied) = rules.bans.deny.iter().find(|denied| denied.name == *name) {
            faults.push(format!("{name} {version} is banned: {}", denied.reason));
        }
    }
    for skipped in &rules.bans.skip {
        let known = versions.get_mut(skipped.name.as_str());
        let stands =
            known.is_some_and(|versions| versions.len() > 1 && versions.remove(skipped.version.as_str()));
        if !stands {
            faults.push(format!(
                "deny.toml skips {} {} ({}), which is no duplicate any more: remove the line",
                skipped.name, skipped.version, skipped.reason
            ));
        }
    }
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        let versions: Vec<_> = versions.iter().copied().collect();
        faults.push(format!("{name} is there in several versions: {}", versions.join(", ")));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, license: &str) -> Package {
        Package { name: name.to_owned(), version: version.to_owned(), license: Some(license.to_owned()) }
    }

    #[test]
    fn licence_duplicate_ban_and_stale_skip_are_told() {
        let rules: Rules = toml::from_str(
            "[licenses]\nallow = ['MIT']\nexceptions = [{ name = 'odd', allow = ['ISC'] }]\n\
             [bans]\ndeny = [{ name = 'bad', reason = 'r' }]\n\
             skip = [{ name = 'two', version = '1.0.0', reason = 'r' }, { name = 'gone', version = '1.0.0', reason = 'r' }]\n",
        )
        .unwrap();
        let packages = [
            package("odd", "1.0.0", "ISC"),
            package("even", "1.0.0", "ISC"),
            package("bad", "1.0.0", "MIT"),
            package("two", "1.0.0", "MIT"),
            package("two", "2.0.0", "MIT"),
            package("many", "1.0.0", "MIT"),
            package("many", "2.0.0", "MIT"),
        ];
        let faults = check(&rules, &packages).join("\n");
        for expected in ["even 1.0.0: licence ISC", "bad 1.0.0 is banned", "skips gone", "many is there"] {
            assert!(faults.contains(expected), "{expected} not in {faults}");
        }
        assert_eq!(faults.lines().count(), 4, "{faults}");
    }

    #[test]
    fn dependencies_keep_the_policy() {
        run().unwrap();
    }
}
