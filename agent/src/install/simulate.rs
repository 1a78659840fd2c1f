//! What apt says it would do, and whether that is approved. Parsed before anything starts.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Output,
};

use patchtide_model::catalogue::{Leaf, LeafRef};
use patchtide_packaging::{Version, status::StatusEntry};

use super::{
    error::{InstallError, Missing},
    outcome,
};
use crate::scan::Machine;

/// A package that would be installed or upgraded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    /// Name.
    pub package: String,
    /// Architecture of the new version.
    pub architecture: String,
    /// Version now.
    pub old: Option<String>,
    /// Version then.
    pub new: String,
}

impl Install {
    /// `name:architecture`, as apt's tools take it.
    pub fn qualified(&self) -> String {
        if self.architecture == "all" {
            self.package.clone()
        } else {
            format!("{}:{}", self.package, self.architecture)
        }
    }
}

/// What would happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Installed or upgraded.
    pub installs: Vec<Install>,
    /// Removed.
    pub removals: Vec<String>,
}

/// Reads the output of `apt-get -s`.
pub fn parse(output: &Output, wanted: &BTreeSet<LeafRef>) -> Result<Transaction, InstallError> {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let missing = missing(&text, &errors, wanted);
        if !missing.is_empty() {
            return Err(InstallError::Missing(missing));
        }
        return Err(InstallError::Program {
            program: "apt-get".to_owned(),
            status: output.status.to_string(),
            output: outcome::tail(&[&output.stdout[..], &output.stderr[..]].concat()),
        });
    }
    let mut transaction = Transaction::default();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("Inst ") {
            transaction.installs.extend(install_line(rest));
        } else if let Some(rest) = line.strip_prefix("Remv ").or_else(|| line.strip_prefix("Purg ")) {
            transaction.removals.extend(rest.split_whitespace().next().map(str::to_owned));
        }
    }
    Ok(transaction)
}

/// `perl [5.36.0-7] (5.36.0-7+deb12u3 localhost [amd64]) [...]`
fn install_line(rest: &str) -> Option<Install> {
    let (name, rest) = rest.split_once(' ')?;
    let rest = rest.trim_start();
    let (old, rest) = match rest.strip_prefix('[') {
        Some(inner) => {
            let (old, after) = inner.split_once(']')?;
            (Some(old.to_owned()), after.trim_start())
        }
        None => (None, rest),
    };
    let inner = rest.strip_prefix('(')?.split_once(')')?.0;
    let new = inner.split_whitespace().next()?.to_owned();
    let architecture = inner.rsplit_once('[')?.1.trim_end_matches(']').to_owned();
    let package = name.split(':').next()?.to_owned();
    Some(Install { package, architecture, old, new })
}

/// What apt misses, from its list of unmet dependencies or its errors about versions it does not have.
fn missing(text: &str, errors: &str, wanted: &BTreeSet<LeafRef>) -> Vec<Missing> {
    let mut found = Vec::new();
    let mut last = String::new();
    for line in text.lines().filter(|line| line.starts_with(' ')) {
        // ` a : Depends: b (>= 2) but it is not installable`, then more of the same package with an empty name.
        let Some((name, relation)) = line.split_once(": ") else { continue };
        let name = name.trim().trim_end_matches(':').trim();
        let relation = if ["Depends", "PreDepends", "Pre-Depends"].contains(&name) {
            relation
        } else {
            if !name.is_empty() {
                name.split(':').next().unwrap_or(name).clone_into(&mut last);
            }
            match relation.trim_start().split_once(": ") {
                Some(("Depends" | "PreDepends" | "Pre-Depends", relation)) => relation,
                _ => continue,
            }
        };
        let needs = relation.split(" but ").next().unwrap_or(relation).trim().to_owned();
        if !last.is_empty() {
            found.push(Missing { package: last.clone(), needs });
        }
    }
    for line in errors.lines() {
        // `E: Version '2' for 'a:amd64' was not found`, `E: Unable to locate package a`
        let name = line
            .strip_prefix("E: Version '")
            .and_then(|rest| rest.split('\'').nth(2))
            .or_else(|| line.strip_prefix("E: Unable to locate package "));
        if let Some(name) = name {
            let package = name.split(':').next().unwrap_or(name).to_owned();
            let needs = wanted
                .iter()
                .find(|leaf| leaf.package == package)
                .map_or_else(|| name.to_owned(), |leaf| format!("its own file of version {}", leaf.version));
            found.push(Missing { package, needs });
        }
    }
    found
}

/// Candidates by package name from `apt-cache policy`; of several architectures all.
pub fn candidates(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut package = None;
    for line in text.lines() {
        if !line.starts_with(' ') {
            package = line.strip_suffix(':').map(|name| name.split(':').next().unwrap_or(name).to_owned());
        } else if let (Some(package), Some(version)) = (&package, line.trim().strip_prefix("Candidate: ")) {
            found.entry(package.clone()).or_default().insert(version.trim().to_owned());
        }
    }
    found
}

/// Whether what would happen is what was approved.
pub fn judge(
    transaction: &Transaction,
    machine: &Machine,
    approved: &[&Leaf],
    wanted: &BTreeSet<LeafRef>,
    allow_remove: bool,
) -> Result<(), InstallError> {
    let named = |found: Vec<String>, error: fn(Vec<String>) -> InstallError| {
        if found.is_empty() { Ok(()) } else { Err(error(found)) }
    };
    let is_approved = |install: &&Install| {
        approved.iter().any(|leaf| {
            leaf.package == install.package
                && leaf.version == install.new
                && leaf.architecture == install.architecture
        })
    };
    let unapproved = transaction.installs.iter().filter(|install| !is_approved(install));
    named(unapproved.map(|i| format!("{} {}", i.qualified(), i.new)).collect(), InstallError::Unapproved)?;

    let older = transaction.installs.iter().filter(|install| {
        install.old.as_deref().is_some_and(|old| match (Version::parse(old), Version::parse(&install.new)) {
            (Ok(old), Ok(new)) => new < old,
            _ => false,
        })
    });
    named(older.map(|i| i.package.clone()).collect(), InstallError::Downgrade)?;

    let held = transaction.installs.iter().filter(|install| {
        machine.matching(&install.package, &install.architecture).any(StatusEntry::is_held)
    });
    named(held.map(|i| i.package.clone()).collect(), InstallError::Held)?;

    let plain = |name: &String| name.split(':').next().unwrap_or(name).to_owned();
    let vital = transaction
        .removals
        .iter()
        .map(plain)
        .filter(|name| name == "patchtide-agent" || machine.named(name).any(|entry| entry.essential));
    named(vital.collect(), InstallError::Dangerous)?;
    if !allow_remove {
        named(transaction.removals.clone(), InstallError::Removal)?;
    }

    let left_out = wanted.iter().filter(|leaf| {
        let happens = transaction.installs.iter().any(|i| i.package == leaf.package && i.new == leaf.version);
        // A package between two states is configured without being installed again.
        let completed = machine
            .matching(&leaf.package, &leaf.architecture)
            .any(|entry| entry.version.as_ref().is_some_and(|v| v.as_str() == leaf.version));
        !happens && !completed
    });
    named(left_out.map(|leaf| leaf.package.clone()).collect(), InstallError::LeftOut)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn output(code: i32, stdout: &str, stderr: &str) -> Output {
        Output {
            status: std::process::ExitStatus::from_raw(code << 8),
            stdout: stdout.into(),
            stderr: stderr.into(),
        }
    }

    #[test]
    fn apts_lines_are_read() {
        let text = "Reading...\nInst a [1] (2 localhost [amd64]) [b:amd64 ]\nInst b:i386 (3:2-1 x, y [i386])\nInst c [1] (2 [all])\n\
                    Remv old [1]\nConf a (2 localhost [amd64])\n";
        let found = parse(&output(0, text, ""), &BTreeSet::new()).unwrap();
        let line = |i: &Install| format!("{} {} {:?} {}", i.package, i.architecture, i.old, i.new);
        let lines: Vec<String> = found.installs.iter().map(line).collect();
        assert_eq!(lines, ["a amd64 Some(\"1\") 2", "b i386 None 3:2-1", "c all Some(\"1\") 2"]);
        assert_eq!(found.removals, ["old"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = "The following packages have unmet dependencies:\n perl : Depends: perl-base (= 5.36.0-7+deb12u3) but it is not installable\n        \
                    Depends: libperl5.36 (= 2) but 1 is to be installed\n other:i386 : PreDepends: x but it is not installable\n";
        let errors = "E: Unable to correct problems, you have held broken packages.\n";
        let Err(InstallError::Missing(found)) = parse(&output(100, text, errors), &BTreeSet::new()) else {
            panic!()
        };
        let found: Vec<String> = found.iter().map(|m| format!("{}>{}", m.package, m.needs)).collect();
        assert_eq!(found, ["perl>perl-base (= 5.36.0-7+deb12u3)", "perl>libperl5.36 (= 2)", "other>x"]);
        let errors = "E: Version '2' for 'a:amd64' was not found\nE: Unable to locate package b\n";
        let Err(InstallError::Missing(found)) = parse(&output(100, "", errors), &BTreeSet::new()) else {
            panic!()
        };
        assert_eq!(found.iter().map(|m| m.package.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn candidates_are_read() {
        let text = "openssl:\n  Installed: 1\n  Candidate: 1\n  Version table:\n     2 500\nlibx:i386:\n  Candidate: (none)\n";
        let found = candidates(text);
        assert!(found["openssl"].contains("1") && found["libx"].contains("(none)"));
    }
}
