//! What a change would do, against what the compiler and the client's arithmetic say.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, civil};
use patchtide_model::{
    ClientId, ObjectName, UpdateId,
    catalogue::RestartRule,
    client::{Client, ClientState},
    deployment::{Available, Deadline},
    object::{Blocked, ClientSettings, DeploymentPackage, DistributionPoint},
    search::DetectionCounts,
    shared::Shared,
    state::Detection,
    window::{AppliesTo, WindowAction, Zone},
};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    fixtures::{
        add_deployment, add_window, at, collection, daily, deployment, id, leaf, minutes, name, site, update,
    },
    site::compile,
    snapshot::{Snapshot, UpdateReport},
};

const NOW: &str = "2026-03-02T12:00:00Z";

fn now() -> Timestamp {
    at(NOW)
}

fn client(number: u128, zone: &str) -> Shared<Client> {
    Shared::new(Client {
        id: ClientId(Uuid::from_u128(number)),
        name: format!("host-{number}"),
        state: ClientState::Active,
        facts: [("timezone".to_owned(), zone.to_owned())].into(),
        address: None,
        last_contact: None,
    })
}

/// Three machines, one distribution point with one package, one deployment that is due in a week.
fn small() -> SiteInput {
    let mut kernel = update("linux", 6);
    kernel.leaves = vec![leaf("linux-image-amd64", 6)];
    let mut quiet = update("quiet", 1);
    quiet.restart = RestartRule::Never;
    let mut input = site(vec![update("a", 2), kernel, quiet]);
    input.clients = vec![client(3, "UTC"), client(1, "Europe/Berlin"), client(2, "UTC")];
    for source in ["a", "linux", "quiet"] {
        let update = input.updates.values().find(|update| update.id.source == source).unwrap();
        let leaves = update.leaves.iter().map(patchtide_model::catalogue::Leaf::reference).collect();
        input.required_leaves.insert(update.id.clone(), leaves);
    }
    let point = DistributionPoint {
        name: name("dp"),
        endpoints: vec!["https://dp.example:8444".to_owned()],
        boundaries: Vec::new(),
        protected: false,
    };
    input.objects.distribution_points.insert(point.name.clone(), point);
    package(&mut input, &[id("a", 2)]);
    input.holders = Some(BTreeMap::from([(leaf("a", 2).file.sha256, BTreeSet::from([name("dp")]))]));
    let mut first = deployment("first", &[id("a", 2)], now());
    first.settings.deadline = Deadline::After(SignedDuration::from_hours(24 * 7));
    add_deployment(&mut input, first);
    input
}

fn package(input: &mut SiteInput, updates: &[UpdateId]) {
    let package = DeploymentPackage {
        name: name("content"),
        distribution_points: [name("dp")].into(),
        updates: updates.to_vec(),
        version: 1,
    };
    input.objects.packages.insert(package.name.clone(), package);
}

fn report(requires: &[(UpdateId, &str)]) -> ClientReport {
    let mut report =
        ClientReport { covered: [(crate::fixtures::line(), 1)].into(), ..ClientReport::default() };
    for (id, package) in requires {
        let leaf = leaf(package, id.version.parse().unwrap()).reference();
        let found = UpdateReport {
            detection: Detection::Required,
            enforcement: None,
            error: None,
            since: None,
            leaves: [leaf].into(),
        };
        report.updates.insert(id.clone(), found);
    }
    report
}

/// Host 1 lacks the kernel and `a`, host 2 nothing, host 3 never said.
fn reports() -> BTreeMap<ClientId, ClientReport> {
    let id_of = |number| ClientId(Uuid::from_u128(number));
    [(id_of(1), report(&[(id("linux", 6), "linux-image-amd64"), (id("a", 2), "a")])), (id_of(2), report(&[]))]
        .into()
}

fn of(before: &SiteInput, after: &SiteInput) -> Forecast {
    let forecast = forecast(before, after, &reports(), now());
    let text = serde_json::to_string(&forecast).unwrap();
    assert_eq!(serde_json::from_str::<Forecast>(&text).unwrap(), forecast, "its JSON reads back");
    forecast
}

#[test]
fn nothing_changes_when_nothing_changes() {
    let input = small();
    let forecast = of(&input, &input);
    assert!(forecast.is_empty(), "{forecast:?}");
    assert_eq!(forecast.clients.active, 3);
}

/// R-DEPL-30: everything that was chosen, and what it leads to.
#[test]
fn a_new_deployment_is_told_whole() {
    let before = small();
    let mut after = before.clone();
    let mut kernel = deployment("kernel", &[id("linux", 6)], now());
    kernel.settings.deadline = Deadline::At(civil::date(2026, 3, 9).at(2, 0, 0, 0));
    kernel.settings.client_local_time = true;
    add_deployment(&mut after, kernel);
    package(&mut after, &[id("a", 2), id("linux", 6)]);
    let forecast = of(&before, &after);
    assert_eq!(forecast.deployments.len(), 1, "the other one is as it was");
    let told = &forecast.deployments[0];
    assert_eq!((told.change, told.clients_gained.count, told.updates_added.count), (Change::Added, 3, 1));
    let settings: BTreeMap<&str, &str> =
        told.settings.iter().map(|s| (s.field.as_str(), s.after.as_deref().unwrap())).collect();
    assert_eq!(settings["settings.timeEvaluation"], "ClientLocal");
    assert_eq!(settings["settings.deadline"], "at 2026-03-09T02:00:00");
    assert_eq!(settings["settings.available"], "as soon as possible");
    assert_eq!(settings["settings.installation.allowRemovals"], "false");
    assert_eq!(settings["collection"], "everyone");
    let after = told.after.as_ref().unwrap();
    assert_eq!((after.lacking, after.complete, after.unknown, after.withheld), (1, 1, 1, 0));
    assert_eq!(after.restarts, Restarts { certain: 1, possible: 0, suppressed: 0 });
    assert_eq!(after.download_bytes, 1000);
    // 02:00 in Berlin comes an hour before 02:00 UTC; host 2 has nothing to install.
    let when: Vec<(When, u64)> = after.installs.iter().map(|group| (group.when, group.clients)).collect();
    let free = |text| When::Free { from: at(text) };
    assert_eq!(when, [(free("2026-03-09T01:00:00Z"), 1), (free("2026-03-09T02:00:00Z"), 1)]);
    let point = &forecast.distribution_points[0];
    assert_eq!((point.new_files, point.new_bytes, point.freed_files), (1, 1000, 0));
    let clients = &forecast.clients;
    assert_eq!((clients.other_policy, clients.download_bytes), (3, 1000));
    assert_eq!((clients.restarts, clients.possible_restarts), (1, 0));
    assert_eq!(told.before, None);
}

#[test]
fn a_suppressed_restart_is_told_apart_and_one_that_nobody_can_foresee() {
    let before = small();
    let mut after = before.clone();
    let restarts = |after: &SiteInput| of(&before, after).deployments[0].after.as_ref().unwrap().restarts;
    after.objects.deployments.get_mut(&name("first")).unwrap().settings.deadline_spread = minutes(1);
    assert_eq!(restarts(&after), Restarts { certain: 0, possible: 1, suppressed: 0 });
    let first = after.objects.deployments.get_mut(&name("first")).unwrap();
    first.settings.suppress_restart_servers = true;
    assert_eq!(restarts(&after), Restarts { certain: 0, possible: 0, suppressed: 1 });
    let first = after.objects.deployments.get_mut(&name("first")).unwrap();
    first.suspend = true;
    assert_eq!(restarts(&after), Restarts::default());
    let told = of(&before, &after);
    let changed: Vec<&str> = told.deployments[0].settings.iter().map(|s| s.field.as_str()).collect();
    assert_eq!(changed, ["settings.deadlineSpread", "settings.restart.suppressServers", "suspend"]);
    assert_eq!(told.deployments[0].after.as_ref().unwrap().installs[0].when, When::Held);
}

/// reliability.md #103: no opening before the deadline.
#[test]
fn a_client_that_can_never_meet_its_deadline_is_named_with_the_nearest_window() {
    let before = small();
    let mut after = before.clone();
    let mut late = daily("late", 2, minutes(60));
    late.effective_from = Some(civil::date(2026, 3, 20));
    add_window(&mut after, late.clone());
    let forecast = of(&before, &after);
    let told = &forecast.deployments[0];
    assert_eq!(told.change, Change::Affected, "the deployment says the same, and now it is too late");
    let unreachable = &told.after.as_ref().unwrap().unreachable;
    // In UTC windows the zone of a client makes no difference for the opening, but it is told.
    assert_eq!(unreachable.iter().map(|group| group.clients.count).sum::<u64>(), 3);
    assert_eq!(unreachable.iter().map(|group| group.lacking).sum::<u64>(), 1);
    let group = &unreachable[0];
    assert_eq!(group.deadline, at("2026-03-09T12:00:00Z"));
    assert_eq!(
        group.nearest,
        Nearest::After { start: at("2026-03-20T02:00:00Z"), end: at("2026-03-20T03:00:00Z") }
    );
    assert_eq!((group.windows.as_slice(), forecast.unreachable()), ([name("late")].as_slice(), 3));
    // 10 min + 30 s, and 15 min for a restart: no opening of 25 min has room for that.
    after.objects.windows.get_mut(&name("late")).unwrap().duration = minutes(25);
    let unreachable = of(&before, &after).deployments[0].after.clone().unwrap().unreachable;
    assert_eq!(unreachable[0].needs, SignedDuration::from_secs(25 * 60 + 30));
    let Nearest::Never { longest: Some(longest), .. } = unreachable[0].nearest else {
        panic!("{unreachable:?}")
    };
    assert_eq!(longest.length(), minutes(25));
    // Allowed outside windows: nothing to miss.
    after.objects.deployments.get_mut(&name("first")).unwrap().settings.install_outside_windows = true;
    assert_eq!(of(&before, &after).unreachable(), 0);
}

#[test]
fn windows_that_clients_use_follow_zone_and_share_of_the_spread() {
    let before = small();
    let mut after = before.clone();
    let mut window = daily("night", 2, minutes(90));
    window.zone = Zone::ClientLocal;
    add_window(&mut after, window);
    let uses = |after: &SiteInput| {
        let outlook = of(&before, after).deployments[0].after.clone().unwrap();
        outlook
            .installs
            .into_iter()
            .map(|group| (group.when, group.windows, group.clients))
            .collect::<Vec<_>>()
    };
    let opening = |start, end| When::Window { start: at(start), end: Some(at(end)) };
    let night = vec![name("night")];
    assert_eq!(
        uses(&after),
        [
            (opening("2026-03-10T01:00:00Z", "2026-03-10T02:30:00Z"), night.clone(), 1),
            (opening("2026-03-10T02:00:00Z", "2026-03-10T03:30:00Z"), night, 1),
        ]
    );
    // With a spread over two days shares decide; every client is in exactly one opening, and each opening has room.
    for number in 10..40 {
        after.clients.push(client(number, "UTC"));
    }
    let before = after.clone();
    let first = after.objects.deployments.get_mut(&name("first")).unwrap();
    first.settings.deadline_spread = SignedDuration::from_hours(40);
    let forecast = forecast(&before, &after, &BTreeMap::new(), now());
    let outlook = forecast.deployments[0].after.as_ref().unwrap();
    assert_eq!(outlook.installs.iter().map(|group| group.clients).sum::<u64>(), 33);
    assert!(outlook.installs.len() > 2, "{outlook:?}");
    for client in &after.clients {
        let zone = patchtide_model::window::time_zone(&client.facts["timezone"]).unwrap();
        let share = crate::times::share(client.id, "uid-first", SignedDuration::from_hours(40));
        let from = at("2026-03-09T12:00:00Z").checked_add(share).unwrap();
        let windows: Vec<_> = after.objects.windows.values().collect();
        let calendar =
            patchtide_model::window::Calendar::new(windows, patchtide_model::window::Purpose::Install, &zone);
        let expected = match calendar.next_opening(from, SignedDuration::from_secs(25 * 60 + 30)) {
            patchtide_model::window::NextOpening::Now { until } => until,
            patchtide_model::window::NextOpening::At(span) => Some(span.end),
            patchtide_model::window::NextOpening::Never { .. } => None,
        };
        let known = |when: &When| matches!(when, When::Window { end, .. } if *end == expected);
        assert!(outlook.installs.iter().any(|group| known(&group.when)), "{expected:?} of {}", client.name);
    }
}

#[test]
fn the_loss_of_the_last_window_is_freedom_and_told_as_that() {
    let mut before = small();
    add_window(&mut before, daily("night", 2, minutes(60)));
    let after = small();
    let forecast = of(&before, &after);
    let windows = &forecast.windows[0];
    assert_eq!((windows.freedom, windows.clients.count), (Freedom::Unbound, 3));
    assert_eq!(windows.open_before, SignedDuration::from_hours(28));
    assert_eq!(windows.open_after, SignedDuration::from_hours(28 * 24));
    assert_eq!(of(&after, &before).windows[0].freedom, Freedom::Bound);
    // Only the deny window is left: that is freedom too, and so it is told.
    let mut denied = before.clone();
    let mut deny = daily("never-noon", 12, minutes(60));
    deny.action = WindowAction::Deny;
    add_window(&mut denied, deny);
    let mut only_deny = denied.clone();
    only_deny.objects.windows.remove(&name("night"));
    assert_eq!(of(&denied, &only_deny).windows[0].freedom, Freedom::Unbound);
    // Windows that are over leave nothing open.
    let mut past = before.clone();
    past.objects.windows.get_mut(&name("night")).unwrap().effective_until = Some(civil::date(2026, 1, 1));
    assert_eq!(of(&before, &past).windows[0].freedom, Freedom::Shut);
    assert_eq!(of(&past, &before).windows[0].freedom, Freedom::Opened);
}

#[test]
fn collections_settings_and_what_is_withheld_are_counted() {
    let before = small();
    let mut after = before.clone();
    let mut two = collection("everyone");
    two.direct_members = ["host-1".to_owned(), "host-2".to_owned()].into();
    after.objects.collections.insert(name("everyone"), two);
    let settings = ClientSettings {
        name: "slow".to_owned(),
        scan_cycle: SignedDuration::from_hours(36),
        ..ClientSettings::default()
    };
    after.objects.client_settings.insert(name("slow"), settings);
    let forecast = of(&before, &after);
    let members = &forecast.collections[0];
    assert_eq!(
        (members.before, members.after, members.lost.first.as_slice()),
        (3, 2, ["host-3".to_owned()].as_slice())
    );
    assert_eq!(forecast.deployments[0].clients_lost.first, ["host-3"]);
    let moved = &forecast.client_settings[0];
    assert_eq!((moved.before.as_str(), moved.after.as_str(), moved.clients.count), ("default", "slow", 3));
    assert_eq!(moved.values.len(), 1, "{:?}", moved.values);
    assert_eq!(
        (moved.values[0].field.as_str(), moved.values[0].after.as_deref()),
        ("scanInterval", Some("1d12h"))
    );
    assert_eq!(forecast.clients.other_policy, 3);

    let mut held = before.clone();
    let blocked = Blocked { reason: "no such zone".to_owned(), collections: [name("everyone")].into() };
    held.objects.blocked.insert("MaintenanceWindow/night".to_owned(), blocked);
    let forecast = of(&before, &held);
    assert_eq!(forecast.withheld[0].reason, "MaintenanceWindow/night: no such zone");
    assert_eq!((forecast.withheld[0].clients.count, forecast.notes.len()), (3, 1));
    assert_eq!(forecast.deployments[0].after.as_ref().unwrap().withheld, 3);
    let back = of(&held, &before);
    assert_eq!((back.clients.released, back.withheld.len(), back.resolved_notes.len()), (3, 0, 1));
}

#[test]
fn an_update_of_the_catalogue_brings_what_clients_said_of_it() {
    let mut input = small();
    let missing = input.updates.remove(&id("linux", 6)).unwrap();
    input.required_leaves.remove(&id("linux", 6));
    let mut snapshot = Snapshot::new(input.clone(), now());
    snapshot.reports = reports();
    snapshot.catalogue =
        Some(vec![crate::snapshot::CatalogueEntry { update: missing, counts: DetectionCounts::default() }]);
    let mut objects = input.objects.clone();
    let kernel = deployment("kernel", &[id("linux", 6)], now());
    objects.deployments.insert(kernel.name.clone(), kernel);
    let tables = Tables::new(&snapshot, [&objects]);
    let after = tables.input(objects);
    let forecast = of(&tables.input(input.objects), &after);
    assert_eq!(forecast.deployments[0].after.as_ref().unwrap().download_bytes, 1000);
    assert_eq!(after.required_leaves[&id("linux", 6)].len(), 1);
}

/// What a status says stays as it is while nothing changes, and agrees with the forecast about who is too late.
#[test]
fn a_standing_deployment_is_told_by_the_same_arithmetic() {
    let mut input = small();
    let mut late = daily("late", 2, minutes(60));
    late.effective_from = Some(civil::date(2026, 3, 20));
    add_window(&mut input, late);
    package(&mut input, &[id("a", 2), id("linux", 6)]);
    let of =
        |input: &SiteInput| standing(input, &input.clients, &compile(input)).remove(&name("first")).unwrap();
    let told = of(&input);
    assert_eq!((told.outlook.missing(), told.may_restart, told.distribute_bytes), (3, 3, 0));
    let forecast = forecast(&small(), &input, &BTreeMap::new(), now());
    assert_eq!(forecast.deployments[0].after.as_ref().unwrap().unreachable, told.outlook.unreachable);
    assert_eq!(of(&input).hash(), told.hash());
    input.holders = Some(BTreeMap::new());
    input.objects.deployments.get_mut(&name("first")).unwrap().settings.suppress_restart_servers = true;
    let told = of(&input);
    assert_eq!((told.may_restart, told.distribute_bytes), (0, 1000));
}

fn any_site() -> impl Strategy<Value = SiteInput> {
    let one = (0_u8..4, 0_i64..3000, any::<bool>(), 0_usize..3, 0_i64..2000, any::<bool>());
    let deployments = prop::collection::vec(one, 0..4);
    let windows = prop::collection::vec((0_i8..24, 5_i64..300, 0_u8..3, any::<bool>(), 0_usize..2), 0..4);
    (deployments, windows, 0_u128..12, any::<bool>()).prop_map(|(deployments, windows, clients, wide)| {
        let mut input = small();
        input.objects.deployments.clear();
        let mut web = collection("web");
        web.direct_members = (1..6).map(|number| format!("host-{number}")).collect();
        input.objects.collections.insert(web.name.clone(), web);
        let zones = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago"];
        input.clients = (1..=clients).map(|number| client(number, zones[(number % 4) as usize])).collect();
        let which = |at: usize| name(["everyone", "web", "web"][at % 3]);
        for (number, (updates, after, suspend, of, spread, local)) in deployments.into_iter().enumerate() {
            let all = [id("a", 2), id("linux", 6), id("quiet", 1)];
            let mut one = deployment(&format!("d{number}"), &all[..usize::from(updates).min(3)], now());
            one.collection = which(of);
            one.suspend = suspend;
            one.settings.deadline = if after == 0 { Deadline::None } else { Deadline::After(minutes(after)) };
            one.settings.deadline_spread = minutes(spread);
            one.settings.client_local_time = local;
            if local {
                one.settings.available = Available::At(civil::date(2026, 3, 3).at(1, 0, 0, 0));
            }
            add_deployment(&mut input, one);
        }
        for (number, (hour, length, kind, deny, of)) in windows.into_iter().enumerate() {
            let mut window = daily(&format!("w{number}"), hour, minutes(length));
            window.collection = which(of);
            window.zone = if deny { Zone::ClientLocal } else { Zone::Utc };
            window.applies_to =
                [AppliesTo::Updates, AppliesTo::AllDeployments, AppliesTo::RestartsOnly][usize::from(kind)];
            window.action = if deny { WindowAction::Deny } else { WindowAction::Allow };
            add_window(&mut input, window);
        }
        if wide {
            package(&mut input, &[id("a", 2), id("linux", 6)]);
        }
        input
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Issue 4, section 4: planning again on its own result gives no changes, and equal inputs equal bytes.
    #[test]
    fn planning_again_gives_no_changes_and_order_does_not_matter(before in any_site(), after in any_site()) {
        let before = SiteInput { clients: after.clients.clone(), ..before };
        let first = forecast(&before, &after, &reports(), now());
        prop_assert!(forecast(&after, &after, &reports(), now()).is_empty());
        prop_assert!(forecast(&before, &before, &reports(), now()).is_empty());
        let mut turned = (before.clone(), after.clone());
        turned.0.clients.reverse();
        turned.1.clients.rotate_left(after.clients.len() / 2);
        turned.1.lines.reverse();
        let again = forecast(&turned.0, &turned.1, &reports(), now());
        prop_assert_eq!(serde_json::to_vec(&first).unwrap(), serde_json::to_vec(&again).unwrap());
        prop_assert_eq!(first.hash(), again.hash());
        // The way back is the same way: who is gained is who would be lost.
        let back = forecast(&after, &before, &reports(), now());
        let names = |forecast: &Forecast| -> BTreeMap<ObjectName, (u64, u64)> {
            let of = |d: &DeploymentForecast| (d.name.clone(), (d.clients_gained.count, d.clients_lost.count));
            forecast.deployments.iter().map(of).collect()
        };
        let turned: BTreeMap<_, _> = names(&back).into_iter().map(|(name, (a, b))| (name, (b, a))).collect();
        prop_assert_eq!(names(&first), turned);
        for deployment in &first.deployments {
            for outlook in deployment.before.iter().chain(&deployment.after) {
                let known = outlook.lacking + outlook.complete + outlook.unknown;
                prop_assert_eq!(known + outlook.withheld + outlook.switched_off, outlook.targeted);
                let installs: u64 = outlook.installs.iter().map(|group| group.clients).sum();
                prop_assert_eq!(installs + outlook.installs_more, outlook.lacking + outlook.unknown);
                prop_assert!(outlook.missing() <= outlook.targeted);
            }
        }
    }
}
