//! The planner's promises, held by whole worlds. `PROPTEST_CASES` gives the number of random ones.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use patchtide_model::{
    ClientId,
    catalogue::RestartRule,
    deployment::Deadline,
    state::{Compliance, DeploymentEnforcement, UpdateEnforcement},
    window::{Calendar, Openness, Purpose, Window, time_zone},
};
use proptest::prelude::*;
use uuid::Uuid;

use super::{Behaviour, Entry, Machine, World};
use crate::{
    client::{Action, InstallBatch, ScanKind, ScanPurpose, decide},
    fixtures::*,
};

const START: &str = "2026-11-21T10:00:00Z";

fn client(number: u128) -> ClientId {
    ClientId(Uuid::from_u128(number))
}

fn machine(packages: &[&str]) -> Machine {
    let packages = packages.iter().map(|package| ((*package).to_owned(), 1)).collect();
    let mut machine = Machine::new("host", false, TimeZone::UTC, packages);
    machine.behaviour = Behaviour {
        scan: SignedDuration::from_secs(5),
        download: SignedDuration::from_secs(20),
        install: minutes(3),
        restart: minutes(1),
        ..Behaviour::default()
    };
    machine
}

/// A world of one machine with `a` and `b` to be updated at once.
fn small(change: impl FnOnce(&mut crate::site::SiteInput, &mut Machine)) -> World {
    let mut site = site(vec![update("a", 2), update("b", 2)]);
    let mut machine = machine(&["a", "b"]);
    add_deployment(&mut site, deployment("all", &[id("a", 2), id("b", 2)], at(START)));
    change(&mut site, &mut machine);
    World::new(site, BTreeMap::from([(client(1), machine)]), at(START))
}

fn installs(world: &World) -> Vec<(Timestamp, &InstallBatch)> {
    world
        .log
        .iter()
        .filter_map(|entry| match &entry.action {
            Action::Install(batch) => Some((entry.at, batch)),
            _ => None,
        })
        .collect()
}

fn only(world: &World) -> &Machine {
    world.machines.values().next().unwrap()
}

fn compliant(world: &World) -> bool {
    let numbers = world.numbers(&name("all")).unwrap();
    numbers.compliant == numbers.targeted
}

/// Decide again: the same, nothing to do, and time goes on.
fn at_rest(world: &World) {
    for (client, machine) in &world.machines {
        let policy = world.policy(*client).unwrap();
        let again = decide(policy, &machine.view, world.now, &machine.zone);
        assert_eq!(Some(&again), world.decision(*client));
        assert_eq!(again.actions, [], "nothing is left to start");
        assert!(again.next_wake.is_none_or(|wake| wake > world.now));
    }
}

#[test]
fn without_windows_one_batch_goes_at_once() {
    let mut world = small(|_, _| {});
    world.run_until(at(START) + minutes(30)).unwrap();
    let started = installs(&world);
    assert_eq!(started.len(), 1, "{started:?}");
    assert_eq!(started[0].1.updates.len(), 2);
    assert!(started[0].0 < at(START) + minutes(2), "{}", started[0].0);
    assert!(compliant(&world));
    assert_eq!(only(&world).restarts.len(), 0);
    at_rest(&world);
    // First scan, validation: each in its row of the table.
    let scans: Vec<_> = world
        .log
        .iter()
        .filter_map(|entry| match &entry.action {
            Action::Scan(request) => Some((request.kind, request.purpose)),
            _ => None,
        })
        .collect();
    assert_eq!(scans.first(), Some(&(ScanKind::ForcedOnline, ScanPurpose::First)));
    assert_eq!(scans.last(), Some(&(ScanKind::ForcedOffline, ScanPurpose::Validation)));
}

#[test]
fn a_window_is_waited_for_and_says_so() {
    let mut world = small(|site, _| add_window(site, daily("noon", 12, minutes(60))));
    world.run_until(at("2026-11-21T11:30:00Z")).unwrap();
    assert_eq!(installs(&world), []);
    at_rest(&world);
    let verdict = &world.decision(client(1)).unwrap().deployments["uid-all"];
    assert_eq!(verdict.enforcement, Some(DeploymentEnforcement::WaitingForWindow));
    assert_eq!(verdict.until, Some(at("2026-11-21T12:00:00Z")));
    assert_eq!(verdict.compliance, Some(Compliance::NonCompliant));
    let update = &world.decision(client(1)).unwrap().updates[&id("a", 2)];
    assert_eq!(update.state, Some(UpdateEnforcement::WaitingForWindow));
    assert_eq!(update.waits_for().unwrap().object, "MaintenanceWindow/noon");
    assert_eq!(update.lease.as_ref().unwrap().by, at("2026-11-21T12:00:00Z"));

    world.run_until(at("2026-11-21T13:00:00Z")).unwrap();
    let started = installs(&world);
    assert_eq!(started.len(), 1);
    // The scan before the batch was done before the window opened.
    assert_eq!(started[0].0, at("2026-11-21T12:00:00Z"));
    assert_eq!(started[0].1.window_end, Some(at("2026-11-21T13:00:00Z")));
    assert!(compliant(&world));
}

/// The need is 10 min + 2 x 30 s + 15 min for a restart: 26 min do, 25 do not.
#[test]
fn what_does_not_fit_goes_in_part_or_waits_with_the_reason() {
    let mut world = small(|site, _| add_window(site, daily("noon", 12, minutes(26))));
    world.run_until(at("2026-11-21T11:59:00Z")).unwrap();
    let verdict = &world.decision(client(1)).unwrap().updates[&id("a", 2)];
    assert_eq!(verdict.state, Some(UpdateEnforcement::WaitingForWindow), "one alone fits: {verdict:?}");

    let mut world = small(|site, _| add_window(site, daily("noon", 12, minutes(25))));
    world.run_until(at("2026-11-23T10:00:00Z")).unwrap();
    assert_eq!(installs(&world), []);
    let verdict = &world.decision(client(1)).unwrap().deployments["uid-all"];
    assert_eq!(verdict.enforcement, Some(DeploymentEnforcement::WaitingForWindow));
    assert_eq!((verdict.until, verdict.error.as_ref().unwrap().code), (None, 0x87D0_0667));
    at_rest(&world);

    // The window has room for one of the two, to the second.
    let mut world = small(|site, _| {
        add_window(site, daily("noon", 12, minutes(25) + SignedDuration::from_secs(30)));
    });
    world.run_until(at("2026-11-22T13:00:00Z")).unwrap();
    let sizes: Vec<usize> = installs(&world).iter().map(|(_, batch)| batch.updates.len()).collect();
    assert_eq!(sizes, [1, 1], "one each noon");
    assert!(compliant(&world));
}

#[test]
fn a_marked_update_restarts_once_inside_the_window() {
    let mut world = small(|site, _| {
        add_window(site, daily("noon", 12, minutes(60)));
        site.updates.get_mut(&id("a", 2)).unwrap().restart = RestartRule::Always;
    });
    world.run_until(at("2026-11-21T12:06:00Z")).unwrap();
    let decision = world.decision(client(1)).unwrap();
    assert_eq!(decision.updates[&id("a", 2)].state, Some(UpdateEnforcement::PendingRestart));
    assert_eq!(decision.updates[&id("b", 2)].state, Some(UpdateEnforcement::Installed));
    assert_eq!(decision.deployments["uid-all"].enforcement, Some(DeploymentEnforcement::PendingRestart));
    assert_eq!(decision.deployments["uid-all"].compliance, Some(Compliance::NonCompliant));
    assert!(!compliant(&world));
    world.run_until(at("2026-11-22T10:00:00Z")).unwrap();
    // Transaction 3 min, scan 5 s, countdown 5 min.
    assert_eq!(only(&world).restarts, [at("2026-11-21T12:08:05Z")]);
    assert_eq!(installs(&world).len(), 1);
    assert!(compliant(&world));
    at_rest(&world);
}

#[test]
fn a_suppressed_restart_stays_pending_and_keeps_nothing_out() {
    let mut world = small(|site, machine| {
        let deployment = site.objects.deployments.get_mut(&name("all")).unwrap();
        deployment.settings.suppress_restart_servers = true;
        machine.behaviour.restart_packages.insert("a".to_owned());
    });
    world.run_until(at(START) + minutes(60)).unwrap();
    assert_eq!(only(&world).restarts, []);
    let verdict = &world.decision(client(1)).unwrap().deployments["uid-all"];
    assert_eq!(verdict.enforcement, Some(DeploymentEnforcement::PendingRestart));
    at_rest(&world);
    let gate = world.decision(client(1)).unwrap().machine.first().unwrap().clone();
    assert_eq!(gate.field, "spec.settings.restart.suppressServers");
    // The owner restarts: compliant.
    let machine = world.machines.get_mut(&client(1)).unwrap();
    machine.view.booted(Uuid::from_u128(77));
    world.run_until(at(START) + minutes(70)).unwrap();
    assert!(compliant(&world));
}

#[test]
fn a_suspended_deployment_starts_nothing_and_lets_dpkg_finish() {
    let mut world = small(|site, machine| {
        add_window(site, daily("noon", 12, minutes(60)));
        site.updates.get_mut(&id("a", 2)).unwrap().restart = RestartRule::Always;
        machine.behaviour.install = minutes(4);
    });
    let suspend = |world: &mut World, suspend| {
        world.site.objects.deployments.get_mut(&name("all")).unwrap().suspend = suspend;
        world.publish();
    };
    world.run_until(at("2026-11-21T12:02:00Z")).unwrap();
    suspend(&mut world, true);
    let before = world.log.len();
    world.run_until(at("2026-11-22T18:00:00Z")).unwrap();
    assert!(
        world.log[before..].iter().all(|entry| matches!(entry.action, Action::Scan(_))),
        "only the validation of what ran: {:?}",
        &world.log[before..]
    );
    assert_eq!(only(&world).packages["a"], 2, "the running transaction ended");
    at_rest(&world);
    suspend(&mut world, false);
    world.run_until(at("2026-11-23T18:00:00Z")).unwrap();
    assert_eq!(only(&world).restarts.len(), 1);
    assert!(compliant(&world));
}

#[test]
fn a_restart_that_counts_down_is_called_off_by_suspension() {
    let mut world = small(|site, _| {
        site.updates.get_mut(&id("a", 2)).unwrap().restart = RestartRule::Always;
    });
    world.run_until(at(START) + minutes(6)).unwrap();
    assert!(only(&world).view.running.restart_at.is_some());
    world.site.objects.deployments.get_mut(&name("all")).unwrap().suspend = true;
    world.publish();
    world.run_until(at(START) + minutes(60)).unwrap();
    assert_eq!(only(&world).restarts, []);
}

#[test]
fn exclusive_updates_go_apart_and_after_the_others() {
    let mut world = small(|site, _| site.updates.get_mut(&id("a", 2)).unwrap().exclusive = true);
    world.run_until(at(START) + minutes(60)).unwrap();
    let batches: Vec<Vec<String>> = installs(&world)
        .iter()
        .map(|(_, batch)| batch.updates.keys().map(|id| id.source.clone()).collect())
        .collect();
    assert_eq!(batches, [["b"], ["a"]]);
}

#[test]
fn the_earliest_deadline_wins_and_downloads_do_not_wait_for_it() {
    let mut world = small(|site, _| {
        site.objects.deployments.get_mut(&name("all")).unwrap().settings.deadline =
            Deadline::After(SignedDuration::from_hours(48));
        let mut early = deployment("early", &[id("a", 2)], at(START));
        early.settings.deadline = Deadline::After(SignedDuration::from_hours(24));
        add_deployment(site, early);
    });
    world.run_until(at(START) + minutes(60)).unwrap();
    assert_eq!(only(&world).view.present.len(), 2, "both are downloaded long before");
    let decision = world.decision(client(1)).unwrap();
    assert_eq!(decision.deployments["uid-all"].enforcement, Some(DeploymentEnforcement::Downloaded));
    at_rest(&world);
    world.run_until(at(START) + SignedDuration::from_hours(72)).unwrap();
    let started: Vec<Timestamp> = installs(&world).iter().map(|(at, _)| *at).collect();
    let hours = |count| at(START) + SignedDuration::from_hours(count);
    assert_eq!(started, [hours(24), hours(48)]);
}

#[test]
fn install_all_applicable_pulls_in_what_is_not_due_yet() {
    let mut world = small(|site, _| {
        let late = site.objects.deployments.get_mut(&name("all")).unwrap();
        late.settings.deadline = Deadline::After(SignedDuration::from_hours(48));
        let mut early = deployment("early", &[id("a", 2)], at(START));
        early.settings.install_all_applicable = true;
        add_deployment(site, early);
    });
    world.run_until(at(START) + minutes(60)).unwrap();
    let started = installs(&world);
    assert_eq!((started.len(), started[0].1.updates.len()), (1, 2));
}

#[test]
fn an_optional_deployment_waits_for_a_person() {
    let mut world = small(|site, _| {
        site.objects.deployments.get_mut(&name("all")).unwrap().settings.deadline = Deadline::None;
    });
    world.run_until(at(START) + SignedDuration::from_hours(24 * 3)).unwrap();
    assert_eq!(only(&world).view.present, BTreeSet::new());
    world.machines.get_mut(&client(1)).unwrap().view.requested.insert(id("a", 2));
    world.run_until(at(START) + SignedDuration::from_hours(24 * 3) + minutes(10)).unwrap();
    let started = installs(&world);
    assert_eq!((started.len(), started[0].1.updates.len()), (1, 1));
    assert!(only(&world).view.requested.is_empty());
}

#[test]
fn a_failed_installation_is_reported_and_tried_again_later() {
    let mut world = small(|_, machine| {
        machine.behaviour.install_failures.insert("a".to_owned(), 2);
    });
    world.run_until(at(START) + minutes(30)).unwrap();
    let verdict = &world.decision(client(1)).unwrap().deployments["uid-all"];
    assert_eq!(verdict.enforcement, Some(DeploymentEnforcement::InstallFailed));
    assert_eq!(verdict.error.as_ref().unwrap().symbol, "INSTALL-SCRIPT");
    let numbers = world.numbers(&name("all")).unwrap();
    assert_eq!((numbers.states[&DeploymentEnforcement::InstallFailed], numbers.errors[0].count), (1, 1));
    at_rest(&world);
    world.run_until(at(START) + minutes(60 * 5)).unwrap();
    let started: Vec<Timestamp> = installs(&world).iter().map(|(at, _)| *at).collect();
    assert_eq!(started.len(), 3);
    assert!(started[1].duration_since(started[0]) >= SignedDuration::from_hours(1));
    assert!(compliant(&world));
}

#[test]
fn failing_scans_and_downloads_are_waited_out() {
    let mut world = small(|_, machine| {
        machine.behaviour.scan_failures = 3;
        machine.behaviour.download_failures = 4;
    });
    world.run_until(at(START) + minutes(60 * 6)).unwrap();
    assert!(compliant(&world));
    assert_eq!(installs(&world).len(), 1, "one batch for all");
}

#[test]
fn only_the_newest_of_a_source_is_installed() {
    let mut world = small(|site, _| {
        let mut newer = update("a", 3);
        newer.restart = RestartRule::Never;
        site.updates.get_mut(&id("a", 2)).unwrap().superseded_by = Some(newer.id.clone());
        site.updates.insert(newer.id.clone(), newer);
        site.objects.deployments.get_mut(&name("all")).unwrap().updates.push(id("a", 3));
    });
    world.run_until(at(START) + minutes(30)).unwrap();
    let started = installs(&world);
    assert_eq!(started.len(), 1);
    assert_eq!((started[0].1.updates.len(), started[0].1.leaves.len()), (3, 2));
    assert_eq!(only(&world).packages["a"], 3);
    assert!(compliant(&world));
}

#[test]
fn a_removed_fix_comes_back_at_the_re_evaluation() {
    let mut world = small(|_, _| {});
    world.run_until(at(START) + minutes(30)).unwrap();
    assert!(compliant(&world));
    world.machines.get_mut(&client(1)).unwrap().packages.insert("a".to_owned(), 1);
    world.run_until(at(START) + SignedDuration::from_hours(24 * 8)).unwrap();
    assert_eq!(only(&world).packages["a"], 2);
    assert_eq!(installs(&world).len(), 2);
}

#[test]
fn a_clock_behind_the_policy_installs_nothing() {
    let mut world = small(|_, _| {});
    world.now = at("1970-01-01T00:00:00Z");
    world.run_until(at("1970-01-02T00:00:00Z")).unwrap();
    assert_eq!(installs(&world), []);
}

// Random worlds.

/// Installed sources, zone, minutes of a transaction, failing scans, failing downloads, failing installations.
type Host = (Vec<bool>, &'static str, i64, u32, u32, Vec<u32>);

#[derive(Debug, Clone)]
struct Case {
    sources: Vec<(RestartRule, bool, Option<i64>)>,
    deployments: Vec<(Vec<usize>, i64, [bool; 6], i64)>,
    windows: Vec<(i8, i64, u8, &'static str, bool)>,
    machines: Vec<Host>,
    suspend_after: Option<i64>,
}

fn case() -> impl Strategy<Value = Case> {
    let rule = prop_oneof![Just(RestartRule::Auto), Just(RestartRule::Always), Just(RestartRule::Never)];
    let zone = prop::sample::select(vec!["UTC", "Europe/Berlin", "Pacific/Kiritimati", "America/St_Johns"]);
    (
        prop::collection::vec((rule, prop::bool::weighted(0.2), prop::option::weighted(0.3, 1_i64..40)), 5),
        prop::collection::vec(
            (
                prop::collection::vec(0_usize..5, 1..5),
                0_i64..60 * 72,
                prop::array::uniform6(prop::bool::weighted(0.25)),
                prop_oneof![Just(0_i64), 0_i64..240],
            ),
            1..4,
        ),
        prop::collection::vec(
            (0_i8..24, 20_i64..300, 0_u8..3, zone.clone(), prop::bool::weighted(0.2)),
            0..3,
        ),
        prop::collection::vec(
            (
                prop::collection::vec(prop::bool::weighted(0.8), 5),
                zone,
                1_i64..40,
                0_u32..3,
                0_u32..3,
                prop::collection::vec(prop_oneof![4 => Just(0_u32), 1 => 1_u32..3], 5),
            ),
            1..4,
        ),
        prop::option::weighted(0.4, 0_i64..60 * 72),
    )
        .prop_map(|(sources, deployments, windows, machines, suspend_after)| Case {
            sources,
            deployments,
            windows,
            machines,
            suspend_after,
        })
}

const SOURCES: [&str; 5] = ["apt", "bash", "curl", "dbus", "exim"];

fn world(case: &Case) -> World {
    let start = at(START);
    let updates = SOURCES.iter().zip(&case.sources).map(|(source, (restart, exclusive, run_time))| {
        let mut update = update(source, 2);
        (update.restart, update.exclusive) = (*restart, *exclusive);
        update.maximum_run_time = run_time.map(minutes);
        update
    });
    let mut site = site(updates.collect());
    for (index, (updates, deadline, flags, spread)) in case.deployments.iter().enumerate() {
        let ids: BTreeSet<_> = updates.iter().map(|update| id(SOURCES[*update], 2)).collect();
        let mut deployment = deployment(&format!("d{index}"), &ids.into_iter().collect::<Vec<_>>(), start);
        let settings = &mut deployment.settings;
        settings.deadline = Deadline::After(minutes(*deadline));
        settings.deadline_spread = minutes(*spread);
        [
            settings.install_outside_windows,
            settings.restart_outside_windows,
            settings.suppress_restart_servers,
            settings.install_all_applicable,
            settings.allow_remove,
            settings.client_local_time,
        ] = *flags;
        add_deployment(&mut site, deployment);
    }
    for (index, (hour, length, applies, zone, deny)) in case.windows.iter().enumerate() {
        let mut window = daily(&format!("w{index}"), *hour, minutes(*length));
        window.applies_to = [
            patchtide_model::window::AppliesTo::Updates,
            patchtide_model::window::AppliesTo::AllDeployments,
            patchtide_model::window::AppliesTo::RestartsOnly,
        ][usize::from(*applies)];
        window.zone = patchtide_model::window::Zone::Iana((*zone).to_owned());
        if *deny {
            window.action = patchtide_model::window::WindowAction::Deny;
        }
        add_window(&mut site, window);
    }
    let machines =
        case.machines.iter().enumerate().map(|(index, (has, zone, install, scans, downloads, fails))| {
            let packages: Vec<&str> =
                SOURCES.iter().zip(has).filter(|(_, has)| **has).map(|(s, _)| *s).collect();
            let mut machine = machine(&packages);
            machine.zone = time_zone(zone).unwrap();
            machine.behaviour.install = minutes(*install);
            machine.behaviour.scan_failures = *scans;
            machine.behaviour.download_failures = *downloads;
            machine.behaviour.install_failures =
                SOURCES.iter().zip(fails).map(|(source, count)| ((*source).to_owned(), *count)).collect();
            machine.behaviour.restart_packages.insert("bash".to_owned());
            (client(u128::try_from(index).unwrap() + 1), machine)
        });
    World::new(site, machines.collect(), start)
}

/// The windows of the case, asked for one purpose.
fn calendar(world: &World, entry: &Entry, purpose: Purpose) -> Calendar {
    let windows: Vec<&Window> = world.site.objects.windows.values().collect();
    Calendar::new(windows, purpose, &world.machines[&entry.client].zone)
}

fn allows<'a>(
    world: &'a World,
    ids: impl Iterator<Item = &'a patchtide_model::UpdateId>,
    flag: impl Fn(&patchtide_model::deployment::DeploymentSettings) -> bool,
) -> bool {
    let mut ids = ids.peekable();
    ids.peek().is_some()
        && ids.all(|id| {
            world.site.objects.deployments.values().any(|d| d.updates.contains(id) && flag(&d.settings))
        })
}

fn check_log(world: &World, suspended: Option<Timestamp>) {
    let mut running: BTreeMap<ClientId, Timestamp> = BTreeMap::new();
    for entry in &world.log {
        match &entry.action {
            Action::Install(batch) => {
                let machine = &world.machines[&entry.client];
                assert!(suspended.is_none_or(|at| entry.at <= at), "suspended: {entry:?}");
                assert!(running.get(&entry.client).is_none_or(|end| *end <= entry.at), "one at a time");
                running.insert(entry.client, entry.at + machine.behaviour.install);
                let outside = allows(world, batch.updates.keys(), |s| s.install_outside_windows);
                if let Openness::Open { until } = calendar(world, entry, Purpose::Install).is_open(entry.at) {
                    let left = until.map_or(SignedDuration::MAX, |until| until.duration_since(entry.at));
                    assert!(outside || batch.expected <= left, "fits: {entry:?}");
                } else {
                    assert!(outside, "inside a window: {entry:?}");
                }
                // Somebody wants it now.
                for id in batch.updates.keys() {
                    let all = world.site.objects.deployments.values();
                    let due = all.clone().any(|d| {
                        crate::times::deadline(&d.settings, d.anchor, &machine.zone)
                            .is_some_and(|at| at <= entry.at)
                            && (d.updates.contains(id) || d.settings.install_all_applicable)
                    });
                    assert!(due, "due: {id} in {entry:?}");
                }
                assert!(batch.files.iter().all(|file| machine.view.present.contains(file)));
                let alone = |id| world.site.updates[id].exclusive;
                assert!(batch.updates.len() == 1 || !batch.updates.keys().any(alone), "apart: {entry:?}");
            }
            Action::Restart { at, .. } => {
                assert!(suspended.is_none_or(|at| entry.at <= at));
                let ids: Vec<_> = world.site.updates.keys().collect();
                let outside =
                    world.site.objects.deployments.values().any(|d| d.settings.restart_outside_windows);
                let open = calendar(world, entry, Purpose::Restart).is_open(entry.at);
                match open {
                    Openness::Open { until: Some(until) } => {
                        assert!(outside || *at + minutes(10) <= until, "{entry:?} {ids:?}");
                    }
                    Openness::Open { until: None } => {}
                    Openness::Closed => assert!(outside, "{entry:?}"),
                }
            }
            Action::Download { .. } => {
                assert!(suspended.is_none_or(|at| entry.at <= at), "{entry:?}");
            }
            Action::Scan(_) | Action::Recover => {}
        }
    }
    for (client, machine) in &world.machines {
        let batches = world
            .log
            .iter()
            .filter(|entry| entry.client == *client && matches!(entry.action, Action::Install(_)))
            .count();
        assert!(machine.restarts.len() <= batches, "at most one restart per batch");
    }
}

fn check_now(world: &World) {
    for deployment in world.site.objects.deployments.keys() {
        let numbers = world.numbers(deployment).unwrap();
        let sum = numbers.compliant + numbers.never_reported + numbers.states.values().sum::<u64>();
        assert_eq!(sum, numbers.targeted, "counts add up");
    }
    for client in world.machines.keys() {
        let Some(decision) = world.decision(*client) else { continue };
        assert!(decision.next_wake.is_none_or(|wake| wake > world.now));
        for (id, verdict) in &decision.updates {
            if let Some(state) = verdict.state {
                assert!(state.is_final() || verdict.lease.is_some(), "{id} {state:?} has a lease");
            }
        }
        for verdict in decision.deployments.values() {
            if verdict.compliance == Some(Compliance::Compliant) {
                assert!(matches!(verdict.enforcement, None | Some(DeploymentEnforcement::Installed)));
            }
        }
    }
}

fn config() -> ProptestConfig {
    // Each case is twelve days of up to three machines.
    let cases =
        if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 40 };
    ProptestConfig { cases, max_shrink_iters: 200, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn worlds_keep_the_promises(case in case()) {
        let mut world = world(&case);
        let start = world.now;
        let mut suspended = None;
        for hour in 0..24 * 12 {
            let now = start + SignedDuration::from_hours(hour);
            if let Some(after) = case.suspend_after
                && suspended.is_none()
                && now >= start + minutes(after)
            {
                for deployment in world.site.objects.deployments.values_mut() {
                    deployment.suspend = true;
                }
                world.publish();
                suspended = Some(world.now);
            }
            // In short steps for three days, then in leaps.
            if (hour < 72 && hour % 4 == 0) || hour % 24 == 0 {
                if let Err(error) = world.run_until(now) {
                    return Err(TestCaseError::fail(error.to_string()));
                }
                check_now(&world);
            }
        }
        check_log(&world, suspended);
        if suspended.is_none() {
            for (client, machine) in &world.machines {
                let decision = world.decision(*client).unwrap();
                for deployment in world.site.objects.deployments.values() {
                    for id in &deployment.updates {
                        let verdict = &decision.updates[id];
                        let has = machine.packages.get(&id.source);
                        // After twelve days each is installed, not needed, or no window has been or ever will be
                        // long enough (one may fit only once summer time shifts it past a deny window).
                        let never = verdict.error.as_ref().is_some_and(|e| e.symbol == "WINDOW-NEVER-FITS");
                        let far = verdict.state == Some(UpdateEnforcement::WaitingForWindow)
                            && verdict.lease.as_ref().is_some_and(|lease| {
                                lease.by.duration_since(world.now) > SignedDuration::from_hours(72)
                            });
                        prop_assert!(has != Some(&1) || never || far, "{} on {}: {:?}", id, client, verdict);
                    }
                }
            }
        }
    }
}
