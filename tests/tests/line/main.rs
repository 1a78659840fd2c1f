//! The demo's path as a test, and what comes after it: one more update, a suspended deployment, a revert; questions to the
//! running site, clients whose disk is a copy, the reporting point apart. One line for all of it: it takes minutes to make.

mod apart;
mod copies;
mod monitoring;
mod questions;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use patchtide_tests::archive::{Archive, pending_upgrades};
use patchtide_tests::demo::{Line, NAMESPACE, exclusion};
use patchtide_tests::{paths, wait};
use serde_json::Value;

/// The GitSource looks every 10 s (5 percent more or less). What is carried out says how long it took; the limit only
/// tells "carried out" from "never", also on a busy machine.
const CARRIED_OUT: Duration = Duration::from_mins(1);

fn deployment(line: &Line) -> Result<Value> {
    line.plane().get(&["updatedeployment", "security", "-n", NAMESPACE])
}

/// Waits until the deployment's object meets a condition; the error shows its status.
fn deployment_until(
    line: &Line,
    what: &str,
    limit: Duration,
    meets: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let start = Instant::now();
    let object = wait::until(what, limit, || {
        let object = deployment(line).map_err(|error| format!("{error:#}"))?;
        if meets(&object) { Ok(object) } else { Err(object["status"].to_string()) }
    })?;
    println!("{what}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(object)
}

fn updates_in_force(object: &Value) -> u64 {
    object["status"]["updates"].as_u64().unwrap_or(0)
}

/// Suspension is told by every agent itself.
fn agents_say_suspended(line: &Line, suspended: bool, limit: Duration) -> Result<Duration> {
    let start = Instant::now();
    for name in line.host_names() {
        wait::until(&format!("{name} to obey"), limit, || {
            let text = line.host(&name).and_then(|host| host.exec(&["patchtide-agent", "status"]));
            let text = text.map_err(|error| format!("{error:#}"))?;
            if text.contains("; suspended") == suspended { Ok(()) } else { Err(text) }
        })?;
    }
    Ok(start.elapsed())
}

fn missing(line: &Line, archive: &Archive) -> Result<usize> {
    let mut count = 0;
    for name in line.host_names() {
        count += pending_upgrades(&archive.security, line.host(&name)?.root())?.len();
    }
    Ok(count)
}

/// `kubectl patchtide` with this configuration and nothing of whoever runs the test.
fn program(kubeconfig: &Path) -> Result<Command> {
    let mut command = Command::new(paths::program("patchtide-cli", "kubectl-patchtide")?);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("KUBECONFIG", kubeconfig);
    Ok(command)
}

/// Exit status, standard output, standard error.
fn ended(command: &mut Command) -> Result<(i32, String, String)> {
    let output = command.output().context("cannot start kubectl-patchtide")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
}

/// Asks the site of the line.
fn ask(line: &Line, words: &[&str]) -> Result<(i32, String, String)> {
    ended(program(line.plane().kubeconfig())?.args(["-n", NAMESPACE]).args(words))
}

/// Asks as somebody else.
fn ask_as(kubeconfig: &Path, words: &[&str]) -> Result<(i32, String, String)> {
    ended(program(kubeconfig)?.args(words))
}

/// The site at this moment, without its catalogue.
fn snapshot(line: &Line) -> Result<Value> {
    let path = "/apis/reports.patchtide.dev/v1alpha1/namespaces/patchtide/snapshots/current";
    let text = line.plane().kubectl(&["get", "--raw", path])?;
    serde_json::from_str(&text).context("the snapshot is no JSON")
}

/// The YAML of a folder, in another one.
fn copy_yaml(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for path in std::fs::read_dir(from)?.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "yaml") {
            std::fs::copy(&path, to.join(path.file_name().context("no name")?))?;
        }
    }
    Ok(())
}

/// Parts that failed: the others go on, so that one run of minutes tells everything that is broken.
#[derive(Default)]
struct Parts(Vec<String>);

impl Parts {
    /// Does a part, and says how long it took.
    fn part(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        let start = Instant::now();
        let result = work();
        println!("{name}: {:.1} s", start.elapsed().as_secs_f64());
        if let Err(error) = result {
            println!("{name} FAILED: {error:#}");
            self.0.push(format!("{name}: {error:#}"));
        }
    }

    fn end(self) -> Result<()> {
        ensure!(self.0.is_empty(), "{}", self.0.join("\n\n"));
        Ok(())
    }
}

/// `clones`: only what that part needs, for whoever looks for a race in it.
const ONLY: &str = "PATCHTIDE_LINE_ONLY";

fn the_line(line: &mut Line) -> Result<()> {
    let archive = Archive::detect()?;
    let folder = tempfile::tempdir()?;
    let mut parts = Parts::default();
    let followed = line.follow(Duration::from_mins(8))?;
    line.verify(&followed)?;
    if let Ok(only) = std::env::var(ONLY) {
        ensure!(only == "clones", "{ONLY} knows the part clones, not {only}");
        parts.part("clones", || copies::cloned(line));
        return parts.end();
    }
    parts.part("windows", || questions::windows(line));
    parts.part("mistakes", || questions::mistakes(line, folder.path()));
    let held = line.held_back().context("nothing was held back")?.to_owned();
    let before = updates_in_force(&deployment(line)?);
    let repository = line.repository().clone();
    let read = |file: &str| std::fs::read_to_string(repository.path().join(file));

    // Suspended in Git: in the cluster within one interval, at the clients seconds later.
    let plain = read("update-deployment.yaml")?;
    repository
        .commit("Stop", &[("update-deployment.yaml", &format!("{}\n  suspend: true\n", plain.trim_end()))])?;
    deployment_until(line, "suspend in the cluster", CARRIED_OUT, |object| {
        object["spec"]["suspend"] == true
    })?;
    let taken = agents_say_suspended(line, true, Duration::from_secs(30))?;
    println!("suspension reached every client {:.1} s after the cluster", taken.as_secs_f64());

    // One more update: in force within one interval, but nobody starts it while the deployment is suspended.
    let list = read("update-list.yaml")?;
    let more = repository
        .commit("One more update", &[("update-list.yaml", &list.replace(&exclusion(&held), ""))])?;
    deployment_until(line, "one more update", CARRIED_OUT, |object| updates_in_force(object) == before + 1)?;
    let gap = missing(line, &archive)?;
    ensure!(gap > 0, "the update that was held back is on the hosts already");
    wait::stays("the suspended deployment's rest", Duration::from_secs(15), || {
        let now = missing(line, &archive).map_err(|error| format!("{error:#}"))?;
        if now == gap { Ok(()) } else { Err(format!("{now} instead of {gap} packages are missing")) }
    })?;

    parts.part("why", || questions::why(line, &held));
    parts.part("plan", || questions::plan(line, &[("update-deployment.yaml", &plain)]));
    parts.part("database", || questions::database(line));
    parts.part("reports while one is missing", || questions::reports(line, 0));
    let start = Instant::now();
    let earlier = copies::Earlier::take(line)?;
    println!("copies taken: {:.1} s", start.elapsed().as_secs_f64());

    // Let go: it is installed everywhere.
    repository.commit("Go on", &[("update-deployment.yaml", &plain)])?;
    deployment_until(line, "suspend gone", CARRIED_OUT, |object| object["spec"]["suspend"] != true)?;
    wait::every("the update on every host", Duration::from_mins(3), Duration::from_secs(2), || {
        let now = missing(line, &archive).map_err(|error| format!("{error:#}"))?;
        if now == 0 { Ok(()) } else { Err(format!("{now} packages are missing")) }
    })?;
    deployment_until(line, "compliance of all", Duration::from_mins(2), |object| {
        object["status"]["compliant"] == "3/3"
    })?;

    parts.part("reports when nothing is missing", || questions::reports(line, 3));
    parts.part("monitoring", || monitoring::every_query(line, folder.path()));
    parts.part("restored copies", || copies::restored(line, &earlier));

    // Reverted: out of the desired state within one interval, still on the disks, and status says so.
    repository.git(&["revert", "--no-edit", &more])?;
    deployment_until(line, "the revert", CARRIED_OUT, |object| updates_in_force(object) == before)?;
    ensure!(missing(line, &archive)? == 0, "a revert must not take packages off the hosts");
    deployment_until(line, "a word on what cannot be undone", CARRIED_OUT, |object| {
        object["status"]["conditions"].to_string().contains("stays installed")
    })?;
    parts.part("clones", || copies::cloned(line));
    // Afterwards nobody answers for the reports.
    parts.part("the reporting point apart", || apart::reporting_point(line, folder.path()));
    parts.end()
}

#[test]
fn from_a_commit_to_patched_machines_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut line = Line::start_with(folder.path(), true).unwrap();
    if let Err(error) = the_line(&mut line) {
        line.print_logs();
        panic!("{error:#}");
    }
}
