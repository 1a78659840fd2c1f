//! Looking at the hosts themselves at the end: what was installed, what was restarted, what apt still finds.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::follow::{Followed, installed};
use super::line::{Line, LineHost, NAMESPACE};
use crate::archive::pending_upgrades;
use crate::process::run;
use crate::progress::Step;
use crate::wait;

/// What became of one host.
#[derive(Debug)]
pub struct HostOutcome {
    /// Its name.
    pub name: String,
    /// Package, version before, version now.
    pub replaced: Vec<(String, String, String)>,
    /// Updates whose rule asks for a restart, of those that were installed.
    pub restart_asked_by: BTreeSet<String>,
    /// How often it was started.
    pub boots: u32,
}

/// What became of all.
#[derive(Debug)]
pub struct Outcome {
    /// Each host.
    pub hosts: Vec<HostOutcome>,
    milestones: Vec<(String, Duration)>,
    waited: String,
}

impl Line {
    /// Checks on the hosts what the status says; an error names the first thing that is not true.
    pub fn verify(&self, followed: &Followed) -> Result<Outcome> {
        let step = Step::start("What dpkg, apt and the init of each host say to that");
        let globs = self.restart_rules()?;
        let mut hosts = Vec::new();
        for line_host in &self.hosts {
            step.detail(line_host.host.name());
            hosts.push(
                self.verify_host(line_host, &globs)
                    .with_context(|| format!("on {}", line_host.host.name()))?,
            );
        }
        followed.check()?;
        step.done("as the status says");
        Ok(Outcome {
            hosts,
            milestones: followed.milestones.clone(),
            waited: followed.waited.clone().unwrap_or_default(),
        })
    }

    fn verify_host(&self, line_host: &LineHost, globs: &[String]) -> Result<HostOutcome> {
        let LineHost { host, pending, held, .. } = line_host;
        let packages = host.dpkg_query()?;
        let mut replaced = Vec::new();
        for upgrade in pending {
            let now = installed(&packages, &upgrade.package).context("a package has gone")?;
            ensure!(
                now != &upgrade.from,
                "{} is still {}, apt has {} for it",
                upgrade.package,
                upgrade.from,
                upgrade.to
            );
            replaced.push((upgrade.package.clone(), upgrade.from.clone(), now.clone()));
        }
        let left = pending_upgrades(&self.archive.security, host.root())?;
        ensure!(left == *held, "apt still finds {left:?}, of which {held:?} was held back");
        let sources = host.dpkg_sources()?;
        let restart_asked_by: BTreeSet<_> = replaced
            .iter()
            .filter_map(|(package, ..)| sources.get(package))
            .filter(|source| globs.iter().any(|glob| matches(glob, source)))
            .cloned()
            .collect();
        let wanted = if restart_asked_by.is_empty() { 1 } else { 2 };
        let boots = host.boots();
        if boots != wanted {
            bail!(
                "{boots} boots, but {wanted} expected: rules ask for a restart because of {restart_asked_by:?}"
            );
        }
        let audit =
            run(Command::new("dpkg").arg(format!("--root={}", host.root().display())).arg("--audit"))?;
        ensure!(audit.trim().is_empty(), "dpkg --audit says: {audit}");
        wait::until("the agent to answer", Duration::from_secs(10), || {
            let text = host.exec(&["patchtide-agent", "status"]).map_err(|error| format!("{error:#}"))?;
            if text.contains("contact     never") { Err(text) } else { Ok(()) }
        })?;
        Ok(HostOutcome { name: host.name().to_owned(), replaced, restart_asked_by, boots })
    }

    /// Globs of source names for which a rule of the SoftwareUpdatePoint asks for a restart.
    fn restart_rules(&self) -> Result<Vec<String>> {
        let points = self.plane.get(&["softwareupdatepoints", "-n", NAMESPACE])?;
        let rules = points["items"].as_array().into_iter().flatten();
        Ok(rules
            .flat_map(|point| point["spec"]["updateRules"].as_array().into_iter().flatten())
            .filter(|rule| rule["restart"] == "Always")
            .filter_map(|rule| rule["match"]["source"].as_str().map(str::to_owned))
            .collect())
    }
}

impl Outcome {
    /// The table, the hosts, and where the time went.
    pub fn print(&self, line: &Line) -> Result<()> {
        let table = line.plane.kubectl(&["get", "updatedeployments", "-n", NAMESPACE])?;
        println!("\n$ kubectl get updatedeployments\n{table}");
        let deployment = line.plane.get(&["updatedeployment", "security", "-n", NAMESPACE])?;
        let compliant = deployment["status"]["compliant"].as_str().unwrap_or("-");
        println!("Compliant {compliant}. {}", sums(&deployment["status"])?);
        for host in &self.hosts {
            let reasons: Vec<_> = host.restart_asked_by.iter().map(String::as_str).collect();
            let restart = match reasons.as_slice() {
                [] => "no restart needed".to_owned(),
                reasons => format!("restarted because of {} (boot {})", reasons.join(", "), host.boots),
            };
            println!("\n{}: {} packages, {restart}", host.name, host.replaced.len());
            for (package, from, to) in &host.replaced {
                println!("  {package:<22} {from:<24} -> {to}");
            }
        }
        println!("\nBefore its window db-1 said: {}", self.waited);
        println!("\nWhere the time went");
        for (name, time) in &line.times {
            println!("  {:>6.1} s  {name}", time.as_secs_f64());
        }
        println!("  since the hosts booted:");
        for (name, time) in &self.milestones {
            println!("  {:>6.1} s  {name}", time.as_secs_f64());
        }
        Ok(())
    }
}

/// The counts add up to the number targeted, or else it is an error. A compliant client stands in the compliance counts and
/// need not stand in a row of the enforcement states too (the seeds' combined view of topics 300 and 301).
fn sums(status: &Value) -> Result<String> {
    let targeted = status["targeted"].as_u64().context("status has no number of targeted clients")?;
    let sum = |field: &str| -> u64 {
        let counts = status[field].as_array().into_iter().flatten();
        counts.filter_map(|count| count["clients"].as_u64()).sum()
    };
    let (compliance, enforcement) = (sum("compliance"), sum("enforcement"));
    let compliant = status["compliant"].as_str().and_then(|text| text.split('/').next()?.parse::<u64>().ok());
    let compliant = compliant.context("status does not say how many are compliant")?;
    ensure!(compliance == targeted, "the compliance counts add up to {compliance}, targeted are {targeted}");
    ensure!(
        enforcement == targeted || enforcement + compliant == targeted,
        "{enforcement} clients stand in enforcement states and {compliant} are compliant, targeted are {targeted}"
    );
    Ok(format!("The counts add up to the {targeted} targeted."))
}

/// `*` stands for any characters.
fn matches(glob: &str, name: &str) -> bool {
    match glob.split_once('*') {
        None => glob == name,
        Some((head, tail)) => name.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len()).any(|skip| rest.is_char_boundary(skip) && matches(tail, &rest[skip..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (glob, name, expected) in [
            ("linux*", "linux-signed", true),
            ("*ssl", "openssl", true),
            ("a*c*e", "abcde", true),
            ("xz", "xz-utils", false),
        ] {
            assert_eq!(matches(glob, name), expected, "{glob} {name}");
        }
    }
}
