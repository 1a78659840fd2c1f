//! Two agents that are started on one machine.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use patchtide_model::state::DeploymentEnforcement as State;

use crate::stage::{Stage, id};

/// Runs a second agent on the same root until it ends by itself: how, and what it said.
fn second(stage: &Stage, words: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchtide-agent"));
    command.arg("--root").arg(stage.machine.ground.site.root.folder()).arg("run").args(words);
    let mut other = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while other.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(30) {
            other.kill().unwrap();
            panic!("a second agent works beside the first");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = other.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The second one says why and ends; the first one does not notice, and is the one that answers and installs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_agent_on_the_same_state_refuses() {
    let mut stage = Stage::new(&[("demo-a", "touch /run/slow; sleep 3")]).await;
    let policy = stage.policy();
    let uid = policy.deployments[0].uid.clone();
    let file = stage.leaves["demo-a"].file.sha256;
    stage.site.drip(file, true);
    stage.site.set_policy(1, policy);
    stage.machine.start();
    stage.machine.until("the download runs", |_| stage.site.asked_for(&file)).await;
    let books = |name: &str| fs::read(stage.machine.path(&format!("/var/lib/patchtide/{name}"))).unwrap();
    let certificate = books("client.pem");
    for _ in 0..3 {
        let (ok, said) = second(&stage, &[]);
        assert!(!ok, "{said}");
        assert!(said.contains("another agent works on"), "{said}");
        assert!(
            said.contains("/var/lib/patchtide") && said.contains("systemctl stop patchtide-agent"),
            "{said}"
        );
        assert!(!said.contains("agent starts"), "it did nothing before it knew: {said}");
    }
    assert_eq!(books("client.pem"), certificate);
    assert_eq!(stage.site.enrolments(), 1);
    // Also while dpkg runs, which the second one must not take for one that was cut off.
    stage.site.drip(file, false);
    stage.machine.until("dpkg runs", |root| root.join("run/slow").exists()).await;
    assert!(!second(&stage, &[]).0);
    let (ok, said) = stage.command(&["status"]);
    assert!(ok && said.contains("policy      1.1"), "the first one answers: {said}");
    stage.state(&uid, State::Installed, 0).await;
    assert_eq!((stage.version("demo-a").as_str(), stage.transactions()), ("installed 2", 1));
    stage.audit();
    // When the first one is gone, the next one works, whatever the lock's file says.
    stage.machine.kill();
    stage.machine.start();
    stage
        .machine
        .until("the next one answers", |_| stage.why("demo-a").contains(&id("demo-a").to_string()))
        .await;
}
