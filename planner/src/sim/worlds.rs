//! Random worlds that have to keep the planner's promises. `PROPTEST_CASES` gives their number.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    ClientId,
    catalogue::RestartRule,
    deployment::Deadline,
    state::{Compliance, DeploymentEnforcement, UpdateEnforcement},
    window::{Calendar, Openness, Purpose, Window, time_zone},
};
use proptest::prelude::*;

use super::{
    Entry, World,
    tests::{START, client, machine},
};
use crate::{client::Action, fixtures::*};

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
