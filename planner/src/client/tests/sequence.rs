//! Installers that run one by one.

use patchtide_model::catalogue::{Installer, RestartRule};

use super::*;

const SOURCES: [&str; 4] = ["a", "b", "c", "d"];

/// Four updates with installers of their own, of these minutes, all here; a window of two hours at noon.
fn four(run_times: [Option<i64>; 4], restart: RestartRule) -> (Policy, ClientView) {
    let (mut policy, mut view) = setting(|site| {
        site.updates = SOURCES.iter().map(|source| (id(source, 2), update(source, 2))).collect();
        for source in SOURCES {
            site.required_leaves.insert(id(source, 2), [leaf(source, 2).reference()].into());
        }
        let all = site.objects.deployments.get_mut(&name("all")).unwrap();
        all.updates = SOURCES.iter().map(|source| id(source, 2)).collect();
        add_window(site, daily("noon", 12, minutes(120)));
    });
    for (source, minutes_of) in SOURCES.iter().zip(run_times) {
        let update = policy.body.updates.get_mut(&id(source, 2)).unwrap();
        (update.installer, update.restart) = (Installer::Sequential, restart);
        update.maximum_run_time = minutes_of.map(minutes);
        let found = Detected {
            state: Detection::Required,
            leaves: [leaf(source, 2).reference()].into(),
            needs: BTreeSet::new(),
        };
        view.detected.insert(id(source, 2), found);
        view.downloaded(leaf(source, 2).file.sha256);
    }
    view.scan.changed = None;
    (policy, view)
}

/// What happens from `from` to `to`, minute by minute: what started when, each installer taking so many minutes.
fn day(policy: &Policy, view: &mut ClientView, from: &str, to: &str, takes: i64) -> Vec<String> {
    let mut said = Vec::new();
    let mut now = at(from);
    while now <= at(to) {
        if let Some(run) = view.running.install.clone()
            && run.since + minutes(takes) <= now
        {
            view.install_finished(&run.batch, &BTreeMap::new(), now);
        }
        loop {
            let decision = decide(policy, view, now, &TimeZone::UTC);
            let mut acted = false;
            for action in &decision.actions {
                match action {
                    Action::Scan(request) => {
                        let mut found = view.detected.clone();
                        for id in view.installed.keys() {
                            let done = Detected { state: Detection::Installed, ..Detected::not_required() };
                            found.insert(id.clone(), done);
                        }
                        let covered = view.scan.cached.clone();
                        view.scan_completed(policy, request, found, covered, now);
                        acted = true;
                    }
                    Action::Install(batch) => {
                        let names: Vec<&str> = batch.updates.keys().map(|id| id.source.as_str()).collect();
                        said.push(format!("{} {}", now.strftime("%H:%M"), names.join("+")));
                        view.running.install = Some(RunningInstall { batch: batch.clone(), since: now });
                        acted = true;
                    }
                    Action::Restart { at, .. } if view.running.restart_at.is_none() => {
                        view.running.restart_at = Some(*at);
                        acted = true;
                    }
                    Action::Restart { at, .. } if *at <= now => {
                        said.push(format!("{} restart", now.strftime("%H:%M")));
                        view.booted(Uuid::from_u128(view.boot.as_u128() + 1));
                        acted = true;
                    }
                    Action::Restart { .. } | Action::Download { .. } | Action::Recover => {}
                }
                if acted {
                    break;
                }
            }
            if !acted {
                break;
            }
        }
        now += minutes(1);
    }
    said
}

const DAY: (&str, &str) = ("2026-11-21T11:00:00Z", "2026-11-21T14:30:00Z");
const NEXT: (&str, &str) = ("2026-11-22T11:00:00Z", "2026-11-22T14:30:00Z");

/// domain.md 4.3, the official sample: two hours, four updates of 20 minutes that need 35: three install, the fourth waits.
#[test]
fn of_four_updates_of_twenty_minutes_three_go_in_two_hours() {
    let (policy, mut view) = four([None, Some(20), None, Some(20)], RestartRule::Always);
    let before = decide(&policy, &view, at("2026-11-21T12:00:00Z"), &TimeZone::UTC);
    let gate = |decision: &Decision, source: &str| {
        let gates = &decision.updates[&id(source, 2)].gates;
        gates.iter().find(|gate| gate.kind == GateKind::Window).unwrap().status.clone()
    };
    assert_eq!(gate(&before, "c"), GateStatus::Open);
    let tomorrow = GateStatus::Closed(Opens::At(at("2026-11-22T12:00:00Z")));
    assert_eq!(gate(&before, "d"), tomorrow, "known before the first one starts");
    let first = day(&policy, &mut view, DAY.0, DAY.1, 20);
    assert_eq!(
        first,
        ["12:00 a", "12:20 b", "12:40 c", "13:05 restart"],
        "one restart, instead of the fourth"
    );
    assert_eq!(day(&policy, &mut view, NEXT.0, NEXT.1, 20), ["12:00 d", "12:25 restart"]);
}

/// The shortest first; each checked again: one that took long leaves less, and a restart that may follow counts.
#[test]
fn the_shortest_goes_first_and_each_is_checked_again() {
    let (policy, mut view) = four([Some(30), Some(5), Some(10), Some(60)], RestartRule::Never);
    // Without a restart 5 + 10 + 30 + 60 = 105 fit.
    assert_eq!(day(&policy, &mut view, DAY.0, DAY.1, 5), ["12:00 b", "12:05 c", "12:10 a", "12:15 d"]);
    let (policy, mut view) = four([Some(30), Some(5), Some(10), Some(60)], RestartRule::Never);
    let slow = day(&policy, &mut view, DAY.0, DAY.1, 28);
    assert_eq!(slow, ["12:00 b", "12:28 c", "12:56 a"], "36 minutes are left of the window, d needs 60");
    let state = decide(&policy, &view, at("2026-11-21T13:30:00Z"), &TimeZone::UTC).updates[&id("d", 2)].state;
    assert_eq!(state, Some(UpdateEnforcement::WaitingForWindow));
}

/// One by one also where no window binds them; what goes apart goes last.
#[test]
fn without_windows_each_goes_by_itself_and_the_exclusive_one_last() {
    let (mut policy, mut view) = four([Some(5); 4], RestartRule::Never);
    policy.body.windows.clear();
    policy.body.updates.get_mut(&id("a", 2)).unwrap().exclusive = true;
    let said = day(&policy, &mut view, DAY.0, "2026-11-21T11:30:00Z", 5);
    assert_eq!(said, ["11:00 b", "11:05 c", "11:10 d", "11:15 a"]);
}
