//! Weeks of re-evaluations: what heals, what stays away, and nothing that is installed over and over.

use patchtide_model::deployment::Deadline;

use super::*;
use crate::sim::{Behaviour, Machine, What, World};

const START: &str = "2026-11-21T10:00:00Z";
const WEEKS: i64 = 5;

fn client() -> ClientId {
    ClientId(Uuid::from_u128(1))
}

fn world(change: impl FnOnce(&mut SiteInput)) -> World {
    let mut site = site(vec![update("a", 2)]);
    add_deployment(&mut site, deployment("all", &[id("a", 2)], at(START)));
    change(&mut site);
    let packages = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
    let mut machine = Machine::new("host", false, TimeZone::UTC, packages);
    machine.behaviour = Behaviour {
        scan: SignedDuration::from_secs(5),
        download: SignedDuration::from_secs(20),
        install: minutes(3),
        restart: minutes(1),
        ..Behaviour::default()
    };
    World::new(site, BTreeMap::from([(client(), machine)]), at(START))
}

/// Runs for five weeks, with `each` once a day at noon; the installations that were started.
fn installs(world: &mut World, mut each: impl FnMut(i64, &mut World)) -> usize {
    for day in 0..WEEKS * 7 {
        world.run_until(at("2026-11-21T12:00:00Z") + SignedDuration::from_hours(24 * day)).unwrap();
        each(day, world);
    }
    world.run_until(at("2026-11-21T12:00:00Z") + SignedDuration::from_hours(24 * WEEKS * 7)).unwrap();
    let installed = |what: &What| matches!(what, What::Started(Action::Install(_)));
    world.log.iter().filter(|entry| installed(&entry.what)).count()
}

fn version(world: &World) -> Option<&str> {
    world.machine(client())?.packages.get("a").map(String::as_str)
}

fn set(world: &mut World, version: Option<&str>) {
    let machine = world.machine_mut(client()).unwrap();
    match version {
        Some(version) => drop(machine.packages.insert("a".to_owned(), version.to_owned())),
        None => drop(machine.packages.remove("a")),
    }
    machine.view.scan.stale = Some(StaleReason::PackagesChanged);
}

/// A catalogue with another version of the line, in which the update is what `change` makes of it.
fn sync(world: &mut World, change: impl FnOnce(&mut patchtide_model::catalogue::Update)) {
    change(world.site.updates.get_mut(&id("a", 2)).unwrap());
    world.site.lines[0].catalogue_version += 1;
    world.publish();
}

/// R-LIFE-01: revised every day in what does not concern the machine.
#[test]
fn a_revised_update_is_installed_once() {
    let mut world = world(|_| {});
    let count = installs(&mut world, |day, world| {
        sync(world, |update| update.title = format!("a, revision {day}"));
    });
    assert_eq!((count, version(&world)), (1, Some("2")));
}

/// R-LIFE-07: expired before or after, it is offered no more, and what fell below it is left.
#[test]
fn an_expired_update_is_not_installed_again() {
    let mut world = world(|_| {});
    let count = installs(&mut world, |day, world| match day {
        3 => sync(world, |update| update.expired = true),
        5 => set(world, Some("1")),
        _ => {}
    });
    assert_eq!((count, version(&world)), (1, Some("1")));
    assert!(world.decision(client()).unwrap().updates.is_empty());
    let mut early = self::world(|site| {
        site.updates.get_mut(&id("a", 2)).unwrap().expired = true;
    });
    assert_eq!((installs(&mut early, |_, _| {}), version(&early)), (0, Some("1")));
}

/// R-LIFE-08, R-LIFE-09: superseded and still deployed. With its successor on the machine it is installed, not required.
#[test]
fn a_superseded_update_does_not_fight_its_successor() {
    let mut world = world(|_| {});
    let count = installs(&mut world, |day, world| match day {
        4 => {
            let newer = update("a", 3);
            world.site.updates.insert(newer.id.clone(), newer.clone());
            sync(world, |update| update.superseded_by = Some(newer.id));
        }
        6 => {
            let mut next = deployment("next", &[id("a", 3)], world.now);
            next.settings.deadline = Deadline::After(SignedDuration::ZERO);
            add_deployment(&mut world.site, next);
            world.publish();
        }
        _ => {}
    });
    assert_eq!((count, version(&world)), (2, Some("3")), "each once");
}

/// R-DEPL-47, R-LIFE-11: out of the deployment, nobody brings it back.
#[test]
fn a_removed_update_is_left_alone() {
    let mut world = world(|_| {});
    let count = installs(&mut world, |day, world| match day {
        2 => {
            world.site.objects.deployments.get_mut(&name("all")).unwrap().updates.clear();
            world.publish();
        }
        4 => set(world, Some("1")),
        _ => {}
    });
    assert_eq!((count, version(&world)), (1, Some("1")));
}

/// R-LIFE-13: content that no distribution point has: waited for, asked for in growing pauses, never a transaction.
#[test]
fn missing_content_is_waited_for() {
    let mut world = world(|site| {
        let point = patchtide_model::object::DistributionPoint {
            name: name("dp"),
            endpoints: vec!["https://dp.example:8444".to_owned()],
            boundaries: vec![],
            protected: false,
        };
        site.objects.distribution_points.insert(point.name.clone(), point);
        site.holders = Some(BTreeMap::new());
    });
    world.machine_mut(client()).unwrap().behaviour.download_failures = u32::MAX;
    let count = installs(&mut world, |_, _| {});
    assert_eq!((count, version(&world)), (0, Some("1")));
    let state = world.decision(client()).unwrap().updates[&id("a", 2)].state;
    let waits = [Some(UpdateEnforcement::WaitingForContent), Some(UpdateEnforcement::DownloadFailed)];
    assert!(waits.contains(&state) || state == Some(UpdateEnforcement::Downloading), "{state:?}");
    let asked = world.log.iter().filter(|entry| matches!(entry.what, What::Started(Action::Download { .. })));
    let asked = asked.count();
    assert!(asked < 24 * 7 * 5 + 20, "at most once an hour: {asked}");
}

/// R-REEV-01, R-REEV-02: what fell below is healed by the next re-evaluation, not before, and from the cache.
#[test]
fn what_fell_below_is_healed_by_the_re_evaluation() {
    let mut world = world(|_| {});
    let mut healed = None;
    let count = installs(&mut world, |day, world| {
        if day == 9 {
            set(world, Some("1"));
        } else if day > 9 && healed.is_none() && version(world) == Some("2") {
            healed = Some(day);
        }
        if day == 11 {
            let decision = world.decision(client()).unwrap();
            let hold = decision.updates[&id("a", 2)].waits_for().unwrap();
            assert!(matches!(hold.holder, Some(Holder::FellBelow { .. })), "{hold:?}");
            assert_eq!(decision.updates[&id("a", 2)].state, Some(UpdateEnforcement::PendingInstallation));
        }
    });
    assert_eq!(
        (count, healed),
        (2, Some(15)),
        "evaluations are on days 7, 14, 21 ... and up to two hours later"
    );
    let downloads =
        world.log.iter().filter(|entry| matches!(entry.what, What::Started(Action::Download { .. })));
    assert_eq!(downloads.count(), 1, "the second time from the cache");
}

/// What an owner removed stays removed.
#[test]
fn what_an_owner_removed_stays_removed() {
    let mut world = world(|_| {});
    let count = installs(&mut world, |day, world| {
        if day == 3 {
            set(world, None);
        }
    });
    assert_eq!((count, version(&world)), (1, None));
    assert_eq!(world.decision(client()).unwrap().updates[&id("a", 2)].detection, Detection::NotRequired);
}

/// A program that takes the update back every day: it is healed once in each cycle, not once a day.
#[test]
fn another_program_that_takes_it_back_every_day_causes_no_loop() {
    let mut world = world(|_| {});
    let count = installs(&mut world, |_, world| set(world, Some("1")));
    assert!((2..=1 + 5).contains(&count), "{count} in five weeks");
}

/// An installer that ends well and changes nothing: a failure with its code, tried again with growing pauses.
#[test]
fn what_is_still_required_after_its_installation_has_failed() {
    let (policy, mut view) = setting(|_| {});
    view.scan.changed = None;
    present(&mut view);
    let (found, covered) = (view.detected.clone(), view.scan.cached.clone());
    let mut tries = Vec::new();
    let mut now = at(NOW);
    while now < at(NOW) + SignedDuration::from_hours(24 * 6) {
        let decision = decide(&policy, &view, now, &TimeZone::UTC);
        for action in &decision.actions {
            match action {
                Action::Scan(request) => {
                    view.scan_completed(&policy, request, found.clone(), covered.clone(), now);
                }
                Action::Install(batch) => {
                    tries.push(now);
                    view.install_finished(batch, &BTreeMap::new(), now + SignedDuration::from_secs(1));
                }
                Action::Download { .. } | Action::Recover | Action::Restart { .. } => {}
            }
        }
        now += minutes(5);
    }
    let decision = decide(&policy, &view, now, &TimeZone::UTC);
    let verdict = &decision.updates[&id("a", 2)];
    assert_eq!(verdict.state, Some(UpdateEnforcement::InstallFailed));
    assert_eq!(verdict.error.as_ref().unwrap().code, 0x87D0_0668);
    // After 1, 2, 4, 8, 16 hours and then every day; each update by itself from the second failure on.
    assert!(tries.len() <= 2 * 11, "{tries:?}");
    assert!(view.installed.is_empty());
}
