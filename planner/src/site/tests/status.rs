//! The numbers and times of a deployment, and what no window is long enough for.

use super::*;

fn status(targeted: &BTreeSet<ClientId>, states: &[ReportedState]) -> crate::site::status::DeploymentNumbers {
    deployment_status(&StatusInput {
        deployment: &deployment("d", &[], at("2026-01-01T00:00:00Z")),
        targeted,
        states,
        windows: &[],
        now: at("2026-02-01T00:00:00Z"),
    })
}

proptest! {
    #[test]
    fn counts_add_up_to_the_targeted(
        targeted in prop::collection::btree_set(0_u128..40, 0..30),
        reports in prop::collection::vec((0_u128..60, prop::option::of(0_u8..11), prop::option::of(0_u8..4), any::<bool>()), 0..60),
    ) {
        let targeted: BTreeSet<ClientId> = targeted.into_iter().map(|n| ClientId(Uuid::from_u128(n))).collect();
        let states: Vec<ReportedState> = reports.into_iter().map(|(number, enforcement, compliance, failed)| ReportedState {
            client: ClientId(Uuid::from_u128(number)),
            enforcement: enforcement.and_then(DeploymentEnforcement::from_id),
            compliance: compliance.and_then(Compliance::from_id),
            until: None,
            error: failed.then(|| StateError::told(1, "X".to_owned(), String::new())),
            changed_at: Timestamp::UNIX_EPOCH,
        }).collect();
        let numbers = status(&targeted, &states);
        prop_assert_eq!(numbers.targeted, u64::try_from(targeted.len()).unwrap());
        prop_assert_eq!(numbers.compliant + numbers.never_reported + numbers.states.values().sum::<u64>(), numbers.targeted);
        prop_assert_eq!(numbers.states.len(), 11);
        prop_assert_eq!(numbers.compliant_percent == Some(100), numbers.targeted > 0 && numbers.compliant == numbers.targeted);
        let failing: u64 = numbers.errors.iter().map(|error| error.count).sum();
        prop_assert!(failing <= numbers.targeted);
    }
}

#[test]
fn errors_are_ranked_and_compliant_beats_a_stale_state() {
    let state = |number: u128, enforcement, compliance, symbol: Option<&str>| ReportedState {
        client: ClientId(Uuid::from_u128(number)),
        enforcement: Some(enforcement),
        compliance: Some(compliance),
        until: Some(at("2026-01-31T00:00:00Z")),
        error: symbol.map(|symbol| StateError::told(7, symbol.to_owned(), symbol.to_owned())),
        changed_at: Timestamp::UNIX_EPOCH,
    };
    let states = [
        state(1, D::InstallFailed, C::NonCompliant, Some("PRE-LOCK")),
        state(2, D::InstallFailed, C::NonCompliant, Some("PKG-HASH")),
        state(3, D::DownloadFailed, C::NonCompliant, Some("PKG-HASH")),
        state(4, D::WaitingForWindow, C::Compliant, None),
        state(5, D::WaitingForWindow, C::NonCompliant, None),
    ];
    let targeted = (1..=6).map(|number| ClientId(Uuid::from_u128(number))).collect();
    let numbers = status(&targeted, &states);
    assert_eq!((numbers.compliant, numbers.never_reported, numbers.overdue), (1, 1, 1));
    assert_eq!(numbers.states[&D::InstallFailed], 2);
    assert_eq!(numbers.compliant_percent, Some(16));
    let ranked: Vec<(&str, u64)> =
        numbers.errors.iter().map(|error| (error.symbol.as_str(), error.count)).collect();
    assert_eq!(ranked, [("PKG-HASH", 2), ("PRE-LOCK", 1)]);
}

#[test]
fn times_of_a_deployment() {
    let times = |change: &dyn Fn(&mut patchtide_model::deployment::DeploymentSettings)| {
        let mut deployment = deployment("d", &[], at("2026-01-01T00:00:00Z"));
        change(&mut deployment.settings);
        let numbers = deployment_status(&StatusInput {
            deployment: &deployment,
            targeted: &BTreeSet::new(),
            states: &[],
            windows: &[],
            now: Timestamp::UNIX_EPOCH,
        });
        (numbers.available, numbers.deadline)
    };
    let civil = civil::date(2026, 3, 1).at(2, 0, 0, 0);
    let day = SignedDuration::from_hours(24);
    assert_eq!(
        times(&|s| s.deadline = Deadline::After(day)),
        (Moment::At(at("2026-01-01T00:00:00Z")), Moment::At(at("2026-01-02T00:00:00Z")))
    );
    assert_eq!(
        times(&|s| {
            s.available = Available::At(civil);
            s.client_local_time = true;
            s.deadline = Deadline::After(day);
        }),
        (Moment::ClientLocal(civil), Moment::ClientLocal(civil::date(2026, 3, 2).at(2, 0, 0, 0)))
    );
    assert_eq!(times(&|s| s.deadline = Deadline::None).1, Moment::Never);
    assert_eq!(times(&|s| s.deadline = Deadline::At(civil::DateTime::MAX)).1, Moment::Never);
}

#[test]
fn the_next_window_is_the_earliest_of_all() {
    let (noon, night) = ([daily("noon", 12, minutes(60))], [daily("night", 2, minutes(60))]);
    let clients = [&noon, &night].map(|windows| ClientWindows { windows, zone: TimeZone::UTC });
    let next = |text: &str| next_window(&clients, at(text));
    assert_eq!(next("2026-01-01T03:00:00Z"), NextWindow::At(at("2026-01-01T12:00:00Z")));
    assert_eq!(next("2026-01-01T12:30:00Z"), NextWindow::OpenUntil(at("2026-01-01T13:00:00Z")));
    let free = [clients[0].clone(), ClientWindows { windows: &[], zone: TimeZone::UTC }];
    assert_eq!(next_window(&free, at("2026-01-01T03:00:00Z")), NextWindow::Unrestricted);
    assert_eq!(next_window(&[], Timestamp::UNIX_EPOCH), NextWindow::Nobody);
}

/// R-DEPL-07, R-COLL-04: tried on a test collection, then deployed to the real one by changing one field.
#[test]
fn a_deployment_follows_its_collection() {
    let mut input = two_groups();
    let of = |input: &SiteInput| {
        let plan = compile(input);
        let deployment = input.objects.deployments.values().next().unwrap();
        let targets = numbers(&plan.targets[&deployment.name]);
        let holding: Vec<u128> = plan
            .policies
            .iter()
            .filter(|(_, verdict)| {
                matches!(verdict, Verdict::Policy(body) if body.deployments.iter().any(|d| d.uid == deployment.uid))
            })
            .map(|(id, _)| id.0.as_u128())
            .collect();
        assert_eq!(targets, holding);
        targets
    };
    let groups: Vec<ObjectName> = input.objects.collections.keys().cloned().collect();
    let mut seen = BTreeSet::new();
    for group in groups {
        input.objects.deployments.values_mut().next().unwrap().collection = group.clone();
        let targets = of(&input);
        assert_eq!(targets, numbers(&membership(&input.objects.collections, &input.clients)[&group]));
        seen.insert(targets);
    }
    assert!(seen.len() > 1, "{seen:?}");
}

/// R-MW: what no opening is long enough for, as the clients will reckon it.
#[test]
fn an_update_that_never_fits_is_named_with_what_it_needs() {
    let mut input = two_groups();
    input.objects.windows.clear();
    add_window(&mut input, daily("noon", 12, minutes(60)));
    let never = |input: &SiteInput| {
        crate::site::never_fitting(&compile(input), &input.clients, &name("noon"), at("2026-11-21T09:00:00Z"))
    };
    assert_eq!(never(&input), []);
    // 10 min and its own 40, countdown 5 and turnaround 10.
    let first = input.objects.deployments.values().flat_map(|d| &d.updates).next().unwrap().clone();
    input.updates.get_mut(&first).unwrap().maximum_run_time = Some(minutes(40));
    let found = never(&input);
    assert_eq!((found.len(), found[0].needs, found[0].longest), (1, minutes(65), Some(minutes(60))));
    assert_eq!(found[0].update, first);
    // A second window that is long enough, or one that need not be waited for.
    let mut longer = input.clone();
    add_window(&mut longer, daily("night", 2, minutes(70)));
    assert_eq!(never(&longer), []);
    for deployment in input.objects.deployments.values_mut() {
        deployment.settings.install_outside_windows = true;
    }
    assert_eq!(never(&input), []);
}

/// reliability.md #103: no opening before the deadline.
#[test]
fn a_deadline_before_every_window_is_told_with_the_dates() {
    use crate::site::status::Missed;
    let missed = |deadline: Deadline, windows: &[patchtide_model::window::Window], now: &str| {
        let mut deployment = deployment("d", &[], at("2026-01-01T13:00:00Z"));
        deployment.settings.deadline = deadline;
        let windows = [ClientWindows { windows, zone: TimeZone::UTC }];
        let input = StatusInput {
            deployment: &deployment,
            targeted: &BTreeSet::new(),
            states: &[],
            windows: &windows,
            now: at(now),
        };
        deployment_status(&input).missed
    };
    let noon = [daily("noon", 12, minutes(60))];
    let after = |hours| Deadline::After(SignedDuration::from_hours(hours));
    let late = missed(after(6), &noon, "2026-01-01T14:00:00Z").unwrap();
    assert_eq!(late.deadline, at("2026-01-01T19:00:00Z"));
    assert_eq!(late.opens, Some(at("2026-01-02T12:00:00Z")));
    assert_eq!(missed(after(24), &noon, "2026-01-01T14:00:00Z"), None);
    assert_eq!(missed(after(0), &noon, "2026-01-01T13:00:00Z"), None, "at once means: as soon as one opens");
    assert_eq!(missed(after(6), &noon, "2026-01-01T20:00:00Z"), None, "it is past");
    assert_eq!(missed(after(6), &[], "2026-01-01T14:00:00Z"), None, "no window binds");
    let mut gone = daily("gone", 12, minutes(60));
    gone.effective_until = Some(civil::date(2025, 12, 1));
    let never = missed(after(6), &[gone], "2026-01-01T14:00:00Z");
    assert!(matches!(never, Some(Missed { opens: None, .. })), "{never:?}");
}
