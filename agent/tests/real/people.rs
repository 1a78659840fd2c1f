//! The people at the machine: a real terminal and a real session bus get what the agent says, and commands do what the
//! one who gives them may.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use jiff::{SignedDuration, tz::TimeZone};
use patchtide_agent::{notify::Teller, root::Root};
use patchtide_model::{
    deployment::Deadline,
    people::{Display, UserActions},
};
use patchtide_planner::client::{Notice, NoticeKind};
use patchtide_protocol::state::StateBody;
use patchtide_tests::process::Daemon;

use crate::stage::{Stage, always_restart, deadline_in, deployment, id};

/// Opens a pseudo terminal, says its name, and writes down what comes out of it.
const TERMINAL: &str = "import os, pty, sys
master, slave = pty.openpty()
print(os.ttyname(slave), flush=True)
out = open(sys.argv[1], 'ab', buffering=0)
while True: out.write(os.read(master, 4096))
";

/// A desktop as far as notifications go: owns the name on the bus and writes down what it is to show.
const DESKTOP: &str = "import json, dbus, dbus.service
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib
DBusGMainLoop(set_as_default=True)
NAME = 'org.freedesktop.Notifications'
class Desktop(dbus.service.Object):
    @dbus.service.method(NAME, in_signature='susssasa{sv}i', out_signature='u')
    def Notify(self, app, replaces, icon, summary, body, actions, hints, expires):
        print(json.dumps([app, summary, body, int(hints['urgency']), int(expires)]), flush=True)
        return 1
desktop = Desktop(dbus.service.BusName(NAME, dbus.SessionBus()), '/org/freedesktop/Notifications')
print('ready', flush=True)
GLib.MainLoop().run()
";

/// The user `nobody` of Debian.
const NOBODY: u32 = 65534;

async fn until(what: &str, log: &Path, holds: impl Fn(&str) -> bool) -> String {
    for _ in 0..600 {
        let text = fs::read_to_string(log).unwrap_or_default();
        if holds(&text) {
            return text;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: {}", fs::read_to_string(log).unwrap_or_default());
}

/// A record of utmp: `anna` on this line.
pub(crate) fn utmp(line: &str) -> Vec<u8> {
    let mut record = vec![0_u8; 384];
    record[..2].copy_from_slice(&7_i16.to_ne_bytes());
    record[4..8].copy_from_slice(&std::process::id().to_ne_bytes());
    record[8..8 + line.len()].copy_from_slice(line.as_bytes());
    record[44..48].copy_from_slice(b"anna");
    record
}

/// R-UX-03, R-UX-05, R-RST-04: who is logged in reads that updates are here, that they are being installed, that they were,
/// and that the machine restarts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_logged_in_reads_it_on_the_terminal() {
    let mut stage = Stage::new(&[("demo-a", "")]).await;
    let mut policy = stage.policy();
    policy.deployments[0].settings.display_notifications = true;
    policy.deployments[0].settings.deadline = deadline_in(20);
    always_restart(&mut policy, &["demo-a"]);
    let root = stage.machine.ground.site.root.clone();
    let (screen, name) = (root.path("/screen"), root.path("/terminal.log"));
    let mut terminal = Command::new("/usr/bin/python3");
    terminal.args(["-c", TERMINAL]).arg(&screen);
    let _terminal = Daemon::spawn("terminal", &terminal, &name).unwrap();
    let line = until("the terminal", &name, |text| text.ends_with('\n')).await;
    let line = line.trim().strip_prefix("/dev/").unwrap().to_owned();
    fs::create_dir_all(root.path("/dev/pts")).unwrap();
    fs::write(root.path("/run/utmp"), utmp(&line)).unwrap();
    let who = stage.machine.ground.run(&["who", "/run/utmp"]);
    assert!(who.starts_with("anna") && who.contains(&line), "coreutils read the same record: {who}");

    stage.site.set_policy(1, policy);
    // The terminals of this host, seen by this agent alone.
    stage.machine.start_in(&[
        "unshare",
        "--mount",
        "--propagation=private",
        "sh",
        "-c",
        "mount --bind /dev/pts \"$0/dev/pts\" && exec \"$@\"",
        root.folder().to_str().unwrap(),
    ]);
    stage.machine.until("the restart is asked of init", |root| root.join("run/asked").exists()).await;
    let text = until("all of it", &screen, |text| text.contains("restarts at")).await;
    let mut rest = &text[..];
    for words in [
        "*** Patchtide: 1 update can be installed\r",
        "Installed by themselves from ",
        "*** Patchtide: 1 update is being installed\r",
        "demo-a 2.",
        "*** Patchtide: 1 update was installed\r",
        "*** Patchtide: This machine restarts at ",
        "Save your work now.",
    ] {
        let at = rest.find(words).unwrap_or_else(|| panic!("{words} in order: {text}"));
        rest = &rest[at + words.len()..];
    }
    assert_eq!(text.matches("can be installed").count(), 1, "once: {text}");
    assert_eq!(text.matches("restarts at").count(), 1, "once: {text}");
}

struct RunUser(PathBuf);

impl Drop for RunUser {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A balloon on a desktop, shown as the user whose desktop it is: a real bus lets nobody else on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_desktop_sees_a_notification() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let run = PathBuf::from(format!("/run/user/{NOBODY}"));
    assert!(!run.join("bus").exists(), "another test, or somebody called nobody, uses {}", run.display());
    fs::create_dir_all(&run).unwrap();
    let run = RunUser(run);
    chown(&run.0, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(&run.0, fs::Permissions::from_mode(0o700)).unwrap();
    let address = format!("unix:path={}/bus", run.0.display());
    let as_nobody = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("DBUS_SESSION_BUS_ADDRESS", &address);
        command
    };
    let bus = as_nobody(&["dbus-daemon", "--session", "--nofork", &format!("--address={address}")]);
    let _bus = Daemon::spawn("bus", &bus, &folder.path().join("bus.log")).unwrap();
    for _ in 0..100 {
        if run.0.join("bus").exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let log = folder.path().join("desktop.log");
    let desktop = as_nobody(&["/usr/bin/python3", "-c", DESKTOP]);
    let _desktop = Daemon::spawn("desktop", &desktop, &log).unwrap();
    until("the desktop", &log, |text| text.contains("ready")).await;

    let start = "2026-11-21T03:00:00Z".parse().unwrap();
    let kind = NoticeKind::Reminder { updates: [id("demo-a")].into(), start };
    let notice = Notice { id: "reminder/test".to_owned(), display: Display::Balloon, kind };
    // Balloons go to desktops alone: the terminals of whoever runs this test stay quiet.
    Teller::new(&Root::new("/")).give(&TimeZone::UTC, &[notice]);
    let text = until("the notification", &log, |text| text.lines().count() > 1).await;
    let shown: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    let summary = "1 update will be installed from Sat 21 Nov 2026 03:00 UTC on";
    assert_eq!(shown, serde_json::json!(["Patchtide", summary, "", 0, -1]));
}

/// R-UX-01, R-UX-06 to R-UX-08, R-UX-15, R-UX-16: what another user than root sees, may do, and is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_see_the_list_and_do_what_they_may() {
    let mut stage = Stage::new(&[("demo-a", ""), ("demo-b", ""), ("demo-c", "")]).await;
    let mut policy = stage.policy();
    let base = policy.deployments.remove(0);
    let mut staged = deployment(&base, "staged", &["demo-c"], deadline_in(10 * 86_400));
    staged.settings.display = Some(Display::Hidden);
    let mut optional = deployment(&base, "optional", &["demo-a"], Deadline::None);
    optional.settings.suppress_restart_servers = true;
    policy.deployments =
        vec![optional, deployment(&base, "mandatory", &["demo-b"], deadline_in(86_400)), staged].into();
    policy.settings.people.restart_reminder = SignedDuration::from_mins(1);
    always_restart(&mut policy, &["demo-a"]);
    let root = stage.machine.ground.site.root.clone();
    fs::copy(env!("CARGO_BIN_EXE_patchtide-agent"), root.path("/usr/local/bin/patchtide-agent")).unwrap();
    let run = |user: u32, words: &[&str]| {
        let words: Vec<&str> = ["/usr/local/bin/patchtide-agent"].iter().chain(words).copied().collect();
        let output = root.command_as(user, user, &words).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let (code, said) = run(0, &["list"]);
    assert_eq!(code, Some(3), "no agent: {said}");

    stage.site.set_policy(1, policy.clone());
    stage.machine.start();
    stage.machine.until("what is offered", |_| run(NOBODY, &["list"]).1.contains("demo-b")).await;
    let (code, said) = run(NOBODY, &["list"]);
    assert!(code == Some(0) && said.contains("optional; not downloaded yet"), "{said}");
    assert!(!said.contains("demo-c"), "staged, and not for these eyes: {said}");
    assert!(run(0, &["list"]).1.contains("shown to root alone"));
    for words in
        [&["status"][..], &["policy"], &["why"], &["install", "demo-a"], &["schedule", "03:00"], &["restart"]]
    {
        let (code, said) = run(NOBODY, words);
        assert_eq!(code, Some(4), "{words:?}: {said}");
    }
    assert_eq!(run(NOBODY, &["schedule", "later"]).0, Some(2));
    // R-UX-11: the three actions of the client, by hand.
    for words in ["policy", "scan", "evaluate"] {
        assert_eq!(run(0, &[words]).0, Some(0), "{words}");
    }
    let (code, said) = run(0, &["install", "demo"]);
    assert!(code == Some(1) && said.contains("there is demo-a, demo-b, demo-c"), "{said}");

    policy.settings.people.user_actions = UserActions::Everybody;
    stage.site.set_policy(2, policy.clone());
    stage.machine.until("the new policy", |_| run(NOBODY, &["schedule", "--reset"]).0 == Some(0)).await;
    assert_eq!(run(NOBODY, &["schedule", "03:00", "--weekdays", "sat,sun"]).0, Some(0));
    let (_, said) = run(NOBODY, &["list"]);
    assert!(said.contains("schedule: Sat, Sun at 03:00, set at this machine"), "{said}");
    let (code, said) = run(NOBODY, &["postpone", "48h"]);
    assert!(code == Some(1) && said.contains("not later than"), "{said}");
    let (code, said) = run(NOBODY, &["postpone"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(run(NOBODY, &["list"]).1.contains("postponed until"));
    let (code, said) = run(NOBODY, &["restart"]);
    assert!(code == Some(1) && said.contains("no restart is pending"), "{said}");
    let (code, said) = run(NOBODY, &["install", "demo-c"]);
    assert!(code == Some(1) && said.contains("is not offered"), "{said}");

    // Asked for, it comes although all else is postponed; the restart after it is suppressed, until somebody asks for it.
    let (code, said) = run(NOBODY, &["install", "demo-a"]);
    assert!(code == Some(0) && said.contains("demo-a 2"), "{said}");
    stage.machine.until("demo-a", |_| stage.version("demo-a") == "installed 2").await;
    let scanned =
        |body: &StateBody| matches!(body, StateBody::Update { update, .. } if *update == id("demo-a"));
    stage.site.said("demo-a", 0, &stage.machine.log, scanned).await;
    stage.machine.until("the pending restart", |_| run(0, &["list"]).1.contains("restart: pending")).await;
    assert!(!root.path("/run/asked").exists());
    let restarts = |_: &Path| run(NOBODY, &["restart"]).1.contains("this machine restarts at");
    stage.machine.until("the restart at a person's word", restarts).await;
    stage.machine.until("init is asked", |root| root.join("run/asked").exists()).await;
    assert_eq!(stage.version("demo-b"), "installed 1", "nobody asked for it");
}
