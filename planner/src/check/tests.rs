use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::SignedDuration;
use patchtide_model::{
    ClientId,
    client::{Client, ClientState},
    object::{Blocked, ClientSettings, Collection, FactOperator, FactRequirement},
    policy::PolicyBody,
    shared::Shared,
};
use proptest::prelude::*;
use uuid::Uuid;

use super::{Violation, check, check_clients};
use crate::{
    fixtures::*,
    site::{SiteInput, SitePlan, Verdict, compile},
};

fn client(number: u128, role: &str) -> Shared<Client> {
    Shared::new(Client {
        id: ClientId(Uuid::from_u128(number)),
        name: format!("host-{number}"),
        state: ClientState::Active,
        facts: BTreeMap::from([("role".to_owned(), role.to_owned())]),
        address: None,
        last_contact: None,
    })
}

/// Web and db machines; the web ones have a window, settings and a deployment of their own.
fn setting() -> SiteInput {
    let mut site = site(vec![update("a", 2), update("b", 2)]);
    for source in ["a", "b"] {
        site.required_leaves.insert(id(source, 2), [leaf(source, 2).reference()].into());
    }
    site.clients = vec![client(1, "web-a"), client(2, "web-b"), client(3, "db")];
    let mut pending = client(4, "web-c");
    pending.state = ClientState::Pending;
    site.clients.push(pending);
    let web = FactRequirement {
        key: "role".to_owned(),
        operator: FactOperator::Glob,
        values: BTreeSet::from(["WEB-*".to_owned()]),
    };
    let web = Collection { selector: vec![web], parent: Some(name("everyone")), ..collection("web") };
    site.objects.collections.insert(web.name.clone(), web);
    let mut night = daily("night", 22, minutes(60));
    night.collection = name("web");
    add_window(&mut site, night);
    let mut all = deployment("all", &[id("a", 2)], at("2026-11-21T09:00:00Z"));
    all.include_subcollections = true;
    add_deployment(&mut site, all);
    let mut own = deployment("own", &[id("b", 2)], at("2026-11-21T09:00:00Z"));
    own.collection = name("web");
    add_deployment(&mut site, own);
    let settings = ClientSettings {
        name: "web".to_owned(),
        collection: Some(name("web")),
        priority: 5,
        ..ClientSettings::default()
    };
    site.objects.client_settings.insert(name("web"), settings);
    site
}

/// The plan with the policy of client `number` changed.
fn tampered(input: &SiteInput, number: u128, change: impl FnOnce(&mut PolicyBody)) -> Vec<Violation> {
    let mut plan = compile(input);
    let client = ClientId(Uuid::from_u128(number));
    let Some(Verdict::Policy(body)) = plan.policies.get(&client) else { panic!("withheld") };
    let mut body = body.as_ref().clone();
    change(&mut body);
    plan.policies.insert(client, Verdict::Policy(Arc::new(body)));
    let others = input.clients.iter().map(|client| client.id).filter(|id| *id != client).collect();
    assert_eq!(of_clients(input, &plan, &others), [], "nobody else is concerned");
    whole(input, &plan)
}

fn of_clients(input: &SiteInput, plan: &SitePlan, asked: &BTreeSet<ClientId>) -> Vec<Violation> {
    let find = |id| input.clients.iter().map(|client| &**client).find(|client| client.id == id);
    check_clients(input, plan, asked, find)
}

/// What is wrong with the whole; asked about each client, the answer is the same.
fn whole(input: &SiteInput, plan: &SitePlan) -> Vec<Violation> {
    let found = check(input, plan);
    assert_eq!(of_clients(input, plan, &input.clients.iter().map(|client| client.id).collect()), found);
    found
}

#[test]
fn what_the_compiler_makes_passes() {
    let input = setting();
    assert_eq!(check(&input, &compile(&input)), []);
    let mut off = setting();
    off.objects.client_settings.get_mut(&name("web")).unwrap().enabled = false;
    off.objects.client_settings.get_mut(&name("web")).unwrap().no_deadline_spread = true;
    let plan = compile(&off);
    assert_eq!(check(&off, &plan), []);
    let Verdict::Policy(body) = &plan.policies[&ClientId(Uuid::from_u128(1))] else { panic!("withheld") };
    assert!(body.deployments.is_empty() && body.lines.is_empty() && body.updates.is_empty());
    assert_eq!(body.windows.len(), 1);
}

#[test]
fn a_policy_that_ignores_a_restriction_is_found() {
    type Change = fn(&mut PolicyBody);
    let input = setting();
    let changes: [(&str, Change); 11] = [
        ("MaintenanceWindow/night in spec.collection", |body| body.windows.clear()),
        ("MaintenanceWindow/night in spec", |body| body.windows[0].duration = minutes(240)),
        ("ClientSettings/web in spec", |body| body.settings.grace_period = minutes(1)),
        ("UpdateDeployment/own in spec.collection", |body| body.deployments.retain(|d| d.name != "own")),
        ("in spec.suspend", |body| body.deployments[0].suspend = true),
        ("in spec.settings", |body| body.deployments[0].settings.install_outside_windows = true),
        ("in metadata.generation", |body| body.deployments[0].generation = 7),
        ("in a leaf that is not approved", |body| {
            body.updates.get_mut(&id("a", 2)).unwrap().leaves.push(leaf("evil", 1));
        }),
        ("in restart", |body| {
            body.updates.get_mut(&id("a", 2)).unwrap().restart =
                patchtide_model::catalogue::RestartRule::Never;
        }),
        ("dependencies in not approved", |body| body.dependencies.push(leaf("evil", 1))),
        ("lines in other than the catalogue's", |body| body.lines[0].catalogue_version = 9),
    ];
    for (expected, change) in changes {
        let found = tampered(&input, 1, change);
        let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(text.contains(expected), "{expected} is not in: {text}");
    }
}

#[test]
fn members_targets_and_verdicts_are_proved() {
    let input = setting();
    let find = |change: &dyn Fn(&mut SitePlan)| {
        let mut plan = compile(&input);
        change(&mut plan);
        whole(&input, &plan)
    };
    let id = |number| ClientId(Uuid::from_u128(number));
    let members = find(&|plan| {
        plan.membership.get_mut(&name("web")).unwrap().remove(&id(1));
    });
    assert!(members.contains(&Violation::Members { collection: name("web"), client: id(1) }), "{members:?}");
    let targets = find(&|plan| {
        plan.targets.get_mut(&name("own")).unwrap().insert(id(3));
    });
    assert!(targets.contains(&Violation::Targets { deployment: name("own") }), "{targets:?}");
    let pending = find(&|plan| {
        let verdict = plan.policies[&id(1)].clone();
        plan.policies.insert(id(4), verdict);
    });
    assert!(pending.contains(&Violation::Clients(id(4))), "{pending:?}");
    // What must be withheld and goes out all the same.
    let free = compile(&input);
    let mut blocked = setting();
    let why = Blocked { reason: "not understood".to_owned(), collections: [name("web")].into() };
    blocked.objects.blocked.insert("MaintenanceWindow/mars".to_owned(), why);
    assert_eq!(check(&blocked, &compile(&blocked)), []);
    let object = "MaintenanceWindow/mars".to_owned();
    assert!(whole(&blocked, &free).contains(&Violation::NotWithheld { client: id(2), object }));
}

proptest! {
    /// Whatever the collections say of each other, what the compiler makes of it is proved.
    #[test]
    fn every_compiled_plan_passes(
        edges in prop::collection::vec((0_usize..6, 0_usize..6, 0_u8..4), 0..12),
        roles in prop::collection::vec(0_usize..6, 0..8),
        subcollections in any::<bool>(),
        blocked in prop::option::weighted(0.3, 0_usize..7),
    ) {
        let mut input = setting();
        let title = |n: usize| format!("c{n}");
        for n in 0..6 {
            let own = FactRequirement {
                key: "role".to_owned(),
                operator: FactOperator::In,
                values: BTreeSet::from([title(n)]),
            };
            let one = Collection { selector: vec![own], ..collection(&title(n)) };
            input.objects.collections.insert(one.name.clone(), one);
        }
        for (from, to, kind) in edges {
            let to = name(&title(to));
            let one = input.objects.collections.get_mut(&name(&title(from))).unwrap();
            match kind {
                0 => { one.include.insert(to); }
                1 => { one.exclude.insert(to); }
                2 => one.limiting = Some(to),
                _ => one.parent = Some(to),
            }
        }
        input.clients.extend(roles.iter().zip(10_u128..).map(|(role, n)| client(n, &title(*role))));
        let own = input.objects.deployments.get_mut(&name("own")).unwrap();
        own.collection = name("c0");
        own.include_subcollections = subcollections;
        own.settings.deadline_spread = SignedDuration::from_hours(1);
        input.objects.windows.get_mut(&name("night")).unwrap().collection = name("c1");
        if let Some(n) = blocked {
            let why = Blocked { reason: "x".to_owned(), collections: [name(&title(n))].into() };
            input.objects.blocked.insert("ClientSettings/x".to_owned(), why);
        }
        prop_assert_eq!(check(&input, &compile(&input)), []);
    }
}
