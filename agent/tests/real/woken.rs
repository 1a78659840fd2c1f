//! A machine that was woken at its deadline (R-SCHED-07, R-SCHED-08, R-RST-10). Roots have neither init nor logind: what they
//! are asked for is written down. That the lock is held and let go is seen, what logind makes of it is not.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use jiff::SignedDuration;
use patchtide_model::{deployment::AfterWake, state::DeploymentEnforcement as State};

use crate::{
    people::utmp,
    stage::{Stage, deadline_in, deployment},
};

/// Stands where systemd's own is: it runs what it is given, and says when that has ended.
const INHIBIT: &str =
    "#!/bin/sh\nfor last; do :; done\necho \"held $1\" >>/run/awake\n\"$last\"\necho released >>/run/awake\n";

async fn woken(after: AfterWake) -> Stage {
    let stage = stage(after).await;
    stage.state("night", State::Installed, 0).await;
    stage
}

/// The same while dpkg runs.
async fn stage(after: AfterWake) -> Stage {
    let mut stage = Stage::new(&[("demo-a", "touch /run/slow; sleep 3")]).await;
    let inhibit = stage.machine.path("/usr/bin/systemd-inhibit");
    fs::write(&inhibit, INHIBIT).unwrap();
    fs::set_permissions(&inhibit, fs::Permissions::from_mode(0o755)).unwrap();
    let mut policy = stage.policy();
    let base = policy.deployments.remove(0);
    let mut night = deployment(&base, "night", &["demo-a"], deadline_in(0));
    (night.settings.wake_on_lan, night.settings.after_wake) = (true, after);
    night.settings.restart_countdown = Some(SignedDuration::from_secs(1));
    policy.deployments = vec![night].into();
    stage.site.set_policy(1, policy);
    // The machine has just been switched on: its agent starts in a new boot.
    stage.machine.start();
    stage.machine.until("the transaction", |root| root.join("run/slow").exists()).await;
    let awake = fs::read_to_string(stage.machine.path("/run/awake")).unwrap();
    assert!(
        awake.ends_with("held --what=sleep:idle:handle-lid-switch\n"),
        "kept awake while dpkg runs: {awake}"
    );
    stage
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_woken_machine_is_kept_awake_and_shut_down_afterwards() {
    let stage = woken(AfterWake::ShutDown).await;
    stage.machine.until("init is asked", |root| root.join("run/asked").exists()).await;
    assert_eq!(fs::read_to_string(stage.machine.path("/run/asked")).unwrap(), "-h -P now\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_woken_machine_may_sleep_again_afterwards() {
    let stage = woken(AfterWake::Sleep).await;
    let released = |root: &std::path::Path| {
        fs::read_to_string(root.join("run/awake")).is_ok_and(|text| text.ends_with("released\n"))
    };
    stage.machine.until("the lock is let go", released).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!stage.machine.path("/run/asked").exists(), "it is neither restarted nor shut down");
}

/// Somebody switched it on, or came to it: it is not shut down under their hands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_somebody_logs_in_on_stays_on() {
    let stage = stage(AfterWake::ShutDown).await;
    fs::write(stage.machine.path("/run/utmp"), utmp("pts/77")).unwrap();
    stage.state("night", State::Installed, 0).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!stage.machine.path("/run/asked").exists(), "it stays on");
}
