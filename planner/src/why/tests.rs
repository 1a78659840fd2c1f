//! Both sources say the same, and the site says why a deployment does not come.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use patchtide_model::{
    ClientId, ObjectName,
    catalogue::RestartRule,
    client::{Client, ClientState, Facts},
    deployment::Deadline,
    object::{Blocked, FactOperator, FactRequirement},
    shared::Shared,
    state::{Detection, UpdateEnforcement},
    window::{AppliesTo, WindowAction},
};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    client::{Opens, decide},
    fixtures::{
        add_deployment, add_window, at, collection, daily, deployment, id, leaf, minutes, name, site, update,
    },
    sim::{Behaviour, Machine, World},
    snapshot::{ClientReport, Snapshot, UpdateReport},
};

const START: &str = "2026-11-21T10:00:00Z";
const SOURCES: [&str; 4] = ["apt", "bash", "curl", "dbus"];

fn host() -> ClientId {
    ClientId(Uuid::from_u128(1))
}

/// What the agent says, and what the site says once all its messages are in.
fn both(world: &World, reports: &mut BTreeMap<ClientId, ClientReport>) -> Option<(Explanation, Explanation)> {
    let client = host();
    let (policy, machine) = (world.policy(client)?, world.machine(client)?);
    let view = &machine.view;
    world.decision(client)?;
    // An agent that is asked has decided some seconds ago at most.
    let decision = &decide(policy, view, world.now, &machine.zone);
    let report = agree::report_of(reports.get(&client), policy, view, decision, world.now);
    reports.insert(client, report);
    let mut snapshot = Snapshot::new(world.site.clone(), world.now);
    snapshot.reports.clone_from(reports);
    let agent = of_decision(&Books {
        client,
        name: "host",
        site: &world.site.site,
        zone: "UTC",
        policy: Some(policy),
        view,
        decision,
        contact: None,
        now: world.now,
    });
    Some((agent, explain(&snapshot, client, world.now)?))
}

type Case = (Vec<(u8, bool)>, Vec<(Vec<usize>, i64, [bool; 5])>, Vec<(i8, i64, u8, bool)>, Vec<u32>, i64);

fn case() -> impl Strategy<Value = Case> {
    let flags = prop::array::uniform5(prop::bool::weighted(0.25));
    (
        prop::collection::vec((0_u8..3, prop::bool::weighted(0.2)), 4),
        prop::collection::vec((prop::collection::vec(0_usize..4, 1..4), -1_i64..60 * 30, flags), 1..4),
        prop::collection::vec((0_i8..24, 20_i64..300, 0_u8..3, prop::bool::weighted(0.2)), 0..3),
        prop::collection::vec(prop_oneof![4 => Just(0_u32), 1 => 1_u32..3], 4),
        1_i64..40,
    )
}

fn world((updates, deployments, windows, failures, install): &Case) -> World {
    let offered = SOURCES.iter().zip(updates).map(|(source, (restart, exclusive))| {
        let mut update = update(source, 2);
        update.restart = [RestartRule::Auto, RestartRule::Always, RestartRule::Never][usize::from(*restart)];
        update.exclusive = *exclusive;
        update
    });
    let mut site = site(offered.collect());
    for (index, (names, deadline, flags)) in deployments.iter().enumerate() {
        let ids: BTreeSet<_> = names.iter().map(|update| id(SOURCES[*update], 2)).collect();
        let mut found = deployment(&format!("d{index}"), &ids.into_iter().collect::<Vec<_>>(), at(START));
        let settings = &mut found.settings;
        settings.deadline = if *deadline < 0 { Deadline::None } else { Deadline::After(minutes(*deadline)) };
        [
            settings.install_outside_windows,
            settings.restart_outside_windows,
            settings.suppress_restart_servers,
            settings.install_all_applicable,
            found.suspend,
        ] = *flags;
        add_deployment(&mut site, found);
    }
    for (index, (hour, length, applies, deny)) in windows.iter().enumerate() {
        let mut window = daily(&format!("w{index}"), *hour, minutes(*length));
        window.applies_to =
            [AppliesTo::Updates, AppliesTo::AllDeployments, AppliesTo::RestartsOnly][usize::from(*applies)];
        window.action = if *deny { WindowAction::Deny } else { WindowAction::Allow };
        add_window(&mut site, window);
    }
    let packages = SOURCES.iter().map(|source| ((*source).to_owned(), "1".to_owned())).collect();
    let mut machine = Machine::new("host", false, TimeZone::UTC, packages);
    machine.behaviour = Behaviour {
        scan: SignedDuration::from_secs(5),
        download: SignedDuration::from_secs(20),
        install: minutes(*install),
        restart: minutes(1),
        install_failures: SOURCES.iter().zip(failures).map(|(s, count)| ((*s).to_owned(), *count)).collect(),
        restart_packages: BTreeSet::from(["bash".to_owned()]),
        ..Behaviour::default()
    };
    World::new(site, BTreeMap::from([(host(), machine)]), at(START))
}

fn config() -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if asked { ProptestConfig::default().cases } else { 24 };
    ProptestConfig { cases, max_shrink_iters: 200, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// The site's gates are the agent's, whatever the machine is at: looked at between its steps for two days.
    #[test]
    fn the_site_and_the_agent_say_the_same(case in case()) {
        let mut world = world(&case);
        let mut reports = BTreeMap::new();
        for step in 1..160 {
            let to = at(START) + SignedDuration::from_secs(step * 17 * 61);
            world.run_until(to).map_err(|error| TestCaseError::fail(error.to_string()))?;
            // None while the machine is away.
            let Some((agent, site)) = both(&world, &mut reports) else { continue };
            leases(&agent)?;
            leases(&site)?;
            let found = agree::disagreements(&agent, &site);
            prop_assert!(found.is_empty(), "at {}:\n{}\n{}", world.now, found.join("\n"), words::text(&agent));
        }
    }
}

/// Every state that is not final is printed with its lease: the agent's with the instant, the site's at least with its rule.
fn leases(told: &Explanation) -> Result<(), TestCaseError> {
    let text = words::text(told);
    let updates = told.updates.iter().map(|update| (&update.detection.name, &update.state, &update.lease));
    let none = "no compliance reported".to_owned();
    let deployments = told
        .deployments
        .iter()
        .map(|found| (found.compliance.as_ref().map_or(&none, |c| &c.name), &found.state, &found.lease));
    for (before, state, lease) in updates.chain(deployments) {
        let Some((state, rule)) = state.as_ref().and_then(|state| Some((state, state.rule.as_ref()?))) else {
            continue;
        };
        prop_assert!(told.source == Source::Site || lease.is_some(), "{state:?}\n{text}");
        let by = lease.as_ref().map_or_else(|| rule.by.clone(), |lease| words::time(lease.by));
        let line = format!("  {before}; {} (by {by}, then ", state.name);
        prop_assert!(text.contains(&line), "{line}\n{text}");
    }
    Ok(())
}

fn client(facts: &[(&str, &str)]) -> Shared<Client> {
    Shared::new(Client {
        id: host(),
        name: "web-1".to_owned(),
        state: ClientState::Active,
        facts: facts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Facts>(),
        address: None,
        last_contact: Some(at("2026-11-21T09:59:00Z")),
    })
}

/// One deployment `march` to the collection `web`, and the targeted gate that its client is shown.
fn targeted(change: impl FnOnce(&mut crate::site::SiteInput)) -> Gate {
    let mut input = site(vec![update("a", 2)]);
    let mut web = collection("web");
    web.selector = vec![FactRequirement {
        key: "os.codename".to_owned(),
        operator: FactOperator::In,
        values: ["bookworm".to_owned()].into(),
    }];
    input.objects.collections.insert(name("web"), web);
    input.clients = vec![client(&[("os.codename", "bookworm")])];
    let mut march = deployment("march", &[id("a", 2)], at("2026-11-21T09:00:00Z"));
    march.collection = name("web");
    add_deployment(&mut input, march);
    change(&mut input);
    let explanation = explain(&Snapshot::new(input, at(START)), host(), at(START)).unwrap();
    let text = words::text(&explanation);
    assert!(text.contains("UpdateDeployment/march"), "{text}");
    let deployment = &explanation.deployments[0];
    let gate = deployment.gates.iter().find(|gate| gate.kind == GateKind::Targeted).unwrap();
    gate.clone()
}

/// Each rule that can keep a client out, by the object and field that does.
#[test]
fn a_client_that_is_not_targeted_is_told_which_rule_leaves_it_out() {
    type Change = Box<dyn FnOnce(&mut crate::site::SiteInput)>;
    fn web(input: &mut crate::site::SiteInput) -> &mut patchtide_model::object::Collection {
        input.objects.collections.get_mut(&ObjectName::new("web").unwrap()).unwrap()
    }
    let state = |state: ClientState| -> Change { Box::new(move |input| input.clients[0].state = state) };
    let cases: Vec<(Change, &str, &str, &str)> = vec![
        (
            Box::new(|input| input.clients = vec![client(&[("os.codename", "trixie")])]),
            "Collection/web",
            "spec.selector",
            "fact os.codename is one of bookworm; the client says \"trixie\"",
        ),
        (
            Box::new(|input| input.clients = vec![client(&[])]),
            "Collection/web",
            "spec.selector",
            "does not say it",
        ),
        (
            Box::new(|input| {
                web(input).selector.clear();
                web(input).direct_members.insert("web-2".to_owned());
            }),
            "Collection/web",
            "spec.directMembers",
            "not one of its direct members",
        ),
        (
            Box::new(|input| web(input).exclude = [name("everyone")].into()),
            "Collection/web",
            "spec.exclude",
            "member of Collection/everyone, which is excluded",
        ),
        (
            Box::new(|input| {
                let mut pilots = collection("pilots");
                pilots.direct_members.insert("web-9".to_owned());
                input.objects.collections.insert(name("pilots"), pilots);
                web(input).limiting = Some(name("pilots"));
            }),
            "Collection/web",
            "spec.limitingCollection",
            "Collection/pilots limits it, and does not hold the client: not one of its direct members",
        ),
        (
            Box::new(|input| drop(input.objects.collections.remove(&name("web")))),
            "Collection/web",
            "metadata.name",
            "does not exist",
        ),
        (
            Box::new(|input| web(input).include = [name("gone")].into()),
            "Collection/web",
            "spec",
            "its members cannot be told",
        ),
        (state(ClientState::Pending), "UpdateDeployment/march", "spec.collection", "not approved yet"),
        (state(ClientState::Quarantined), "UpdateDeployment/march", "spec.collection", "quarantined"),
        (state(ClientState::Revoked), "UpdateDeployment/march", "spec.collection", "revoked"),
        (
            Box::new(|input| {
                let blocked =
                    Blocked { reason: "zone Mars unknown".to_owned(), collections: [name("web")].into() };
                input.objects.blocked.insert("MaintenanceWindow/mars".to_owned(), blocked);
            }),
            "MaintenanceWindow/mars",
            "spec",
            "zone Mars unknown",
        ),
        (
            Box::new(|input| {
                let off = patchtide_model::object::ClientSettings {
                    name: "off".to_owned(),
                    priority: 5,
                    enabled: false,
                    ..patchtide_model::object::ClientSettings::default()
                };
                input.objects.client_settings.insert(name("off"), off);
            }),
            "ClientSettings/off",
            "spec.enabled",
            "switched off",
        ),
    ];
    for (change, object, field, reason) in cases {
        let gate = targeted(change);
        assert!(!gate.is_open(), "{gate:?}");
        assert_eq!((gate.object.as_str(), gate.field.as_str()), (object, field), "{gate:?}");
        assert!(gate.reason.contains(reason), "{gate:?}");
    }
    assert!(targeted(|_| {}).is_open());
}

/// What the site shows of a client that waits for its window: who set what, its own words, when it was heard of.
#[test]
fn the_site_shows_the_chain_and_marks_what_it_cannot_know() {
    let mut input = site(vec![update("a", 2)]);
    input.clients = vec![client(&[("timezone", "Europe/Berlin")])];
    input.required_leaves.insert(id("a", 2), [leaf("a", 2).reference()].into());
    add_deployment(&mut input, deployment("march", &[id("a", 2)], at("2026-11-21T09:00:00Z")));
    add_window(&mut input, daily("noon", 12, minutes(60)));
    let mut snapshot = Snapshot::new(input, at(START));
    let report = ClientReport {
        policy: Some((1, 7)),
        last_scan: Some(at("2026-11-21T09:30:00Z")),
        covered: BTreeMap::from([(crate::fixtures::line(), 1)]),
        updates: BTreeMap::from([(
            id("a", 2),
            UpdateReport {
                detection: Detection::Required,
                enforcement: Some(UpdateEnforcement::WaitingForWindow),
                error: None,
                since: Some(at("2026-11-21T09:31:00Z")),
                leaves: [leaf("a", 2).reference()].into(),
            },
        )]),
        ..ClientReport::default()
    };
    snapshot.reports.insert(host(), report);
    let explain_at = |now: &str| explain(&snapshot, host(), at(now)).unwrap();
    let explanation = explain_at(START);
    let update = &explanation.updates[0];
    let kinds: Vec<&str> = update.gates.iter().map(|gate| gate.kind.name()).collect();
    assert_eq!(
        kinds,
        [
            "targeted",
            "applicable",
            "content",
            "available",
            "deadline",
            "window",
            "restart",
            "hold",
            "contact"
        ]
    );
    let waits = update.waits_for.as_ref().unwrap();
    assert_eq!((waits.gate, waits.next), (GateKind::Window, Some(at("2026-11-21T12:00:00Z"))));
    let window = update.gates.iter().find(|gate| gate.kind == GateKind::Window).unwrap();
    assert_eq!(window.object, "MaintenanceWindow/noon");
    assert_eq!(update.state.as_ref().unwrap().id, 4);
    assert_eq!(update.since, Some(at("2026-11-21T09:31:00Z")));
    assert_eq!(explanation.deployments[0].waits_for.as_ref().unwrap().gate, GateKind::Window);
    assert!(explanation.unknown.iter().any(|unknown| unknown.contains("its address")));
    let text = words::text(&explanation);
    for part in [
        "  policy      open: 1.7",
        "closed until 2026-11-21T12:00:00Z (in 2 h 0 min)",
        "waits for window: next",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let json = serde_json::to_string(&explanation).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), explanation);
    // Long unheard of: said last, in each chain.
    let late = explain_at("2026-11-21T14:00:00Z");
    let contact = late.updates[0].gates.last().unwrap();
    assert_eq!((contact.kind, contact.is_open()), (GateKind::Contact, false));
    assert!(contact.reason.contains("last heard of 2026-11-21T09:59:00Z, more than 2h ago"), "{contact:?}");
    let mut other = explanation.clone();
    other.updates[0].gates.retain(|gate| gate.kind != GateKind::Window);
    assert_eq!(agree::disagreements(&explanation, &explanation), [""; 0]);
    assert_eq!(agree::disagreements(&explanation, &other).len(), 1);
    // One that never reported: nothing is claimed of it.
    snapshot.reports.clear();
    let unheard = explain(&snapshot, host(), at(START)).unwrap();
    assert_eq!((unheard.updates[0].state.clone(), unheard.updates[0].detection.id), (None, 0));
    assert!(unheard.unknown[0].contains("it never reported"));
}

#[test]
fn people_name_updates_and_deployments_as_they_like() {
    let mut input = site(vec![update("openssl", 2), update("bash", 2)]);
    input.clients = vec![client(&[])];
    add_deployment(&mut input, deployment("march", &[id("openssl", 2), id("bash", 2)], at(START)));
    add_deployment(&mut input, deployment("april", &[id("bash", 2)], at(START)));
    let mut aside = deployment("aside", &[id("bash", 2)], at(START));
    aside.collection = name("nobody");
    input.objects.collections.insert(name("nobody"), collection("nobody"));
    add_deployment(&mut input, aside);
    let all = explain(&Snapshot::new(input, at(START)), host(), at(START)).unwrap();
    let chosen = |asked: &str| {
        let found = select(&all, asked)?;
        let updates =
            found.updates.iter().map(|update| update.id.source.clone()).collect::<Vec<_>>().join(" ");
        let of = found.deployments.iter().map(|found| found.name.clone()).collect::<Vec<_>>().join(" ");
        Some(format!("{updates}; {of}"))
    };
    assert_eq!(chosen("openssl").unwrap(), "openssl; march");
    assert_eq!(chosen(&id("bash", 2).to_string()).unwrap(), "bash; april aside march");
    assert_eq!(chosen(&id("bash", 2).slug()).unwrap(), "bash; april aside march");
    assert_eq!(chosen("march").unwrap(), "bash openssl; march");
    assert_eq!(chosen("UpdateDeployment/april").unwrap(), "bash; april");
    assert_eq!(chosen("ssl@").unwrap(), "openssl; march");
    assert_eq!(chosen("nothing"), None);
    let names: Vec<String> = reaching(&all).deployments.into_iter().map(|found| found.name).collect();
    assert_eq!(names, ["april", "march"]);
    let never = Gate::closed(GateKind::Window, Opens::Never { longest: None }, "never");
    assert_eq!(waiting(&[never]).unwrap().next, None::<Timestamp>);
}

/// With a policy polling interval of seconds a client waits for news like any other: a minute without a word says nothing.
#[test]
fn a_short_polling_interval_makes_nobody_silent() {
    assert_eq!(site::silence(SignedDuration::from_secs(10)), crate::site::wake::AWAKE);
    assert_eq!(site::silence(SignedDuration::from_hours(1)), SignedDuration::from_hours(2));
}
