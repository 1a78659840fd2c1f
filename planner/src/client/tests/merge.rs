//! Several deployments of one update: which of them decides.

use super::*;

/// Both updates in `all` and in `other`, due since nine; a window at noon, or a slow way only.
fn two(
    all: fn(&mut patchtide_model::deployment::Deployment),
    other: fn(&mut patchtide_model::deployment::Deployment),
) -> (Policy, ClientView) {
    let (policy, mut view) = setting(|site| {
        all(site.objects.deployments.get_mut(&name("all")).unwrap());
        let mut second = deployment("other", &[id("a", 2), id("b", 2)], at("2026-11-21T09:00:00Z"));
        other(&mut second);
        add_deployment(site, second);
        add_window(site, daily("noon", 12, minutes(60)));
    });
    view.scan.changed = None;
    present(&mut view);
    (policy, view)
}

fn window(decision: &Decision) -> Gate {
    let gates = &decision.updates[&id("a", 2)].gates;
    gates.iter().find(|gate| gate.kind == GateKind::Window).unwrap().clone()
}

/// The safer one: every started deployment has to allow it, and the gate names the one that does not.
#[test]
fn outside_windows_only_when_all_that_started_allow_it() {
    let allow = |deployment: &mut patchtide_model::deployment::Deployment| {
        deployment.settings.install_outside_windows = true;
    };
    let (policy, view) = two(allow, |_| {});
    let decision = now_for(&policy, &view);
    assert_eq!(batch_of(&decision), None);
    let gate = window(&decision);
    assert_eq!(gate.next(), Some(at("2026-11-21T12:00:00Z")));
    assert!(
        gate.reason.contains("UpdateDeployment/other spec.settings.installation.outsideWindows keeps it"),
        "{gate:?}"
    );
    let (policy, view) = two(allow, allow);
    let decision = now_for(&policy, &view);
    assert_eq!(batch_of(&decision).unwrap().updates.len(), 2);
    assert_eq!(window(&decision).object, "UpdateDeployment/all");
    // One that is suspended, or has not started, has no say.
    for idle in [
        |deployment: &mut patchtide_model::deployment::Deployment| deployment.suspend = true,
        |deployment: &mut patchtide_model::deployment::Deployment| {
            deployment.settings.deadline = patchtide_model::deployment::Deadline::After(minutes(600));
        },
    ] {
        let (policy, view) = two(allow, idle);
        assert!(batch_of(&now_for(&policy, &view)).is_some());
    }
}

/// Asked for while only `change` holds it, whose deadline is an hour away; its windows open for `length` at noon.
fn asked_before_its_deadline(
    length: SignedDuration,
    change: fn(&mut patchtide_model::deployment::DeploymentSettings),
) -> (Policy, ClientView) {
    let (policy, mut view) = setting(|site| {
        let all = site.objects.deployments.get_mut(&name("all")).unwrap();
        all.settings.deadline = patchtide_model::deployment::Deadline::After(minutes(120));
        change(&mut all.settings);
        add_window(site, daily("noon", 12, length));
    });
    view.scan.changed = None;
    present(&mut view);
    view.requested.insert(id("a", 2));
    (policy, view)
}

/// Worlds 3572 and 1406: what is reckoned for an opening is what will be reckoned then, not what holds today.
#[test]
fn a_start_that_frees_the_restart_makes_a_window_long_enough() {
    let (policy, view) =
        asked_before_its_deadline(minutes(20), |settings| settings.restart_outside_windows = true);
    for (source, since) in [("a", "asked for"), ("b", "waits for its deadline")] {
        let decision = now_for(&policy, &view);
        let verdict = &decision.updates[&id(source, 2)];
        let gate = verdict.gates.iter().find(|gate| gate.kind == GateKind::Window).unwrap();
        assert_eq!(gate.next(), Some(at("2026-11-21T12:00:00Z")), "{since}: {gate:?}");
        assert!(gate.reason.contains("it needs 10m 30s"), "{gate:?}");
        assert_eq!(verdict.error, None);
    }
    assert_eq!(batch_of(&now_for(&policy, &view)), None);
    let noon = decide(&policy, &view, at("2026-11-21T12:00:00Z"), &TimeZone::UTC);
    assert!(
        matches!(&noon.actions[..], [Action::Scan(_)]) && noon.updates[&id("a", 2)].state.is_some(),
        "only its scan comes before it: {noon:?}"
    );
}

/// A state must not say that an update never fits when a deployment frees it from windows later.
#[test]
fn an_update_that_will_be_free_of_windows_does_not_never_fit() {
    let (policy, view) =
        asked_before_its_deadline(minutes(5), |settings| settings.install_outside_windows = true);
    let verdict = &now_for(&policy, &view).updates[&id("a", 2)];
    assert_eq!((verdict.state, &verdict.error), (Some(UpdateEnforcement::WaitingForWindow), &None));
    let gate = verdict.waits_for().unwrap();
    assert_eq!((gate.kind, gate.next()), (GateKind::Window, Some(at("2026-11-21T11:00:00Z"))));
    assert_eq!(gate.object, "UpdateDeployment/all");
    let (policy, view) = asked_before_its_deadline(minutes(5), |_| {});
    let verdict = &now_for(&policy, &view).updates[&id("a", 2)];
    assert_eq!(verdict.error.as_ref().unwrap().symbol, "WINDOW-NEVER-FITS");
}

#[test]
fn removals_and_slow_ways_only_when_all_allow_them() {
    let allow = |deployment: &mut patchtide_model::deployment::Deployment| {
        let settings = &mut deployment.settings;
        (settings.allow_remove, settings.install_on_slow_boundary) = (true, true);
    };
    for (other, allowed) in [(allow as fn(&mut _), true), ((|_| {}) as fn(&mut _), false)] {
        let (mut policy, mut view) = two(allow, other);
        policy.body.windows.clear();
        assert_eq!(batch_of(&now_for(&policy, &view)).unwrap().allow_remove, allowed);
        view.present.clear();
        view.distribution_points = [Locality::Slow].into();
        let decision = now_for(&policy, &view);
        assert_eq!(decision.actions.is_empty(), !allowed);
        if !allowed {
            let gate = decision.updates[&id("a", 2)].waits_for().unwrap();
            assert_eq!(gate.object, "UpdateDeployment/other");
        }
    }
}

/// Each closed gate says what opens it and when the client looks again.
#[test]
fn every_closed_gate_can_say_when_it_opens() {
    let (policy, mut view) =
        two(|deployment| deployment.suspend = true, |deployment| deployment.suspend = true);
    view.present.clear();
    let decision = now_for(&policy, &view);
    for gate in decision.updates.values().flat_map(|verdict| &verdict.gates).filter(|gate| !gate.is_open()) {
        assert!(gate.next().is_some_and(|next| next > at(NOW)), "{gate:?}");
        assert_eq!(gate.event.is_some(), gate.status == GateStatus::Closed(Opens::OnEvent), "{gate:?}");
    }
    // What somebody stopped comes before its content and its time.
    let hold = decision.updates[&id("a", 2)].waits_for().unwrap();
    assert_eq!(
        (hold.kind, &hold.holder, hold.event),
        (GateKind::Hold, &Some(Holder::Suspended), Some(Event::Policy))
    );
    let (policy, mut view) = two(|_| {}, |_| {});
    view.lock = Some(LockFact { at: at(NOW), holder: "apt-get (812)".to_owned() });
    let decision = now_for(&policy, &view);
    let holder = Holder::Lock { holder: "apt-get (812)".to_owned(), since: at(NOW) };
    assert_eq!(decision.machine[0].holder, Some(holder));
}
