//! The numbers and times of a deployment, and what no window is long enough for.

use super::*;

fn status(targeted: &BTreeSet<ClientId>, states: &[ReportedState]) -> crate::site::status::DeploymentNumbers {
    deployment_status(&StatusInput {
        deployment: &deployment("d", &[], at("2026-01-01T00:00:00Z")),
        targeted,
        states,
        windows: &[],
        plan: None,
        clients: &[],
        heard: &BTreeMap::new(),
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
    assert_eq!((numbers.compliant, numbers.never_reported, numbers.overdue.total()), (1, 1, 1));
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
            plan: None,
            clients: &[],
            heard: &BTreeMap::new(),
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
    // It is free from the first start on, until another one binds it; and bound from the first on when that one does.
    let mut other = input.objects.deployments.values().next().unwrap().clone();
    (other.name, other.uid) = (name("other"), "uid-other".to_owned());
    other.settings.install_outside_windows = false;
    other.settings.deadline = Deadline::After(minutes(60 * 24));
    add_deployment(&mut input, other.clone());
    assert_eq!(never(&input), []);
    other.settings.deadline = Deadline::After(SignedDuration::ZERO);
    add_deployment(&mut input, other.clone());
    assert_eq!(never(&input).len(), 1);
    // What is suspended neither binds it nor keeps its restart inside.
    other.suspend = true;
    add_deployment(&mut input, other);
    assert_eq!(never(&input), []);
    for deployment in input.objects.deployments.values_mut() {
        deployment.settings.install_outside_windows = false;
        deployment.settings.restart_outside_windows = !deployment.suspend;
    }
    assert_eq!(never(&input), [], "50 min without a restart");
}

/// R-ENFD-14: whose state is older than its lease, by the client's own settings; who sleeps is told apart from who hangs, and
/// what is final does not age.
#[test]
fn states_past_their_lease_are_counted() {
    let mut input = two_groups();
    let now = at("2026-02-01T00:00:00Z");
    let state = |number: u128, enforcement, compliance, until: Option<&str>| ReportedState {
        client: ClientId(Uuid::from_u128(number)),
        enforcement: Some(enforcement),
        compliance: Some(compliance),
        until: until.map(at),
        error: None,
        changed_at: at("2026-01-01T00:00:00Z"),
    };
    let states = [
        state(1, D::Installing, C::NonCompliant, Some("2026-01-31T23:00:00Z")),
        state(2, D::WaitingForWindow, C::NonCompliant, Some("2026-02-02T00:00:00Z")),
        state(3, D::WaitingForWindow, C::NonCompliant, Some("2026-02-02T00:00:00Z")),
        state(4, D::InstallFailed, C::NonCompliant, Some("2026-01-02T00:00:00Z")),
        state(5, D::Installing, C::Compliant, Some("2026-01-02T00:00:00Z")),
    ];
    let id = |number: u128| ClientId(Uuid::from_u128(number));
    let targeted = (1..=6).map(id).collect();
    let heard = BTreeMap::from([
        (id(1), at("2026-01-31T23:59:00Z")),
        (id(2), at("2026-01-31T23:59:00Z")),
        (id(3), at("2026-01-30T00:00:00Z")),
    ]);
    let count = |input: &SiteInput| {
        let deployment = deployment("d", &[], at("2026-01-01T00:00:00Z"));
        let plan = compile(input);
        let question = StatusInput {
            deployment: &deployment,
            targeted: &targeted,
            states: &states,
            windows: &[],
            plan: Some(&plan),
            clients: &input.clients,
            heard: &heard,
            now,
        };
        deployment_status(&question).overdue
    };
    let found = count(&input);
    assert_eq!((found.late, found.silent), (1, 1));
    assert_eq!(found.example, Some((id(1), D::Installing, Overdue::Late { by: at("2026-01-31T23:00:00Z") })));
    // A client that tells its states once in two hours may be so late.
    let mut slow = ClientSettings { name: "slow".to_owned(), ..ClientSettings::default() };
    slow.state_message_cycle = minutes(120);
    input.objects.client_settings.insert(name("slow"), slow);
    let found = count(&input);
    assert_eq!((found.late, found.silent), (0, 1));
    assert!(matches!(found.example, Some((_, D::WaitingForWindow, Overdue::Silent { .. }))), "{found:?}");
}

/// A deadline is past in the zone of the client, and with its share of the spread; compliant is compliant.
#[test]
fn clients_past_the_deadline_are_counted() {
    let mut input = two_groups();
    input.clients.sort_by_key(|client| client.id);
    let ids: Vec<ClientId> = input.clients.iter().map(|client| client.id).collect();
    input.clients[0].facts.insert("timezone".to_owned(), "Pacific/Kiritimati".to_owned());
    let targeted: BTreeSet<ClientId> = ids.iter().copied().collect();
    let plan = compile(&input);
    let past = |deployment: &Deployment, states: &[ReportedState], now: &str| {
        let question = StatusInput {
            deployment,
            targeted: &targeted,
            states,
            windows: &[],
            plan: Some(&plan),
            clients: &input.clients,
            heard: &BTreeMap::new(),
            now: at(now),
        };
        deployment_status(&question).past_deadline
    };
    let all = ids.len() as u64;
    let mut one = deployment("d", &[], at("2026-01-01T00:00:00Z"));
    one.settings.deadline = Deadline::At(civil::date(2026, 3, 1).at(0, 0, 0, 0));
    one.settings.deadline_spread = SignedDuration::ZERO;
    assert_eq!(past(&one, &[], "2026-03-01T00:00:00Z"), 0);
    assert_eq!(past(&one, &[], "2026-03-01T00:00:01Z"), all);
    let done = ReportedState {
        client: ids[1],
        enforcement: None,
        compliance: Some(C::Compliant),
        until: None,
        error: None,
        changed_at: Timestamp::UNIX_EPOCH,
    };
    assert_eq!(past(&one, &[done], "2026-03-01T00:00:01Z"), all - 1);
    let question = StatusInput {
        deployment: &one,
        targeted: &targeted,
        states: &[],
        windows: &[],
        plan: Some(&plan),
        clients: &input.clients,
        heard: &BTreeMap::new(),
        now: at("2026-03-01T00:00:01Z"),
    };
    let first: Vec<ClientId> = targeted.iter().take(10).copied().collect();
    assert_eq!(deployment_status(&question).late, first);
    one.settings.client_local_time = true;
    assert_eq!(past(&one, &[], "2026-02-28T12:00:00Z"), 1, "14 hours earlier there");
    one.settings.deadline_spread = SignedDuration::from_hours(1);
    assert_eq!(past(&one, &[], "2026-03-01T01:00:01Z"), all);
    one.settings.deadline = Deadline::None;
    assert_eq!(past(&one, &[], "2030-01-01T00:00:00Z"), 0);
}
