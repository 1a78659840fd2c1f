//! Watching a line until every host is compliant: what changes is said, what must not happen ends it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::line::{Line, LineHost, NAMESPACE};
use crate::clock::{time_of_day, unix_now};

/// The states in which a client says that it waits for a window or has what it needs (the seeds' names).
const WAITING: &str = "Waiting for maintenance window before installing";

/// What was seen on the way.
#[derive(Debug, Default)]
pub struct Followed {
    /// Milestones with the time since the commit.
    pub milestones: Vec<(String, Duration)>,
    /// What the windowed host said while it waited.
    pub waited: Option<String>,
    /// The window's opening as the deployment's status told it.
    pub told_by_status: Option<String>,
    /// Something that the status said and that was not so.
    pub untrue: Option<String>,
}

/// What is already known, so that only news is printed.
#[derive(Debug)]
struct Watch {
    start: Instant,
    last_news: Instant,
    said: BTreeMap<String, String>,
    followed: Followed,
}

impl Watch {
    /// Prints a line when it differs from what was said of this subject before.
    fn say(&mut self, subject: &str, text: String) {
        if text.is_empty() || self.said.get(subject) == Some(&text) {
            return;
        }
        println!("    {:>4.0} s  {subject}: {text}", self.start.elapsed().as_secs_f64());
        self.last_news = Instant::now();
        self.said.insert(subject.to_owned(), text);
    }

    /// Notes the first time that something holds.
    fn reached(&mut self, name: &str, holds: bool) {
        if holds && !self.followed.milestones.iter().any(|(known, _)| known == name) {
            self.followed.milestones.push((name.to_owned(), self.start.elapsed()));
        }
    }
}

impl Line {
    /// Watches until all hosts are compliant, at most for `limit`.
    pub fn follow(&mut self, limit: Duration) -> Result<Followed> {
        println!("==> Catalogue -> scan -> list -> package -> policy -> installation -> restart -> state");
        println!("    the window of db-1 opens at {} UTC", time_of_day(self.window));
        let now = Instant::now();
        let mut watch =
            Watch { start: now, last_news: now, said: BTreeMap::new(), followed: Followed::default() };
        loop {
            self.plane.check()?;
            self.server.check()?;
            let list = self.plane.get(&["patchtide", "-n", NAMESPACE])?;
            let objects = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            for object in objects {
                tell(&mut watch, object);
            }
            let mut patched = true;
            for host in &self.hosts {
                patched &= self.look_at(&mut watch, host)?;
            }
            let told = done(objects, self.hosts.len(), self.expected_updates());
            if told && !patched {
                let text = "says that all are compliant while a host still has old packages".to_owned();
                watch.say("status of the deployment", text.clone());
                watch.followed.untrue = Some(text);
            }
            if told && patched {
                watch.reached("compliant", true);
                return Ok(watch.followed);
            }
            if watch.start.elapsed() > limit {
                bail!("not compliant after {:.0} s; above stands what was reached", limit.as_secs_f64());
            }
            if watch.last_news.elapsed() > Duration::from_secs(2) {
                let left = self.window.saturating_sub(unix_now());
                let what =
                    if left > 0 { format!("{left} s to the window of db-1") } else { "at work".to_owned() };
                println!("    {:>4.0} s  ... {what}", watch.start.elapsed().as_secs_f64());
                watch.last_news = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(700));
        }
    }

    /// True when the host has everything that it missed at first.
    fn look_at(&self, watch: &mut Watch, line_host: &LineHost) -> Result<bool> {
        let LineHost { host, windowed, pending, .. } = line_host;
        let name = host.name().to_owned();
        let boots = host.boots();
        if boots > 1 {
            watch.say(&format!("{name} boots"), format!("restarted, boot {boots}"));
            watch.reached(&format!("{name} restarted"), true);
        }
        let packages = host.dpkg_query().unwrap_or_default();
        let changed = pending
            .iter()
            .filter(|upgrade| installed(&packages, &upgrade.package) != Some(&upgrade.from))
            .count();
        if changed > 0 {
            watch.say(&format!("{name} packages"), format!("{changed} of {} replaced", pending.len()));
            watch.reached(&format!("{name} installs"), true);
            if *windowed && unix_now() < self.window {
                bail!(
                    "{name} began to install before its maintenance window opened at {}",
                    time_of_day(self.window)
                );
            }
        }
        if let Some(answer) = status_of(line_host) {
            let (state, _) = agent_state(&answer);
            watch.say(&name, state);
            if *windowed
                && unix_now() < self.window
                && watch.followed.waited.is_none()
                && let Some(gate) = closed_window(&answer)
            {
                watch.say(&format!("{name} window"), gate.clone());
                watch.reached(&format!("{name} waits for its window"), true);
                watch.followed.waited = Some(gate);
            }
        }
        Ok(changed == pending.len())
    }
}

/// The version of an installed package; dpkg adds the architecture to the names of some.
pub(super) fn installed<'a>(packages: &'a BTreeMap<String, String>, name: &str) -> Option<&'a String> {
    packages.get(name).or_else(|| {
        let prefix = format!("{name}:");
        packages.iter().find(|(known, _)| known.starts_with(&prefix)).map(|(_, version)| version)
    })
}

/// The agent's own word, none while it is down.
fn status_of(line_host: &LineHost) -> Option<Value> {
    let text = line_host.host.exec(&["patchtide-agent", "status", "--json"]).ok()?;
    serde_json::from_str(&text).ok()
}

/// What the agent says about its deployments, and its last failure.
fn agent_state(answer: &Value) -> (String, Option<String>) {
    let deployments = answer["decision"]["deployments"].as_object();
    let states: Vec<String> = deployments
        .into_iter()
        .flatten()
        .filter_map(|(_, verdict)| Some(verdict["enforcement"].as_str()?.replace('-', " ")))
        .collect();
    (states.join(", "), answer["lastFailure"]["output"].as_str().map(str::to_owned))
}

/// A closed window gate anywhere in the decision: the agent's words for what it waits for.
fn closed_window(answer: &Value) -> Option<String> {
    fn search(value: &Value) -> Option<String> {
        match value {
            Value::Object(fields) => {
                if value["kind"] == "window"
                    && let Some(at) = value["status"]["closed"]["at"].as_str()
                {
                    let reason = value["reason"].as_str().unwrap_or_default();
                    return Some(format!(
                        "waits until {at}: {reason} [{}]",
                        value["object"].as_str().unwrap_or_default()
                    ));
                }
                fields.values().find_map(search)
            }
            Value::Array(items) => items.iter().find_map(search),
            _ => None,
        }
    }
    search(&answer["decision"])
}

/// One line about an object of the site.
fn tell(watch: &mut Watch, object: &Value) {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let status = &object["status"];
    let number = |field: &str| status[field].as_u64().unwrap_or(0);
    let ready = condition(object, "Ready");
    let in_force = ready.is_some_and(|condition| condition["status"] == "True");
    let text = match kind.as_str() {
        "GitSource" => {
            watch.reached("commit applied", in_force);
            format!("{} objects, {} failed", status["inventory"]["objects"], status["inventory"]["failed"])
        }
        "SoftwareUpdatePoint" => {
            watch.reached("catalogue synced", status["lastSuccessTime"].is_string());
            match status["progress"]["summary"].as_str() {
                Some(summary) => summary.to_owned(),
                None => format!(
                    "catalogue version {}, {} updates",
                    number("catalogueVersion"),
                    status["updates"]["total"]
                ),
            }
        }
        "Site" => {
            watch.reached("hosts enrolled", status["clients"]["active"].as_u64() >= Some(3));
            format!("{} clients, {} pending", status["clients"]["active"], status["clients"]["pending"])
        }
        "SearchFolder" => format!("{} updates", number("matches")),
        "UpdateList" => {
            watch.reached("list resolved", number("resolved") > 0);
            format!("{} updates", number("resolved"))
        }
        "DeploymentPackage" => {
            let all = status["distributed"].as_str().unwrap_or("0/0");
            watch.reached("package on the distribution point", all == "1/1" && number("files") > 0);
            format!(
                "version {}, {}, on {all} distribution points",
                number("version"),
                status["size"].as_str().unwrap_or("-")
            )
        }
        "UpdateDeployment" => {
            watch.reached("deployment in force", in_force && number("updates") > 0);
            if status["nextWindow"].is_string()
                && watch.followed.told_by_status.is_none()
                && number("waitingForWindow") > 0
            {
                watch.followed.told_by_status = status["nextWindow"].as_str().map(str::to_owned);
            }
            format!("compliant {}: {}", status["compliant"].as_str().unwrap_or("-"), states(status))
        }
        _ => String::new(),
    };
    let trouble = ready.filter(|condition| condition["status"] == "False").map(|condition| {
        format!(
            " [{}: {}]",
            condition["reason"].as_str().unwrap_or(""),
            condition["message"].as_str().unwrap_or("")
        )
    });
    if !text.is_empty() || trouble.is_some() {
        watch.say(&format!("{kind}/{name}"), text + &trouble.unwrap_or_default());
    }
}

/// Counts per enforcement state that are not zero.
fn states(status: &Value) -> String {
    let counts = status["enforcement"].as_array().map(Vec::as_slice).unwrap_or_default();
    let words: Vec<_> = counts
        .iter()
        .filter(|count| count["clients"].as_u64() > Some(0))
        .map(|count| format!("{} {}", count["clients"], count["state"].as_str().unwrap_or_default()))
        .collect();
    words.join(", ")
}

pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// All targeted clients compliant with at least the updates that apt finds too, and the roll-out over. (A deployment of
/// nothing is compliant at once; that is not what is waited for.)
fn done(objects: &[Value], hosts: usize, updates: usize) -> bool {
    let all = format!("{hosts}/{hosts}");
    objects.iter().filter(|object| object["kind"] == "UpdateDeployment").any(|object| {
        object["status"]["compliant"] == all.as_str()
            && object["status"]["updates"].as_u64().is_some_and(|count| count >= updates as u64)
            && condition(object, "RolledOut").is_none_or(|condition| condition["status"] == "True")
    })
}

impl Followed {
    /// The windowed host said that it waited, until when, and the status said so too.
    pub(super) fn check(&self) -> Result<()> {
        self.waited.as_ref().context("the windowed host never said that it waits for its window")?;
        self.told_by_status.as_ref().with_context(|| {
            format!("the deployment's status never showed a client in {WAITING:?} with the next window")
        })?;
        if let Some(untrue) = &self.untrue {
            bail!("for a while the status of the deployment was wrong: it {untrue}");
        }
        Ok(())
    }
}
