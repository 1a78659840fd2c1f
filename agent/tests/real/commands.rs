//! The agent as the person at the machine sees it: its own commands, and what they and the site are told of trouble.

use std::{fs, process::Command};

use patchtide_agent::control::{Question, ask};
use patchtide_model::state::{DeploymentEnforcement, UpdateEnforcement};
use patchtide_protocol::state::StateBody;

use crate::{
    ground::Ground,
    life::{Machine, demo_line, deploying, enforcement},
    scripts::{DAEMON, SERVICE},
    site::Site,
};

/// Runs a command of the shipped binary against the running agent: whether it ended well, and what it said.
fn command(machine: &Machine, words: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchtide-agent"));
    let output = command.arg("--root").arg(machine.ground.site.root.folder()).args(words).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// `status`, `scan`, `evaluate`, `why` and `install` of a machine whose deployment is suspended; and with no agent there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_say_and_do_what_they_are_for() {
    let site = Site::start().await;
    let mut ground = Ground::new();
    ground.install_by_hand(&ground.package("demo-a", "1", "", &[]));
    let leaf = ground.package("demo-a", "2", "", &[]);
    let line = demo_line(&site, &[&leaf]);
    ground.approve(leaf);
    let mut policy = deploying(&line, &ground.updates, None);
    policy.deployments[0].suspend = true;
    site.set_policy(1, policy);
    let mut machine = Machine::new(ground, &site);
    let (ok, said) = command(&machine, &["status"]);
    assert!(!ok && said.contains("no agent answers") && said.contains("systemctl status"), "{said}");

    machine.start();
    let scanned = |body: &StateBody| {
        matches!(body, StateBody::Scan { state: patchtide_model::state::Scan::Completed, .. })
    };
    let first = site.said("the first scan", 0, &machine.log, scanned).await;
    let (ok, said) = command(&machine, &["status"]);
    assert!(ok && said.contains("policy      1.1") && said.contains("1 required"), "{said}");
    let (ok, said) = command(&machine, &["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(ok && status["site"] == "lab" && status["deployments"][0]["name"] == "now", "{said}");
    let (ok, said) = command(&machine, &["why", "demo-a"]);
    assert!(ok && said.contains("Update is required") && said.contains("suspend"), "{said}");
    assert!(said.contains("needs demo-a:all 2"), "{said}");
    let (ok, said) = command(&machine, &["install", "demo/test/main:other@1"]);
    assert!(!ok && said.contains("is not offered to this machine"), "{said}");

    assert!(command(&machine, &["scan"]).0);
    let second = site.said("the scan that was asked for", first, &machine.log, scanned).await;
    assert!(command(&machine, &["evaluate"]).0);
    site.said("the scan of the evaluation", second, &machine.log, scanned).await;
    assert_eq!(machine.ground.version("demo-a"), "installed 1", "suspended it stays");
}

fn asked(machine: &Machine, question: &Question) -> String {
    ask(&machine.ground.site.root.path("/run/patchtide/agent.sock"), question).unwrap().text
}

/// reliability.md 4 #65: for dpkg all is well, and the service is dead. Told with the update that ships it, until it runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_65_a_dead_service_is_reported_until_it_runs_again() {
    let site = Site::start().await;
    let mut ground = Ground::new();
    let package = |ground: &Ground, version, what: &str| {
        let script = format!("{SERVICE} {what} || true");
        ground.package("demo-daemon", version, "", &[(SERVICE, DAEMON), ("postinst", &script)])
    };
    ground.install_by_hand(&package(&ground, "1", "start"));
    let leaf = package(&ground, "2", "stop");
    site.put(&fs::read(ground.site.cache.path(&leaf.file.sha256)).unwrap());
    let line = demo_line(&site, &[&leaf]);
    let id = ground.approve(leaf);
    site.set_policy(1, deploying(&line, &ground.updates, None));
    let mut machine = Machine::new(ground, &site);
    machine.start();
    let dead = |body: &StateBody| {
        matches!(body, StateBody::Update { update, state: UpdateEnforcement::GeneralFailure, error: Some(error) }
            if *update == id && error.symbol == "INSTALL-SERVICE" && error.message.contains("demo-daemon"))
    };
    let told = site.said("the dead service", 0, &machine.log, dead).await;
    assert_eq!(machine.ground.version("demo-daemon"), "installed 2");
    let failed = enforcement(DeploymentEnforcement::InstallFailed);
    site.said("the deployment's failure", 0, &machine.log, failed).await;
    let why = asked(&machine, &Question::Why { update: None });
    assert!(why.contains("INSTALL-SERVICE"), "{why}");

    machine.ground.run(&[SERVICE, "start"]);
    // Looked at again every ten minutes, and by whatever agent comes next.
    machine.kill();
    machine.start();
    site.said("installed", told, &machine.log, enforcement(DeploymentEnforcement::Installed)).await;
    machine.ground.run(&[SERVICE, "stop"]);
}
