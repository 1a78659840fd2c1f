//! The agent killed at any instant of a download, of dpkg's run and of a restart: in the end everything is installed, dpkg's
//! database is whole, and the site was told each state once.

use std::{collections::BTreeMap, fs, time::Duration};

use patchtide_model::{
    UpdateId,
    catalogue::RestartRule,
    state::{UpdateEnforcement, may_follow},
};
use patchtide_protocol::state::StateBody;

use crate::{
    life::{demo_line_at, deploying},
    stage::Stage,
};

/// Kills in all.
const KILLS: u32 = 100;
/// Rounds in which they fall; each brings a new version of every package.
const ROUNDS: u32 = 10;

/// A source of instants: the same in every run, so that a failure can be looked at again.
struct Instants(u64);

impl Instants {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_at_any_instant_ends_compliant() {
    let mut stage = Stage::new(&[("demo-a", ""), ("demo-b", ""), ("demo-c", "")]).await;
    let mut instants = Instants(0x5eed_0ffa_1100);
    let mut killed = 0;
    let mut restarts = 0;
    for round in 0..ROUNDS {
        let version = (round + 3).to_string();
        let mut updates = BTreeMap::new();
        let mut leaves = Vec::new();
        for name in ["demo-a", "demo-b", "demo-c"] {
            // Something of a transaction's length, with an instant to hit in each script.
            let scripts = [("preinst", "sleep 0.3"), ("postinst", "sleep 0.3")];
            let ground = &stage.machine.ground;
            let leaf = ground.package(name, &version, "", &scripts);
            stage.site.put(&fs::read(ground.site.cache.path(&leaf.file.sha256)).unwrap());
            ground.site.cache.discard(&leaf.file.sha256).unwrap();
            let id: UpdateId = format!("demo/test/main:{name}@{version}").parse().unwrap();
            updates.insert(id, vec![leaf.clone()]);
            leaves.push(leaf);
        }
        let line = demo_line_at(&stage.site, &leaves.iter().collect::<Vec<_>>(), u64::from(round) + 2);
        let mut policy = deploying(&line, &updates, None);
        if round % 3 == 0 {
            policy.updates.values_mut().for_each(|update| update.restart = RestartRule::Always);
        }
        stage.site.set_policy(u64::from(round) + 1, policy);
        while killed < (round + 1) * KILLS / ROUNDS {
            stage.machine.start();
            // Mostly while it works, now and then right after it began.
            let wait = if instants.next(5) == 0 { instants.next(120) } else { 200 + instants.next(1800) };
            tokio::time::sleep(Duration::from_millis(wait)).await;
            stage.machine.kill();
            killed += 1;
            if stage.machine.path("/run/asked").exists() {
                stage.machine.boot();
                restarts += 1;
            }
        }
        stage.machine.start();
        let mut patience = 900;
        while !updates.keys().all(|id| last_state(&stage, id) == Some(UpdateEnforcement::Installed)) {
            if stage.machine.path("/run/asked").exists() {
                stage.machine.reboot();
                restarts += 1;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            patience -= 1;
            let log = patchtide_tests::process::tail(&stage.machine.log, 60);
            assert!(patience > 0, "round {round}: {:?}\n{log}", stage.site.messages());
        }
        for name in ["demo-a", "demo-b", "demo-c"] {
            assert_eq!(stage.version(name), format!("installed {version}"));
        }
        stage.machine.kill();
        stage.audit();
    }
    assert_eq!(killed, KILLS);
    assert!(restarts > 0);
    // Of every update each state once, and only in an order that may be.
    let mut sequences: BTreeMap<UpdateId, Vec<UpdateEnforcement>> = BTreeMap::new();
    for message in stage.site.messages() {
        if let StateBody::Update { update, state, .. } = message.body {
            sequences.entry(update).or_default().push(state);
        }
    }
    for (update, states) in sequences {
        let times = states.iter().filter(|state| **state == UpdateEnforcement::Installed).count();
        assert_eq!(times, 1, "{update}: {states:?}");
        for pair in states.windows(2) {
            assert!(may_follow(pair[0], pair[1]), "{update}: {states:?}");
        }
    }
    println!("{killed} kills, {restarts} restarts, {} transactions", stage.transactions());
}

fn last_state(stage: &Stage, id: &UpdateId) -> Option<UpdateEnforcement> {
    stage.site.messages().into_iter().rev().find_map(|message| match message.body {
        StateBody::Update { update, state, .. } if update == *id => Some(state),
        _ => None,
    })
}
