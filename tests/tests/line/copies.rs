//! Clients whose disk is a copy: restored to an earlier moment, and cloned to another machine. The site that they report to
//! is the real one, and in the end it says what the machines are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use patchtide_tests::demo::Line;
use patchtide_tests::host::Host;
use patchtide_tests::process::run;
use patchtide_tests::wait;
use serde_json::Value;

use crate::{deployment_until, snapshot};

/// The agent's state on a host.
const STATE: &str = "var/lib/patchtide";
/// What the log says of a restored copy.
const RESTORED: &str = "its state was restored from a copy; everything is told anew";
/// What the log says of a clone that knows that it is one.
const CLONED: &str = "the state is of another machine, whose disk was copied";

/// What was kept at an earlier moment: the agent's state of web-1, the whole disk of web-2.
pub(crate) struct Earlier {
    folder: tempfile::TempDir,
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").args(["--archive", "--reflink=auto"]).arg(from).arg(to)).map(drop)
}

/// The host is down at once while its disk is worked on, as in a snapshot of a virtual machine.
fn powered_off(host: &Host, work: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    host.crash()?;
    wait::until("the power to be off", Duration::from_secs(10), || {
        if host.is_up() { Err("still up".to_owned()) } else { Ok(()) }
    })?;
    work(host.root())?;
    host.start()
}

impl Earlier {
    /// Takes the copies.
    pub(crate) fn take(line: &Line) -> Result<Self> {
        let folder = tempfile::tempdir().context("no folder for the copies")?;
        powered_off(line.host("web-1")?, |root| copy(&root.join(STATE), &folder.path().join("state")))?;
        powered_off(line.host("web-2")?, |root| copy(root, &folder.path().join("disk")))?;
        Ok(Self { folder })
    }
}

/// Whether apt began a transaction, by its own log.
fn transactions(root: &Path) -> usize {
    let log = fs::read_to_string(root.join("var/log/apt/history.log")).unwrap_or_default();
    log.matches("Start-Date: ").count()
}

/// Who the clients of the site are: name to id.
fn clients(snapshot: &Value) -> BTreeMap<String, String> {
    let clients = snapshot["input"]["clients"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    clients.map(|client| (text(&client["name"]), text(&client["id"]))).collect()
}

/// What the agent says of each deployed update: state and detection.
fn said_by_agent(host: &Host) -> Result<BTreeMap<String, (Value, Value)>> {
    let text = host.exec(&["patchtide-agent", "why", "-o", "json"])?;
    let why: Value = serde_json::from_str(&text).context("why is no JSON")?;
    Ok(states(&why))
}

fn states(why: &Value) -> BTreeMap<String, (Value, Value)> {
    let updates = why["updates"].as_array().into_iter().flatten();
    let id = |update: &Value| update["id"].as_str().unwrap_or_default().to_owned();
    updates.map(|update| (id(update), (update["detection"].clone(), update["state"].clone()))).collect()
}

/// The site and the client say the same of every deployed update, and each is installed.
fn agree(line: &Line, host: &Host) -> Result<()> {
    let name = host.name().to_owned();
    wait::until(&format!("the site and {name} to agree"), Duration::from_mins(1), || {
        let agent = said_by_agent(host).map_err(|error| format!("{error:#}"))?;
        let (_, text, _) =
            crate::ask(line, &["why", &name, "-o", "json"]).map_err(|error| format!("{error:#}"))?;
        let site = states(&serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?);
        let installed = |(detection, _): &(Value, Value)| detection["id"] == 3;
        if site == agent && !site.is_empty() && site.values().all(installed) {
            Ok(())
        } else {
            Err(format!("the agent says {agent:?}, the site {site:?}"))
        }
    })
}

/// reliability.md 2: the agent's state, and a whole disk, as they were before the last update came. Both notice; nothing is
/// installed twice on the one, the other gets again what it lacks; nobody enrols anew.
pub(crate) fn restored(line: &Line, earlier: &Earlier) -> Result<()> {
    let before = clients(&snapshot(line)?);
    let (one, two) = (line.host("web-1")?, line.host("web-2")?);
    let (done_one, done_two) = (transactions(one.root()), transactions(two.root()));
    let away = |root: &Path, name: &str| -> PathBuf { root.with_file_name(name) };
    powered_off(one, |root| {
        fs::rename(root.join(STATE), away(root, "state-before")).context("the state cannot be moved")?;
        copy(&earlier.folder.path().join("state"), &root.join(STATE))
    })?;
    powered_off(two, |root| {
        fs::rename(root, away(root, "root-before")).context("the disk cannot be moved")?;
        copy(&earlier.folder.path().join("disk"), root)
    })?;
    ensure!(transactions(two.root()) < done_two, "the copy of the disk is not an earlier one");
    for host in [one, two] {
        wait::until(&format!("{} to notice", host.name()), Duration::from_mins(1), || {
            let log = host.console_tail(400);
            if log.contains(RESTORED) { Ok(()) } else { Err(host.console_tail(10)) }
        })?;
    }
    wait::until("the restored disk to get its update again", Duration::from_mins(2), || {
        let now = transactions(two.root());
        if now >= done_two { Ok(()) } else { Err(format!("{now} of {done_two} transactions")) }
    })?;
    deployment_until(line, "compliance after the restore", Duration::from_mins(2), |object| {
        object["status"]["compliant"] == "3/3"
    })?;
    for host in [one, two] {
        agree(line, host)?;
    }
    ensure!(transactions(one.root()) == done_one, "the state alone was restored: nothing is installed again");
    ensure!(transactions(two.root()) == done_two, "the restored disk got its update once");
    let after = snapshot(line)?;
    ensure!(clients(&after) == before, "{:?} became {:?}", before, clients(&after));
    Ok(())
}

/// reliability.md 3: a disk that was copied. The clone that has a machine-id of its own becomes a client of its own; the
/// first one goes on as if nothing had happened. A clone that is the same machine by all that it knows is stopped, with
/// its original.
pub(crate) fn cloned(line: &Line) -> Result<()> {
    let original = line.host("web-1")?;
    let ids = clients(&snapshot(line)?);
    let reported = |snapshot: &Value, name: &str| -> Result<Value> {
        let id = clients(snapshot).remove(name).with_context(|| format!("no client {name}"))?;
        Ok(snapshot["reports"][&id]["updates"].clone())
    };
    let before = reported(&snapshot(line)?, "web-1")?;
    let clone = line.another_host("web-3", 21)?;
    copy_agent(original, &clone)?;
    clone.start()?;
    wait::until("the clone to notice", Duration::from_secs(30), || {
        if clone.console_tail(200).contains(CLONED) { Ok(()) } else { Err(clone.console_tail(10)) }
    })?;
    deployment_until(line, "the clone's compliance", Duration::from_mins(4), |object| {
        object["status"]["compliant"] == "4/4"
    })?;
    agree(line, &clone)?;
    agree(line, original)?;
    let site = snapshot(line)?;
    let now = clients(&site);
    let known: BTreeMap<_, _> =
        now.iter().filter(|(name, _)| *name != "web-3").map(|(a, b)| (a.clone(), b.clone())).collect();
    ensure!(known == ids, "the others are who they were: {ids:?} {now:?}");
    let different: BTreeSet<_> = now.values().collect();
    ensure!(now.len() == ids.len() + 1 && different.len() == now.len(), "an identity of its own: {now:?}");
    ensure!(reported(&site, "web-1")? == before, "nothing of the clone stands in the original's books");
    ensure!(
        fs::read_dir(clone.root().join(STATE))?
            .flatten()
            .any(|entry| { entry.file_name().to_string_lossy().starts_with("of-machine-") }),
        "what the clone brought is kept aside"
    );

    // The same once more, and the clone cannot know: the machine-id was copied too.
    let original = line.host("web-2")?;
    let twin = line.another_host("web-4", 22)?;
    copy_agent(original, &twin)?;
    twin.write("/etc/machine-id", &fs::read_to_string(original.root().join("etc/machine-id"))?)?;
    twin.start()?;
    let asked = |host: &Host| host.exec(&["patchtide-agent", "scan"]).map(drop);
    wait::every("both to be quarantined", Duration::from_mins(2), Duration::from_secs(2), || {
        // Both have something to say.
        for host in [&twin, original] {
            let _ = asked(host);
        }
        let site = line.plane().get(&["sites", "-n", patchtide_tests::demo::NAMESPACE]);
        let site = site.map_err(|error| format!("{error:#}"))?;
        let counts = site["items"][0]["status"]["clients"].clone();
        if counts["quarantined"] == 1 { Ok(()) } else { Err(counts.to_string()) }
    })?;
    for host in [&twin, original] {
        wait::until("the agent to say so", Duration::from_mins(1), || {
            let text = host.exec(&["patchtide-agent", "status"]).map_err(|error| format!("{error:#}"))?;
            if text.contains("QUARANTINED") { Ok(()) } else { Err(text) }
        })?;
    }
    Ok(())
}

/// The state of the one, and how it finds its site, to the other; nothing else, and the other keeps its machine-id.
fn copy_agent(from: &Host, to: &Host) -> Result<()> {
    let bundle = fs::read_to_string(from.root().join("etc/patchtide/bundle.json"))?;
    to.write("/etc/patchtide/bundle.json", &bundle)?;
    copy(&from.root().join(STATE), &to.root().join(STATE))
}
