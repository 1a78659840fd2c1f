mod books;
mod merge;
mod midway;
mod over_weeks;
mod people;
mod restarts;
mod scans;
mod sequence;
mod states;
mod woken;
mod zones;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use patchtide_model::{
    ClientId,
    policy::{POLICY_VERSION, Policy},
    state::{Detection, Evaluation, StateError, UpdateEnforcement},
};
use uuid::Uuid;

use super::*;
use crate::{
    fixtures::*,
    site::{SiteInput, Verdict, compile},
};

const NOW: &str = "2026-11-21T10:00:00Z";

/// Updates `a` and `b` deployed to one client that requires both and has scanned a minute ago.
fn setting(change: impl FnOnce(&mut SiteInput)) -> (Policy, ClientView) {
    let mut site = site(vec![update("a", 2), update("b", 2)]);
    for source in ["a", "b"] {
        site.required_leaves.insert(id(source, 2), [leaf(source, 2).reference()].into());
    }
    site.clients = vec![
        patchtide_model::client::Client {
            id: ClientId(Uuid::from_u128(1)),
            name: "host".to_owned(),
            state: patchtide_model::client::ClientState::Active,
            facts: BTreeMap::new(),
            address: None,
            last_contact: None,
        }
        .into(),
    ];
    add_deployment(&mut site, deployment("all", &[id("a", 2), id("b", 2)], at("2026-11-21T09:00:00Z")));
    change(&mut site);
    let plan = compile(&site);
    let (client, Verdict::Policy(body)) = plan.policies.into_iter().next().unwrap() else {
        panic!("withheld")
    };
    let policy = Policy {
        version: POLICY_VERSION,
        site: site.site,
        client,
        epoch: 1,
        number: 1,
        issued_at: at("2026-11-21T09:00:00Z"),
        body: (*body).clone(),
    };
    let mut view = ClientView::new(Uuid::from_u128(9), false);
    let required = |source: &str| Detected {
        state: Detection::Required,
        leaves: [leaf(source, 2).reference()].into(),
        needs: BTreeSet::new(),
    };
    view.scan_completed(
        &policy,
        &ScanRequest { kind: ScanKind::ForcedOnline, purpose: ScanPurpose::First },
        BTreeMap::from([(id("a", 2), required("a")), (id("b", 2), required("b"))]),
        BTreeMap::from([(line(), 1)]),
        at("2026-11-21T09:59:00Z"),
    );
    view.distribution_points.insert(Locality::Fast);
    (policy, view)
}

fn present(view: &mut ClientView) {
    for source in ["a", "b"] {
        view.downloaded(leaf(source, 2).file.sha256);
    }
}

fn now_for(policy: &Policy, view: &ClientView) -> Decision {
    decide(policy, view, at(NOW), &TimeZone::UTC)
}

fn failure() -> StateError {
    StateError::told(1, "X".to_owned(), "broken".to_owned())
}

fn batch_of(decision: &Decision) -> Option<&InstallBatch> {
    decision.actions.iter().find_map(|action| match action {
        Action::Install(batch) => Some(batch),
        _ => None,
    })
}

#[test]
fn only_allowed_ways_are_used_for_content() {
    let (policy, mut view) = setting(|_| {});
    let ways = |decision: &Decision| match decision.actions.as_slice() {
        [Action::Download { files }] => Some(files[0].localities.clone()),
        _ => None,
    };
    assert_eq!(ways(&now_for(&policy, &view)), Some([Locality::Fast, Locality::Fallback].into()));
    view.distribution_points = [Locality::Slow].into();
    let decision = now_for(&policy, &view);
    assert_eq!(decision.actions, []);
    let verdict = &decision.updates[&id("a", 2)];
    assert_eq!(verdict.state, Some(UpdateEnforcement::WaitingForContent));
    assert_eq!(verdict.waits_for().unwrap().field, "spec.settings.download.slowBoundary");
    let (policy, _) = setting(|site| {
        site.objects.deployments.get_mut(&name("all")).unwrap().settings.install_on_slow_boundary = true;
    });
    assert!(ways(&now_for(&policy, &view)).unwrap().contains(&Locality::Slow));
}

#[test]
fn what_the_site_has_not_approved_is_named_and_not_installed() {
    let (policy, mut view) = setting(|_| {});
    present(&mut view);
    let missing = leaf("libnew", 7);
    view.detected.get_mut(&id("a", 2)).unwrap().needs.insert(missing.reference());
    let decision = now_for(&policy, &view);
    assert_eq!(batch_of(&decision), None, "the site gets two minutes to approve it");
    assert_eq!(decision.next_wake, Some(at("2026-11-21T10:01:00Z")));
    let late = decide(&policy, &view, at("2026-11-21T10:01:00Z"), &TimeZone::UTC);
    assert_eq!(batch_of(&late).unwrap().updates.keys().collect::<Vec<_>>(), [&id("b", 2)]);
    let verdict = &late.updates[&id("a", 2)];
    assert_eq!(verdict.state, Some(UpdateEnforcement::WaitingForContent));
    assert!(verdict.waits_for().unwrap().reason.contains("libnew 7"));

    let (policy, _) = setting(|site| site.dependencies.push(missing.clone()));
    view.downloaded(missing.file.sha256);
    let batch = now_for(&policy, &view);
    let batch = batch_of(&batch).unwrap();
    assert_eq!((batch.updates.len(), batch.leaves.len(), batch.files.len()), (2, 2, 3));
}

#[test]
fn what_has_to_come_along_comes_along_or_both_wait() {
    let change = |site: &mut SiteInput| {
        let all = site.objects.deployments.get_mut(&name("all")).unwrap();
        all.updates = vec![id("a", 2)];
        let mut later = deployment("later", &[id("b", 2)], at("2026-11-21T09:00:00Z"));
        later.settings.deadline =
            patchtide_model::deployment::Deadline::After(SignedDuration::from_hours(100));
        add_deployment(site, later);
    };
    let (policy, mut view) = setting(change);
    present(&mut view);
    assert_eq!(batch_of(&now_for(&policy, &view)).unwrap().updates.len(), 1);
    view.detected.get_mut(&id("a", 2)).unwrap().needs.insert(leaf("b", 2).reference());
    assert_eq!(batch_of(&now_for(&policy, &view)).unwrap().updates.len(), 2, "pulled in before its deadline");
    let (policy, _) = setting(|site| {
        change(site);
        site.objects.deployments.get_mut(&name("later")).unwrap().suspend = true;
    });
    let decision = now_for(&policy, &view);
    assert_eq!(batch_of(&decision), None);
    let gate = decision.updates[&id("a", 2)].waits_for().unwrap().clone();
    assert!(gate.reason.contains("has to come with it"), "{gate:?}");
}

#[test]
fn a_lock_a_running_batch_and_a_broken_dpkg_are_waited_for() {
    let (policy, mut view) = setting(|_| {});
    view.scan.changed = None;
    present(&mut view);
    view.lock = Some(LockFact { at: at(NOW), holder: "apt-get (812)".to_owned() });
    let decision = now_for(&policy, &view);
    assert_eq!(decision.updates[&id("a", 2)].state, Some(UpdateEnforcement::WaitingForAnother));
    assert_eq!((decision.actions.len(), decision.next_wake), (0, Some(at("2026-11-21T10:00:30Z"))));
    let again = decide(&policy, &view, at("2026-11-21T10:00:30Z"), &TimeZone::UTC);
    let batch = batch_of(&again).unwrap().clone();

    view.lock = None;
    view.running.install = Some(RunningInstall { batch: batch.clone(), since: at(NOW) });
    let running = now_for(&policy, &view);
    assert_eq!(running.actions, []);
    assert_eq!(running.updates[&id("a", 2)].state, Some(UpdateEnforcement::Installing));
    let late = decide(&policy, &view, at("2026-11-21T11:00:00Z"), &TimeZone::UTC);
    assert_eq!(late.updates[&id("a", 2)].error.as_ref().unwrap().symbol, "RUN-TIME");
    assert_eq!(late.actions, [], "dpkg is not killed");

    // The agent died in the middle of dpkg: recovered first, then detected again.
    view.running = Running::default();
    view.recovery = Some(Recovery { since: at(NOW), failures: 0, last: None, error: None });
    assert_eq!(now_for(&policy, &view).actions, [Action::Recover]);
    view.recovery_finished(Err(failure()), at(NOW));
    let waits = now_for(&policy, &view);
    assert_eq!((waits.actions.len(), waits.next_wake), (0, Some(at("2026-11-21T10:05:00Z"))));
    view.recovery_finished(Ok(()), at(NOW));
    assert_eq!(
        now_for(&policy, &view).actions,
        [Action::Scan(ScanRequest { kind: ScanKind::ForcedOffline, purpose: ScanPurpose::Validation })]
    );
}

/// The scan that is due, if one is.
fn scan(policy: &Policy, view: &ClientView, now: &str) -> Option<(ScanKind, ScanPurpose)> {
    decide(policy, view, at(now), &TimeZone::UTC).actions.into_iter().find_map(|action| match action {
        Action::Scan(request) => Some((request.kind, request.purpose)),
        _ => None,
    })
}

/// R-SCAN-07 to R-SCAN-12: which row of table 3.
#[test]
fn scans_are_of_the_right_kind() {
    let (mut policy, mut view) = setting(|_| {});
    present(&mut view);
    assert_eq!(scan(&policy, &view, NOW), None);
    let evening = "2026-11-21T20:00:00Z";
    assert_eq!(scan(&policy, &view, evening), Some((ScanKind::NonForcedOffline, ScanPurpose::BeforeInstall)));
    let next_day = "2026-11-22T20:00:00Z";
    assert_eq!(scan(&policy, &view, next_day), Some((ScanKind::ForcedOnline, ScanPurpose::BeforeInstall)));
    view.scan_requested = Some(at(NOW));
    assert_eq!(scan(&policy, &view, NOW), Some((ScanKind::ForcedOnline, ScanPurpose::ScanRequested)));
    view.scan_requested = None;
    view.scan.stale = Some(StaleReason::Booted);
    assert_eq!(scan(&policy, &view, NOW), Some((ScanKind::ForcedOffline, ScanPurpose::Validation)));
    view.scan.stale = None;
    policy.body.lines[0].catalogue_version = 2;
    assert_eq!(scan(&policy, &view, NOW), Some((ScanKind::ForcedOnline, ScanPurpose::PolicyChanged)));
    // The software update point cannot be reached: what is known within its time to live still counts.
    view.scan_failed(failure(), at(NOW));
    assert_eq!(scan(&policy, &view, NOW), None);
    assert!(batch_of(&now_for(&policy, &view)).is_some());
    // Without a scan within the time to live, nothing is installed.
    view.scan.last_online = Some(at("2026-11-20T09:00:00Z"));
    let decision = now_for(&policy, &view);
    assert_eq!((batch_of(&decision), decision.actions.len()), (None, 0));
    let week = "2026-11-29T10:00:00Z";
    view.scan.covered.insert(line(), 2);
    assert!(matches!(scan(&policy, &view, week), Some((ScanKind::ForcedOnline, ScanPurpose::Evaluation))));
}

#[test]
fn an_update_that_was_never_scanned_for_is_unknown_and_scanned_for() {
    let (policy, mut view) = setting(|_| {});
    view.detected.remove(&id("a", 2));
    let decision = now_for(&policy, &view);
    assert!(
        matches!(&decision.actions[0], Action::Scan(request) if request.purpose == ScanPurpose::PolicyChanged)
    );
    assert_eq!(decision.updates[&id("a", 2)].detection, Detection::Unknown);
    let verdict = &decision.deployments["uid-all"];
    assert_eq!(verdict.evaluation, Evaluation::Succeeded, "b alone makes it non-compliant");
}

#[test]
fn a_changed_offer_is_tried_at_once() {
    let (policy, mut view) = setting(|_| {});
    view.scan.changed = None;
    present(&mut view);
    let batch = batch_of(&now_for(&policy, &view)).unwrap().clone();
    let failed = BTreeMap::from([(id("a", 2), failure()), (id("b", 2), failure())]);
    view.install_finished(&batch, &failed, at("2026-11-21T09:59:30Z"));
    view.scan.stale = None;
    let waits = now_for(&policy, &view);
    assert_eq!(waits.updates[&id("a", 2)].state, Some(UpdateEnforcement::InstallFailed));
    assert_eq!((waits.actions.len(), waits.next_wake), (0, Some(at("2026-11-21T10:59:30Z"))));
    let mut changed = policy.clone();
    changed.body.deployments[0].generation = 2;
    assert!(batch_of(&now_for(&changed, &view)).is_some());
    view.evaluation_requested = Some(at(NOW));
    assert!(
        matches!(&now_for(&policy, &view).actions[0], Action::Scan(r) if r.purpose == ScanPurpose::EvaluationRequested)
    );
}

#[test]
fn the_spread_is_steady_and_after_the_deadline() {
    let (policy, view) = setting(|site| {
        let settings = &mut site.objects.deployments.get_mut(&name("all")).unwrap().settings;
        settings.deadline_spread = SignedDuration::from_hours(24);
    });
    let start = |policy: &Policy| -> Timestamp {
        let decision = now_for(policy, &view);
        decision.updates[&id("a", 2)]
            .gates
            .iter()
            .find_map(|gate| match (gate.kind, &gate.status) {
                (GateKind::Deadline, GateStatus::Closed(Opens::At(at))) => Some(*at),
                _ => None,
            })
            .unwrap()
    };
    let mut other = policy.clone();
    other.client = ClientId(Uuid::from_u128(2));
    assert_eq!(start(&policy), start(&policy));
    assert_ne!(start(&policy), start(&other));
    assert_eq!(now_for(&policy, &view).deployments["uid-all"].deadline, Some(at("2026-11-21T09:00:00Z")));
}

#[test]
fn a_decision_survives_its_json() {
    let (policy, view) = setting(|site| add_window(site, daily("noon", 12, minutes(60))));
    let decision = now_for(&policy, &view);
    let text = serde_json::to_string(&decision).unwrap();
    assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), decision);
    let text = serde_json::to_string(&view).unwrap();
    assert_eq!(serde_json::from_str::<ClientView>(&text).unwrap(), view);
}
