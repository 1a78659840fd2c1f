//! The whole life of an agent, as the binary that is shipped, against a site: enrolled, scanned, told, patched,
//! restarted, reported; and killed on the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use jiff::SignedDuration;
use patchtide_agent::control::{Question, ask};
use patchtide_model::{
    LineId, UpdateId,
    catalogue::{Leaf, LineCatalogue, RestartRule},
    deployment::{Deadline, DeploymentSettings},
    policy::{DeploymentPolicy, PolicyBody},
    state::{Compliance, DeploymentEnforcement, Detection, Scan, UpdateEnforcement},
};
use patchtide_protocol::state::StateBody;
use patchtide_tests::process::Daemon;

use crate::{
    fixture::{body, fixture, line_policies, scan_update},
    ground::Ground,
    site::Site,
};

const UID: &str = "0f0e0d0c-0000-4000-8000-000000000001";

pub(crate) struct Machine {
    pub(crate) ground: Ground,
    pub(crate) log: PathBuf,
    agent: Option<Daemon>,
}

impl Machine {
    pub(crate) fn new(ground: Ground, site: &Site) -> Self {
        let root = &ground.site.root;
        fs::create_dir_all(root.path("/etc/patchtide/labels.d")).unwrap();
        fs::write(root.path("/etc/patchtide/labels.d/ring"), "ring=test\n").unwrap();
        fs::write(root.path("/etc/patchtide/bundle.json"), serde_json::to_vec(&site.bundle()).unwrap())
            .unwrap();
        // The root has no init: what it is asked for is written down, and the test does it.
        let shutdown = root.path("/usr/sbin/shutdown");
        fs::write(&shutdown, "#!/bin/sh\necho \"$@\" >>/run/asked\n").unwrap();
        fs::set_permissions(&shutdown, fs::Permissions::from_mode(0o755)).unwrap();
        let log = root.path("/agent.log");
        Self { ground, log, agent: None }
    }

    pub(crate) fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchtide-agent"));
        command.arg("--root").arg(self.ground.site.root.folder()).arg("run");
        self.agent = Some(Daemon::spawn("agent", &command, &self.log).unwrap());
    }

    /// The same, started by another program that becomes the agent.
    pub(crate) fn start_in(&mut self, words: &[&str]) {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(env!("CARGO_BIN_EXE_patchtide-agent"));
        command.arg("--root").arg(self.ground.site.root.folder()).arg("run");
        self.agent = Some(Daemon::spawn("agent", &command, &self.log).unwrap());
    }

    /// Kills the agent alone, at once.
    pub(crate) fn kill(&mut self) {
        let agent = self.agent.take().unwrap();
        let status = Command::new("kill").args(["-9", &agent.pid().to_string()]).status().unwrap();
        assert!(status.success());
        agent.wait(Duration::from_secs(5)).unwrap();
    }

    pub(crate) fn reboot(&mut self) {
        let agent = self.agent.take().unwrap();
        agent.stop(Duration::from_secs(10)).unwrap();
        self.boot();
        self.start();
    }

    /// What a new boot is, as far as files tell it. No agent runs.
    pub(crate) fn boot(&self) {
        fs::remove_dir_all(self.ground.site.root.path("/run")).unwrap();
        fs::create_dir_all(self.ground.site.root.path("/run")).unwrap();
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.ground.site.root.path(inside)
    }

    fn ask(&self, question: &Question) -> String {
        let answer = ask(&self.path("/run/patchtide/agent.sock"), question).unwrap();
        assert!(answer.ok, "{}", answer.text);
        answer.text
    }

    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Path) -> bool) {
        for _ in 0..600 {
            if condition(self.ground.site.root.folder()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{what}\n{}", patchtide_tests::process::tail(&self.log, 60));
    }
}

fn settings() -> DeploymentSettings {
    DeploymentSettings {
        display_notifications: false,
        deadline: Deadline::After(SignedDuration::ZERO),
        fallback_to_unprotected: false,
        ..DeploymentSettings::default()
    }
}

/// A policy that deploys the updates now.
pub(crate) fn deploying(
    base: &PolicyBody,
    updates: &BTreeMap<UpdateId, Vec<Leaf>>,
    always: Option<&UpdateId>,
) -> PolicyBody {
    let mut policy = body(updates, vec![]);
    policy.lines.clone_from(&base.lines);
    policy.settings.restart_countdown = SignedDuration::from_secs(1);
    for (id, update) in policy.updates.iter_mut() {
        update.restart = if Some(id) == always { RestartRule::Always } else { RestartRule::Never };
    }
    policy.deployments.push(DeploymentPolicy {
        name: "now".to_owned(),
        uid: UID.to_owned(),
        generation: 1,
        suspend: false,
        settings: settings(),
        anchor: "2026-01-01T00:00:00Z".parse().unwrap(),
        updates: updates.keys().cloned().collect(),
        provenance: BTreeMap::new(),
    });
    policy
}

pub(crate) fn enforcement(want: DeploymentEnforcement) -> impl Fn(&StateBody) -> bool {
    move |body| matches!(body, StateBody::Enforcement { state, .. } if *state == want)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_enrolment_to_a_compliant_machine() {
    let site = Site::start().await;
    let mut machine = Machine::new(Ground::new(), &site);
    for bytes in fixture().catalogues.values() {
        site.put(bytes);
    }
    for deb in fixture().debs.values() {
        site.put(&fs::read(deb).unwrap());
    }
    let mut scanning = body(&BTreeMap::new(), vec![]);
    scanning.lines = line_policies(&fixture().catalogues).into();
    site.set_policy(1, scanning.clone());
    machine.start();

    let scanned = site
        .said("scan", 0, &machine.log, |body| matches!(body, StateBody::Scan { state: Scan::Completed, .. }))
        .await;
    let required: BTreeSet<String> = site
        .messages()
        .into_iter()
        .filter_map(|message| match message.body {
            StateBody::Detection(report) => Some(report),
            _ => None,
        })
        .flat_map(|report| {
            report.states.into_iter().filter(|s| s.state == Detection::Required).map(|s| s.source)
        })
        .collect();
    let pending: BTreeSet<String> = fixture().pending.keys().map(|id| id.source.clone()).collect();
    assert!(required.is_superset(&pending), "{required:?} {pending:?}");
    site.said(
        "facts",
        0,
        &machine.log,
        |body| matches!(body, StateBody::Facts { facts } if facts["label/ring"] == "test"),
    )
    .await;
    assert!(machine.ask(&Question::Status).contains("policy      1.1"));

    let always = fixture().pending.keys().next().unwrap();
    site.set_policy(2, deploying(&scanning, &fixture().pending, Some(always)));
    let pending_restart = |body: &StateBody| matches!(body, StateBody::Update { update, state: UpdateEnforcement::PendingRestart, .. } if update == always);
    let waiting = site.said("pending restart", scanned, &machine.log, pending_restart).await;
    machine.until("the restart is asked of init", |root| root.join("run/asked").exists()).await;
    assert_eq!(fs::read_to_string(machine.path("/run/asked")).unwrap(), "-r now\n", "once");
    for leaf in fixture().pending.values().flatten() {
        assert_eq!(machine.ground.version(&leaf.package), format!("installed {}", leaf.version));
    }
    machine.reboot();
    site.said("installed", waiting, &machine.log, enforcement(DeploymentEnforcement::Installed)).await;
    site.said("compliant", waiting, &machine.log, |body| {
        matches!(body, StateBody::Compliance { state: Compliance::Compliant, .. })
    })
    .await;
    assert!(!machine.path("/run/asked").exists(), "no second restart");
    let why = machine.ask(&Question::Why { update: Some(always.source.clone()) });
    assert!(why.contains("Successfully installed update"), "{why}");

    // A resync tells everything once more, with new numbers.
    let before = site.messages().len();
    site.ask_resync();
    site.set_policy(3, scanning);
    machine.ask(&Question::Scan);
    site.said("resync", before as u64, &machine.log, |body| matches!(body, StateBody::Facts { .. })).await;
    let status =
        fs::read_to_string(format!("/proc/{}/status", machine.agent.as_ref().unwrap().pid())).unwrap();
    let memory =
        |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    println!("agent: {} {}", memory("VmRSS"), memory("VmHWM"));
}

/// Demo packages in a line of their own.
pub(crate) fn demo_line(site: &Site, leaves: &[&Leaf]) -> PolicyBody {
    demo_line_at(site, leaves, 1)
}

/// The same at another catalogue version.
pub(crate) fn demo_line_at(site: &Site, leaves: &[&Leaf], version: u64) -> PolicyBody {
    let line: LineId = "demo/test/main".parse().unwrap();
    let updates = leaves
        .iter()
        .map(|leaf| scan_update(&(leaf.package.clone(), leaf.version.clone()), &[(*leaf).clone()]))
        .collect();
    let catalogue = LineCatalogue { line: line.clone(), version, updates };
    let bytes = zstd::encode_all(&serde_json::to_vec(&catalogue).unwrap()[..], 1).unwrap();
    site.put(&bytes);
    let mut policy = body(&BTreeMap::new(), vec![]);
    policy.lines = line_policies(&BTreeMap::from([(line, bytes)])).into();
    policy.lines[0].catalogue_version = version;
    policy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_in_the_middle_of_dpkg_reports_once() {
    let site = Site::start().await;
    let mut ground = Ground::new();
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    let leaf = ground.package("demo-a", "2", "", &[("postinst", "touch /run/slow; sleep 3")]);
    site.put(&fs::read(ground.site.cache.path(&leaf.file.sha256)).unwrap());
    ground.site.cache.discard(&leaf.file.sha256).unwrap();
    let line = demo_line(&site, &[&leaf]);
    ground.approve(leaf);
    site.set_policy(1, deploying(&line, &ground.updates, None));
    let mut machine = Machine::new(ground, &site);
    machine.start();
    machine.until("dpkg runs", |root| root.join("run/slow").exists()).await;
    machine.kill();
    tokio::time::sleep(Duration::from_millis(300)).await;
    machine.start();
    site.said("installed", 0, &machine.log, enforcement(DeploymentEnforcement::Installed)).await;
    assert_eq!(machine.ground.version("demo-a"), "installed 2");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let count = |want| {
        let is = |m: &&patchtide_protocol::state::StateMessage| matches!(&m.body, StateBody::Update { state, .. } if *state == want);
        site.messages().iter().filter(is).count()
    };
    assert_eq!(count(UpdateEnforcement::Installed), 1, "reported once");
    assert_eq!(count(UpdateEnforcement::InstallFailed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspending_stops_what_has_not_started_and_failures_are_told() {
    let site = Site::start().await;
    let mut ground = Ground::new();
    for name in ["demo-a", "demo-b"] {
        ground.install_by_hand(&ground.package(name, "1", "", &[]));
    }
    let bad = ground.package("demo-a", "2", "", &[("postinst", "echo broken by design; exit 3")]);
    let good = ground.package("demo-b", "2", "", &[]);
    let line = demo_line(&site, &[&bad, &good]);
    let bad_id = ground.approve(bad.clone());
    ground.approve(good.clone());
    let mut suspended = deploying(&line, &ground.updates, None);
    suspended.deployments[0].suspend = true;
    site.set_policy(1, suspended);
    let files: Vec<Vec<u8>> = [&bad, &good]
        .iter()
        .map(|leaf| fs::read(ground.site.cache.path(&leaf.file.sha256)).unwrap())
        .collect();
    for leaf in [&bad, &good] {
        ground.site.cache.discard(&leaf.file.sha256).unwrap();
    }
    let mut machine = Machine::new(ground, &site);
    machine.start();
    site.said("scan", 0, &machine.log, |body| matches!(body, StateBody::Scan { state: Scan::Completed, .. }))
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let why = machine.ask(&Question::Why { update: None });
    assert!(why.contains("suspend"), "{why}");
    assert_eq!(machine.ground.version("demo-b"), "installed 1");

    for bytes in &files {
        site.put(bytes);
    }
    site.set_policy(2, deploying(&line, &machine.ground.updates, None));
    let failed = |body: &StateBody| {
        matches!(body, StateBody::Update { update, state: UpdateEnforcement::InstallFailed, error: Some(error) }
            if *update == bad_id && error.symbol == "INSTALL-SCRIPT" && error.message.contains("broken by design"))
    };
    site.said("the failure", 0, &machine.log, failed).await;
    site.said("the deployment's failure", 0, &machine.log, enforcement(DeploymentEnforcement::InstallFailed))
        .await;
    assert_eq!(machine.ground.version("demo-b"), "installed 2");
    let status = machine.ask(&Question::Status);
    assert!(status.contains("broken by design"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_installation_is_waited_for_and_said() {
    let site = Site::start().await;
    let mut ground = Ground::new();
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    let leaf = ground.package("demo-a", "2", "", &[]);
    let slow = ground.package("demo-slow", "1", "", &[("postinst", "sleep 12")]);
    let slow_file = ground.site.root.path("/slow.deb");
    fs::copy(ground.site.cache.path(&slow.file.sha256), slow_file).unwrap();
    site.put(&fs::read(ground.site.cache.path(&leaf.file.sha256)).unwrap());
    let line = demo_line(&site, &[&leaf]);
    ground.approve(leaf);
    site.set_policy(1, deploying(&line, &ground.updates, None));
    let mut other = ground.site.root.command(&["dpkg", "-i", "/slow.deb"]);
    let mut other = other.stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut machine = Machine::new(ground, &site);
    machine.start();
    let waiting = enforcement(DeploymentEnforcement::WaitingForAnother);
    let seq = site.said("waiting for another installation", 0, &machine.log, waiting).await;
    assert!(machine.ask(&Question::Status).contains("dpkg"));
    other.wait().unwrap();
    site.said("installed", seq, &machine.log, enforcement(DeploymentEnforcement::Installed)).await;
    assert_eq!(machine.ground.version("demo-a"), "installed 2");
}

/// A certificate that is past two thirds of its life is renewed over itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_in_time() {
    // The first one was issued a day ago and ends in eight hours.
    let site = Site::start_with(8 * 3600, false).await;
    site.set_policy(1, body(&BTreeMap::new(), vec![]));
    let mut machine = Machine::new(Ground::new(), &site);
    machine.start();
    machine.until("renewed", |_| site.renewals() > 0).await;
    site.said("facts", 0, &machine.log, |body| matches!(body, StateBody::Facts { .. })).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(site.renewals(), 1);
}

/// One that ran out while the site could not renew it is asked for anew, with the same key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ran_out_is_replaced() {
    let site = Site::start_with(20, true).await;
    site.set_policy(1, body(&BTreeMap::new(), vec![]));
    let mut machine = Machine::new(Ground::new(), &site);
    machine.start();
    let first = site.said("facts", 0, &machine.log, |body| matches!(body, StateBody::Facts { .. })).await;
    machine.until("a second enrolment", |_| site.enrolments() == 2).await;
    site.set_policy(2, body(&BTreeMap::new(), vec![]));
    machine.until("the new policy", |_| machine.ask(&Question::Status).contains("policy      1.2")).await;
    machine.ask(&Question::Scan);
    site.said("scan", first, &machine.log, |body| {
        matches!(body, StateBody::Scan { state: Scan::Completed, .. })
    })
    .await;
    assert_eq!(site.renewals(), 0);
}
