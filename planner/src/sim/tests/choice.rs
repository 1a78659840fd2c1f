//! Which updates go, when, and when again.

use super::*;
use crate::site::SiteInput;

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
    world.machine_mut(client(1)).unwrap().view.requested.insert(id("a", 2));
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
        site.objects.deployments.get_mut(&name("all")).unwrap().settings.deadline =
            Deadline::After(SignedDuration::from_hours(2));
    });
    world.run_until(at(START) + minutes(60)).unwrap();
    let mut newer = update("a", 3);
    newer.restart = RestartRule::Never;
    world.site.updates.get_mut(&id("a", 2)).unwrap().superseded_by = Some(newer.id.clone());
    world.site.updates.insert(newer.id.clone(), newer);
    world.site.lines[0].catalogue_version += 1;
    world.site.objects.deployments.get_mut(&name("all")).unwrap().updates.push(id("a", 3));
    world.publish();
    world.run_until(at(START) + minutes(150)).unwrap();
    let started = installs(&world);
    assert_eq!(started.len(), 1);
    assert_eq!((started[0].1.updates.len(), started[0].1.leaves.len()), (3, 2));
    assert_eq!(only(&world).packages["a"], "3");
    assert!(compliant(&world));
}

#[test]
fn a_removed_fix_comes_back_at_the_re_evaluation() {
    let mut world = small(|_, _| {});
    world.run_until(at(START) + minutes(30)).unwrap();
    assert!(compliant(&world));
    world.machine_mut(client(1)).unwrap().packages.insert("a".to_owned(), "1".to_owned());
    world.run_until(at(START) + SignedDuration::from_hours(24 * 8)).unwrap();
    assert_eq!(only(&world).packages["a"], "2");
    assert_eq!(installs(&world).len(), 2);
}

#[test]
fn a_clock_behind_the_policy_installs_nothing() {
    let mut world = small(|_, machine| machine.skew = SignedDuration::from_hours(-24 * 365 * 50));
    world.run_until(at(START) + SignedDuration::from_hours(24)).unwrap();
    assert_eq!(installs(&world), []);
}

/// R-SCHED-10: downloaded unseen with a far deadline; released, it is installed from what is already here.
#[test]
fn a_staged_deployment_is_released_and_installs_from_the_cache() {
    let mut world = small(|site, _| {
        let settings = &mut site.objects.deployments.get_mut(&name("all")).unwrap().settings;
        settings.display_notifications = false;
        settings.deadline = Deadline::After(SignedDuration::from_hours(24 * 30));
    });
    world.run_until(at(START) + minutes(60)).unwrap();
    assert_eq!((only(&world).view.present.len(), installs(&world).len()), (2, 0));
    let before = world.log.len();
    let settings = &mut world.site.objects.deployments.get_mut(&name("all")).unwrap().settings;
    settings.display_notifications = true;
    settings.deadline = Deadline::After(minutes(120));
    world.publish();
    world.run_until(at(START) + minutes(180)).unwrap();
    let started: Vec<Timestamp> = installs(&world).iter().map(|(at, _)| *at).collect();
    assert_eq!(started, [at(START) + minutes(120)], "at the deadline, to the second");
    let actions = begun(&world.log[before..]);
    assert!(!actions.iter().any(|action| matches!(action, Action::Download { .. })), "{actions:?}");
    assert!(compliant(&world));
}

/// R-SCHED-12, R-DEPL-46: a deadline that is put off stops what has not begun; so does making it optional.
#[test]
fn a_deadline_that_is_put_off_stops_the_deployment() {
    for later in [Deadline::After(SignedDuration::from_hours(24 * 28)), Deadline::None] {
        let mut world = small(|site, _| {
            site.objects.deployments.get_mut(&name("all")).unwrap().settings.deadline =
                Deadline::After(SignedDuration::from_hours(24));
        });
        world.run_until(at(START) + SignedDuration::from_hours(23)).unwrap();
        world.site.objects.deployments.get_mut(&name("all")).unwrap().settings.deadline = later;
        world.publish();
        world.run_until(at(START) + SignedDuration::from_hours(72)).unwrap();
        assert_eq!(installs(&world), [], "{later:?}");
        at_rest(&world);
    }
}

/// A distribution point that everybody reaches.
fn add_point(site: &mut SiteInput) {
    let point = DistributionPoint {
        name: name("dp"),
        endpoints: vec!["https://dp.example:8444".to_owned()],
        boundaries: vec![],
        protected: false,
    };
    site.objects.distribution_points.insert(point.name.clone(), point);
}

/// As in Configuration Manager: the deployment is known before its content is there, and nobody asks for that until the
/// site says that a distribution point has it.
#[test]
fn content_is_asked_for_when_a_distribution_point_has_it() {
    let on = |files: &[&str]| {
        let holders = files.iter().map(|file| (leaf(file, 2).file.sha256, [name("dp")].into()));
        Some(holders.collect())
    };
    let mut world = small(|site, _| {
        add_point(site);
        site.holders = on(&[]);
    });
    world.run_until(at(START) + minutes(30)).unwrap();
    let asked = |world: &World| {
        begun(&world.log).iter().filter(|action| matches!(action, Action::Download { .. })).count()
    };
    assert_eq!((asked(&world), installs(&world).len()), (0, 0));
    at_rest(&world);
    let verdict = &world.decision(client(1)).unwrap().updates[&id("a", 2)];
    assert_eq!(verdict.state, Some(UpdateEnforcement::WaitingForContent));
    let words = verdict.gates.iter().map(|gate| gate.reason.as_str()).collect::<Vec<_>>().join("; ");
    assert!(words.contains("1 file(s) are on no distribution point in reach yet"), "{words}");
    world.site.holders = on(&["a", "b"]);
    world.publish();
    world.run_until(at(START) + minutes(45)).unwrap();
    assert!(compliant(&world));
    assert_eq!(installs(&world).len(), 1);
}

/// A distribution point that is down, or a site that can give out no policy, stops nobody for good: after an hour the
/// client asks all the same.
#[test]
fn content_that_never_comes_is_asked_for_all_the_same() {
    let mut world = small(|site, _| {
        add_point(site);
        // One of two has come: it does not wait for the other one for ever.
        site.holders = Some([(leaf("a", 2).file.sha256, [name("dp")].into())].into());
    });
    world.run_until(at(START) + minutes(59)).unwrap();
    let first: Vec<_> =
        installs(&world).iter().flat_map(|(_, batch)| batch.updates.keys().cloned()).collect();
    assert_eq!(first, [id("a", 2)]);
    world.run_until(at(START) + minutes(75)).unwrap();
    assert!(compliant(&world));
}

/// R-MW-07: an update that did not concern the machine is revised and does now: the deployment's settings and the
/// machine's window of before hold for it.
#[test]
fn a_revised_update_keeps_settings_and_windows() {
    let mut world = small(|site, machine| {
        machine.packages.insert("c".to_owned(), "1".to_owned());
        machine.packages.remove("a");
        add_window(site, daily("noon", 12, minutes(60)));
        site.objects.deployments.get_mut(&name("all")).unwrap().updates = vec![id("a", 2)];
    });
    world.run_until(at("2026-11-21T12:45:00Z")).unwrap();
    assert_eq!(installs(&world), []);
    assert!(compliant(&world), "it does not concern the machine");
    world.site.updates.get_mut(&id("a", 2)).unwrap().leaves.push(leaf("c", 2));
    world.site.lines[0].catalogue_version += 1;
    world.publish();
    world.run_until(at("2026-11-22T11:59:00Z")).unwrap();
    assert_eq!(installs(&world), []);
    assert!(!compliant(&world));
    world.run_until(at("2026-11-22T13:00:00Z")).unwrap();
    let started: Vec<Timestamp> = installs(&world).iter().map(|(at, _)| *at).collect();
    assert_eq!(started, [at("2026-11-22T12:00:00Z")]);
    assert_eq!(only(&world).packages["c"], "2");
}
