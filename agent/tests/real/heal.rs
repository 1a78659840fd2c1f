//! Re-evaluation: what fell below its update again is healed, from the cache or from a distribution point; what an owner
//! removed stays removed; nothing is installed twice without need.

use std::{fs, time::Duration};

use jiff::SignedDuration;
use patchtide_model::state::{Compliance, DeploymentEnforcement as State};
use patchtide_protocol::state::StateBody;

use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_downgraded_package_is_healed_and_a_removed_one_left_alone() {
    let mut stage = Stage::new(&[("demo-a", ""), ("demo-b", "")]).await;
    let mut policy = stage.policy();
    let uid = policy.deployments[0].uid.clone();
    policy.settings.reevaluation_cycle = SignedDuration::from_secs(10);
    stage.site.set_policy(1, policy);
    stage.machine.start();
    let (mut seq, _) = stage.state(&uid, State::Installed, 0).await;
    assert_eq!(stage.transactions(), 1);
    stage.machine.ground.run(&["dpkg", "--purge", "demo-b"]);
    let old = stage.machine.ground.package("demo-a", "1", "", &[]);
    let old = format!("/var/lib/patchtide/cache/{}", old.file.sha256);
    // Once with the file in the cache, once without.
    for round in 2..4 {
        if round == 3 {
            let file = stage.leaves["demo-a"].file.sha256;
            let _ = fs::remove_file(stage.machine.ground.site.cache.path(&file));
        }
        stage.machine.ground.run(&["dpkg", "--force-unsafe-io", "--force-downgrade", "-i", &old]);
        seq = stage.state(&uid, State::Installed, seq).await.0;
        assert_eq!(stage.version("demo-a"), "installed 2", "round {round}");
        assert_eq!(stage.transactions(), round);
    }
    let compliant = |body: &StateBody| matches!(body, StateBody::Compliance { deployment, state: Compliance::Compliant } if *deployment == uid);
    stage.site.said("compliant", 0, &stage.machine.log, compliant).await;
    // Two cycles more: nothing is installed again.
    tokio::time::sleep(Duration::from_secs(22)).await;
    assert_eq!(stage.transactions(), 3);
    assert_eq!(stage.version("demo-b"), "", "removed by its owner");
    stage.audit();
}
