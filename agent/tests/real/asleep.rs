//! A laptop that is closed: agent, apt and dpkg stand still over the edge of a window or over a deadline, and go on later.
//! Nothing starts outside its window because of that, and what became due meanwhile is due once. Real machines, real time;
//! only the windows and run times are short.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use patchtide_model::{
    catalogue::Installer,
    policy::PolicyBody,
    state::{DeploymentEnforcement as State, Scan, UpdateEnforcement},
    window::{Recurrence, Window, WindowAction},
};
use patchtide_protocol::state::StateBody;

use crate::{
    recovery::processes,
    stage::{Stage, deadline_in, deployment, id, now, window},
};

/// The window that is open closes so many seconds from now.
const CLOSES: i64 = 15;
/// The next one opens so many seconds from now.
const OPENS: i64 = 26;
/// What one update is reckoned to take, in seconds.
const RUN_TIME: i64 = 4;

/// Everything of the machine stands still until it is woken.
struct Sleep(Vec<i32>);

impl Sleep {
    /// Closes the lid.
    fn of(stage: &Stage) -> Self {
        let mut still = Vec::new();
        // Who was started while the others were stopped is stopped in the next round; the agent first, it starts the rest.
        for _ in 0..3 {
            let (working, agents) = processes(&stage.machine.ground);
            for pid in agents.into_iter().chain(working) {
                signal("-STOP", pid);
                if !still.contains(&pid) {
                    still.push(pid);
                }
            }
        }
        assert!(!still.is_empty(), "no agent runs");
        for pid in &still {
            // One that ended before it was stopped is no obstacle.
            let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let how = text.rsplit(')').next().unwrap().split_whitespace().next().unwrap().to_owned();
            assert!("TZ".contains(&how), "{pid} is {how}");
        }
        Self(still)
    }

    /// Sleeps until `at` is past by a second, with nothing done meanwhile.
    async fn until(self, stage: &Stage, at: Timestamp) {
        let before = stage.transactions();
        let rest = Duration::try_from(at.duration_since(now())).unwrap_or_default();
        tokio::time::sleep(rest + Duration::from_secs(1)).await;
        assert_eq!(stage.transactions(), before, "it does not sleep");
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        for pid in self.0.iter().rev() {
            signal("-CONT", *pid);
        }
    }
}

fn signal(which: &str, pid: i32) {
    // Its target may have ended.
    let _ = Command::new("kill").args([which, &pid.to_string()]).stderr(std::process::Stdio::null()).status();
}

/// A window that opens or closes at that second; windows last five minutes at least.
fn opening(name: &str, opens: Timestamp, minutes: i64) -> Window {
    let at = opens.to_zoned(TimeZone::UTC).datetime();
    Window {
        recurrence: Recurrence::Once { date: at.date() },
        start: at.time(),
        ..window(name, WindowAction::Allow, 0, minutes)
    }
}

/// Two windows: one that closes soon, and the next. When the one closes and the other opens.
fn two_windows(policy: &mut PolicyBody) -> (Timestamp, Timestamp) {
    let second = Timestamp::from_second(now().as_second()).unwrap();
    let (closes, opens) =
        (second + SignedDuration::from_secs(CLOSES), second + SignedDuration::from_secs(OPENS));
    let minutes = 5;
    let first = closes - SignedDuration::from_mins(minutes);
    policy.windows = vec![opening("this", first, minutes), opening("next", opens, 60)];
    (closes, opens)
}

/// Short installers, one after the other, so that what fits is a matter of seconds.
fn short(policy: &mut PolicyBody) {
    for update in policy.updates.values_mut() {
        update.installer = Installer::Sequential;
        update.exclusive = true;
        update.maximum_run_time = Some(SignedDuration::from_secs(RUN_TIME));
    }
}

/// When apt began the transaction that brought the package to version 2; the machines of the tests live in UTC.
fn begun(stage: &Stage, package: &str) -> Timestamp {
    let path = stage.machine.path("/var/log/apt/history.log");
    let text = fs::read_to_string(path).unwrap_or_default();
    let of = |entry: &&str| entry.contains(&format!("Upgrade: {package}:"));
    let entry = text.split("\n\n").find(of).unwrap_or_else(|| panic!("{package} in {text}"));
    let start = entry.lines().find_map(|line| line.trim().strip_prefix("Start-Date: ")).unwrap();
    let at = civil::DateTime::strptime("%Y-%m-%d  %H:%M:%S", start).unwrap();
    at.to_zoned(TimeZone::UTC).unwrap().timestamp()
}

/// A machine that is awake, has scanned and has nothing to do: with the policy given, held.
async fn idle(stage: &mut Stage, policy: &PolicyBody) {
    let mut idle = policy.clone();
    idle.deployments[0].suspend = true;
    stage.site.set_policy(1, idle);
    stage.machine.start();
    let done = |body: &StateBody| matches!(body, StateBody::Scan { state: Scan::Completed, .. });
    stage.site.said("a scan", 0, &stage.machine.log, done).await;
}

/// How often the site was told that the update is in that state.
fn told(stage: &Stage, package: &str, want: UpdateEnforcement) -> usize {
    let is = |body: &StateBody| matches!(body, StateBody::Update { update, state, .. } if *update == id(package) && *state == want);
    stage.site.messages().iter().filter(|message| is(&message.body)).count()
}

/// Until it happens; the time is for busy machines.
fn soon(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_mins(1), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// reliability.md 4 #108: asleep in the middle of a download while its window closes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_108_a_download_that_slept_over_its_window_waits_for_the_next() {
    let mut stage = Stage::new(&[("demo-a", "")]).await;
    let mut policy = stage.policy();
    let uid = policy.deployments[0].uid.clone();
    short(&mut policy);
    // So that what follows takes little of the window.
    idle(&mut stage, &policy).await;
    let file = stage.leaves["demo-a"].file.sha256;
    stage.site.drip(file, true);
    let (closes, opens) = two_windows(&mut policy);
    stage.site.set_policy(2, policy);
    stage.machine.until("the download runs", |_| stage.site.asked_for(&file)).await;
    let asleep = Sleep::of(&stage);
    assert!(now() < closes, "this machine is too slow for a window of {CLOSES} s");
    stage.site.drip(file, false);
    asleep.until(&stage, closes).await;

    // It says which window it waits for, and that is when it goes on.
    let (seq, until) = stage.state(&uid, State::WaitingForWindow, 0).await;
    assert_eq!(until, Some(opens));
    assert_eq!(stage.version("demo-a"), "installed 1");
    stage.state(&uid, State::Installed, seq).await;
    assert!(begun(&stage, "demo-a") >= opens, "{} {opens}", begun(&stage, "demo-a"));
    assert_eq!(stage.transactions(), 1);
    stage.audit();
}

/// reliability.md 4 #108: asleep after everything was checked and before apt starts; then in the middle of dpkg's run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_108_a_batch_that_slept_over_its_window_does_not_start_and_one_that_runs_ends() {
    let slow = "touch /run/slow; sleep 3";
    let mut stage = Stage::new(&[("demo-a", slow), ("demo-z", "")]).await;
    let mut policy = stage.policy();
    let uid = policy.deployments[0].uid.clone();
    short(&mut policy);
    idle(&mut stage, &policy).await;
    // A hook of the machine's shows the moment at which a batch is being checked.
    let hook = stage.machine.path("/etc/apt/apt.conf.d/99checked");
    fs::write(&hook, "APT::Update::Pre-Invoke { \"touch /run/checked; sleep 1\"; };\n").unwrap();
    let (closes, opens) = two_windows(&mut policy);
    stage.site.set_policy(2, policy.clone());
    soon("the batch is checked", || stage.machine.path("/run/checked").exists());
    let asleep = Sleep::of(&stage);
    assert!(now() < closes, "this machine is too slow for a window of {CLOSES} s");
    assert_eq!(stage.transactions(), 0);
    fs::remove_file(&hook).unwrap();
    asleep.until(&stage, closes).await;
    let (_, until) = stage.state(&uid, State::WaitingForWindow, 0).await;
    assert_eq!(until, Some(opens));
    assert_eq!((stage.version("demo-a").as_str(), stage.transactions()), ("installed 1", 0));

    // In the next window it starts. That is taken away, and a short one given, while dpkg runs.
    soon("dpkg runs", || stage.machine.path("/run/slow").exists());
    assert!(begun_in_log(&stage) >= opens);
    let (closes, opens) = two_windows(&mut policy);
    stage.site.set_policy(3, policy);
    stage.machine.until("the windows", |_| stage.command(&["status"]).1.contains("policy      1.3")).await;
    let asleep = Sleep::of(&stage);
    assert_eq!(stage.version("demo-a"), "half-configured 2", "it sleeps in the middle of dpkg");
    asleep.until(&stage, closes).await;
    let ended = |body: &StateBody| matches!(body, StateBody::Update { update, state: UpdateEnforcement::Installed, .. } if *update == id("demo-a"));
    let seq = stage.site.said("what ran ends", 0, &stage.machine.log, ended).await;
    assert_eq!(stage.version("demo-a"), "installed 2");
    stage.state(&uid, State::Installed, seq).await;
    assert!(begun(&stage, "demo-z") >= opens, "{} {opens}", begun(&stage, "demo-z"));
    assert_eq!(stage.transactions(), 2);
    for package in ["demo-a", "demo-z"] {
        assert_eq!(told(&stage, package, UpdateEnforcement::Installed), 1, "{package}");
        assert_eq!(told(&stage, package, UpdateEnforcement::InstallFailed), 0, "{package}");
    }
    stage.audit();
}

/// When dpkg began to work on demo-a's update, by its own log: apt writes its history at the end.
fn begun_in_log(stage: &Stage) -> Timestamp {
    let text = fs::read_to_string(stage.machine.path("/var/log/dpkg.log")).unwrap();
    let line =
        text.lines().find(|line| line.contains(" upgrade demo-a:")).unwrap_or_else(|| panic!("{text}"));
    let at = civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", &line[..19]).unwrap();
    at.to_zoned(TimeZone::UTC).unwrap().timestamp()
}

/// reliability.md 4 #108: asleep over a deadline. Without a window it is due at once on waking; with one it waits for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_108_a_deadline_that_passed_asleep_is_due_once_and_within_windows() {
    let mut stage = Stage::new(&[("demo-a", ""), ("demo-z", "")]).await;
    let mut policy = stage.policy();
    let base = policy.deployments.remove(0);
    policy.deployments = vec![deployment(&base, "free", &["demo-a"], deadline_in(10))].into();
    let deadline = now() + SignedDuration::from_secs(10);
    stage.site.set_policy(1, policy.clone());
    stage.machine.start();
    stage.state("free", State::Downloaded, 0).await;
    let asleep = Sleep::of(&stage);
    assert!(now() < deadline, "this machine is too slow for a deadline in 10 s");
    asleep.until(&stage, deadline).await;
    stage.state("free", State::Installed, 0).await;
    assert!(begun(&stage, "demo-a") > deadline);

    short(&mut policy);
    let deadline = now() + SignedDuration::from_secs(6);
    policy.deployments.push(deployment(&base, "windowed", &["demo-z"], deadline_in(6)));
    let (closes, opens) = two_windows(&mut policy);
    stage.site.set_policy(2, policy);
    stage.state("windowed", State::Downloaded, 0).await;
    let asleep = Sleep::of(&stage);
    assert!(now() < deadline, "this machine is too slow for a deadline in 6 s");
    asleep.until(&stage, closes).await;
    let (seq, until) = stage.state("windowed", State::WaitingForWindow, 0).await;
    assert_eq!(until, Some(opens));
    stage.state("windowed", State::Installed, seq).await;
    assert!(begun(&stage, "demo-z") >= opens);
    assert_eq!(stage.transactions(), 2);
    for package in ["demo-a", "demo-z"] {
        assert_eq!(told(&stage, package, UpdateEnforcement::Installed), 1, "{package}");
    }
}
