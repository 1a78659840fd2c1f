//! The policy compiler from run to run over a real database: what is kept gives what a compilation of everything gives, and
//! only what changed is written.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::expect_used, reason = "a test")]

use std::{collections::BTreeMap, time::Duration};

use patchtide_controller::compile::Policies;
use patchtide_model::{
    ClientId, ObjectName,
    client::{ClientState, Facts},
    object::Blocked,
};
use patchtide_planner::site::{SiteInput, SitePlan, Verdict};
use patchtide_protocol::envelope::Envelope;
use patchtide_store::intake::IntakeBody;
use tokio::time::Instant;
use uuid::Uuid;

#[path = "../../../planner/examples/bench_site/fleet.rs"]
#[allow(dead_code, reason = "what else the measurements ask of it")]
mod fleet;
#[path = "../../examples/bench_compile/ground.rs"]
mod ground;
mod wake;

use ground::{Site, at};

/// A fleet with few updates: deployments 0 to 9 and what they name.
fn small(clients: u64) -> SiteInput {
    let mut input = fleet::site(clients);
    input.objects.deployments = input.objects.deployments.into_iter().take(10).collect();
    for deployment in input.objects.deployments.values_mut() {
        deployment.updates.truncate(3);
    }
    let named: Vec<_> = input.objects.deployments.values().flat_map(|one| one.updates.clone()).collect();
    input.updates.retain(|id, _| named.contains(id));
    input
}

async fn numbers(site: &Site) -> BTreeMap<ClientId, u64> {
    let known = site.store.policy_digests().await.unwrap();
    known.into_iter().map(|(client, (_, number, _))| (client, number)).collect()
}

/// Clients whose number is another than before.
async fn risen(site: &Site, before: &BTreeMap<ClientId, u64>) -> Vec<ClientId> {
    let now = numbers(site).await;
    assert!(before.iter().all(|(client, number)| now[client] >= *number), "no number falls");
    now.into_iter().filter(|(client, number)| before.get(client) != Some(number)).map(|one| one.0).collect()
}

/// What is kept is what a process that has just started finds, and what it would sign is stored already.
async fn same_as_fresh(site: &Site, kept: &Policies, now: Instant) {
    let mut fresh = Policies::default();
    assert_eq!(site.run(&mut fresh, now).await, 0, "stored policies are those of a full compilation");
    let ((_, kept), (_, fresh)) = (kept.last().unwrap(), fresh.last().unwrap());
    assert!(kept == fresh, "another plan");
    delivered(site, kept).await;
}

/// What each client can fetch is what the plan says of it, and nothing else is left over.
async fn delivered(site: &Site, plan: &SitePlan) {
    for (client, verdict) in &plan.policies {
        let Verdict::Policy(body) = verdict else { continue };
        let stored = site.store.policy(*client).await.unwrap().expect("a policy");
        let envelope: Envelope = serde_json::from_slice(&stored.statement).unwrap();
        let statement = envelope.open(&site.signer.policy_keys()).unwrap();
        let part = async |digest| site.store.policy_part(*client, digest).await.unwrap().expect("a part");
        let (orders, updates) = (part(statement.orders.digest).await, part(statement.updates.digest).await);
        let policy = statement.policy(&orders, &updates).unwrap();
        assert_eq!((policy.client, policy.number, &policy.body), (*client, stored.number, &**body));
    }
    assert_eq!(
        site.store.collect_policy_parts().await.unwrap(),
        0,
        "collected with the run that replaced them"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_sequence_of_changes_ends_in_the_policies_of_a_full_compilation() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new(folder.path(), small(60)).await;
    let (mut kept, mut now) = (Policies::default(), Instant::now());
    assert_eq!(site.run(&mut kept, now).await, 60);
    assert_eq!(site.run(&mut kept, now).await, 0, "nothing changed");
    same_as_fresh(&site, &kept, now).await;

    // One client alone: its row is written, no other.
    let one = site.input.clients[7].clone();
    let before = numbers(&site).await;
    let mut facts: Facts = one.facts.clone();
    facts.insert("label/ring".to_owned(), if facts["label/ring"] == "0" { "4" } else { "0" }.to_owned());
    site.tell(one.id, 1, IntakeBody::Facts(facts.clone())).await;
    assert_eq!(site.run(&mut kept, now).await, 1);
    assert_eq!(risen(&site, &before).await, [one.id]);
    same_as_fresh(&site, &kept, now).await;

    // What concerns no policy writes nothing: a contact, a fact that no collection selects by.
    facts.insert("kernel".to_owned(), "7.0".to_owned());
    site.tell(one.id, 2, IntakeBody::Facts(facts.clone())).await;
    site.store.touch_client(site.input.clients[8].id, "10.200.0.1".parse().unwrap(), at()).await.unwrap();
    assert_eq!(site.run(&mut kept, now).await, 0);
    same_as_fresh(&site, &kept, now).await;
    // But it is known when a collection asks for it later.
    let kernel = fleet::collection("kernel", vec![fleet::is("kernel", "7.0")]);
    site.put("Collection", "kernel", "", 1, &kernel).await;
    let mut window = site.input.objects.windows[&fleet::name("window-0")].clone();
    (window.name, window.collection) = (fleet::name("kernel"), fleet::name("kernel"));
    site.put("MaintenanceWindow", "kernel", "", 1, &window).await;
    let before = numbers(&site).await;
    site.run(&mut kept, now).await;
    assert_eq!(risen(&site, &before).await, [one.id]);
    same_as_fresh(&site, &kept, now).await;

    // A machine comes, one is quarantined, one comes back.
    let mut newcomer = fleet::client(999, &mut fleet::Numbers(9));
    newcomer.id = ClientId(Uuid::from_u128(9));
    site.enrol(&newcomer).await;
    site.store.set_client_state(one.id, ClientState::Quarantined).await.unwrap();
    assert_eq!(site.run(&mut kept, now).await, 1, "the newcomer's");
    same_as_fresh(&site, &kept, now).await;
    site.store.set_client_state(one.id, ClientState::Active).await.unwrap();
    assert_eq!(site.run(&mut kept, now).await, 0, "it has its policy yet");
    same_as_fresh(&site, &kept, now).await;

    // Objects: changed, blocking, gone; then an hour passes, and the whole is compared.
    let name = site.input.objects.deployments.keys().next().unwrap().clone();
    let mut deployment = site.input.objects.deployments[&name].clone();
    deployment.suspend = true;
    deployment.generation += 1;
    site.put("UpdateDeployment", name.as_str(), &deployment.uid, 2, &deployment).await;
    let before = numbers(&site).await;
    let signed = site.run(&mut kept, now).await;
    let plan = kept.last().unwrap().1;
    let targeted: Vec<ClientId> = plan.targets[&name].iter().copied().collect();
    assert_eq!((risen(&site, &before).await, signed), (targeted.clone(), targeted.len()));
    same_as_fresh(&site, &kept, now).await;
    let ring: ObjectName = fleet::name("ring-1");
    let blocked = Blocked { reason: "not understood".to_owned(), collections: [ring].into() };
    site.store.set_blocked("MaintenanceWindow", "mars", Some(blocked)).await.unwrap();
    assert_eq!(site.run(&mut kept, now).await, 0);
    assert!(kept.withheld() > 0);
    same_as_fresh(&site, &kept, now).await;
    site.store.set_blocked("MaintenanceWindow", "mars", None).await.unwrap();
    site.store.delete_object("UpdateDeployment", name.as_str()).await.unwrap();
    now += Duration::from_hours(2);
    assert_eq!(site.run(&mut kept, now).await, targeted.len());
    assert_eq!(kept.withheld(), 0);
    same_as_fresh(&site, &kept, now).await;
}

/// Two that hold the lease for a moment: the second one's policies stand, and the first begins anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compiler_that_was_overtaken_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new(folder.path(), small(20)).await;
    let (mut first, mut second, now) = (Policies::default(), Policies::default(), Instant::now());
    assert_eq!((site.run(&mut first, now).await, site.run(&mut second, now).await), (20, 0));
    let one = site.input.clients[3].clone();
    let mut facts = one.facts.clone();
    facts.insert("label/ring".to_owned(), if facts["label/ring"] == "0" { "4" } else { "0" }.to_owned());
    site.tell(one.id, 1, IntakeBody::Facts(facts)).await;
    assert_eq!(site.run(&mut second, now).await, 1);
    let objects = site.store.load_objects().await.unwrap();
    first.compile(site.ground(), objects, site.offered.clone(), now).await.unwrap();
    let error = first.issue(site.ground(), at()).await.unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    assert_eq!(site.run(&mut first, now).await, 0);
    same_as_fresh(&site, &first, now).await;
}
