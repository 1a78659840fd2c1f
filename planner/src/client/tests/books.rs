//! What is told and what is not: legal steps, leases, and ends for what cannot go on.

use patchtide_model::state::{ClosedSet as _, DeploymentEnforcement as D, Failure};

use super::{UpdateEnforcement as E, *};

fn told(said: &[Said], source: &str) -> Vec<E> {
    said.iter()
        .filter_map(|said| match said {
            Said::Update { update, state, .. } if *update == id(source, 2) => Some(*state),
            _ => None,
        })
        .collect()
}

fn told_of_all(said: &[Said]) -> Vec<D> {
    said.iter()
        .filter_map(|said| match said {
            Said::Enforcement { state, .. } => Some(*state),
            _ => None,
        })
        .collect()
}

/// Two updates whose files came and whose time has come between two looks: every step is told, and nothing twice.
#[test]
fn steps_between_two_looks_are_told_in_order() {
    let (policy, mut view) = setting(|_| {});
    let mut books = Books::default();
    let said = books.follow(&now_for(&policy, &view), at(NOW));
    assert_eq!((told(&said, "a"), told_of_all(&said)), (vec![E::Downloading], vec![D::Downloading]));
    assert_eq!(books.follow(&now_for(&policy, &view), at(NOW)), []);
    present(&mut view);
    view.scan.changed = None;
    let decision = now_for(&policy, &view);
    let said = books.follow(&decision, at(NOW));
    assert_eq!(told(&said, "a"), [E::Downloaded, E::Started]);
    assert_eq!(told_of_all(&said), [D::Downloaded, D::Installing]);

    // Checked before dpkg is started: that is no installation yet.
    let batch = batch_of(&decision).unwrap().clone();
    view.running.install = Some(RunningInstall { batch: batch.clone(), since: at(NOW) });
    view.running.checking = true;
    assert_eq!(told(&books.follow(&now_for(&policy, &view), at(NOW)), "a"), []);
    // The agent was killed, and the transaction ended without it.
    let begun = at("2026-11-21T10:00:10Z");
    let said = books.witness_installation(batch.updates.keys(), |uid| uid == "uid-all", begun);
    assert_eq!((told(&said, "a"), told_of_all(&said)), (vec![E::Installing], vec![]));
    assert_eq!(books.updates[&id("a", 2)].since, begun);
    view.install_finished(&batch, &BTreeMap::from([(id("b", 2), failure())]), at("2026-11-21T10:05:00Z"));
    let repeating = decide(&policy, &view, at("2026-11-21T10:05:00Z"), &TimeZone::UTC);
    assert!(repeating.repeating);
    assert_eq!(books.follow(&repeating, at("2026-11-21T10:05:00Z")).len(), 1, "evaluated anew, no more");
    assert_eq!(books.updates[&id("a", 2)].state, E::Installing);
    assert!(books.due().is_some_and(|due| due > at("2026-11-21T10:05:00Z")), "and that has a lease too");
    let mut found = view.detected.clone();
    found.insert(id("a", 2), Detected { state: Detection::Installed, ..Detected::not_required() });
    let request = ScanRequest { kind: ScanKind::ForcedOffline, purpose: ScanPurpose::Validation };
    view.scan_completed(&policy, &request, found, view.scan.covered.clone(), at("2026-11-21T10:06:00Z"));
    let after = decide(&policy, &view, at("2026-11-21T10:06:00Z"), &TimeZone::UTC);
    let said = books.follow(&after, at("2026-11-21T10:06:00Z"));
    assert_eq!((told(&said, "a"), told(&said, "b")), (vec![E::Installed], vec![E::InstallFailed]));
    assert_eq!(told_of_all(&said), [D::InstallFailed]);
}

/// What is no longer looked after does not stay as it was for ever.
#[test]
fn a_state_that_nothing_claims_any_more_is_unknown() {
    let (policy, view) = setting(|_| {});
    let mut books = Books::default();
    books.follow(&now_for(&policy, &view), at(NOW));
    let mut later = policy.clone();
    later.body.deployments[0].anchor = at("2026-12-01T09:00:00Z");
    let said = books.follow(&now_for(&later, &view), at(NOW));
    assert_eq!((told(&said, "a"), told_of_all(&said)), (vec![E::Unknown], vec![D::Unknown]));
    books.follow(&now_for(&policy, &view), at(NOW));
    let mut gone = policy.clone();
    gone.body.deployments.clear();
    gone.body.updates.clear();
    let said = books.follow(&now_for(&gone, &view), at(NOW));
    assert_eq!((told(&said, "a"), told_of_all(&said)), (vec![E::Unknown], vec![D::Unknown]));
    assert_eq!(books, Books::default());
}

/// A lease that runs out is renewed with the reason of that time, and that is counted; one that is reckoned from the look
/// at it is not put off by looking.
#[test]
fn leases_run_out_and_are_renewed_and_counted() {
    let (policy, mut view) = setting(|_| {});
    view.running.download.insert(leaf("a", 2).file.sha256);
    let mut books = Books::default();
    let mut look = |minute: i64| {
        let now = at(NOW) + minutes(minute);
        books.follow(&decide(&policy, &view, now, &TimeZone::UTC), now);
        let entry = &books.updates[&id("a", 2)];
        let lease = entry.lease.clone().unwrap();
        assert!(entry.state.needs_lease() && lease.by > now);
        (lease.by.duration_since(at(NOW)).as_mins(), entry.renewals, entry.since)
    };
    assert_eq!(look(0), (60, 0, at(NOW)));
    assert_eq!(look(30), (60, 0, at(NOW)));
    assert_eq!(look(60), (120, 1, at(NOW)));
    assert_eq!(look(400), (460, 2, at(NOW)));
}

/// reliability.md #104: the window ends while dpkg runs. It goes on, nothing new starts, the restart waits.
#[test]
fn bad_input_104_a_window_that_ends_while_installing() {
    let (policy, mut view) = setting(|site| {
        site.updates.get_mut(&id("a", 2)).unwrap().restart = patchtide_model::catalogue::RestartRule::Always;
        site.updates.get_mut(&id("b", 2)).unwrap().exclusive = true;
        add_window(site, daily("ten", 10, minutes(60)));
    });
    present(&mut view);
    view.scan.changed = None;
    let batch = batch_of(&now_for(&policy, &view)).unwrap().clone();
    assert_eq!((batch.updates.len(), batch.window_end), (1, Some(at("2026-11-21T11:00:00Z"))));
    view.running.install = Some(RunningInstall { batch: batch.clone(), since: at(NOW) });
    // 50 minutes after the window's end and within its patience of twice the estimate... of an hour at least.
    let past = at("2026-11-21T10:59:59Z") + minutes(0);
    let running = decide(&policy, &view, past, &TimeZone::UTC);
    assert_eq!((running.actions.len(), running.updates[&id("a", 2)].state), (0, Some(E::Installing)));
    let ended = at("2026-11-21T11:20:00Z");
    view.install_finished(&batch, &BTreeMap::new(), ended);
    let mut found = view.detected.clone();
    found.insert(id("a", 2), Detected { state: Detection::Installed, ..Detected::not_required() });
    let request = ScanRequest { kind: ScanKind::ForcedOffline, purpose: ScanPurpose::Validation };
    view.scan_completed(&policy, &request, found, view.scan.covered.clone(), ended);
    let after = decide(&policy, &view, ended, &TimeZone::UTC);
    assert_eq!(after.actions, [], "neither the other update nor the restart");
    assert_eq!(after.updates[&id("a", 2)].state, Some(E::PendingRestart));
    assert_eq!(after.updates[&id("b", 2)].state, Some(E::WaitingForWindow));
    let tomorrow = at("2026-11-22T10:00:00Z");
    assert_eq!(after.updates[&id("a", 2)].lease.as_ref().unwrap().by, tomorrow);
    assert_eq!(after.updates[&id("b", 2)].lease.as_ref().unwrap().by, tomorrow);
}

/// reliability.md #105, #106: whatever the agent doubts the time for, nothing is installed or restarted by it, and it is
/// told; a time that was put back holds nothing up.
#[test]
fn bad_input_105_nothing_starts_by_a_time_that_is_doubted() {
    let (policy, mut view) = setting(|_| {});
    present(&mut view);
    view.scan.changed = None;
    view.clock_doubt = Some("the site's clock is 24h ahead".to_owned());
    let decision = now_for(&policy, &view);
    assert_eq!(batch_of(&decision), None);
    let verdict = &decision.updates[&id("a", 2)];
    assert_eq!(verdict.state, Some(E::PendingInstallation));
    assert_eq!(verdict.error.as_ref().unwrap().failure(), Some(Failure::Clock));
    view.clock_doubt = None;
    assert!(batch_of(&now_for(&policy, &view)).is_some());

    // A day too far, then put right: what failed "tomorrow" is tried as soon as what failed now.
    view.failed.insert(
        id("a", 2),
        Attempt {
            at: at("2026-11-22T10:00:00Z"),
            count: 1,
            basis: patchtide_model::Digest::from_bytes([0; 32]),
            error: failure(),
        },
    );
    view.scan.last = Some(at("2026-11-22T10:00:00Z"));
    view.put_back(at(NOW));
    assert_eq!((view.failed[&id("a", 2)].at, view.scan.last), (at(NOW), Some(at(NOW))));
    assert!(now_for(&policy, &view).repeating, "detected again");
}

/// reliability.md #108: three days asleep over three windows: the next opening is used, once.
#[test]
fn bad_input_108_windows_slept_over_are_not_made_up_for() {
    let (policy, mut view) = setting(|site| add_window(site, daily("ten", 10, minutes(120))));
    present(&mut view);
    view.scan.changed = None;
    let asleep_since = at("2026-11-21T09:00:00Z");
    let woken = at("2026-11-24T13:00:00Z");
    let mut books = Books::default();
    books.follow(&decide(&policy, &view, asleep_since, &TimeZone::UTC), asleep_since);
    let decision = decide(&policy, &view, woken, &TimeZone::UTC);
    assert_eq!(batch_of(&decision), None, "the windows are over");
    books.follow(&decision, woken);
    let entry = &books.updates[&id("a", 2)];
    assert_eq!((entry.state, entry.renewals), (E::WaitingForWindow, 1), "once, not three times");
    assert_eq!(entry.lease.as_ref().unwrap().by, at("2026-11-25T10:00:00Z"));
    view.scan.last = Some(at("2026-11-25T09:59:00Z"));
    view.scan.last_online = view.scan.last;
    let next = decide(&policy, &view, at("2026-11-25T10:00:00Z"), &TimeZone::UTC);
    assert_eq!(batch_of(&next).unwrap().updates.len(), 2);
}

/// R-ENFU-06: a dpkg that cannot be put right, and an installation that cannot be seen, end as general failures.
#[test]
fn what_cannot_go_on_is_a_general_failure() {
    let (policy, mut view) = setting(|_| {});
    present(&mut view);
    view.scan.changed = None;
    view.recovery = Some(Recovery { since: at(NOW), failures: 0, last: None, error: None });
    assert_eq!(now_for(&policy, &view).updates[&id("a", 2)].state, Some(E::WaitingForAnother));
    view.recovery_finished(Err(Failure::DpkgBroken.error("half-configured")), at(NOW));
    let verdict = now_for(&policy, &view).updates[&id("a", 2)].clone();
    assert_eq!(verdict.state, Some(E::GeneralFailure));
    assert_eq!(verdict.error.unwrap().failure(), Some(Failure::DpkgBroken));

    view.recovery = None;
    let batch = batch_of(&now_for(&policy, &view)).unwrap().clone();
    view.install_finished(&batch, &BTreeMap::new(), at("2026-11-21T10:10:00Z"));
    for count in 1..=limits::SCAN_FAILED_AFTER {
        let now = at("2026-11-21T10:10:00Z") + minutes(i64::from(count));
        view.scan_failed(Failure::ScanCatalogue.error("the disk"), now);
        let verdict = decide(&policy, &view, now, &TimeZone::UTC).updates[&id("a", 2)].clone();
        let ended = count == limits::SCAN_FAILED_AFTER;
        assert_eq!(verdict.state, ended.then_some(E::GeneralFailure), "{count}");
        assert_eq!(verdict.error.and_then(|error| error.failure()), ended.then_some(Failure::ScanAfter));
    }
}
