//! What is left when the machine goes down in the middle of dpkg.

use std::{
    collections::BTreeMap,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use patchtide_agent::{
    install::{Prepared, operation::Standing, outcome::Verdict, recover},
    scan::{Machine, interrupted},
};

use crate::ground::Ground;

/// What runs below the root: the supervisor, apt, dpkg, scripts; and the agent that looks after it.
pub(crate) fn processes(ground: &Ground) -> (Vec<i32>, Vec<i32>) {
    let root = ground.site.root.folder().to_owned();
    let (mut working, mut agents) = (Vec::new(), Vec::new());
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let below = fs::read_link(entry.path().join("root")).is_ok_and(|at| at == root);
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let ours = line.contains(root.to_str().unwrap());
        if below || ours && line.contains("supervise") {
            working.push(pid);
        } else if ours && line.contains("patchtide-agent") {
            agents.push(pid);
        }
    }
    (working, agents)
}

/// Ends everything that runs below the root at once, as a power cut would: the supervisor, apt, dpkg, scripts.
pub(crate) fn cut_power(ground: &Ground) {
    for _ in 0..5 {
        let (working, _) = processes(ground);
        for pid in &working {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        if working.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_mins(1), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn recovered(ground: &Ground) {
    let machine = Machine::read(&ground.site.root).unwrap();
    assert!(interrupted(&ground.site.root, &machine, true).is_some());
    assert!(matches!(
        recover::start(&ground.site, None, jiff::Timestamp::UNIX_EPOCH).unwrap(),
        Prepared::Started
    ));
    assert!(matches!(ground.wait(), Standing::Ended(..)));
    let machine = Machine::read(&ground.site.root).unwrap();
    assert_eq!(interrupted(&ground.site.root, &machine, true), None);
    assert_eq!(ground.run(&["dpkg", "--audit"]), "");
}

#[test]
fn a_cut_while_configuring_is_recovered() {
    let mut ground = Ground::new();
    for name in ["demo-a", "demo-b"] {
        ground.install_by_hand(&ground.package(name, "1", "", &[]));
    }
    // Slow only the first time.
    let script = "if [ ! -e /run/slow ]; then touch /run/slow; sleep 60; fi";
    ground.approve(ground.package("demo-a", "2", "", &[("postinst", script)]));
    ground.approve(ground.package("demo-b", "2", "", &[]));
    assert!(matches!(ground.prepare(&ground.batch()).unwrap(), Prepared::Started));
    until("the script runs", || ground.site.root.path("/run/slow").exists());
    cut_power(&ground);
    assert!(matches!(ground.wait(), Standing::Lost(_)));
    recovered(&ground);
    assert_eq!(ground.install(), Verdict::Done(BTreeMap::new()));
    assert_eq!(ground.version("demo-a"), "installed 2");
    assert_eq!(ground.version("demo-b"), "installed 2");
}

#[test]
fn a_cut_while_unpacking_is_recovered() {
    let mut ground = Ground::new();
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    // Between unpacking and removing the old files dpkg asks the old package; there it is cut off.
    let slow = "if [ ! -e /run/slow ]; then touch /run/slow; sleep 60; fi";
    ground.approve(ground.package("demo-a", "2", "", &[("preinst", slow)]));
    assert!(matches!(ground.prepare(&ground.batch()).unwrap(), Prepared::Started));
    until("the script runs", || ground.site.root.path("/run/slow").exists());
    cut_power(&ground);
    assert!(matches!(ground.wait(), Standing::Lost(_)));
    recovered(&ground);
    assert_eq!(ground.version("demo-a"), "installed 2", "unpacked anew from the file of the operation");
}

/// What dpkg says of the package: want, flag, state.
fn words_of(ground: &Ground, package: &str) -> String {
    ground.run(&["dpkg-query", "-W", "-f", "${Status}", package])
}

/// reliability.md 4 #70: cut off between the new files and the old package's last word, by this agent's own operation, by
/// another hand while an approved file is in the cache, and by another hand that used apt. Unpacked anew, and on it goes.
#[test]
fn bad_input_70_what_must_be_installed_anew_is_unpacked_from_a_cached_file() {
    for by in ["the agent", "another hand", "apt"] {
        let mut ground = Ground::new();
        let slow = "if [ \"$1\" = upgrade ] && [ ! -e /run/slow ]; then touch /run/slow; sleep 60; fi";
        ground.install_by_hand(&ground.package("demo-a", "1:1", "", &[("postrm", slow)]));
        ground.install_by_hand(&ground.package("demo-b", "1", "", &[]));
        let new = ground.package("demo-a", "1:2", "", &[]);
        let file = ground.site.cache.path(&new.file.sha256);
        let inside = format!("/var/lib/patchtide/cache/{}", new.file.sha256);
        if by == "apt" {
            let archives = ground.site.root.path("/var/cache/apt/archives");
            fs::create_dir_all(&archives).unwrap();
            fs::copy(&file, archives.join("demo-a_1%3a2_all.deb")).unwrap();
        } else {
            ground.approve(new.clone());
        }
        ground.approve(ground.package("demo-b", "2", "", &[]));
        let mut other = None;
        if by == "the agent" {
            assert!(matches!(ground.prepare(&ground.batch()).unwrap(), Prepared::Started));
        } else {
            other = Some(ground.site.root.command(&["dpkg", "-i", &inside]).spawn().unwrap());
        }
        until("the script runs", || ground.site.root.path("/run/slow").exists());
        cut_power(&ground);
        match &mut other {
            Some(other) => drop(other.wait().unwrap()),
            None => assert!(matches!(ground.wait(), Standing::Lost(_))),
        }
        assert_eq!(words_of(&ground, "demo-a"), "install reinstreq half-installed", "{by}");
        let configured = ground.output(&["dpkg", "--configure", "-a"]);
        let said = String::from_utf8_lossy(&configured.stderr).into_owned();
        assert!(words_of(&ground, "demo-a").contains("reinstreq"), "that alone does not help: {said}");
        if by == "apt" {
            ground.site.cache.discard(&new.file.sha256).unwrap();
        }

        let body = crate::fixture::body(&ground.updates, vec![]);
        let started = recover::start(&ground.site, Some(&body), jiff::Timestamp::UNIX_EPOCH).unwrap();
        assert!(matches!(started, Prepared::Started));
        assert!(matches!(ground.wait(), Standing::Ended(_, ended) if ended.success), "{by}");
        assert_eq!(words_of(&ground, "demo-a"), "install ok installed", "{by}");
        assert_eq!(ground.version("demo-a"), "installed 1:2", "{by}");
        assert_eq!(ground.run(&["dpkg", "--audit"]), "");
        assert_eq!(ground.install(), Verdict::Done(BTreeMap::new()), "{by}: it goes on");
        assert_eq!(ground.version("demo-b"), "installed 2", "{by}");
    }
}

/// An agent that was replaced by its own update, or a disk that rots: what nobody can read is waited for, and looked at by
/// what it did; the agent starts in any case.
#[test]
fn an_operation_that_cannot_be_read_is_no_obstacle() {
    let mut ground = Ground::new();
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    ground.approve(ground.package("demo-a", "2", "", &[("postinst", "sleep 2")]));
    assert!(matches!(ground.prepare(&ground.batch()).unwrap(), Prepared::Started));
    let folder = patchtide_agent::install::operation::folder(&ground.site);
    fs::write(folder.join("record.json"), r#"{"kind":"Later"}"#).unwrap();
    let look = || patchtide_agent::install::operation::look(&ground.site).unwrap().unwrap();
    assert!(matches!(look(), Standing::Running(_)));
    let Standing::Ended(record, ended) = ground.wait() else { panic!("lost") };
    assert!(record.batch.is_none() && ended.success);
    assert_eq!(ground.version("demo-a"), "installed 2");
    fs::write(folder.join("result.json"), "{").unwrap();
    assert!(matches!(look(), Standing::Lost(_)), "dpkg is looked after, then");
}

/// The agent may be killed; apt and dpkg are not, and the next agent learns how they ended.
#[test]
fn the_operation_outlives_whoever_started_it() {
    let mut ground = Ground::new();
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    ground.approve(ground.package("demo-a", "2", "", &[("postinst", "sleep 2")]));
    assert!(matches!(ground.prepare(&ground.batch()).unwrap(), Prepared::Started));
    assert!(matches!(
        patchtide_agent::install::operation::look(&ground.site).unwrap(),
        Some(Standing::Running(_))
    ));
    let Standing::Ended(record, ended) = ground.wait() else { panic!("lost") };
    assert!(ended.success && record.batch.is_some());
    assert_eq!(ground.version("demo-a"), "installed 2");
}

/// The archive's own updates, apt and perl among them, cut off again and again at whatever point it is.
#[test]
fn real_updates_survive_cut_after_cut() {
    let mut ground = Ground::new();
    ground.approve_pending();
    let mut lost = 0;
    for delay in [300, 700, 1100, 1500, 2300] {
        assert!(matches!(ground.prepare(&ground.batch()).unwrap(), Prepared::Started));
        std::thread::sleep(Duration::from_millis(delay));
        cut_power(&ground);
        lost += usize::from(matches!(ground.wait(), Standing::Lost(_)));
        for _ in 0..3 {
            let machine = Machine::read(&ground.site.root).unwrap();
            if interrupted(&ground.site.root, &machine, true).is_none() {
                break;
            }
            assert!(matches!(
                recover::start(&ground.site, None, jiff::Timestamp::UNIX_EPOCH).unwrap(),
                Prepared::Started
            ));
            ground.wait();
        }
        let machine = Machine::read(&ground.site.root).unwrap();
        assert_eq!(interrupted(&ground.site.root, &machine, false), None, "after {delay} ms");
    }
    println!("{lost} of 5 cuts hit a running operation");
    assert_eq!(ground.install(), Verdict::Done(BTreeMap::new()));
    for leaf in ground.updates.values().flatten() {
        assert_eq!(ground.version(&leaf.package), format!("installed {}", leaf.version));
    }
    assert_eq!(ground.run(&["dpkg", "--audit"]), "");
}
