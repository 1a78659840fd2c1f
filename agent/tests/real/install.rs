//! Installation in a real root: apt, dpkg, maintainer scripts.

use std::{collections::BTreeMap, fs, process::Stdio, time::Duration};

use patchtide_agent::{
    install::{
        InstallError, Prepared,
        operation::Standing,
        outcome::{Verdict, judge, refused},
    },
    scan::Machine,
};
use patchtide_model::Digest;

use crate::{fixture::fixture, ground::Ground};

/// The archive's own updates, perl and apt among them, with nothing but the approved files.
#[test]
fn approved_content_is_installed_and_nothing_else() {
    let mut ground = Ground::new();
    ground.approve_pending();
    let manual = ground.run(&["apt-mark", "showmanual"]);
    let count = ground.run(&["dpkg-query", "-W", "-f", "${Package}\\n"]).lines().count();
    assert_eq!(ground.install(), Verdict::Done(BTreeMap::new()));
    for leaf in ground.updates.values().flatten() {
        assert_eq!(ground.version(&leaf.package), format!("installed {}", leaf.version));
    }
    assert_eq!(
        ground.run(&["apt-mark", "showmanual"]),
        manual,
        "no package turned into one that was asked for"
    );
    assert_eq!(ground.run(&["dpkg-query", "-W", "-f", "${Package}\\n"]).lines().count(), count);
    assert_eq!(ground.run(&["dpkg", "--audit"]), "");
    assert!(fixture().pending.len() > 3);
}

/// reliability.md 4 #108: the machine slept between the last check and the supervisor's start. Nothing is touched, and it is no
/// failure of the updates.
#[test]
fn bad_input_108_a_supervisor_that_comes_too_late_starts_nothing() {
    let mut ground = Ground::new();
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    ground.approve(ground.package("demo-a", "2", "", &[]));
    let before = fs::read(ground.site.root.path("/var/lib/dpkg/status")).unwrap();
    let now = patchtide_agent::clock::read().running;
    let second = jiff::SignedDuration::from_secs(1);
    assert!(matches!(ground.prepare_until(&ground.batch(), Some(now - second)).unwrap(), Prepared::Started));
    let Standing::Ended(record, ended) = ground.wait() else { panic!("lost") };
    assert!(ended.withdrawn && !ended.success, "{ended:?}");
    let machine = Machine::read(&ground.site.root).unwrap();
    let output = patchtide_agent::install::operation::output(&ground.site);
    assert_eq!(judge(&machine, &record.leaves_of, &ended, &output), Verdict::Withdrawn);
    assert_eq!(fs::read(ground.site.root.path("/var/lib/dpkg/status")).unwrap(), before);
    assert!(matches!(
        ground.prepare_until(&ground.batch(), Some(now + second * 600)).unwrap(),
        Prepared::Started
    ));
    assert!(matches!(ground.wait(), Standing::Ended(_, ended) if ended.success && !ended.withdrawn));
    assert_eq!(ground.version("demo-a"), "installed 2");
}

#[test]
fn a_missing_dependency_fails_before_anything_starts() {
    let mut ground = Ground::new();
    let old = ground.package("demo-a", "1", "", &[]);
    ground.install_by_hand(&old);
    let new = ground.package("demo-a", "2", "Depends: demo-b (>= 2)\n", &[]);
    let other = ground.package("demo-c", "1", "", &[]);
    ground.install_by_hand(&other);
    let a = ground.approve(new);
    let c = ground.approve(ground.package("demo-c", "2", "", &[]));
    let before = fs::read(ground.site.root.path("/var/lib/dpkg/status")).unwrap();
    let error = ground.prepare(&ground.batch()).unwrap_err();
    assert_eq!(error.failure().symbol(), "DEP-UNSAT");
    assert!(error.to_string().contains("demo-a needs demo-b (>= 2)"), "{error}");
    assert_eq!(fs::read(ground.site.root.path("/var/lib/dpkg/status")).unwrap(), before);
    let failed = refused(&error, &ground.leaves_of());
    assert!(failed.contains_key(&a) && !failed.contains_key(&c), "only the one it is about fails");

    // With the dependency approved too, it is installed, and stays marked as one that nobody asked for.
    ground.dependencies.push(ground.package("demo-b", "2", "", &[]));
    assert_eq!(ground.install(), Verdict::Done(BTreeMap::new()));
    assert_eq!(ground.version("demo-b"), "installed 2");
    assert!(ground.run(&["apt-mark", "showauto"]).lines().any(|name| name == "demo-b"));
    assert!(ground.run(&["apt-mark", "showmanual"]).lines().any(|name| name == "demo-a"));
}

#[test]
fn holds_pins_removals_and_downgrades_are_kept() {
    let mut ground = Ground::new();
    for name in ["demo-a", "demo-b"] {
        ground.install_by_hand(&ground.package(name, "1", "", &[]));
    }
    ground.approve(ground.package("demo-a", "2", "Conflicts: demo-b\n", &[]));
    let batch = ground.batch();

    ground.run(&["apt-mark", "hold", "demo-a"]);
    let error = ground.prepare(&batch).unwrap_err();
    assert!(matches!(&error, InstallError::Held(names) if names == &["demo-a"]), "{error}");
    ground.run(&["apt-mark", "unhold", "demo-a"]);

    let preferences = ground.site.root.path("/etc/apt/preferences.d/own");
    fs::write(&preferences, "Package: demo-a\nPin: version 1\nPin-Priority: 1001\n").unwrap();
    let error = ground.prepare(&batch).unwrap_err();
    assert!(matches!(&error, InstallError::Pinned(names) if names == &["demo-a"]), "{error}");
    fs::remove_file(preferences).unwrap();

    let error = ground.prepare(&batch).unwrap_err();
    assert!(matches!(&error, InstallError::Removal(names) if names == &["demo-b"]), "{error}");
    let mut allowed = batch;
    allowed.allow_remove = true;
    assert!(matches!(ground.prepare(&allowed).unwrap(), Prepared::Started));
    ground.wait();
    assert_eq!(ground.version("demo-a"), "installed 2");
    assert!(!ground.version("demo-b").starts_with("installed"));
}

#[test]
fn the_essential_and_the_agent_are_never_removed() {
    let mut ground = Ground::new();
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    ground.install_by_hand(&ground.package("patchtide-agent", "1", "", &[]));
    ground.approve(ground.package("demo-a", "2", "Conflicts: patchtide-agent\n", &[]));
    let mut batch = ground.batch();
    batch.allow_remove = true;
    let error = ground.prepare(&batch).unwrap_err();
    assert_eq!(error.failure().symbol(), "PLAN-DANGEROUS", "{error}");
    assert_eq!(ground.version("demo-a"), "installed 1");
}

#[test]
fn a_held_lock_is_waited_for() {
    let mut ground = Ground::new();
    let slow = ground.package("demo-slow", "1", "", &[("postinst", "sleep 3")]);
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    ground.approve(ground.package("demo-a", "2", "", &[]));
    let inside = format!("/var/lib/patchtide/cache/{}", slow.file.sha256);
    let mut other = ground
        .site
        .root
        .command(&["dpkg", "-i", &inside])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let Prepared::Locked(lock) = ground.prepare(&ground.batch()).unwrap() else { panic!("not locked") };
    assert!(lock.holder.contains("dpkg"), "{}", lock.holder);
    other.wait().unwrap();
    assert_eq!(ground.install(), Verdict::Done(BTreeMap::new()));
}

/// reliability.md 4 #65.
#[test]
fn bad_input_65_a_failing_maintainer_script_is_reported() {
    let mut ground = Ground::new();
    for name in ["demo-bad", "demo-good"] {
        ground.install_by_hand(&ground.package(name, "1", "", &[]));
    }
    let script = "echo the reason of the failure\nexit 7";
    let bad = ground.approve(ground.package("demo-bad", "2", "", &[("postinst", script)]));
    let good = ground.approve(ground.package("demo-good", "2", "", &[]));
    let Verdict::Done(failed) = ground.install() else { panic!("locked") };
    let error = &failed[&bad];
    assert_eq!(error.symbol, "INSTALL-SCRIPT");
    assert!(
        error.message.contains("the reason of the failure") && error.message.contains("demo-bad"),
        "{}",
        error.message
    );
    assert!(error.message.len() <= 1024);
    assert!(!failed.contains_key(&good), "{failed:?}");
    assert_eq!(ground.version("demo-good"), "installed 2");
}

/// reliability.md 4 #66.
#[test]
fn bad_input_66_changed_configuration_files_stay_without_a_question() {
    let mut ground = Ground::new();
    let conffile = [("conffiles", "/etc/demo.conf")];
    ground.install_by_hand(&ground.package("demo-a", "1", "", &conffile));
    let path = ground.site.root.path("/etc/demo.conf");
    fs::write(&path, "the owner's setting\n").unwrap();
    let script = "test \"$DEBIAN_FRONTEND\" = noninteractive";
    ground.approve(ground.package("demo-a", "2", "", &[conffile[0], ("postinst", script)]));
    assert_eq!(ground.install(), Verdict::Done(BTreeMap::new()));
    assert_eq!(fs::read_to_string(path).unwrap(), "the owner's setting\n");
}

/// reliability.md 4 #59, #60, #64: whatever came into the cache, it is looked at again.
#[test]
fn bad_input_64_files_that_are_not_what_they_should_be() {
    let mut ground = Ground::new();
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    let good = ground.package("demo-a", "2", "", &[]);

    // The stanza promises another package than the file holds.
    let other = ground.package("demo-x", "2", "", &[]);
    let mut wrong = good.clone();
    wrong.file = other.file.clone();
    wrong.stanza = good
        .stanza
        .replace(&good.file.sha256.to_string(), &other.file.sha256.to_string())
        .replace(&format!("Size: {}", good.file.size), &format!("Size: {}", other.file.size));
    ground.approve(wrong);
    assert_eq!(ground.prepare(&ground.batch()).unwrap_err().failure().symbol(), "PKG-IDENTITY");

    // Not a package at all.
    ground.updates.clear();
    let digest = ground.site.cache.put(b"not a package").unwrap();
    let mut garbage = good.clone();
    garbage.stanza = good
        .stanza
        .replace(&good.file.sha256.to_string(), &digest.to_string())
        .replace(&format!("Size: {}", good.file.size), "Size: 13");
    garbage.file.sha256 = digest;
    garbage.file.size = 13;
    ground.approve(garbage);
    assert_eq!(ground.prepare(&ground.batch()).unwrap_err().failure().symbol(), "PKG-FORMAT");

    // The disk changed it.
    ground.updates.clear();
    fs::write(ground.site.cache.path(&good.file.sha256), b"rotten").unwrap();
    ground.approve(good);
    assert_eq!(ground.prepare(&ground.batch()).unwrap_err().failure().symbol(), "PKG-HASH");

    // A file that no policy names.
    let mut batch = ground.batch();
    batch.files.insert(Digest::of(b"someone else's"));
    assert_eq!(ground.prepare(&batch).unwrap_err().failure().symbol(), "PLAN-UNAPPROVED");
    assert_eq!(ground.version("demo-a"), "installed 1");
}

/// reliability.md 4 #68.
#[test]
fn bad_input_68_a_downgrade_is_not_planned() {
    let mut ground = Ground::new();
    ground.install_by_hand(&ground.package("demo-a", "3", "", &[]));
    ground.install_by_hand(&ground.package("demo-b", "1", "", &[]));
    ground.approve(ground.package("demo-a", "2", "", &[]));
    ground.approve(ground.package("demo-b", "2", "", &[]));
    assert_eq!(ground.install(), Verdict::Done(BTreeMap::new()), "what is newer already is done");
    assert_eq!(
        (ground.version("demo-a"), ground.version("demo-b")),
        ("installed 3".into(), "installed 2".into())
    );

    // Only a downgrade of another package would let it in.
    let mut ground = Ground::new();
    ground.install_by_hand(&ground.package("demo-a", "3", "", &[]));
    ground.install_by_hand(&ground.package("demo-b", "1", "", &[]));
    ground.approve(ground.package("demo-b", "2", "Depends: demo-a (<< 3)\n", &[]));
    ground.dependencies.push(ground.package("demo-a", "2", "", &[]));
    let error = ground.prepare(&ground.batch()).unwrap_err();
    assert!(["PLAN-DOWNGRADE", "DEP-UNSAT"].contains(&error.failure().symbol()), "{error}");
    assert_eq!(ground.version("demo-a"), "installed 3");
}

/// reliability.md 4 #69.
#[test]
fn bad_input_69_no_room_is_seen_before_anything_starts() {
    let mut ground = Ground::new();
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    ground.approve(ground.package("demo-a", "2", "Installed-Size: 999999999999\n", &[]));
    let error = ground.prepare(&ground.batch()).unwrap_err();
    assert_eq!(error.failure().symbol(), "PRE-DISK", "{error}");
    assert_eq!(ground.version("demo-a"), "installed 1");
}

/// A policy that changes while a batch is being checked keeps it from starting.
#[test]
fn what_is_withdrawn_at_the_last_moment_does_not_start() {
    let mut ground = Ground::new();
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    ground.approve(ground.package("demo-a", "2", "", &[]));
    let body = crate::fixture::body(&ground.updates, vec![]);
    let leaves_of = ground.leaves_of();
    let now = jiff::Timestamp::UNIX_EPOCH;
    let prepared = patchtide_agent::install::prepare(
        &ground.site,
        &body,
        &ground.batch(),
        leaves_of,
        now,
        &|| false,
        None,
    )
    .unwrap();
    assert!(matches!(prepared, Prepared::Withdrawn));
    assert_eq!(patchtide_agent::install::operation::look(&ground.site).unwrap(), None);
    assert_eq!(ground.version("demo-a"), "installed 1");
}

/// The machine's own hooks run as in any other transaction.
#[test]
fn dpkg_hooks_of_the_machine_run() {
    let mut ground = Ground::new();
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    ground.approve(ground.package("demo-a", "2", "", &[]));
    let root = &ground.site.root;
    fs::write(root.path("/etc/apt/apt.conf.d/99own"), "DPkg::Post-Invoke { \"touch /run/hook\"; };\n")
        .unwrap();
    assert_eq!(ground.install(), Verdict::Done(BTreeMap::new()));
    assert!(ground.site.root.path("/run/hook").exists());
    assert!(
        fs::read_dir(ground.site.root.path("/var/lib/apt/lists"))
            .unwrap()
            .flatten()
            .all(|e| !e.file_name().to_string_lossy().contains("repo"))
    );
}
