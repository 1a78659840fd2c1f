//! A machine that was woken: kept awake while it works, then what its deployments say (R-SCHED-07, R-SCHED-08, R-RST-10).

use patchtide_model::{catalogue::RestartRule, deployment::AfterWake};

use super::{people::all, *};

/// When the machine came back; the deadline was at nine.
const WOKE: &str = "2026-11-21T09:06:00Z";

/// Both updates were installed since the machine came back, and nothing is left to do.
fn done(after: AfterWake, change: impl FnOnce(&mut SiteInput)) -> (Policy, ClientView) {
    let (policy, mut view) = setting(|site| {
        (all(site).wake_on_lan, all(site).after_wake) = (true, after);
        change(site);
    });
    view.woke(at(WOKE));
    for source in ["a", "b"] {
        view.detected.get_mut(&id(source, 2)).unwrap().state = Detection::Installed;
        let record = InstalledRecord {
            at: at("2026-11-21T09:50:00Z"),
            boot: view.boot,
            restart: RestartRule::Auto,
            basis: None,
            missing_since: None,
        };
        view.installed.insert(id(source, 2), record);
    }
    (policy, view)
}

/// Whether it restarts (or is switched off: true), and when.
fn end(policy: &Policy, view: &ClientView, now: &str) -> Option<(Timestamp, bool)> {
    let decision = decide(policy, view, at(now), &TimeZone::UTC);
    decision.actions.into_iter().find_map(|action| match action {
        Action::Restart { at, power_off, .. } => Some((at, power_off)),
        _ => None,
    })
}

#[test]
fn a_machine_is_kept_awake_from_the_download_to_the_restart() {
    let (policy, mut view) = setting(|site| {
        all(site).wake_on_lan = true;
        site.updates.values_mut().for_each(|update| update.restart = RestartRule::Always);
    });
    view.woke(at(WOKE));
    assert!(now_for(&policy, &view).keep_awake, "to be downloaded");
    view.distribution_points = [Locality::Slow].into();
    assert!(!now_for(&policy, &view).keep_awake, "nothing can be done");
    view.distribution_points = [Locality::Fast].into();
    view.running.download.insert(leaf("a", 2).file.sha256);
    assert!(now_for(&policy, &view).keep_awake, "under way");
    view.running.download.clear();
    present(&mut view);
    let batch = batch_of(&now_for(&policy, &view)).cloned().unwrap();
    view.running.install = Some(RunningInstall { batch: batch.clone(), since: at(NOW) });
    view.install_started(at(NOW));
    assert!(now_for(&policy, &view).keep_awake, "installing");
    view.install_finished(&batch, &BTreeMap::new(), at(NOW));
    assert!(now_for(&policy, &view).keep_awake, "to be looked at again");
    let request = ScanRequest { kind: ScanKind::ForcedOffline, purpose: ScanPurpose::Validation };
    let installed = |source| {
        let found = Detected { state: Detection::Installed, leaves: BTreeSet::new(), needs: BTreeSet::new() };
        (id(source, 2), found)
    };
    let found = ["a", "b"].into_iter().map(installed).collect();
    view.scan_completed(&policy, &request, found, BTreeMap::from([(line(), 1)]), at(NOW));
    let decision = now_for(&policy, &view);
    assert!(decision.keep_awake && end(&policy, &view, NOW).is_some(), "the restart counts down");
    view.booted(Uuid::from_u128(10));
    view.scan_completed(&policy, &request, BTreeMap::new(), BTreeMap::from([(line(), 1)]), at(NOW));
    assert!(!now_for(&policy, &view).keep_awake, "all is done: what put it to sleep may do so again");
}

/// Staged content of a far deadline keeps no laptop from sleeping.
#[test]
fn what_is_not_due_keeps_nothing_awake() {
    let (policy, view) = setting(|site| {
        all(site).deadline = patchtide_model::deployment::Deadline::After(SignedDuration::from_hours(100));
    });
    let decision = now_for(&policy, &view);
    assert!(matches!(decision.actions.as_slice(), [Action::Download { .. }]), "{:?}", decision.actions);
    assert!(!decision.keep_awake);
}

#[test]
fn what_is_done_afterwards_is_what_the_deployment_says() {
    let (policy, view) = done(AfterWake::Sleep, |_| ());
    assert_eq!(end(&policy, &view, NOW), None);
    assert!(!now_for(&policy, &view).keep_awake);
    let countdown = |site: &mut SiteInput| all(site).restart_countdown = Some(minutes(10));
    for (after, off) in [(AfterWake::ShutDown, true), (AfterWake::Restart, false)] {
        let (policy, mut view) = done(after, countdown);
        assert_eq!(end(&policy, &view, NOW), Some((at("2026-11-21T10:10:00Z"), off)));
        let decision = now_for(&policy, &view);
        assert!(decision.keep_awake);
        assert!(matches!(
            decision.notices.as_slice(),
            [Notice { kind: NoticeKind::Restart { forced: true, power_off, .. }, .. }] if *power_off == off
        ));
        // Announced, it stays announced; in another boot it is over.
        view.running.restart_at = Some(at("2026-11-21T10:10:00Z"));
        assert_eq!(end(&policy, &view, "2026-11-21T10:09:00Z"), Some((at("2026-11-21T10:10:00Z"), off)));
        view.booted(Uuid::from_u128(10));
        view.scan.stale = None;
        assert_eq!(end(&policy, &view, "2026-11-21T10:15:00Z"), None);
    }
    // A restart that is needed anyway and the end are one.
    let (policy, mut view) = done(AfterWake::ShutDown, |_| ());
    view.restart_reasons.insert(RestartReason::RequiredFile);
    assert_eq!(end(&policy, &view, NOW).map(|(_, off)| off), Some(true));
}

#[test]
fn a_machine_that_was_not_woken_is_left_as_it_is() {
    let shut_down = |change: fn(&mut SiteInput), woke: Option<&str>| {
        let (policy, mut view) = done(AfterWake::ShutDown, change);
        view.awoke = woke.map(at);
        end(&policy, &view, NOW).is_some()
    };
    assert!(shut_down(|_| (), Some(WOKE)));
    assert!(!shut_down(|_| (), None));
    assert!(!shut_down(|_| (), Some("2026-11-21T02:00:00Z")), "up since the night");
    assert!(!shut_down(|_| (), Some("2026-11-21T09:45:00Z")), "somebody came to work");
    assert!(!shut_down(|_| (), Some("2026-11-21T09:55:00Z")), "installed before it slept");
    assert!(!shut_down(|site| all(site).wake_on_lan = false, Some(WOKE)));
    // Its call came when the window opened.
    let night = |site: &mut SiteInput| {
        all(site).deadline = patchtide_model::deployment::Deadline::After(SignedDuration::ZERO);
        site.objects.deployments.get_mut(&name("all")).unwrap().anchor = at("2026-11-20T12:00:00Z");
        add_window(site, daily("morning", 9, minutes(180)));
    };
    assert!(shut_down(night, Some(WOKE)));
    assert!(!shut_down(night, Some("2026-11-21T09:40:00Z")));
}

/// The rules of a restart are the rules of this.
#[test]
fn nothing_is_shut_down_against_suppression_windows_or_a_hold() {
    let shut_down = |change: fn(&mut SiteInput)| {
        let (policy, view) = done(AfterWake::ShutDown, change);
        end(&policy, &view, NOW).is_some()
    };
    assert!(!shut_down(|site| all(site).suppress_restart_servers = true));
    assert!(!shut_down(|site| all(site).restart_left_to_people = true));
    assert!(!shut_down(|site| site.objects.deployments.get_mut(&name("all")).unwrap().suspend = true));
    assert!(!shut_down(|site| add_window(site, daily("morning", 9, minutes(61)))), "no room for it any more");
    // It does not come in the next window either.
    let (policy, view) = done(AfterWake::ShutDown, |site| add_window(site, daily("morning", 9, minutes(61))));
    assert_eq!(end(&policy, &view, "2026-11-22T09:01:00Z"), None);
    assert!(shut_down(|site| {
        add_window(site, daily("morning", 9, minutes(61)));
        all(site).restart_outside_windows = true;
    }));
}

/// Of several deployments the first of `Sleep`, `Restart`, `ShutDown`; one that does not wake has no say.
#[test]
fn what_changes_the_machine_least_counts() {
    let with = |after: AfterWake, wakes: bool| {
        let (policy, view) = done(AfterWake::ShutDown, |site| {
            let mut other = deployment("other", &[id("a", 2)], at("2026-11-21T09:00:00Z"));
            (other.settings.wake_on_lan, other.settings.after_wake) = (wakes, after);
            add_deployment(site, other);
        });
        end(&policy, &view, NOW).map(|(_, off)| off)
    };
    assert_eq!(with(AfterWake::Sleep, true), None);
    assert_eq!(with(AfterWake::Restart, true), Some(false));
    assert_eq!(with(AfterWake::ShutDown, true), Some(true));
    assert_eq!(with(AfterWake::Sleep, false), Some(true));
}

/// One that fits goes first.
#[test]
fn it_waits_for_what_is_still_to_be_installed() {
    let (policy, mut view) = done(AfterWake::ShutDown, |_| ());
    view.installed.remove(&id("b", 2));
    view.detected.get_mut(&id("b", 2)).unwrap().state = Detection::Required;
    assert_eq!(end(&policy, &view, NOW), None, "to be downloaded");
    view.downloaded(leaf("b", 2).file.sha256);
    assert_eq!(end(&policy, &view, NOW), None, "to be installed");
    let batch = batch_of(&now_for(&policy, &view)).cloned().unwrap();
    view.running.install = Some(RunningInstall { batch: batch.clone(), since: at(NOW) });
    assert_eq!(end(&policy, &view, NOW), None, "being installed");
    view.running.install = None;
    view.failed.insert(
        id("b", 2),
        Attempt { at: at(NOW), count: 1, basis: *batch.basis.values().next().unwrap(), error: failure() },
    );
    assert!(end(&policy, &view, NOW).is_some(), "it failed, and is tried again when the machine is on");
}
