//! Maintainer scripts that hang or ask, and upgrades that leave a service dead (reliability.md 4 #65), with real dpkg.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use patchtide_agent::{
    install::{
        Prepared,
        operation::{self, Ended, Standing},
        outcome::Verdict,
        recover,
    },
    scan::{Machine, interrupted},
    services::{self, Settling, Watched},
};
use patchtide_model::{UpdateId, state::StateError};

use crate::{
    ground::Ground,
    recovery::{cut_power, until},
};

/// Seconds that nothing else sleeps for.
const HANG: &str = "sleep 98761";

/// A ground on which a script may run for three seconds.
fn impatient() -> Ground {
    let mut ground = Ground::new();
    ground.site.script_limit = SignedDuration::from_secs(3);
    ground
}

fn install(ground: &Ground) -> BTreeMap<UpdateId, StateError> {
    let start = Instant::now();
    let Verdict::Done(failed) = ground.install() else { panic!("locked") };
    assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
    assert!(ground.is_quiet(), "nothing of a script that hung is left");
    failed
}

/// The script is ended with all it started; dpkg is not, writes the failure down and goes on with the others. What the
/// next transaction finds is whole, and it completes the package.
#[test]
fn bad_input_65_a_script_that_hangs_is_ended_and_dpkg_is_not() {
    let mut ground = impatient();
    for name in ["demo-bad", "demo-good"] {
        ground.install_by_hand(&ground.package(name, "1", "", &[]));
    }
    // It does not even end when it is asked to.
    let hang = format!(
        "[ ! -e /run/hung ] || exit 0\ntouch /run/hung\necho waiting for nobody\ntrap '' TERM\n{HANG} & {HANG}\nwait\ntouch /run/went-on"
    );
    let bad = ground.approve(ground.package("demo-bad", "2", "", &[("postinst", &hang)]));
    let good = ground.approve(ground.package("demo-good", "2", "", &[]));
    let failed = install(&ground);
    let error = &failed[&bad];
    assert_eq!((error.symbol.as_str(), error.code), ("INSTALL-SCRIPT", 0x87D0_0664));
    for words in ["demo-bad.postinst", "was ended", "maximum run time", "waiting for nobody"] {
        assert!(error.message.contains(words), "{words}: {}", error.message);
    }
    assert!(!failed.contains_key(&good), "{failed:?}");
    assert_eq!(ground.version("demo-good"), "installed 2");
    assert_eq!(ground.version("demo-bad"), "half-configured 2");
    assert!(!ground.site.root.path("/run/went-on").exists());
    let machine = Machine::read(&ground.site.root).unwrap();
    assert_eq!(interrupted(&ground.site.root, &machine, false), None, "no journal, nothing half unpacked");

    assert_eq!(install(&ground), BTreeMap::new());
    assert_eq!(ground.version("demo-bad"), "installed 2");
    assert_eq!(ground.run(&["dpkg", "--audit"]), "");
}

/// Before anything is unpacked: the old version stays as it was.
#[test]
fn bad_input_65_a_script_that_hangs_before_unpacking_leaves_the_old_version() {
    let mut ground = impatient();
    ground.install_by_hand(&ground.package("demo-bad", "1", "", &[]));
    let bad = ground.approve(ground.package("demo-bad", "2", "", &[("preinst", HANG)]));
    let failed = install(&ground);
    assert_eq!((failed[&bad].symbol.as_str(), failed[&bad].code), ("INSTALL-SCRIPT", 0x87D0_0664));
    assert!(failed[&bad].message.contains("preinst"), "{}", failed[&bad].message);
    assert_eq!(ground.version("demo-bad"), "installed 1");
    assert_eq!(ground.run(&["dpkg", "--audit"]), "");
}

/// The power fails while a script hangs, and it hangs again in `dpkg --configure -a`: that ends too, and says why.
#[test]
fn bad_input_65_a_script_that_hangs_again_does_not_hold_the_recovery() {
    let mut ground = impatient();
    ground.install_by_hand(&ground.package("demo-bad", "1", "", &[]));
    let hang =
        format!("n=$(cat /run/n 2>/dev/null || echo 0)\necho $((n + 1)) >/run/n\n[ \"$n\" -ge 2 ] || {HANG}");
    ground.approve(ground.package("demo-bad", "2", "", &[("postinst", &hang)]));
    assert!(matches!(ground.prepare(&ground.batch()).unwrap(), Prepared::Started));
    until("the script runs", || ground.site.root.path("/run/n").exists());
    cut_power(&ground);
    assert!(matches!(ground.wait(), Standing::Lost(_)));
    let started = recover::start(&ground.site, None, jiff::Timestamp::UNIX_EPOCH).unwrap();
    assert!(matches!(started, Prepared::Started));
    let Standing::Ended(_, Ended { success, overran, .. }) = ground.wait() else { panic!("lost") };
    assert_eq!((success, overran), (false, vec!["demo-bad.postinst".to_owned()]));
    assert!(ground.is_quiet());
    assert_eq!(install(&ground), BTreeMap::new());
    assert_eq!(ground.version("demo-bad"), "installed 2");
}

/// The machine's own hooks are bounded too; what dpkg did before counts.
#[test]
fn bad_input_65_a_hook_that_hangs_is_ended() {
    let mut ground = impatient();
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    ground.approve(ground.package("demo-a", "2", "", &[]));
    let hook = format!("DPkg::Post-Invoke {{ \"{HANG}\"; }};\n");
    fs::write(ground.site.root.path("/etc/apt/apt.conf.d/99own"), hook).unwrap();
    assert_eq!(install(&ground), BTreeMap::new());
    assert_eq!(ground.version("demo-a"), "installed 2");
    let Some(Standing::Ended(_, ended)) = operation::look(&ground.site).unwrap() else { panic!() };
    assert!(ended.overran[0].contains("hook") && ended.overran[0].contains(HANG), "{ended:?}");
}

/// A hook of the machine's own around apt's lists would hold the agent before anything started.
#[test]
fn a_hook_that_hangs_before_the_start_is_ended_and_named() {
    let mut ground = Ground::new();
    ground.site.script_limit = SignedDuration::from_mins(1);
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    ground.approve(ground.package("demo-a", "2", "", &[]));
    let hook = format!("APT::Update::Post-Invoke {{ \"{HANG}\"; }};\n");
    fs::write(ground.site.root.path("/etc/apt/apt.conf.d/99own"), hook).unwrap();
    let start = Instant::now();
    let error = ground.prepare(&ground.batch()).unwrap_err();
    assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
    assert!(error.to_string().contains("a hook of apt's hangs"), "{error}");
    assert!(ground.is_quiet());
    assert_eq!(ground.version("demo-a"), "installed 1");
}

/// A script that takes long, but less than it may, is left alone, however long the whole transaction takes.
#[test]
fn many_slow_scripts_are_no_hang() {
    let mut ground = impatient();
    for name in ["demo-a", "demo-b", "demo-c"] {
        ground.install_by_hand(&ground.package(name, "1", "", &[]));
        ground.approve(ground.package(name, "2", "", &[("postinst", "sleep 1.6")]));
    }
    assert_eq!(install(&ground), BTreeMap::new());
}

/// A question of debconf's is answered with its default; whoever reads by himself finds the end, and no terminal.
#[test]
fn bad_input_65_questions_are_answered_without_anybody() {
    let mut ground = impatient();
    for name in ["demo-asks", "demo-reads"] {
        ground.install_by_hand(&ground.package(name, "1", "", &[]));
    }
    let library = ". /usr/share/debconf/confmodule";
    let template = "Template: demo-asks/question\nType: string\nDefault: the default\nDescription: What?\n";
    let config = format!("{library}\ndb_input critical demo-asks/question || true\ndb_go || true");
    let answer = format!("{library}\ndb_get demo-asks/question\necho \"$RET\" >/run/answer\ndb_stop");
    let scripts = [("templates", template), ("config", &config), ("postinst", &answer)];
    ground.approve(ground.package("demo-asks", "2", "Depends: debconf\n", &scripts));
    let reads = "if read -r answer; then exit 8; fi\nif (exec </dev/tty) 2>/dev/null; then exit 9; fi\n\
                 test ! -t 0\ntouch /run/end";
    ground.approve(ground.package("demo-reads", "2", "", &[("postinst", reads)]));
    assert_eq!(install(&ground), BTreeMap::new());
    assert_eq!(fs::read_to_string(ground.site.root.path("/run/answer")).unwrap(), "the default\n");
    assert!(ground.site.root.path("/run/end").exists());
}

/// An init script whose service is a process that ends by itself after a while.
pub(crate) const DAEMON: &str = "case \"$1\" in\n\
    stop) kill \"$(cat /run/demo.pid)\" 2>/dev/null; rm -f /run/demo.pid ;;\n\
    start|restart) $0 stop; setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $! >/run/demo.pid ;;\n\
    status) if kill -0 \"$(cat /run/demo.pid 2>/dev/null)\" 2>/dev/null; then echo runs; else echo dead; exit 3; fi ;;\n\
    esac";
pub(crate) const SERVICE: &str = "/etc/init.d/demo-daemon";

/// Asked of the root's real `service`: what ran before a transaction and does not after it is the fault of the update that
/// ships it, until it runs again.
#[test]
fn bad_input_65_a_service_that_does_not_come_back_is_seen() {
    let mut ground = Ground::new();
    let quick = Settling { first: Duration::from_millis(100), longest: Duration::from_secs(1) };
    let restarts = |what| format!("{SERVICE} {what} || true");
    let version = |ground: &Ground, version, what| {
        ground.package("demo-daemon", version, "", &[(SERVICE, DAEMON), ("postinst", &restarts(what))])
    };
    ground.install_by_hand(&version(&ground, "1", "start"));
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    let root = ground.site.root.clone();
    assert!(services::running(&root).contains("demo-daemon"));

    ground.approve(ground.package("demo-a", "2", "", &[]));
    let bad = ground.approve(version(&ground, "2", "stop"));
    assert!(matches!(ground.prepare(&ground.batch()).unwrap(), Prepared::Started));
    let Standing::Ended(record, ended) = ground.wait() else { panic!("lost") };
    assert!(ended.success, "for dpkg all is well");
    assert!(record.services.contains("demo-daemon"), "{:?}", record.services);
    let dead = services::dead(&root, &record.services, quick);
    assert_eq!(dead.keys().collect::<Vec<_>>(), ["demo-daemon"]);
    let watched = Watched { services: record.services.clone(), updates: record.leaves_of.clone() };
    let errors = services::errors(&root, &watched, &dead);
    assert_eq!(errors.keys().collect::<Vec<_>>(), [&bad], "not of the other update");
    let error = &errors[&bad];
    assert_eq!((error.symbol.as_str(), error.code), ("INSTALL-SERVICE", 0x87D0_070D));
    assert!(error.message.contains("demo-daemon") && error.message.contains("start it"), "{}", error.message);

    // A service of no package of the batch: all of the batch are told of.
    let mut foreign = watched.clone();
    foreign.updates.remove(&bad);
    assert_eq!(services::errors(&root, &foreign, &dead).len(), 1);

    ground.run(&[SERVICE, "start"]);
    assert!(services::dead(&root, &watched.services, quick).is_empty(), "it runs again");
    ground.run(&[SERVICE, "stop"]);
    fs::remove_file(root.path(SERVICE)).unwrap();
    let before = BTreeSet::from(["demo-daemon".to_owned()]);
    assert!(services::dead(&root, &before, quick).is_empty(), "what is gone was taken away on purpose");
}
