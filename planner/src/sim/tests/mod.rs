//! Small worlds, told step by step.

mod choice;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use patchtide_model::{
    ClientId,
    catalogue::RestartRule,
    deployment::Deadline,
    object::DistributionPoint,
    state::{Compliance, DeploymentEnforcement, UpdateEnforcement},
};
use uuid::Uuid;

use super::{Behaviour, Entry, Machine, What, World};
use crate::{
    client::{Action, InstallBatch, ScanKind, ScanPurpose, decide},
    fixtures::*,
};

pub(super) const START: &str = "2026-11-21T10:00:00Z";

pub(super) fn client(number: u128) -> ClientId {
    ClientId(Uuid::from_u128(number))
}

pub(super) fn machine(packages: &[&str]) -> Machine {
    let packages = packages.iter().map(|package| ((*package).to_owned(), "1".to_owned())).collect();
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
        .filter_map(|entry| match &entry.what {
            What::Started(Action::Install(batch)) => Some((entry.at, batch)),
            _ => None,
        })
        .collect()
}

/// What began, in order.
fn begun(log: &[Entry]) -> Vec<&Action> {
    log.iter()
        .filter_map(|entry| match &entry.what {
            What::Started(action) => Some(action),
            _ => None,
        })
        .collect()
}

fn only(world: &World) -> &Machine {
    world.machines().next().unwrap()
}

fn compliant(world: &World) -> bool {
    let numbers = world.numbers(&name("all")).unwrap();
    numbers.compliant == numbers.targeted
}

/// Decide again: the same, nothing to do, and time goes on.
fn at_rest(world: &World) {
    for client in world.clients() {
        let machine = world.machine(client).unwrap();
        let policy = world.policy(client).unwrap();
        let known = world.decision(client).unwrap();
        let again = decide(policy, &machine.view, world.now, &machine.zone);
        assert_eq!(again.actions, [], "nothing is left to start");
        assert_eq!(again.next_wake, known.next_wake);
        let states = |decision: &crate::client::Decision| {
            decision.updates.iter().map(|(id, verdict)| (id.clone(), verdict.state)).collect::<Vec<_>>()
        };
        assert_eq!(states(&again), states(known));
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
        .filter_map(|entry| match &entry.what {
            What::Started(Action::Scan(request)) => Some((request.kind, request.purpose)),
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
    let machine = world.machine_mut(client(1)).unwrap();
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
        begun(&world.log[before..]).iter().all(|action| matches!(action, Action::Scan(_))),
        "only the validation of what ran: {:?}",
        &world.log[before..]
    );
    assert_eq!(only(&world).packages["a"], "2", "the running transaction ended");
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
