//! A machine with packages that have updates, and the site that deploys them: what the tests of section "on real
//! machines" stand on.

use std::{collections::BTreeMap, fs, process::Command};

use jiff::{SignedDuration, Timestamp, ToSpan as _, tz::TimeZone};
use patchtide_model::{
    UpdateId,
    catalogue::{Leaf, RestartRule},
    deployment::Deadline,
    policy::{DeploymentPolicy, PolicyBody},
    state::DeploymentEnforcement,
    window::{AppliesTo, Recurrence, Window, WindowAction, Zone},
};
use patchtide_protocol::state::StateBody;

use crate::{
    ground::Ground,
    life::{Machine, demo_line, deploying},
    site::Site,
};

/// Site and machine; every package is installed in version 1 and has an update to version 2, which is not downloaded.
pub(crate) struct Stage {
    pub(crate) site: Site,
    pub(crate) machine: Machine,
    pub(crate) line: PolicyBody,
    pub(crate) leaves: BTreeMap<String, Leaf>,
}

pub(crate) fn id(package: &str) -> UpdateId {
    format!("demo/test/main:{package}@2").parse().unwrap()
}

impl Stage {
    /// Packages with the script that configures version 2 (empty: none).
    pub(crate) async fn new(packages: &[(&str, &str)]) -> Self {
        let site = Site::start().await;
        let mut ground = Ground::new();
        let mut leaves = BTreeMap::new();
        for (name, script) in packages {
            ground.install_by_hand(&ground.package(name, "1", "", &[]));
            let scripts = [("postinst", *script)];
            let leaf = ground.package(name, "2", "", if script.is_empty() { &[] } else { &scripts });
            site.put(&fs::read(ground.site.cache.path(&leaf.file.sha256)).unwrap());
            ground.site.cache.discard(&leaf.file.sha256).unwrap();
            ground.approve(leaf.clone());
            leaves.insert((*name).to_owned(), leaf);
        }
        let line = demo_line(&site, &leaves.values().collect::<Vec<_>>());
        let machine = Machine::new(ground, &site);
        Self { site, machine, line, leaves }
    }

    /// Deploys everything now, no restart asked for.
    pub(crate) fn policy(&self) -> PolicyBody {
        deploying(&self.line, &self.machine.ground.updates, None)
    }

    pub(crate) fn version(&self, package: &str) -> String {
        self.machine.ground.version(package)
    }

    /// Waits until a deployment reports the state after message `after`; its number and until when it waits.
    pub(crate) async fn state(
        &self,
        uid: &str,
        want: DeploymentEnforcement,
        after: u64,
    ) -> (u64, Option<Timestamp>) {
        let says = |body: &StateBody| matches!(body, StateBody::Enforcement { deployment, state, .. } if deployment == uid && *state == want);
        let seq = self.site.said(&format!("{uid} {want:?}"), after, &self.machine.log, says).await;
        let until = self.site.messages().into_iter().find(|message| message.seq == seq).and_then(|message| {
            match message.body {
                StateBody::Enforcement { until, .. } => until,
                _ => None,
            }
        });
        (seq, until)
    }

    /// Runs a command of the shipped binary; whether it ended well, and what it said.
    pub(crate) fn command(&self, words: &[&str]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchtide-agent"));
        let root = self.machine.ground.site.root.folder();
        let output = command.arg("--root").arg(root).args(words).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// What `why` says of a package's update.
    pub(crate) fn why(&self, package: &str) -> String {
        self.command(&["why", package]).1
    }

    /// Transactions that apt wrote down: those of the agent, for the packages of a stage are installed with dpkg.
    pub(crate) fn transactions(&self) -> usize {
        let log = self.machine.ground.site.root.path("/var/log/apt/history.log");
        fs::read_to_string(log).unwrap_or_default().matches("Upgrade: demo").count()
    }

    /// The database of dpkg is whole.
    pub(crate) fn audit(&self) {
        let said = self.machine.ground.run(&["dpkg", "--audit"]);
        assert_eq!(said, "", "dpkg --audit");
    }
}

/// The time on these machines: they share the clock of the one that the test runs on.
#[expect(clippy::disallowed_methods, reason = "the test is at the edge")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// Another deployment of these packages.
pub(crate) fn deployment(
    base: &DeploymentPolicy,
    uid: &str,
    packages: &[&str],
    deadline: Deadline,
) -> DeploymentPolicy {
    let mut deployment = base.clone();
    deployment.name = format!("deployment-{uid}");
    uid.clone_into(&mut deployment.uid);
    deployment.settings.deadline = deadline;
    deployment.updates = packages.iter().map(|package| id(package)).collect();
    deployment
}

/// A deadline so long from now, in UTC.
pub(crate) fn deadline_in(seconds: i64) -> Deadline {
    Deadline::At((now() + seconds.seconds()).to_zoned(TimeZone::UTC).datetime())
}

/// A window of one occurrence that begins `start` minutes from now, in UTC.
pub(crate) fn window(name: &str, action: WindowAction, start: i64, minutes: i64) -> Window {
    // Windows begin with a minute, and reports tell whole seconds.
    let begins = (now() + start.minutes()).to_zoned(TimeZone::UTC).datetime();
    let begins = begins.with().second(0).subsec_nanosecond(0).build().unwrap();
    Window {
        name: name.parse().unwrap(),
        collection: "all".parse().unwrap(),
        recurrence: Recurrence::Once { date: begins.date() },
        start: begins.time(),
        duration: SignedDuration::from_mins(minutes),
        zone: Zone::Utc,
        effective_from: None,
        effective_until: None,
        applies_to: AppliesTo::AllDeployments,
        action,
    }
}

/// Says that updates of the policy need a restart.
pub(crate) fn always_restart(policy: &mut PolicyBody, packages: &[&str]) {
    for package in packages {
        policy.updates.get_mut(&id(package)).unwrap().restart = RestartRule::Always;
    }
}
