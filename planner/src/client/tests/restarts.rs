//! Restarts as people see them, and those that they ask for.

use patchtide_model::{catalogue::RestartRule, people::Display};

use super::{
    people::{all, heard},
    *,
};

/// `a` was installed in this boot and asks for a restart.
fn pending(change: impl FnOnce(&mut SiteInput)) -> (Policy, ClientView) {
    let (policy, mut view) = setting(change);
    for source in ["a", "b"] {
        view.detected.get_mut(&id(source, 2)).unwrap().state = Detection::Installed;
    }
    let record = InstalledRecord {
        at: at(NOW),
        boot: view.boot,
        restart: RestartRule::Always,
        basis: None,
        missing_since: None,
    };
    view.installed.insert(id("a", 2), record);
    (policy, view)
}

fn restart_at(policy: &Policy, view: &ClientView, now: &str) -> Option<Timestamp> {
    decide(policy, view, at(now), &TimeZone::UTC).actions.into_iter().find_map(|action| match action {
        Action::Restart { at, .. } => Some(at),
        _ => None,
    })
}

fn stages(heard: &[NoticeKind]) -> Vec<(Stage, bool)> {
    heard
        .iter()
        .filter_map(|kind| match kind {
            NoticeKind::Restart { stage, forced, .. } => Some((*stage, *forced)),
            _ => None,
        })
        .collect()
}

/// R-RST-04: announced, reminded within the hour, the final part; the same instant after the agent started anew.
#[test]
fn a_countdown_is_announced_reminded_and_ends_with_a_warning() {
    let (policy, mut view) = pending(|site| all(site).restart_countdown = Some(minutes(40)));
    let end = at("2026-11-21T10:40:00Z");
    let mut seen = Vec::new();
    let mut now = at(NOW);
    while now < end {
        assert_eq!(restart_at(&policy, &view, &now.to_string()), Some(end));
        let stages = stages(&heard(&policy, &mut view, &now.to_string()));
        seen.extend(stages.into_iter().map(|(stage, forced)| (now, stage, forced)));
        // As an agent that was started anew: only what is written down counts.
        view.running.restart_at = None;
        now = decide(&policy, &view, now, &TimeZone::UTC).next_wake.unwrap();
    }
    let minute = |minute: i64, stage| (at(NOW) + minutes(minute), stage, true);
    assert_eq!(
        seen,
        [
            minute(0, Stage::Announced),
            minute(15, Stage::Reminder),
            minute(30, Stage::Reminder),
            minute(39, Stage::Final)
        ]
    );
    let decision = decide(&policy, &view, at("2026-11-21T10:20:00Z"), &TimeZone::UTC);
    assert_eq!(postpone(&mut view, &decision, None, at(NOW)), Err(Refusal::RestartForced { at: end }));
}

/// Suspension calls an announced restart off, and people hear of it, whatever the deployments show by then.
#[test]
fn a_restart_that_is_called_off_is_told() {
    let (policy, mut view) = pending(|_| {});
    assert_eq!(stages(&heard(&policy, &mut view, NOW)), [(Stage::Announced, true)]);
    let (suspended, _) = pending(|site| {
        site.objects.deployments.get_mut(&name("all")).unwrap().suspend = true;
    });
    assert_eq!(restart_at(&suspended, &view, NOW), None);
    let told = heard(&suspended, &mut view, "2026-11-21T10:01:00Z");
    assert!(matches!(told[0], NoticeKind::RestartCalledOff { .. }), "{told:?}");
}

/// R-RST-05: the countdown is shown and nothing restarts; then people are reminded, and their word does it.
#[test]
fn a_countdown_without_force_leaves_the_restart_to_people() {
    let (policy, mut view) = pending(|site| {
        let settings = all(site);
        settings.restart_left_to_people = true;
        (settings.suppress_restart_servers, settings.suppress_restart_workstations) = (true, true);
    });
    assert_eq!(stages(&heard(&policy, &mut view, NOW)), [(Stage::Announced, false)]);
    let decision = now_for(&policy, &view);
    assert_eq!(decision.machine[0].field, "spec.settings.restart.enforcement");
    assert_eq!(decision.updates[&id("a", 2)].state, Some(UpdateEnforcement::PendingRestart));
    assert_eq!(stages(&heard(&policy, &mut view, "2026-11-21T10:04:00Z")), [(Stage::Final, false)]);
    let over = heard(&policy, &mut view, "2026-11-21T10:05:00Z");
    assert_eq!(over, [NoticeKind::RestartWaits { until: None }]);
    assert_eq!(restart_at(&policy, &view, "2026-11-21T10:05:00Z"), None);
    assert_eq!(heard(&policy, &mut view, "2026-11-21T14:04:59Z"), []);
    assert_eq!(heard(&policy, &mut view, "2026-11-21T14:05:00Z").len(), 1, "every four hours");
    let noon = "2026-11-21T15:00:00Z";
    let soon = ask_restart(&policy, &mut view, at(noon), &TimeZone::UTC);
    assert_eq!(soon, Ok(at("2026-11-21T15:01:00Z")));
    assert_eq!(stages(&heard(&policy, &mut view, noon)), [(Stage::Final, true)]);
    // Changed their mind.
    let decision = decide(&policy, &view, at(noon), &TimeZone::UTC);
    assert_eq!(postpone(&mut view, &decision, None, at(noon)), Ok(Postponed::RestartCalledOff));
    assert_eq!(restart_at(&policy, &view, noon), None);
    let told = heard(&policy, &mut view, noon);
    assert!(matches!(told[0], NoticeKind::RestartCalledOff { .. }), "{told:?}");
}

/// A suppressed restart waits for people; their word does it, in a window, and not for what is suspended.
#[test]
fn a_suppressed_restart_is_done_by_hand() {
    let suppressed = |site: &mut SiteInput| all(site).suppress_restart_servers = true;
    let (policy, mut view) = pending(suppressed);
    assert_eq!(heard(&policy, &mut view, NOW), [NoticeKind::RestartWaits { until: None }]);
    let mut other = view.clone();
    other.installed.clear();
    assert_eq!(ask_restart(&policy, &mut other, at(NOW), &TimeZone::UTC), Err(Refusal::NoRestartPending));
    assert_eq!(
        ask_restart(&policy, &mut view.clone(), at(NOW), &TimeZone::UTC),
        Ok(at("2026-11-21T10:01:00Z"))
    );
    // A word that could not be kept within the hour is forgotten: nobody is surprised a week later.
    let mut stale = view.clone();
    stale.people.restart_requested = Some(at("2026-11-21T09:00:00Z"));
    assert_eq!(restart_at(&policy, &stale, NOW), None);

    let (windowed, _) = pending(|site| {
        suppressed(site);
        add_window(site, daily("noon", 12, minutes(60)));
    });
    let refused = ask_restart(&windowed, &mut view, at(NOW), &TimeZone::UTC).unwrap_err();
    assert!(
        matches!(&refused, Refusal::RestartWaits { until: Some(until), .. } if *until == at("2026-11-21T12:00:00Z")),
        "{refused}"
    );
    assert_eq!(view.people.restart_requested, None);
    // One minute of warning and ten for the restart: 11 minutes are enough.
    let asked = |now: &str| ask_restart(&windowed, &mut view.clone(), at(now), &TimeZone::UTC).is_ok();
    assert!(asked("2026-11-21T12:49:00Z") && !asked("2026-11-21T12:49:01Z"));

    let (suspended, _) = pending(|site| {
        suppressed(site);
        site.objects.deployments.get_mut(&name("all")).unwrap().suspend = true;
    });
    assert!(matches!(
        ask_restart(&suspended, &mut view, at(NOW), &TimeZone::UTC),
        Err(Refusal::RestartWaits { until: None, .. })
    ));
}

/// A restart that the system wants for reasons of its own is done at a person's word alone.
#[test]
fn a_restart_for_other_reasons_only_when_asked_for() {
    let (policy, mut view) = setting(|_| {});
    view.restart_reasons.insert(RestartReason::RequiredFile);
    assert_eq!(restart_at(&policy, &view, NOW), None);
    assert_eq!(ask_restart(&policy, &mut view, at(NOW), &TimeZone::UTC), Ok(at("2026-11-21T10:01:00Z")));
}

/// Before the deadline the restart is left to people until then; they are told so, and not when nobody is to know.
#[test]
fn a_restart_before_the_deadline_waits_for_it() {
    let later = |site: &mut SiteInput| {
        all(site).deadline = patchtide_model::deployment::Deadline::After(SignedDuration::from_hours(11));
    };
    let (policy, mut view) = pending(later);
    let deadline = at("2026-11-21T20:00:00Z");
    assert_eq!(heard(&policy, &mut view, NOW), [NoticeKind::RestartWaits { until: Some(deadline) }]);
    let decision = now_for(&policy, &view);
    assert_eq!(postpone(&mut view, &decision, None, at(NOW)), Ok(Postponed::Until(deadline)));
    assert_eq!(heard(&policy, &mut view, "2026-11-21T19:59:00Z"), []);
    assert_eq!(
        stages(&heard(&policy, &mut view, "2026-11-21T20:00:00Z")),
        [(Stage::Announced, true)],
        "postponed until the deadline and no longer"
    );
    let (hidden, mut view) = pending(|site| {
        later(site);
        all(site).display = Some(Display::Hidden);
    });
    assert_eq!(heard(&hidden, &mut view, NOW), []);
    assert_eq!(heard(&hidden, &mut view, "2026-11-21T20:00:00Z"), []);
    assert!(restart_at(&hidden, &view, "2026-11-21T20:00:00Z").is_some(), "unseen, but done");
}

/// An older agent's books and policies say nothing of people.
#[test]
fn documents_without_people_are_read() {
    let (policy, view) = pending(|_| {});
    let mut text = serde_json::to_value(&view).unwrap();
    text.as_object_mut().unwrap().remove("people");
    assert_eq!(serde_json::from_value::<ClientView>(text).unwrap(), view);
    let text = serde_json::to_value(&policy).unwrap();
    assert!(text["body"]["settings"].get("people").is_none(), "and the defaults need no words");
    assert!(text["body"]["deployments"][0]["settings"].get("display").is_none());
}

/// Installers that run one by one: the restart waits while the next one fits before it, and comes instead of one that does
/// not (domain.md 4.3). A person's restart does not wait.
#[test]
fn the_restart_comes_instead_of_an_update_that_does_not_fit_before_it() {
    let (mut policy, mut view) = setting(|site| {
        for source in ["a", "b"] {
            site.updates.get_mut(&id(source, 2)).unwrap().maximum_run_time = Some(minutes(20));
        }
        add_window(site, daily("noon", 12, minutes(90)));
    });
    for update in policy.body.updates.values_mut() {
        update.installer = patchtide_model::catalogue::Installer::Sequential;
        update.restart = RestartRule::Always;
    }
    view.detected.get_mut(&id("a", 2)).unwrap().state = Detection::Installed;
    view.downloaded(leaf("b", 2).file.sha256);
    view.scan.changed = None;
    let mut after = |now: &str| {
        let record = InstalledRecord {
            at: at(now),
            boot: view.boot,
            restart: RestartRule::Always,
            basis: None,
            missing_since: None,
        };
        view.installed.insert(id("a", 2), record);
        (view.scan.last, view.scan.last_online) = (Some(at(now)), Some(at(now)));
        (restart_at(&policy, &view, now), view.clone())
    };
    // 90 minutes hold two of 20 minutes with 15 for a restart each.
    let (restart, early) = after("2026-11-21T12:20:00Z");
    assert_eq!(restart, None);
    let decision = decide(&policy, &early, at("2026-11-21T12:20:00Z"), &TimeZone::UTC);
    assert_eq!(batch_of(&decision).unwrap().updates.keys().collect::<Vec<_>>(), [&id("b", 2)]);
    let asked = ask_restart(&policy, &mut early.clone(), at("2026-11-21T12:20:00Z"), &TimeZone::UTC);
    assert_eq!(asked, Ok(at("2026-11-21T12:21:00Z")));
    let (restart, late) = after("2026-11-21T13:00:00Z");
    assert_eq!(restart, Some(at("2026-11-21T13:05:00Z")));
    let decision = decide(&policy, &late, at("2026-11-21T13:00:00Z"), &TimeZone::UTC);
    assert_eq!(batch_of(&decision), None);
}
