//! Objects, clients and the catalogue to membership and policies.

mod changes;
mod status;
mod wake;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use patchtide_model::{
    ClientId, ObjectName,
    client::{Client, ClientState, Facts},
    deployment::Deployment,
    deployment::{Available, Deadline},
    object::{
        Blocked, Boundary, ClientSettings, Collection, DistributionPoint, FactOperator, FactRequirement,
    },
    state::{Compliance, DeploymentEnforcement, Overdue, StateError},
    window::Zone,
};
use proptest::prelude::*;
use uuid::Uuid;

use super::{
    CollectionProblem, SiteInput, SitePlan, Verdict, body_digest, check_collections, compile, membership,
    status::{ClientWindows, Moment, NextWindow, ReportedState, StatusInput, deployment_status, next_window},
    targeted,
};
use patchtide_model::state::{Compliance as C, DeploymentEnforcement as D};

use crate::{
    check::{check, check_clients},
    fixtures::*,
};

fn client(number: u128, facts: &[(&str, &str)]) -> Client {
    Client {
        id: ClientId(Uuid::from_u128(number)),
        name: format!("host-{number}"),
        state: ClientState::Active,
        facts: facts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Facts>(),
        address: None,
        last_contact: None,
    }
}

fn collections(all: impl IntoIterator<Item = Collection>) -> BTreeMap<ObjectName, Collection> {
    all.into_iter().map(|collection| (collection.name.clone(), collection)).collect()
}

fn requirement(key: &str, operator: FactOperator, values: &[&str]) -> FactRequirement {
    FactRequirement {
        key: key.to_owned(),
        operator,
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    }
}

fn numbers(members: &BTreeSet<ClientId>) -> Vec<u128> {
    members.iter().map(|id| id.0.as_u128()).collect()
}

#[test]
fn members_by_facts_name_include_exclude_and_limit() {
    let clients = [
        client(1, &[("label/tier", "web"), ("os.id", "debian")]),
        client(2, &[("label/tier", "db")]),
        client(3, &[]),
        Client { state: ClientState::Revoked, ..client(4, &[("label/tier", "web")]) },
    ];
    let select = |title: &str, requirement| Collection { selector: vec![requirement], ..collection(title) };
    let all = collections([
        Collection { all: true, ..collection("all") },
        collection("nobody"),
        select("web", requirement("label/tier", FactOperator::In, &["web", "proxy"])),
        select("not-web", requirement("label/tier", FactOperator::NotIn, &["web"])),
        select("tiered", requirement("label/tier", FactOperator::Exists, &[])),
        select("untiered", requirement("label/tier", FactOperator::DoesNotExist, &[])),
        Collection {
            direct_members: ["host-3".to_owned(), Uuid::from_u128(2).to_string()].into(),
            ..collection("direct")
        },
        Collection { include: [name("web"), name("direct")].into(), ..collection("sum") },
        Collection { all: true, exclude: [name("web")].into(), ..collection("rest") },
        Collection { all: true, limiting: Some(name("tiered")), ..collection("limited") },
    ]);
    let membership = membership(&all, &clients.map(Into::into));
    let of = |title: &str| numbers(&membership[&name(title)]);
    assert_eq!(of("all"), [1, 2, 3]);
    assert_eq!(of("nobody"), [0_u128; 0]);
    assert_eq!((of("web"), of("not-web")), (vec![1], vec![2, 3]));
    assert_eq!((of("tiered"), of("untiered")), (vec![1, 2], vec![3]));
    assert_eq!((of("direct"), of("sum")), (vec![2, 3], vec![1, 2, 3]));
    assert_eq!((of("rest"), of("limited")), (vec![2, 3], vec![1, 2]));
}

#[test]
fn cycles_and_missing_references_are_named() {
    let all = collections([
        Collection { include: [name("b")].into(), ..collection("a") },
        Collection { exclude: [name("c")].into(), ..collection("b") },
        Collection { limiting: Some(name("a")), ..collection("c") },
        Collection { all: true, exclude: [name("c")].into(), ..collection("depends") },
        Collection { parent: Some(name("y")), all: true, ..collection("x") },
        Collection { parent: Some(name("x")), ..collection("y") },
        Collection { include: [name("gone")].into(), ..collection("z") },
    ]);
    let problems = check_collections(&all);
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems.contains(&CollectionProblem::Cycle(vec![name("a"), name("b"), name("c"), name("a")])));
    assert!(problems.contains(&CollectionProblem::Cycle(vec![name("x"), name("y"), name("x")])));
    assert!(problems[0].to_string().contains("refers to gone in spec.include"), "{}", problems[0]);
    assert!(problems[1].to_string().contains("a -> b -> c -> a"), "{}", problems[1]);
    let membership = membership(&all, &[client(1, &[]).into()]);
    assert_eq!(numbers(&membership[&name("depends")]), [0_u128; 0], "nobody knows who is excluded");
}

#[test]
fn subcollections_are_reached_only_when_asked_for() {
    let all = collections([
        Collection { direct_members: ["host-1".to_owned()].into(), ..collection("everyone") },
        Collection {
            parent: Some(name("everyone")),
            direct_members: ["host-2".to_owned()].into(),
            ..collection("b")
        },
        Collection {
            parent: Some(name("b")),
            direct_members: ["host-3".to_owned()].into(),
            ..collection("c")
        },
    ]);
    let members = membership(&all, &[client(1, &[]), client(2, &[]), client(3, &[])].map(Into::into));
    let mut deployment = deployment("d", &[], Timestamp::UNIX_EPOCH);
    assert_eq!(numbers(&targeted(&deployment, &all, &members)), [1]);
    deployment.include_subcollections = true;
    assert_eq!(numbers(&targeted(&deployment, &all, &members)), [1, 2, 3]);
}

fn two_groups() -> SiteInput {
    let mut input = site(vec![update("a", 2), update("b", 2), update("old", 1)]);
    input.updates.get_mut(&id("old", 1)).unwrap().expired = true;
    input.clients =
        [client(2, &[]), client(1, &[("label/tier", "web")]), client(3, &[])].map(Into::into).into();
    let web = Collection {
        selector: vec![requirement("label/tier", FactOperator::In, &["web"])],
        ..collection("web")
    };
    input.objects.collections.insert(web.name.clone(), web);
    add_deployment(
        &mut input,
        deployment("all", &[id("a", 2), id("old", 1), id("unheard", 1)], at("2026-01-01T00:00:00Z")),
    );
    let mut web = deployment("web", &[id("b", 2)], at("2026-01-01T00:00:00Z"));
    web.collection = name("web");
    web.suspend = true;
    add_deployment(&mut input, web);
    let mut window = daily("night", 2, minutes(60));
    window.collection = name("web");
    add_window(&mut input, window);
    input.required_leaves.insert(id("a", 2), [leaf("a", 2).reference()].into());
    input
}

fn body(plan: &SitePlan, number: u128) -> Arc<patchtide_model::policy::PolicyBody> {
    match &plan.policies[&ClientId(Uuid::from_u128(number))] {
        Verdict::Policy(body) => Arc::clone(body),
        Verdict::Withheld { reason } => panic!("withheld: {reason}"),
    }
}

#[test]
fn each_client_gets_what_reaches_it() {
    let input = two_groups();
    let plan = compile(&input);
    let (web, other) = (body(&plan, 1), body(&plan, 2));
    assert!(Arc::ptr_eq(&other, &body(&plan, 3)), "equal clients share a body");
    assert_eq!(other.updates.keys().cloned().collect::<Vec<_>>(), [id("a", 2)]);
    assert_eq!(other.updates[&id("a", 2)].leaves.len(), 1);
    assert_eq!((other.windows.len(), web.windows.len()), (0, 1));
    assert_eq!(
        web.deployments.iter().map(|d| (d.name.as_str(), d.suspend)).collect::<Vec<_>>(),
        [("all", false), ("web", true)]
    );
    assert_eq!(web.updates[&id("b", 2)].leaves, [], "nobody requires a leaf of it");
    assert_eq!(web.origin_of("settings.scan_cycle").unwrap(), "default");
    assert_eq!(web.origin_of("windows.night").unwrap(), "MaintenanceWindow/night of Collection/web");
    let notes: Vec<&str> = plan.notes.iter().map(|note| note.message.as_str()).collect();
    assert!(notes.iter().any(|note| note.contains("old@1 is expired")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("unheard@1 is not in the catalogue")), "{notes:?}");
    assert_eq!(numbers(&plan.targets[&name("web")]), [1]);
}

#[test]
fn equal_input_gives_equal_bodies_in_any_order() {
    let input = two_groups();
    let mut other = input.clone();
    other.clients.reverse();
    other.lines.reverse();
    let (first, second) = (compile(&input), compile(&other));
    assert_eq!(first, second);
    assert_eq!(body_digest(&body(&first, 1)), body_digest(&body(&second, 1)));
    assert_ne!(body_digest(&body(&first, 1)), body_digest(&body(&first, 2)));
}

#[test]
fn settings_of_the_highest_priority_apply_whole() {
    let mut input = two_groups();
    let settings = |title: &str, priority, collection: Option<&str>, hours| ClientSettings {
        name: title.to_owned(),
        priority,
        collection: collection.map(name),
        scan_cycle: SignedDuration::from_hours(hours),
        ..ClientSettings::default()
    };
    for settings in
        [settings("site", 1, None, 1), settings("web", 9, Some("web"), 2), settings("b", 1, None, 3)]
    {
        input.objects.client_settings.insert(name(&settings.name), settings);
    }
    let plan = compile(&input);
    assert_eq!(body(&plan, 1).settings.name, "web");
    assert_eq!(body(&plan, 2).settings.name, "b", "of equal priority the first name");
    assert_eq!(body(&plan, 2).origin_of("settings.scan_cycle").unwrap(), "ClientSettings/b");
    assert_eq!(body(&plan, 2).origin_of("settings.scan_ttl").unwrap(), "default");
}

#[test]
fn what_is_not_understood_and_restricts_withholds_policy() {
    let withheld = |input: &SiteInput| -> Vec<u128> {
        compile(input).withheld().map(|(client, _)| client.0.as_u128()).collect()
    };
    let blocked = |collections: &[&str]| Blocked {
        reason: "spec.hold is not supported".to_owned(),
        collections: collections.iter().map(|title| name(title)).collect(),
    };
    let mut input = two_groups();
    assert_eq!(withheld(&input), [0_u128; 0]);
    input.objects.blocked.insert("MaintenanceWindow/x".to_owned(), blocked(&["web"]));
    assert_eq!(withheld(&input), [1]);
    assert!(compile(&input).withheld().next().unwrap().1.contains("MaintenanceWindow/x: spec.hold"));
    input.objects.blocked.insert("UpdateDeployment/y".to_owned(), blocked(&["gone"]));
    assert_eq!(withheld(&input), [1, 2, 3], "nobody knows who is in it");
    input.objects.blocked.clear();

    let window = input.objects.windows.get_mut(&name("night")).unwrap();
    window.zone = Zone::Iana("Europe/Berlim".to_owned());
    assert_eq!(withheld(&input), [1]);
    input.objects.windows.get_mut(&name("night")).unwrap().collection = name("gone");
    assert_eq!(withheld(&input), [1, 2, 3]);
}

/// R-DP-07: what a client waits for depends on the points within its reach.
#[test]
fn files_are_awaited_where_no_point_in_reach_has_them() {
    let mut input = two_groups();
    let point = |title: &str, network: &str| DistributionPoint {
        name: name(title),
        endpoints: vec![format!("https://{title}.example:8444")],
        boundaries: vec![Boundary { cidr: network.parse().unwrap(), fast: true }],
        protected: true,
    };
    for point in [point("here", "10.1.0.0/16"), point("there", "10.2.0.0/16")] {
        input.objects.distribution_points.insert(point.name.clone(), point);
    }
    for (client, address) in input.clients.iter_mut().zip(["10.1.0.1", "10.2.0.1", "192.0.2.1"]) {
        client.address = Some(address.parse().unwrap());
    }
    let file = leaf("a", 2).file.sha256;
    let awaited = |input: &SiteInput| {
        let plan = compile(input);
        assert_eq!(check(input, &plan), []);
        [2, 1, 3].map(|number| body(&plan, number).awaited.contains(&file))
    };
    assert_eq!(awaited(&input), [false; 3], "nobody knows");
    input.holders = Some(BTreeMap::new());
    // The last one reaches no point: it does not wait, it says what is wrong.
    assert_eq!(awaited(&input), [true, true, false]);
    input.holders = Some([(file, [name("here")].into())].into());
    assert_eq!(awaited(&input), [false, true, false]);
    input.holders = Some([(file, [name("here"), name("there")].into())].into());
    assert_eq!(awaited(&input), [false; 3]);
    let plan = compile(&input);
    assert!(Arc::ptr_eq(&body(&plan, 2), &body(&plan, 3)), "and those who get the same share it again");
    // Wherever one without a known address turns up.
    input.clients[1].address = None;
    input.holders = Some([(file, [name("here")].into())].into());
    assert_eq!(awaited(&input), [false; 3]);
}

/// Each value says where it comes from; where two deployments name an update, whose deadline wins is told, and where that
/// depends on a client's zone, whose it can be.
#[test]
fn origins_are_told_for_what_a_merge_decides() {
    let mut input = two_groups();
    let anchor = at("2026-01-01T00:00:00Z");
    let mut first = deployment("first", &[id("a", 2)], anchor);
    first.collection = name("web");
    first.settings.deadline = Deadline::At(civil::date(2026, 2, 1).at(0, 0, 0, 0));
    first.provenance =
        [("settings.deadline".to_owned(), "DeploymentTemplate/monthly@sha256:1".to_owned())].into();
    let mut local = first.clone();
    (local.name, local.uid) = (name("local"), "uid-local".to_owned());
    local.settings.client_local_time = true;
    local.provenance.insert("updates".to_owned(), "UpdateList/fixes@sha256:2".to_owned());
    input.objects.deployments.get_mut(&name("all")).unwrap().settings.deadline = Deadline::None;
    add_deployment(&mut input, first);
    let origin = |input: &SiteInput, path: &str| body(&compile(input), 1).origin_of(path);
    let deadline = format!("updates.{}.deadline", id("a", 2));
    assert_eq!(origin(&input, &deadline).unwrap(), "UpdateDeployment/first", "an optional one has none");
    assert_eq!(
        origin(&input, &format!("updates.{}.deadline", id("b", 2))).unwrap(),
        "UpdateDeployment/web",
        "nobody else names it"
    );
    add_deployment(&mut input, local);
    assert_eq!(origin(&input, &deadline).unwrap(), "UpdateDeployment/first or UpdateDeployment/local");
    let naming = origin(&input, &format!("updates.{}", id("a", 2))).unwrap();
    assert_eq!(
        naming,
        "UpdateDeployment/all, UpdateDeployment/first, UpdateDeployment/local (UpdateList/fixes@sha256:2)"
    );
    let of = |field: &str| origin(&input, &format!("deployments.uid-first{field}"));
    assert_eq!(of("").unwrap(), "UpdateDeployment/first");
    assert_eq!(of(".settings.deadline").unwrap(), "DeploymentTemplate/monthly@sha256:1");
    assert_eq!(of(".settings.available").unwrap(), "default");
    assert_eq!(origin(&input, "windows.gone"), None);
    assert_eq!(origin(&input, "deployments.uid-gone"), None);
}
