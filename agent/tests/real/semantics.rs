//! What a deployment means, on a real machine: deadlines, windows, restarts, people, suspension. The arithmetic and the
//! decisions are proved in `model` and `planner`; here apt and dpkg do what they say, and nothing else.

use std::{fs, time::Duration};

use jiff::SignedDuration;
use patchtide_model::{
    deployment::Deadline,
    state::{DeploymentEnforcement as State, UpdateEnforcement},
    window::{Recurrence, WindowAction, Zone},
};
use patchtide_protocol::state::StateBody;

use crate::stage::{Stage, always_restart, deadline_in, deployment, id, now, window};

/// Long enough that an agent that wrongly went on would have.
async fn a_while() {
    tokio::time::sleep(Duration::from_secs(4)).await;
}

/// Nothing was installed: every package is in version 1, and apt wrote nothing down.
fn untouched(stage: &Stage) {
    for package in stage.leaves.keys() {
        assert_eq!(stage.version(package), "installed 1", "{package}");
    }
    assert_eq!(stage.transactions(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_deployments_of_one_update_the_earlier_deadline_counts() {
    let mut stage = Stage::new(&[("demo-a", ""), ("demo-b", "")]).await;
    let mut policy = stage.policy();
    let base = policy.deployments.remove(0);
    policy.deployments = vec![
        deployment(&base, "late", &["demo-a", "demo-b"], deadline_in(86_400)),
        deployment(&base, "soon", &["demo-a"], deadline_in(12)),
    ]
    .into();
    stage.site.set_policy(1, policy);
    stage.machine.start();
    let (seq, _) = stage.state("soon", State::Downloaded, 0).await;
    untouched(&stage);
    stage.state("soon", State::Installed, seq).await;
    assert_eq!(
        (stage.version("demo-a"), stage.version("demo-b")),
        ("installed 2".into(), "installed 1".into())
    );
    assert_eq!(stage.transactions(), 1);
    let why = stage.why("demo-b");
    assert!(why.contains("deployment-late") && why.contains("the earliest of its deployments"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_updates_are_one_transaction_and_one_restart() {
    let mut stage = Stage::new(&[("demo-a", ""), ("demo-b", ""), ("demo-c", "")]).await;
    let mut policy = stage.policy();
    let base = policy.deployments.remove(0);
    let now = Deadline::After(SignedDuration::ZERO);
    policy.deployments = vec![
        deployment(&base, "one", &["demo-a", "demo-b"], now),
        deployment(&base, "two", &["demo-b", "demo-c"], now),
    ]
    .into();
    always_restart(&mut policy, &["demo-a", "demo-c"]);
    stage.site.set_policy(1, policy);
    stage.machine.start();
    stage.state("one", State::PendingRestart, 0).await;
    stage.machine.until("the restart is asked of init", |root| root.join("run/asked").exists()).await;
    assert_eq!(stage.transactions(), 1);
    a_while().await;
    assert_eq!(fs::read_to_string(stage.machine.path("/run/asked")).unwrap(), "-r now\n", "once");
    stage.machine.reboot();
    stage.state("one", State::Installed, 0).await;
    stage.state("two", State::Installed, 0).await;
    a_while().await;
    assert!(!stage.machine.path("/run/asked").exists(), "no second restart");
    assert_eq!(stage.transactions(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_waits_for_the_next_window_and_says_until_when() {
    let mut stage = Stage::new(&[("demo-long", ""), ("demo-short", "")]).await;
    let mut policy = stage.policy();
    // A transaction with the short one needs 11 minutes, with the long one 70; the long one fits tomorrow.
    for (package, minutes) in [("demo-short", 1), ("demo-long", 60)] {
        policy.updates.get_mut(&id(package)).unwrap().maximum_run_time =
            Some(SignedDuration::from_mins(minutes));
    }
    let tomorrow = window("tomorrow", WindowAction::Allow, 24 * 60, 180);
    let opens = tomorrow.occurrences(&jiff::tz::TimeZone::UTC, now()).next().unwrap().start;
    policy.windows = vec![window("now", WindowAction::Allow, -1, 30), tomorrow];
    let uid = policy.deployments[0].uid.clone();
    stage.site.set_policy(1, policy);
    stage.machine.start();
    let (_, until) = stage.state(&uid, State::WaitingForWindow, 0).await;
    assert_eq!(until, Some(opens));
    stage.machine.until("the short one", |_| stage.version("demo-short") == "installed 2").await;
    assert_eq!(stage.version("demo-long"), "installed 1");
    let why = stage.why("demo-long");
    assert!(why.contains("MaintenanceWindow/tomorrow") && why.contains("1h 10m"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deny_goes_before_allow() {
    let mut stage = Stage::new(&[("demo-a", "")]).await;
    let mut policy = stage.policy();
    let uid = policy.deployments[0].uid.clone();
    let denies = window("freeze", WindowAction::Deny, -5, 60);
    let ends = denies.occurrences(&jiff::tz::TimeZone::UTC, now()).next().unwrap().end;
    policy.windows = vec![window("always", WindowAction::Allow, -10, 24 * 60), denies];
    stage.site.set_policy(1, policy.clone());
    stage.machine.start();
    let (seq, until) = stage.state(&uid, State::WaitingForWindow, 0).await;
    assert_eq!(until, Some(ends));
    a_while().await;
    untouched(&stage);
    policy.windows.pop();
    stage.site.set_policy(2, policy);
    stage.state(&uid, State::Installed, seq).await;
}

/// Windows that are over, that nobody can evaluate, or that deny alone: none of them opens the rest of time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_that_is_past_invalid_or_denies_only_opens_nothing() {
    let mut stage = Stage::new(&[("demo-a", "")]).await;
    let mut policy = stage.policy();
    let uid = policy.deployments[0].uid.clone();
    let past = window("past", WindowAction::Allow, -48 * 60, 60);
    let mut unknown = window("unknown", WindowAction::Allow, -10, 60);
    unknown.zone = Zone::Iana("Mars/Olympus".to_owned());
    let mut locked = window("locked", WindowAction::Deny, -10, 60);
    locked.zone = Zone::Iana("Mars/Olympus".to_owned());
    let mut none = window("no-such-day", WindowAction::Allow, -10, 60);
    none.recurrence = Recurrence::MonthlyByDate { every: 12, anchor: jiff::civil::date(2026, 2, 1), day: 30 };
    let denies = window("denies", WindowAction::Deny, -10, 60);
    let open = window("open", WindowAction::Allow, -10, 24 * 60);
    let mut after = 0;
    let wrong = [vec![past], vec![unknown], vec![none], vec![denies], vec![open, locked]];
    for (number, windows) in (1..).zip(wrong) {
        let names: Vec<String> = windows.iter().map(|window| window.name.to_string()).collect();
        policy.windows = windows;
        stage.site.set_policy(number, policy.clone());
        if number == 1 {
            stage.machine.start();
            after = stage.state(&uid, State::WaitingForWindow, after).await.0;
        }
        let in_force = format!("policy      1.{number}");
        stage.machine.until("the policy", |_| stage.command(&["status"]).1.contains(&in_force)).await;
        a_while().await;
        untouched(&stage);
        let why = stage.why("demo-a");
        assert!(names.iter().any(|name| why.contains(name)), "{names:?} {why}");
    }
    policy.windows.clear();
    stage.site.set_policy(9, policy);
    stage.state(&uid, State::Installed, after).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_optional_deployment_is_installed_when_a_person_says_so() {
    let mut stage = Stage::new(&[("demo-a", ""), ("demo-b", "")]).await;
    let mut policy = stage.policy();
    let uid = policy.deployments[0].uid.clone();
    policy.deployments[0].settings.deadline = Deadline::None;
    stage.site.set_policy(1, policy);
    stage.machine.start();
    let scanned = |body: &StateBody| matches!(body, StateBody::Scan { .. });
    stage.site.said("scan", 0, &stage.machine.log, scanned).await;
    a_while().await;
    untouched(&stage);
    assert_eq!(stage.machine.ground.site.cache.present().unwrap().len(), 0, "nothing is downloaded before");
    let (ok, said) = stage.command(&["install", "demo/test/main:demo-a@2"]);
    assert!(ok, "{said}");
    stage.machine.until("demo-a", |_| stage.version("demo-a") == "installed 2").await;
    a_while().await;
    assert_eq!(stage.version("demo-b"), "installed 1", "what nobody asked for stays");
    let (ok, said) = stage.command(&["install", "demo/test/main:demo-b@2"]);
    assert!(ok, "{said}");
    stage.state(&uid, State::Installed, 0).await;
    assert_eq!(stage.version("demo-b"), "installed 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suppressed_restart_waits_for_a_person() {
    let mut stage = Stage::new(&[("demo-a", "")]).await;
    let mut policy = stage.policy();
    let uid = policy.deployments[0].uid.clone();
    policy.deployments[0].settings.suppress_restart_servers = true;
    always_restart(&mut policy, &["demo-a"]);
    stage.site.set_policy(1, policy);
    stage.machine.start();
    let (seq, _) = stage.state(&uid, State::PendingRestart, 0).await;
    assert_eq!(stage.version("demo-a"), "installed 2");
    a_while().await;
    assert!(!stage.machine.path("/run/asked").exists(), "nobody restarts it");
    // The owner of the machine does.
    stage.machine.reboot();
    stage.state(&uid, State::Installed, seq).await;
}

/// Twice in the way: while a file comes, and while dpkg runs. Nothing new starts, what runs ends, and afterwards it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspension_stops_a_download_and_lets_a_transaction_end() {
    let mut stage = Stage::new(&[("demo-a", "touch /run/slow; sleep 6"), ("demo-z", "")]).await;
    let mut policy = stage.policy();
    let uid = policy.deployments[0].uid.clone();
    // One after the other, so that there is something left to stop.
    policy.updates.get_mut(&id("demo-a")).unwrap().exclusive = true;
    policy.updates.get_mut(&id("demo-z")).unwrap().exclusive = true;
    let mut held = policy.clone();
    held.deployments[0].suspend = true;
    stage.site.drip(stage.leaves["demo-a"].file.sha256, true);
    stage.site.set_policy(1, policy.clone());
    stage.machine.start();
    let asked = stage.leaves["demo-a"].file.sha256;
    stage.machine.until("the download runs", |_| stage.site.asked_for(&asked)).await;
    stage.site.set_policy(2, held.clone());
    stage.machine.until("held", |_| stage.why("demo-a").contains("suspended")).await;
    a_while().await;
    untouched(&stage);
    assert!(!stage.why("demo-a").contains("being downloaded"), "{}", stage.why("demo-a"));

    stage.site.drip(asked, false);
    stage.site.set_policy(3, policy.clone());
    stage.machine.until("dpkg runs", |root| root.join("run/slow").exists()).await;
    stage.site.set_policy(4, held);
    let ended = |body: &StateBody| matches!(body, StateBody::Update { update, state: UpdateEnforcement::Installed, .. } if *update == id("demo-a"));
    let seq = stage.site.said("the running transaction ends", 0, &stage.machine.log, ended).await;
    assert_eq!(stage.version("demo-a"), "installed 2");
    a_while().await;
    assert_eq!(stage.version("demo-z"), "installed 1", "nothing new starts");
    stage.audit();
    stage.site.set_policy(5, policy);
    stage.state(&uid, State::Installed, seq).await;
    assert_eq!(stage.version("demo-z"), "installed 2");
}
