//! What reports count is what is true of each client, one by one, and what the kept counts say.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{
    ClientId, UpdateId,
    client::ClientState,
    search::DetectionCounts,
    state::{Compliance, DeploymentEnforcement, Detection, StateError, UpdateEnforcement},
};
use patchtide_store::{
    SiteStore,
    intake::IntakeBody,
    register::Register,
    reports::{Absence, Scope},
};

use crate::{
    common::{Db, at, client, detected, id, on_both, report, scan, sync},
    register::{collection, deployment, name},
};

on_both!(
    who_is_meant_is_said_by_the_register,
    what_fails_and_what_is_at_work_is_counted,
    absences_say_why,
    a_deployment_is_told_of_by_all_that_it_reaches,
);

/// The reports' counts of `updates` are those of the kept counts, and of each client asked alone. `members`: some clients, in
/// a collection that is registered here.
pub(crate) async fn tallies_are_true(site: &SiteStore, updates: &[UpdateId], members: &[ClientId]) {
    let numbers = members.iter().map(|client| client.0.as_u128());
    let mut register = Register::default();
    register.collections.insert(name("some"), collection("uid-some", numbers));
    site.put_register(&register, None, at(5)).await.unwrap();
    let some = site.report_collections().await.unwrap().remove(0);
    let ids: BTreeSet<UpdateId> = updates.iter().cloned().collect();
    let all = site.tally(&ids, Scope::Site).await.unwrap();
    let kept = site.required_counts(updates).await.unwrap();
    let counted: BTreeMap<UpdateId, DetectionCounts> =
        all.updates.into_iter().map(|(id, tally)| (id, tally.detection)).collect();
    assert_eq!(counted, kept);

    let tally = site.tally(&ids, Scope::Collection(some.number)).await.unwrap();
    let mut by_update: BTreeMap<UpdateId, DetectionCounts> = BTreeMap::new();
    let mut by_client: BTreeMap<i64, DetectionCounts> = BTreeMap::new();
    for member in members {
        let client = site.client(*member).await.unwrap().unwrap();
        if client.state != ClientState::Active {
            continue;
        }
        let number = site.client_number(*member).await.unwrap().unwrap();
        by_client.entry(number).or_default();
        for update in updates {
            let Some(state) = site.client_update(*member, update).await.unwrap() else { continue };
            for counts in [by_update.entry(update.clone()).or_default(), by_client.entry(number).or_default()]
            {
                *match state.detection {
                    Detection::Unknown => &mut counts.unknown,
                    Detection::NotRequired => &mut counts.not_required,
                    Detection::Required => &mut counts.required,
                    Detection::Installed => &mut counts.installed,
                } += 1;
            }
        }
    }
    let some: BTreeMap<UpdateId, DetectionCounts> = tally
        .updates
        .into_iter()
        .filter(|(id, _)| by_update.contains_key(id))
        .map(|(id, tally)| (id, tally.detection))
        .collect();
    assert_eq!(some, by_update);
    let each: BTreeMap<i64, DetectionCounts> =
        tally.clients.into_iter().map(|tally| (tally.client, tally.detection)).collect();
    assert_eq!(each, by_client);
}

fn error(code: u32) -> StateError {
    StateError::told(code, "TEST".to_owned(), "a failure".to_owned())
}

async fn who_is_meant_is_said_by_the_register(db: Db) {
    let site = &db.site;
    for n in 1..=4 {
        client(site, n).await;
    }
    let mut register = Register::default();
    register.collections.insert(name("servers"), collection("uid-servers", [1, 2, 3]));
    register.deployments.insert(name("march"), deployment("march", "uid-march", "servers", vec![], [2, 3]));
    site.put_register(&register, None, at(5)).await.unwrap();
    let servers = site.report_collections().await.unwrap().remove(0);
    let march = site.report_deployments().await.unwrap().remove(0);
    assert_eq!((march.name.as_str(), march.collection.as_ref()), ("march", Some(&servers)));
    let members = async |scope| site.scope_size(scope).await.unwrap();
    assert_eq!(members(Scope::Site).await, 4);
    assert_eq!(members(Scope::Collection(servers.number)).await, 3);
    assert_eq!(members(Scope::Deployment(march.number)).await, 2);
    let two = ClientId(uuid::Uuid::from_u128(2));
    site.set_client_state(two, ClientState::Quarantined).await.unwrap();
    assert_eq!(members(Scope::Collection(servers.number)).await, 2, "only active clients count");
    let number = site.client_number(two).await.unwrap().unwrap();
    assert_eq!(site.collections_with(number).await.unwrap(), ["servers".to_owned()].into());
    assert_eq!(site.deployments_reaching(number).await.unwrap(), [march.number].into());
    // Another site of the same database has none of it.
    let other = db.store.site(&patchtide_model::SiteName::new("other").unwrap());
    assert_eq!(other.scope_size(Scope::Collection(servers.number)).await.unwrap(), 0);
    assert_eq!(other.report_deployments().await.unwrap(), []);
}

async fn what_fails_and_what_is_at_work_is_counted(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1"), ("c", "1")]), at(1)).await.unwrap();
    let (update, other) = (id("b", "a", "1"), id("b", "c", "1"));
    let states = [
        UpdateEnforcement::InstallFailed,
        UpdateEnforcement::DownloadFailed,
        UpdateEnforcement::Downloading,
        UpdateEnforcement::Unknown,
    ];
    for (n, state) in (1..).zip(states) {
        let client = client(site, n).await;
        let required = scan("b", 1, vec![detected("a", "1", Detection::Required)]);
        let failed = (n < 3).then(|| error(7));
        let said = IntakeBody::Update { update: update.clone(), state, error: failed };
        site.intake(report(client, 1, vec![required, said])).await.unwrap();
    }
    let updates = BTreeSet::from([update.clone(), other.clone()]);
    let tally = site.tally(&updates, Scope::Site).await.unwrap();
    let found = tally.updates[&update];
    assert_eq!((found.failed(), found.pending()), (2, 1));
    assert_eq!(found.enforced(UpdateEnforcement::Unknown), 1);
    assert_eq!((found.detection.required, tally.updates[&other].detection.not_required), (4, 4));
    assert_eq!(tally.clients.iter().map(|client| client.failed).collect::<Vec<_>>(), [1, 1, 0, 0]);
    assert!(tally.clients.iter().all(|client| !client.is_compliant()));
    let states = site.states_of(&update, Scope::Site).await.unwrap();
    assert_eq!(states.iter().filter(|state| state.error == Some(error(7))).count(), 2);
    let numbers: Vec<i64> = states.iter().map(|state| state.client).collect();
    let since = site.required_since(&update, &numbers).await.unwrap();
    assert_eq!(since.len(), 4, "{since:?}");
    assert_eq!(site.required_since(&other, &numbers).await.unwrap().len(), 0);
    assert_eq!(site.states_of(&id("b", "nothing", "1"), Scope::Site).await.unwrap(), []);
}

async fn absences_say_why(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1")]), at(1)).await.unwrap();
    let update = id("b", "a", "1");
    let mut clients = Vec::new();
    for n in 1..=5 {
        clients.push(client(site, n).await);
    }
    site.touch_client(clients[1], "192.0.2.1".parse().unwrap(), at(2)).await.unwrap();
    let failed = IntakeBody::Scan { state: patchtide_model::state::Scan::Failed, error: Some(error(9)) };
    site.intake(report(clients[2], 1, vec![failed])).await.unwrap();
    site.intake(report(clients[3], 1, vec![IntakeBody::Heartbeat])).await.unwrap();
    site.intake(report(clients[4], 1, vec![scan("b", 1, vec![])])).await.unwrap();
    // Another build of the same packages: what was said of it before says nothing any more.
    let mut rebuilt = sync("b", &[("a", "1")]);
    rebuilt.updates[0].leaves[0].version = "1+b1".to_owned();
    site.apply_line_sync(rebuilt, at(3)).await.unwrap();
    let states = site.states_of(&update, Scope::Site).await.unwrap();
    assert!(states.iter().all(|state| state.detection == Detection::Unknown), "{states:?}");
    let scanned: BTreeMap<i64, bool> = states.iter().map(|state| (state.client, state.scanned)).collect();
    let reasons: Vec<Absence> = site
        .clients_of(Scope::Site)
        .await
        .unwrap()
        .iter()
        .map(|client| client.absence(scanned[&client.number], at(20)))
        .collect();
    let expected = [
        Absence::NeverReported,
        Absence::NeverReported,
        Absence::ScanFailed,
        Absence::NeverScanned,
        Absence::CatalogueIsNewer,
    ];
    assert_eq!(reasons, expected);
    let later = site.clients_of(Scope::Site).await.unwrap();
    assert_eq!(later[4].absence(true, at(3 * 86_400)), Absence::Silent);
}

async fn a_deployment_is_told_of_by_all_that_it_reaches(db: Db) {
    let site = &db.site;
    let one = client(site, 1).await;
    client(site, 2).await;
    client(site, 3).await;
    let mut register = Register::default();
    register.collections.insert(name("all"), collection("uid-all", [1, 2, 3]));
    register.deployments.insert(name("march"), deployment("march", "uid-march", "all", vec![], [1, 2]));
    site.put_register(&register, None, at(5)).await.unwrap();
    let march = site.report_deployments().await.unwrap().remove(0);
    let uid = || "uid-march".to_owned();
    let said = vec![
        IntakeBody::Compliance { deployment: uid(), state: Compliance::NonCompliant },
        IntakeBody::Enforcement {
            deployment: uid(),
            state: DeploymentEnforcement::InstallFailed,
            until: None,
            error: Some(error(5)),
        },
    ];
    site.intake(report(one, 1, said)).await.unwrap();
    let told = site.deployment_reports(march.number).await.unwrap();
    assert_eq!(told.len(), 2, "the third is not reached");
    assert_eq!(told[0].enforcement, Some(DeploymentEnforcement::InstallFailed));
    assert_eq!((told[0].compliance, told[0].error.clone()), (Some(Compliance::NonCompliant), Some(error(5))));
    assert_eq!((told[1].enforcement, told[1].compliance, told[1].changed_at), (None, None, None));
}
