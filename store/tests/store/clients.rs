//! Enrolment, standing, policy.

use patchtide_model::{
    ClientId, Digest,
    client::ClientState,
    site::SiteLimits,
    state::{Compliance, DeploymentEnforcement, Detection},
    wake::Called,
};
use patchtide_store::{
    ObjectRow, StoreError,
    clients::{EnrolmentRow, EnrolmentState, PolicyParts, StoredPolicy, WakeCounts},
    intake::IntakeBody,
};
use uuid::Uuid;

use crate::common::{Db, at, client, detected, enrolment, id, on_both, report, scan, sync};

on_both!(
    a_request_waits_and_becomes_a_client,
    pending_requests_are_bounded,
    the_site_bounds_its_clients,
    only_active_clients_count,
    policy_numbers_only_rise,
    parts_of_policies_are_kept_once_and_collected,
    contacts_are_kept_once_a_minute,
    certificates_are_renewed,
    who_sleeps_and_what_was_sent_is_known,
    a_client_that_changes_is_told_from_its_number_on,
);

async fn a_request_waits_and_becomes_a_client(db: Db) {
    let site = &db.site;
    let request = enrolment(1);
    assert_eq!(site.put_enrolment(request.clone()).await.unwrap(), EnrolmentState::Pending);
    let again = EnrolmentRow { name: "renamed".to_owned(), requested_at: at(9), ..request.clone() };
    assert_eq!(site.put_enrolment(again).await.unwrap(), EnrolmentState::Pending);
    let open = site.open_enrolments().await.unwrap();
    assert_eq!((open.len(), open[0].name.as_str(), open[0].requested_at), (1, "renamed", at(0)));
    site.refuse_enrolment(request.id, "unknown host").await.unwrap();
    assert!(site.open_enrolments().await.unwrap().is_empty());
    assert!(matches!(site.put_enrolment(request.clone()).await.unwrap(), EnrolmentState::Refused { .. }));
    let with_token = EnrolmentRow { token_digest: Some(Digest::of(b"t")), ..request.clone() };
    assert_eq!(site.put_enrolment(with_token).await.unwrap(), EnrolmentState::Pending);
    let client = ClientId(Uuid::from_u128(7));
    site.approve_enrolment(request.id, client, "pem", at(500), at(2)).await.unwrap();
    let approved = EnrolmentState::Approved { client, certificate_pem: "pem".to_owned(), not_after: at(500) };
    assert_eq!(site.put_enrolment(request.clone()).await.unwrap(), approved);
    assert!(site.refuse_enrolment(request.id, "late").await.is_err());
    let known = site.client(client).await.unwrap().unwrap();
    assert_eq!((known.state, known.name.as_str(), known.facts.len()), (ClientState::Active, "host-1", 1));
    assert_eq!(site.clients().await.unwrap(), [known]);
    site.renew_client(client, "pem2", at(900)).await.unwrap();
    assert_eq!(site.client_certificate(client).await.unwrap(), Some(("pem2".to_owned(), at(900))));
    assert!(site.approve_enrolment(Digest::of(b"none"), client, "", at(0), at(0)).await.is_err());
    site.put_enrolment(enrolment(2)).await.unwrap();
    assert_eq!(site.expire_enrolments(at(1)).await.unwrap(), 1);
    assert!(site.enrolment(request.id).await.unwrap().is_some());
}

async fn pending_requests_are_bounded(db: Db) {
    let address = Some("192.0.2.1".parse().unwrap());
    for n in 0..10 {
        db.site.put_enrolment(EnrolmentRow { address, ..enrolment(n) }).await.unwrap();
    }
    let refused = db.site.put_enrolment(EnrolmentRow { address, ..enrolment(10) }).await;
    assert!(matches!(refused, Err(StoreError::Limit { limit: 10, .. })));
    // Asking again is not another one, and other addresses are not concerned.
    let again = EnrolmentRow { address, name: "new".to_owned(), ..enrolment(3) };
    assert_eq!(db.site.put_enrolment(again).await.unwrap(), EnrolmentState::Pending);
    let other = Some("192.0.2.2".parse().unwrap());
    db.site.put_enrolment(EnrolmentRow { address: other, ..enrolment(11) }).await.unwrap();
}

async fn the_site_bounds_its_clients(db: Db) {
    let site = &db.site;
    let one = client(site, 1).await;
    let limits = SiteLimits {
        clients: 2,
        pending_clients: 1,
        enrolments_per_minute: 60,
        requests_per_minute: 600,
        report_size: 1,
        messages_per_report: 1,
        content_store: None,
    };
    site.set_site_limits(&limits).await.unwrap();
    assert_eq!(site.site_limits().await.unwrap(), Some(limits.clone()));
    site.put_enrolment(enrolment(10)).await.unwrap();
    let refused = async |n| match site.put_enrolment(enrolment(n)).await {
        Err(StoreError::Limit { what, limit }) => (what, limit),
        other => panic!("{other:?}"),
    };
    // The first that is exceeded is named.
    let (what, limit) = refused(11).await;
    assert_eq!((what.contains("limits.clients"), limit), (true, 2));
    site.set_site_limits(&SiteLimits { clients: 100, ..limits.clone() }).await.unwrap();
    let (what, limit) = refused(11).await;
    assert_eq!((what.contains("limits.pendingClients"), limit), (true, 1));
    // A revoked client leaves its place.
    site.set_site_limits(&SiteLimits { pending_clients: 5, ..limits }).await.unwrap();
    site.set_client_state(one, ClientState::Revoked).await.unwrap();
    assert_eq!(site.put_enrolment(enrolment(11)).await.unwrap(), EnrolmentState::Pending);
    assert_eq!(refused(12).await.1, 2);
}

async fn only_active_clients_count(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1"), ("b", "1")]), at(1)).await.unwrap();
    let clients = [client(site, 1).await, client(site, 2).await];
    for one in clients {
        let states = vec![detected("a", "1", Detection::Required)];
        site.intake(report(one, 1, vec![scan("b", 1, states)])).await.unwrap();
    }
    let (a, b) = (id("b", "a", "1"), id("b", "b", "1"));
    let counts = async || {
        let counts = site.required_counts(&[a.clone(), b.clone()]).await.unwrap();
        (counts[&a].required, counts[&a].unknown, counts[&b].not_required, counts[&b].unknown)
    };
    assert_eq!(counts().await, (2, 0, 2, 0));
    site.set_client_state(clients[0], ClientState::Revoked).await.unwrap();
    assert_eq!(counts().await, (1, 0, 1, 0));
    assert_eq!(site.verify().await.unwrap(), []);
    assert_eq!(site.requiring_clients(&a).await.unwrap(), [clients[1]]);
    let refused = site.intake(report(clients[0], 2, vec![])).await;
    assert!(matches!(refused, Err(StoreError::NotActive { state: ClientState::Revoked, .. })));
    site.set_client_state(clients[0], ClientState::Active).await.unwrap();
    site.set_client_state(clients[0], ClientState::Active).await.unwrap();
    assert_eq!(counts().await, (2, 0, 2, 0));
    assert_eq!(site.verify().await.unwrap(), []);
    let nobody = ClientId(Uuid::from_u128(99));
    assert!(matches!(
        site.set_client_state(nobody, ClientState::Active).await,
        Err(StoreError::UnknownClient(_))
    ));
    assert!(matches!(site.intake(report(nobody, 1, vec![])).await, Err(StoreError::UnknownClient(_))));
}

/// A policy that orders `text` and lets all install the same, and its parts.
fn policy(client: ClientId, epoch: u64, number: u64, text: &str) -> (StoredPolicy, PolicyParts) {
    let parts = [text, "updates"].map(|part| (Digest::of(part.as_bytes()), part.as_bytes().to_vec()));
    let policy = StoredPolicy {
        client,
        epoch,
        number,
        body_digest: Digest::of(format!("body {text}").as_bytes()),
        orders: parts[0].0,
        updates: parts[1].0,
        statement: format!("{client} {text}").into_bytes(),
        issued_at: at(1),
    };
    (policy, parts.into())
}

async fn put(db: &Db, policies: impl IntoIterator<Item = (StoredPolicy, PolicyParts)>) -> u64 {
    let (policies, parts): (Vec<_>, Vec<_>) = policies.into_iter().unzip();
    db.site.put_policies(policies, parts.into_iter().flatten().collect()).await.unwrap()
}

async fn policy_numbers_only_rise(db: Db) {
    let site = &db.site;
    let one = client(site, 1).await;
    let nobodys = policy(ClientId(Uuid::from_u128(9)), 1, 1, "x");
    let policy = |epoch, number, text: &str| policy(one, epoch, number, text);
    let mut changes = site.policy_changes();
    assert_eq!(put(&db, [policy(1, 2, "b"), policy(1, 1, "a")]).await, 1);
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert_eq!(put(&db, [policy(1, 2, "c"), policy(1, 1, "d")]).await, 0);
    assert!(!changes.has_changed().unwrap());
    assert_eq!(site.policy(one).await.unwrap(), Some(policy(1, 2, "b").0));
    assert_eq!(site.policy_numbers().await.unwrap(), [(one, (1, 2))].into());
    assert_eq!(put(&db, [policy(2, 1, "e")]).await, 1);
    assert_eq!(site.policy_digests().await.unwrap()[&one], (2, 1, Digest::of(b"body e")));
    assert_eq!(put(&db, [nobodys]).await, 0);
}

/// A part is there once, for those whose policy names it, as long as one does.
async fn parts_of_policies_are_kept_once_and_collected(db: Db) {
    let site = &db.site;
    let (one, two) = (client(site, 1).await, client(site, 2).await);
    let part =
        async |client, text: &str| site.policy_part(client, Digest::of(text.as_bytes())).await.unwrap();
    assert_eq!(put(&db, [policy(one, 1, 1, "a"), policy(two, 1, 1, "b")]).await, 2);
    assert_eq!(site.collect_policy_parts().await.unwrap(), 0);
    assert_eq!(part(one, "a").await, Some(b"a".to_vec()));
    assert_eq!(part(two, "updates").await, Some(b"updates".to_vec()));
    assert_eq!(part(one, "b").await, None, "what another is told is not for this client");
    assert_eq!(part(ClientId(Uuid::from_u128(9)), "a").await, None);

    // What is kept need not be given again; what is nowhere is no policy, and nothing of its transaction is kept.
    let (next, _) = policy(one, 1, 2, "b");
    assert_eq!(site.put_policies(vec![next.clone()], PolicyParts::new()).await.unwrap(), 1);
    let (gone, _) = policy(one, 1, 3, "c");
    let error =
        site.put_policies(vec![policy(two, 1, 2, "b").0, gone], PolicyParts::new()).await.unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    assert_eq!(site.policy(one).await.unwrap(), Some(next));
    assert_eq!(site.policy(two).await.unwrap().unwrap().number, 1);

    // What no policy names is deleted, and put again when one does.
    assert_eq!(site.collect_policy_parts().await.unwrap(), 1);
    assert_eq!(part(one, "a").await, None);
    let (again, parts) = policy(two, 1, 2, "a");
    assert!(site.put_policies(vec![again.clone()], PolicyParts::new()).await.is_err());
    assert_eq!(site.put_policies(vec![again], parts).await.unwrap(), 1);
    assert_eq!(part(two, "a").await, Some(b"a".to_vec()));
    assert_eq!(site.collect_policy_parts().await.unwrap(), 0);
}

async fn a_client_that_changes_is_told_from_its_number_on(db: Db) {
    let site = &db.site;
    let (one, two) = (client(site, 1).await, client(site, 2).await);
    let number = async || site.change_number().await.unwrap();
    let after = async |number: u64| {
        let changed = site.clients_changed_after(number).await.unwrap();
        changed.into_iter().map(|client| client.id).collect::<Vec<_>>()
    };
    assert_eq!(after(0).await, [one, two], "enrolled");
    let seen = number().await;
    assert_eq!(after(seen).await, []);
    // A contact and other reports change nothing about a client.
    let home = "192.0.2.1".parse().unwrap();
    site.touch_client(one, home, at(1)).await.unwrap();
    assert_eq!(after(seen).await, [one], "it has an address now");
    let seen = number().await;
    site.touch_client(one, home, at(1_000)).await.unwrap();
    site.intake(report(one, 1, vec![IntakeBody::Heartbeat])).await.unwrap();
    site.renew_client(one, "pem", at(2_000)).await.unwrap();
    assert_eq!((after(seen).await, number().await > seen), (vec![], true));
    // What policies depend on does: facts, standing, address.
    let facts = |value: &str| IntakeBody::Facts([("role".to_owned(), value.to_owned())].into());
    site.intake(report(two, 1, vec![facts("server")])).await.unwrap();
    assert_eq!(after(seen).await, [two]);
    let seen = number().await;
    site.intake(report(two, 2, vec![facts("server")])).await.unwrap();
    assert_eq!(after(seen).await, [], "the same facts again");
    site.set_client_state(one, ClientState::Revoked).await.unwrap();
    site.intake(report(two, 3, vec![facts("workstation")])).await.unwrap();
    assert_eq!(after(seen).await, [one, two]);
    let seen = number().await;
    site.touch_client(two, "192.0.2.7".parse().unwrap(), at(3_000)).await.unwrap();
    assert_eq!(after(seen).await, [two]);
    assert_eq!(site.silent_since(at(2_999)).await.unwrap(), [].into());
    assert_eq!(site.silent_since(at(3_000)).await.unwrap(), [two].into(), "a revoked one is not waited for");
}

async fn contacts_are_kept_once_a_minute(db: Db) {
    let site = &db.site;
    let one = client(site, 1).await;
    let (home, away) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    let last = async || {
        let client = site.client(one).await.unwrap().unwrap();
        (client.address, client.last_contact)
    };
    site.touch_client(one, home, at(100)).await.unwrap();
    site.touch_client(one, home, at(159)).await.unwrap();
    assert_eq!(last().await, (Some(home), Some(at(100))));
    site.touch_client(one, home, at(160)).await.unwrap();
    assert_eq!(last().await, (Some(home), Some(at(160))));
    site.touch_client(one, away, at(161)).await.unwrap();
    assert_eq!(last().await, (Some(away), Some(at(161))));
}

/// R-SCHED-06: who is not done and was not heard of, and what was sent to them, also after a restart of the controller.
async fn who_sleeps_and_what_was_sent_is_known(db: Db) {
    let site = &db.site;
    let (one, two, done) = (client(site, 1).await, client(site, 2).await, client(site, 3).await);
    let gone = client(site, 4).await;
    site.set_client_state(gone, ClientState::Quarantined).await.unwrap();
    let uid = || "uid-1".to_owned();
    let row = |uid: &str| ObjectRow {
        kind: "UpdateDeployment".to_owned(),
        name: "a".to_owned(),
        uid: uid.to_owned(),
        generation: 1,
        json: "{}".to_owned(),
    };
    site.put_object(row("uid-1")).await.unwrap();
    let said = |state| IntakeBody::Compliance { deployment: uid(), state };
    site.intake(report(one, 1, vec![said(Compliance::NonCompliant)])).await.unwrap();
    site.intake(report(done, 1, vec![said(Compliance::Compliant)])).await.unwrap();
    let address = "192.0.2.1".parse().unwrap();
    site.touch_client(one, address, at(100)).await.unwrap();
    let who = async |since| {
        let found = site.sleeping("uid-1", at(since)).await.unwrap();
        found.into_iter().map(|client| (client.client, client.heard, client.called)).collect::<Vec<_>>()
    };
    assert_eq!(who(99).await, [(two, Some(at(0)), None)], "it was heard of since");
    assert_eq!(who(100).await, [(one, Some(at(100)), None), (two, Some(at(0)), None)]);
    let call = Called { occasion: at(150), first: at(160), last: at(160), times: 1, series: 1 };
    site.put_wake_calls(&[(uid(), one, call), (uid(), two, call)]).await.unwrap();
    let later = Called { last: at(220), times: 2, ..call };
    site.put_wake_calls(&[(uid(), one, later)]).await.unwrap();
    assert_eq!(who(300).await, [(one, Some(at(100)), Some(later)), (two, Some(at(0)), Some(call))]);
    site.touch_client(one, address, at(230)).await.unwrap();
    assert_eq!(site.wake_counts("uid-1").await.unwrap(), WakeCounts { called: 2, answered: 1 });
    assert_eq!(site.wake_counts("uid-2").await.unwrap(), WakeCounts::default());
    // Installed: a restart alone wakes nobody.
    let state = DeploymentEnforcement::PendingRestart;
    let pending = IntakeBody::Enforcement { deployment: uid(), state, until: None, error: None };
    site.intake(report(one, 2, vec![pending])).await.unwrap();
    assert_eq!(who(300).await, [(two, Some(at(0)), Some(call))]);
    // It goes with the deployment.
    site.put_object(row("uid-1b")).await.unwrap();
    assert_eq!(site.wake_counts("uid-1").await.unwrap(), WakeCounts::default());
}

async fn certificates_are_renewed(db: Db) {
    let site = &db.site;
    let one = client(site, 1).await;
    site.renew_client(one, "pem 2", at(2_000)).await.unwrap();
    let answered = site.enrolment(enrolment(1).id).await.unwrap().unwrap().state;
    let renewed =
        EnrolmentState::Approved { client: one, certificate_pem: "pem 2".to_owned(), not_after: at(2_000) };
    assert_eq!(answered, renewed);
}
