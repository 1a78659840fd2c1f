//! A client in each of the published states, and the deployment that speaks for it.

use patchtide_model::{catalogue::RestartRule, deployment::Deadline, state::DeploymentEnforcement as D};

use super::{UpdateEnforcement as E, *};

fn all(site: &mut SiteInput) -> &mut patchtide_model::deployment::Deployment {
    site.objects.deployments.get_mut(&name("all")).unwrap()
}

fn states(decision: &Decision, source: &str) -> (Option<E>, Option<D>) {
    (decision.updates[&id(source, 2)].state, decision.deployments["uid-all"].enforcement)
}

/// R-ENFU-12, R-ENFU-14, R-ENFD-08, R-ENFD-10: on its way, then given up by name after repeated failures.
#[test]
fn downloads_are_told_while_they_run_and_when_they_fail() {
    let (policy, mut view) = setting(|_| {});
    assert_eq!(states(&now_for(&policy, &view), "a"), (Some(E::Downloading), Some(D::Downloading)));
    view.running.download.insert(leaf("a", 2).file.sha256);
    assert_eq!(states(&now_for(&policy, &view), "a"), (Some(E::Downloading), Some(D::Downloading)));
    for count in 1..=limits::DOWNLOAD_FAILED_AFTER {
        view.download_failed(leaf("a", 2).file.sha256, false, failure(), at(NOW));
        let waits = count < limits::DOWNLOAD_FAILED_AFTER;
        let expected = if waits { E::WaitingForContent } else { E::DownloadFailed };
        assert_eq!(now_for(&policy, &view).updates[&id("a", 2)].state, Some(expected), "failure {count}");
    }
    let decision = now_for(&policy, &view);
    assert_eq!(states(&decision, "b"), (Some(E::Downloading), Some(D::DownloadFailed)));
    assert_eq!(decision.deployments["uid-all"].error.as_ref().unwrap().message, "broken");
}

/// R-ENFU-01, R-ENFU-07, R-ENFU-13, R-ENFD-01: downloaded before the deadline; then one batch starts and the other, which
/// goes alone, is pending.
#[test]
fn a_batch_starts_and_what_goes_alone_is_pending() {
    let (policy, mut view) = setting(|site| {
        all(site).settings.deadline =
            patchtide_model::deployment::Deadline::After(SignedDuration::from_hours(5));
        site.updates.get_mut(&id("b", 2)).unwrap().exclusive = true;
    });
    present(&mut view);
    view.scan.changed = None;
    assert_eq!(states(&now_for(&policy, &view), "a"), (Some(E::Downloaded), Some(D::Downloaded)));
    view.scan.last = Some(at("2026-11-21T13:59:00Z"));
    let due = decide(&policy, &view, at("2026-11-21T14:00:00Z"), &TimeZone::UTC);
    assert_eq!(states(&due, "a"), (Some(E::Started), Some(D::Installing)));
    assert_eq!(states(&due, "b"), (Some(E::PendingInstallation), Some(D::Installing)));
    let batch = batch_of(&due).unwrap().clone();
    assert_eq!(batch.updates.keys().collect::<Vec<_>>(), [&id("a", 2)]);
    view.running.install = Some(RunningInstall { batch, since: at("2026-11-21T14:00:00Z") });
    let running = decide(&policy, &view, at("2026-11-21T14:01:00Z"), &TimeZone::UTC);
    assert_eq!(states(&running, "a"), (Some(E::Installing), Some(D::Installing)));
}

/// `b` was installed in this boot and asks for a restart.
fn restarting(view: &mut ClientView) {
    view.installed.insert(
        id("b", 2),
        InstalledRecord {
            at: at("2026-11-21T09:58:00Z"),
            boot: view.boot,
            restart: RestartRule::Always,
            basis: None,
            missing_since: None,
        },
    );
    let found = view.detected.get_mut(&id("b", 2)).unwrap();
    (found.state, found.leaves) = (Detection::Installed, BTreeSet::new());
    view.scan.changed = None;
}

/// reliability.md 4 #65: dpkg is content and the machine is not. It is compliant, and the deployment says what failed.
#[test]
fn an_update_that_left_a_service_dead_is_a_failure_until_it_runs() {
    let (policy, mut view) = setting(|_| {});
    restarting(&mut view);
    view.installed.get_mut(&id("b", 2)).unwrap().restart = RestartRule::Never;
    assert_eq!(states(&now_for(&policy, &view), "b").0, Some(E::Installed));
    view.unwell.insert(id("b", 2), failure());
    let decision = now_for(&policy, &view);
    assert_eq!(states(&decision, "b"), (Some(E::GeneralFailure), Some(D::InstallFailed)));
    assert_eq!(decision.updates[&id("b", 2)].error.as_ref().unwrap().message, "broken");
    assert_eq!(decision.deployments["uid-all"].error.as_ref().unwrap().message, "broken");
    view.unwell.clear();
    assert_eq!(states(&now_for(&policy, &view), "b").0, Some(E::Installed));
}

/// R-ENFU-05, R-ENFD-02: a deployment whose updates wait for the restart that another one caused.
#[test]
fn what_waits_for_the_restart_of_others_says_so() {
    let (policy, mut view) = setting(|site| {
        all(site).updates = vec![id("b", 2)];
        add_deployment(site, deployment("other", &[id("a", 2)], at("2026-11-21T09:00:00Z")));
    });
    present(&mut view);
    restarting(&mut view);
    let decision = now_for(&policy, &view);
    assert_eq!(states(&decision, "b"), (Some(E::PendingRestart), Some(D::PendingRestart)));
    assert_eq!(decision.updates[&id("a", 2)].state, Some(E::RestartRequiredBefore));
    assert_eq!(decision.deployments["uid-other"].enforcement, Some(D::WaitingForRestart));
    assert_eq!(batch_of(&decision), None);
}

/// R-ENFU-15: before the first scan nothing is claimed of any update; the site counts such a client as *unknown*.
#[test]
fn before_the_first_scan_nothing_is_claimed() {
    let (policy, _) = setting(|_| {});
    let fresh = ClientView::new(Uuid::from_u128(9), false);
    let decision = now_for(&policy, &fresh);
    assert_eq!(states(&decision, "a"), (None, None));
    assert_eq!(decision.updates[&id("a", 2)].detection, Detection::Unknown);
    let verdict = &decision.deployments["uid-all"];
    assert_eq!(verdict.compliance, Some(patchtide_model::state::Compliance::Unknown));
}

fn restart_of(decision: &Decision) -> Option<Timestamp> {
    decision.actions.iter().find_map(|action| match action {
        Action::Restart { at, .. } => Some(*at),
        _ => None,
    })
}

/// R-DEPL-13, R-RST-01: each kind of machine by its own switch.
#[test]
fn servers_and_workstations_are_suppressed_apart() {
    for (suppress_servers, workstation) in [(true, false), (true, true), (false, false), (false, true)] {
        let (policy, mut view) = setting(|site| {
            let settings = &mut all(site).settings;
            settings.suppress_restart_servers = suppress_servers;
            settings.suppress_restart_workstations = !suppress_servers;
        });
        present(&mut view);
        restarting(&mut view);
        view.workstation = workstation;
        let decision = now_for(&policy, &view);
        let suppressed = suppress_servers != workstation;
        assert_eq!(restart_of(&decision).is_none(), suppressed, "{suppress_servers} {workstation}");
        if suppressed {
            let field = if workstation { "suppressWorkstations" } else { "suppressServers" };
            assert_eq!(decision.machine[0].field, format!("spec.settings.restart.{field}"));
        }
    }
}

/// R-RST-04: the longest countdown of the deployments that hold a causing update; one that says nothing has that of the
/// client settings. It counts towards the room in a window, too.
#[test]
fn a_deployment_may_have_a_countdown_of_its_own() {
    let restart = |own: Option<i64>, other: bool| {
        let (policy, mut view) = setting(|site| {
            all(site).settings.restart_countdown = own.map(minutes);
            if other {
                add_deployment(site, deployment("other", &[id("b", 2)], at("2026-11-21T09:00:00Z")));
            }
        });
        present(&mut view);
        restarting(&mut view);
        restart_of(&now_for(&policy, &view)).unwrap().duration_since(at(NOW)).as_mins()
    };
    assert_eq!((restart(None, false), restart(Some(30), false), restart(Some(30), true)), (5, 30, 30));
    assert_eq!((restart(Some(1), false), restart(Some(1), true)), (1, 5));
    let (policy, mut view) = setting(|site| {
        all(site).settings.restart_countdown = Some(minutes(60));
        add_window(site, daily("ten", 10, minutes(40)));
    });
    present(&mut view);
    view.scan.changed = None;
    let decision = now_for(&policy, &view);
    assert_eq!(states(&decision, "a").0, Some(E::WaitingForWindow));
    assert_eq!(decision.updates[&id("a", 2)].error.as_ref().unwrap().code, 0x87D0_0667);
}

/// R-DEPL-42 with its limit, and the same from the client's own settings.
#[test]
fn what_is_due_soon_comes_along_within_the_limit_only() {
    let batch = |within: Option<i64>, by_settings: bool| {
        let (mut policy, mut view) = setting(|site| {
            all(site).updates = vec![id("a", 2)];
            let settings = &mut all(site).settings;
            settings.install_all_applicable = !by_settings;
            settings.install_all_within = within.map(SignedDuration::from_hours).filter(|_| !by_settings);
            let mut later = deployment("later", &[id("b", 2)], at("2026-11-21T09:00:00Z"));
            later.settings.deadline = Deadline::After(SignedDuration::from_hours(10));
            add_deployment(site, later);
        });
        policy.body.settings.install_due_within =
            within.map(SignedDuration::from_hours).filter(|_| by_settings);
        present(&mut view);
        view.scan.changed = None;
        batch_of(&now_for(&policy, &view)).unwrap().updates.len()
    };
    assert_eq!((batch(None, false), batch(Some(8), false), batch(Some(9), false)), (2, 1, 2));
    assert_eq!((batch(None, true), batch(Some(8), true), batch(Some(9), true)), (1, 1, 2));
}

/// What will be taken along is told with the time at which that can begin, and who does it; not with its own deadline.
#[test]
fn the_deadline_gate_reckons_with_who_takes_an_update_along() {
    let told = |within: Option<i64>| {
        let (policy, mut view) = setting(|site| {
            all(site).updates = vec![id("a", 2)];
            let settings = &mut all(site).settings;
            settings.deadline = Deadline::After(SignedDuration::from_hours(5));
            settings.install_all_applicable = true;
            settings.install_all_within = within.map(SignedDuration::from_hours);
            let mut later = deployment("later", &[id("b", 2)], at("2026-11-21T09:00:00Z"));
            later.settings.deadline = Deadline::After(SignedDuration::from_hours(10));
            add_deployment(site, later);
        });
        present(&mut view);
        let decision = now_for(&policy, &view);
        let gates = &decision.updates[&id("b", 2)].gates;
        let gate = gates.iter().find(|gate| gate.kind == GateKind::Deadline).unwrap();
        (gate.status.clone(), gate.object.clone())
    };
    let opens = |time| GateStatus::Closed(Opens::At(at(time)));
    let (all, later) = ("UpdateDeployment/all".to_owned(), "UpdateDeployment/later".to_owned());
    assert_eq!(told(None), (opens("2026-11-21T14:00:00Z"), all.clone()));
    assert_eq!(told(Some(3)), (opens("2026-11-21T16:00:00Z"), all), "three hours before its own deadline");
    assert_eq!(told(Some(0)), (opens("2026-11-21T19:00:00Z"), later));
}

/// The grace period of the client settings puts the start off, not the deadline.
#[test]
fn a_grace_period_puts_the_start_off() {
    let (mut policy, mut view) = setting(|_| {});
    policy.body.settings.grace_period = minutes(90);
    present(&mut view);
    let decision = now_for(&policy, &view);
    assert_eq!(states(&decision, "a").0, Some(E::Downloaded));
    assert_eq!(decision.deployments["uid-all"].deadline, Some(at("2026-11-21T09:00:00Z")));
    assert_eq!(decision.next_wake, Some(at("2026-11-21T10:01:00Z")), "the site has two minutes to approve");
    view.scan.last = Some(at("2026-11-21T10:29:00Z"));
    let later = decide(&policy, &view, at("2026-11-21T10:30:00Z"), &TimeZone::UTC);
    assert!(batch_of(&later).is_some(), "{:?}", later.updates[&id("a", 2)].gates);
    view.requested.insert(id("a", 2));
    assert_eq!(
        batch_of(&now_for(&policy, &view)).unwrap().updates.len(),
        1,
        "a person may choose the moment"
    );
}

/// R-DEPL-18: inside a protected point's boundaries with the content on others only.
#[test]
fn a_client_that_may_not_take_from_others_waits() {
    let decide_with = |allowed: bool| {
        let (policy, mut view) = setting(|site| all(site).settings.fallback_to_unprotected = allowed);
        view.distribution_points = [Locality::Fallback].into();
        now_for(&policy, &view)
    };
    assert!(matches!(decide_with(true).actions.as_slice(), [Action::Download { .. }]));
    let waits = decide_with(false);
    assert_eq!(waits.actions, []);
    let verdict = &waits.updates[&id("a", 2)];
    assert_eq!(verdict.state, Some(E::WaitingForContent));
    assert_eq!(verdict.waits_for().unwrap().field, "spec.settings.download.unprotectedFallback");
}

/// R-SCAN-03, R-SCAN-06, R-SCAN-09, R-REEV-06: the cycles, and which row of table 3 each is.
#[test]
fn the_cycles_scan_and_by_hand_is_forced() {
    let (mut policy, mut view) = setting(|_| {});
    present(&mut view);
    policy.body.deployments.clear();
    view.scan.last_evaluation = Some(at("2026-11-28T12:00:00Z"));
    view.scan.last_online = Some(at("2026-11-28T11:00:00Z"));
    // Seven days, and up to two hours of this client's share.
    assert_eq!(scan(&policy, &view, "2026-11-28T09:58:00Z"), None);
    let cycle = scan(&policy, &view, "2026-11-28T12:00:00Z");
    assert_eq!(cycle, Some((ScanKind::ForcedOnline, ScanPurpose::Cycle)));

    view.scan.last_cycle = view.scan.last_evaluation;
    view.scan.last_evaluation = Some(at("2026-11-21T09:59:00Z"));
    let within = scan(&policy, &view, "2026-11-28T12:00:00Z");
    assert_eq!(within, Some((ScanKind::NonForcedOnline, ScanPurpose::Evaluation)), "cached within 24 hours");
    view.scan.last_online = Some(at("2026-11-27T11:00:00Z"));
    let beyond = scan(&policy, &view, "2026-11-28T12:00:00Z");
    assert_eq!(beyond, Some((ScanKind::ForcedOnline, ScanPurpose::Evaluation)));

    view.scan.last_online = Some(at("2026-11-28T11:59:00Z"));
    view.evaluation_requested = Some(at("2026-11-28T12:00:00Z"));
    let by_hand = scan(&policy, &view, "2026-11-28T12:00:00Z");
    assert_eq!(by_hand, Some((ScanKind::ForcedOnline, ScanPurpose::EvaluationRequested)));

    // The evaluation's scan looks at everything: an update that was there and is older now is found.
    let request = ScanRequest { kind: ScanKind::ForcedOnline, purpose: ScanPurpose::EvaluationRequested };
    view.scan_completed(
        &policy,
        &request,
        BTreeMap::new(),
        BTreeMap::from([(line(), 1)]),
        at("2026-11-28T12:01:00Z"),
    );
    assert_eq!(view.scan.last_evaluation, Some(at("2026-11-28T12:01:00Z")));
    assert!(policy.body.updates.keys().all(|id| view.detected.contains_key(id)));
    assert_eq!(scan(&policy, &view, "2026-11-28T12:02:00Z"), None);
}

/// R-SUP-11, R-SUP-12: a site without an active software update point. Nothing is scanned against, so nothing is known to
/// be required and nothing is installed.
#[test]
fn a_site_without_software_update_point_scans_for_nothing() {
    let (policy, _) = setting(|site| {
        site.lines.clear();
        site.updates.clear();
    });
    assert!(policy.body.lines.is_empty() && policy.body.updates.is_empty());
    let mut view = ClientView::new(Uuid::from_u128(9), false);
    let first = now_for(&policy, &view);
    let [Action::Scan(request)] = first.actions.as_slice() else { panic!("{:?}", first.actions) };
    view.scan_completed(&policy, request, BTreeMap::new(), BTreeMap::new(), at(NOW));
    assert_eq!((now_for(&policy, &view).actions, view.scan.covered.len()), (vec![], 0));
}

/// Also while a re-evaluation scans, or waits to be tried again, every state that is not final has a lease that lies ahead,
/// and the client wakes for it.
#[test]
fn every_state_has_a_lease_while_a_re_evaluation_runs() {
    use patchtide_model::state::ClosedSet;
    let later = |site: &mut SiteInput| {
        let all = site.objects.deployments.get_mut(&name("all")).unwrap();
        all.settings.deadline =
            patchtide_model::deployment::Deadline::After(SignedDuration::from_hours(24 * 30));
    };
    let window = |site: &mut SiteInput| add_window(site, daily("noon", 12, minutes(60)));
    let never = |site: &mut SiteInput| add_window(site, daily("noon", 12, minutes(5)));
    let changes: [fn(&mut SiteInput); 5] = [
        |_| {},
        later,
        window,
        never,
        |site| {
            site.objects.deployments.get_mut(&name("all")).unwrap().suspend = true;
        },
    ];
    let week = at("2026-11-30T11:00:00Z");
    for (number, change) in changes.into_iter().enumerate() {
        for (files, running, failed) in
            [(true, true, false), (false, true, false), (true, false, true), (true, true, true)]
        {
            let (policy, mut view) = setting(change);
            view.scan.changed = None;
            if files {
                present(&mut view);
            }
            if failed {
                view.scan_failed(failure(), week - minutes(1));
            }
            let request = ScanRequest { kind: ScanKind::ForcedOnline, purpose: ScanPurpose::Evaluation };
            view.running.scan = running.then_some(request);
            let decision = decide(&policy, &view, week, &TimeZone::UTC);
            let mut seen = 0;
            let updates =
                decision.updates.values().map(|v| (v.state.is_some_and(ClosedSet::needs_lease), &v.lease));
            let deployments = decision
                .deployments
                .values()
                .map(|v| (v.enforcement.is_some_and(ClosedSet::needs_lease), &v.lease));
            for (needs, lease) in updates.chain(deployments).filter(|(needs, _)| *needs) {
                let lease = lease.as_ref().unwrap_or_else(|| panic!("{number} {files} {running} {failed}"));
                assert!(needs && lease.by > week, "{number}: {lease:?}");
                assert!(decision.next_wake.is_some_and(|wake| wake <= lease.by), "{number}: {lease:?}");
                seen += 1;
            }
            assert!(seen >= 1 || number == 4 && !files, "{number} {files}: {:?}", decision.updates);
        }
    }
}
