//! Lists that the database chooses from: selectors, pages, and that both databases say the same.

use std::collections::BTreeSet;

use patchtide_model::{
    catalogue::{Classification, Severity},
    client::{ClientState, Facts},
    object::{FactOperator, FactRequirement},
    state::{Compliance, DeploymentEnforcement, Detection, Scan, StateError, UpdateEnforcement},
};
use patchtide_store::{
    SiteStore,
    answers::select::{ClientIs, Condition, DeploymentStateIs, Part, StatesOf, UpdateIs},
    intake::IntakeBody,
    register::Register,
};

use crate::{
    common::{Db, at, client, detected, id, on_both, report, scan, sync},
    register::{collection, deployment, name},
};

on_both!(
    clients_are_chosen_by_what_they_are,
    clients_are_chosen_by_facts_as_labels,
    updates_are_chosen_by_what_they_are,
    states_of_one_update_and_of_one_client,
    deployments_with_whom_they_reach,
    pages_are_the_whole_list_once_whatever_comes_between,
);

fn must<T>(what: T) -> Condition<T> {
    Condition { what, holds: true }
}

fn not<T>(what: T) -> Condition<T> {
    Condition { what, holds: false }
}

fn all<T>(conditions: Vec<Condition<T>>) -> Part<T> {
    Part { conditions, ..Part::first(100) }
}

async fn facts(site: &SiteStore, n: u128, seq: u64, facts: &[(&str, &str)]) {
    let facts: Facts = facts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let client = patchtide_model::ClientId(uuid::Uuid::from_u128(n));
    site.intake(report(client, seq, vec![IntakeBody::Facts(facts)])).await.unwrap();
}

/// Numbers of the clients that are found.
async fn found(site: &SiteStore, part: Part<ClientIs>) -> Vec<u128> {
    let rows = site.select_clients(&part, at(-100), true).await.unwrap();
    rows.iter().map(|row| row.client.id.0.as_u128()).collect()
}

async fn clients_are_chosen_by_what_they_are(db: Db) {
    let site = &db.site;
    for n in 1..=4 {
        client(site, n).await;
    }
    site.set_client_state(client_id(4), ClientState::Revoked).await.unwrap();
    let failed = StateError::told(7, "SCAN-X".to_owned(), "no".to_owned());
    let scanned = IntakeBody::Scan { state: Scan::Failed, error: Some(failed) };
    site.intake(report(client_id(2), 1, vec![scanned])).await.unwrap();
    site.touch_client(client_id(3), "10.0.0.3".parse().unwrap(), at(5)).await.unwrap();

    assert_eq!(found(site, Part::first(10)).await, [1, 2, 3, 4]);
    assert_eq!(found(site, all(vec![must(ClientIs::Id(client_id(2).to_string()))])).await, [2]);
    assert_eq!(found(site, all(vec![must(ClientIs::Called("host-3".to_owned()))])).await, [3]);
    assert_eq!(found(site, all(vec![not(ClientIs::Called("host-3".to_owned()))])).await, [1, 2, 4]);
    assert_eq!(found(site, all(vec![must(ClientIs::In(ClientState::Revoked))])).await, [4]);
    assert_eq!(found(site, all(vec![must(ClientIs::At("10.0.0.3".to_owned()))])).await, [3]);
    assert_eq!(found(site, all(vec![not(ClientIs::At("10.0.0.3".to_owned()))])).await, [1, 2, 4]);
    assert_eq!(found(site, all(vec![must(ClientIs::Scan(Scan::Failed))])).await, [2]);
    assert_eq!(found(site, all(vec![must(ClientIs::Scan(Scan::Unknown))])).await, [1, 3, 4]);
    let silent = |since, part: Part<ClientIs>| async move {
        let rows = site.select_clients(&part, at(since), false).await.unwrap();
        assert!(rows.iter().all(|row| row.silent
            == (row.client.state == ClientState::Active
                && row.client.last_contact.is_none_or(|last| last <= at(since)))));
        rows.iter().map(|row| row.client.id.0.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(silent(4, all(vec![must(ClientIs::Silent)])).await, [1, 2], "who is revoked is not silent");
    assert_eq!(silent(4, all(vec![not(ClientIs::Silent)])).await, [3, 4]);
    assert_eq!(silent(5, all(vec![must(ClientIs::Silent)])).await, [1, 2, 3]);

    let keys = Some(vec![client_id(1).to_string(), client_id(3).to_string(), "nobody".to_owned()]);
    assert_eq!(found(site, Part { keys, ..Part::first(10) }).await, [1, 3]);
    // Text is a value, whatever it says.
    for text in ["' OR 1=1 --", "\0", "%", "host-3'"] {
        assert_eq!(found(site, all(vec![must(ClientIs::Called(text.to_owned()))])).await, [0_u128; 0]);
    }
    let row = site
        .select_clients(&all(vec![must(ClientIs::Scan(Scan::Failed))]), at(0), false)
        .await
        .unwrap()
        .remove(0);
    let said = row.report.unwrap();
    assert_eq!(
        (said.scan, said.scan_error.unwrap().symbol.as_str(), said.reported_at),
        (Scan::Failed, "SCAN-X", at(11))
    );
    assert_eq!(row.not_after, at(1_000_000));
    assert_eq!(db.store.sites().await.unwrap(), []);
}

fn client_id(n: u128) -> patchtide_model::ClientId {
    patchtide_model::ClientId(uuid::Uuid::from_u128(n))
}

async fn clients_are_chosen_by_facts_as_labels(db: Db) {
    use FactOperator::{DoesNotExist, Exists, In, NotIn};

    let site = &db.site;
    for n in 1..=4 {
        client(site, n).await;
    }
    facts(site, 1, 1, &[("os.id", "debian"), ("label/rack", "a1"), ("empty", "")]).await;
    facts(site, 2, 1, &[("os.id", "debian"), ("label/rack", "b2"), ("timezone", "Europe/Berlin")]).await;
    facts(site, 3, 1, &[("os.id", "rocky"), ("bad", "a\0b"), ("timezone", "UTC")]).await;
    facts(site, 4, 1, &[("long", &"x".repeat(64)), ("edge", "-a"), ("quote", "a\"b'c"), ("end", "a.")]).await;
    let ask = |key: &'static str, operator, values: &'static [&'static str]| async move {
        let values: BTreeSet<String> = values.iter().map(|value| (*value).to_owned()).collect();
        let facts = vec![FactRequirement { key: key.to_owned(), operator, values }];
        found(site, Part { facts, ..Part::first(10) }).await
    };
    assert_eq!(ask("os.id", In, &["debian"]).await, [1, 2]);
    assert_eq!(ask("os.id", In, &["debian", "rocky"]).await, [1, 2, 3]);
    assert_eq!(
        ask("os.id", NotIn, &["debian"]).await,
        [3, 4],
        "who has no such label has none of the values"
    );
    assert_eq!(ask("label/rack", Exists, &[]).await, [1, 2]);
    assert_eq!(ask("label/rack", DoesNotExist, &[]).await, [3, 4]);
    assert_eq!(ask("empty", In, &[""]).await, [1]);
    assert_eq!(ask("empty", Exists, &[]).await, [1]);
    // What cannot be the value of a label is none.
    assert_eq!(ask("timezone", Exists, &[]).await, [3]);
    for key in ["long", "edge", "quote", "end", "bad"] {
        assert_eq!(ask(key, Exists, &[]).await, [0_u128; 0], "{key}");
    }
    assert_eq!(ask("bad", NotIn, &["a"]).await, [1, 2, 3, 4]);
}

async fn catalogue(db: &Db) {
    let mut line =
        sync("bookworm", &[("apt", "1"), ("bash", "1:5.2+x~deb12.1"), ("curl", "2"), ("zlib", "9")]);
    line.updates[0].severity = Severity::Critical;
    line.updates[1].classification = Classification::Updates;
    line.updates[2].expired = true;
    db.site.apply_line_sync(line, at(0)).await.unwrap();
    let mut line = sync("security", &[("apt", "1"), ("apt", "2")]);
    line.updates[0].superseded_by = Some(id("security", "apt", "2"));
    db.site.apply_line_sync(line, at(0)).await.unwrap();
}

async fn updates_are_chosen_by_what_they_are(db: Db) {
    let site = &db.site;
    catalogue(&db).await;
    let one = client(site, 1).await;
    let states = vec![detected("apt", "1", Detection::Required), detected("zlib", "9", Detection::Installed)];
    site.intake(report(one, 1, vec![scan("bookworm", 1, states)])).await.unwrap();
    let ask = |conditions: Vec<Condition<UpdateIs>>| async move {
        let rows = site.select_updates(&all(conditions)).await.unwrap();
        rows.iter().map(|row| row.id.to_string()).collect::<Vec<_>>()
    };
    let (apt, bash) = ("debian/bookworm/main:apt@1", "debian/bookworm/main:bash@1:5.2+x~deb12.1");
    let (curl, zlib) = ("debian/bookworm/main:curl@2", "debian/bookworm/main:zlib@9");
    let (old, new) = ("debian/security/main:apt@1", "debian/security/main:apt@2");
    let mut order = ask(Vec::new()).await;
    assert_eq!(order.len(), 6);
    assert_eq!(
        [order[0].clone(), order[1].clone(), order[2].clone()].into_iter().collect::<BTreeSet<_>>(),
        BTreeSet::from([apt, old, new].map(str::to_owned)),
        "by source"
    );
    order.sort();
    assert_eq!(order, {
        let mut all = [apt, bash, curl, zlib, old, new];
        all.sort_unstable();
        all
    });
    for text in [apt, bash, old, new] {
        let update: patchtide_model::UpdateId = text.parse().unwrap();
        assert_eq!(ask(vec![must(UpdateIs::Named(update.slug()))]).await, [text]);
        assert_eq!(ask(vec![must(UpdateIs::Id(update))]).await, [text]);
    }
    for name in ["", "apt", "apt-1-00000000", "ä"] {
        assert_eq!(ask(vec![must(UpdateIs::Named(name.to_owned()))]).await, [""; 0], "{name}");
    }
    assert_eq!(ask(vec![must(UpdateIs::Line("debian/security/main".to_owned()))]).await, [old, new]);
    assert_eq!(ask(vec![must(UpdateIs::Severity(Severity::Critical))]).await, [apt]);
    assert_eq!(ask(vec![must(UpdateIs::Classified(Classification::Updates))]).await, [bash]);
    assert_eq!(ask(vec![must(UpdateIs::Required)]).await, [apt]);
    assert_eq!(ask(vec![not(UpdateIs::Required)]).await.len(), 5);
    assert_eq!(ask(vec![must(UpdateIs::Superseded)]).await, [old]);
    assert_eq!(ask(vec![must(UpdateIs::Source("apt".to_owned())), not(UpdateIs::Superseded)]).await.len(), 2);
    let rows = site.select_updates(&all(vec![must(UpdateIs::Source("apt".to_owned()))])).await.unwrap();
    for row in &rows {
        assert_eq!(
            site.required_counts(std::slice::from_ref(&row.id)).await.unwrap()[&row.id],
            row.counts,
            "{}",
            row.id
        );
    }
    let keys = Some(rows.iter().take(2).map(patchtide_store::answers::select::UpdateRow::key).collect());
    assert_eq!(site.select_updates(&Part { keys, ..Part::first(9) }).await.unwrap(), rows[..2]);
    // What the database cannot tell by itself is filled up to the limit all the same.
    let part = Part { conditions: vec![not(UpdateIs::Required)], ..Part::first(2) };
    assert_eq!(site.select_updates(&part).await.unwrap().len(), 2);
    assert!(
        site.select_updates(&Part { after: Some("damaged".to_owned()), ..Part::first(1) }).await.is_err()
    );
}

async fn states_of_one_update_and_of_one_client(db: Db) {
    let site = &db.site;
    catalogue(&db).await;
    let apt = id("bookworm", "apt", "1");
    for n in 1..=6_u128 {
        let one = client(site, n).await;
        let state = if n % 2 == 0 { Detection::Required } else { Detection::Installed };
        let mut states = vec![detected("apt", "1", state)];
        // Dense and sparse forms.
        if n > 3 {
            states.extend(
                [("bash", "1:5.2+x~deb12.1"), ("curl", "2"), ("zlib", "9")]
                    .map(|(s, v)| detected(s, v, Detection::Installed)),
            );
        }
        site.intake(report(one, 1, vec![scan("bookworm", 1, states)])).await.unwrap();
    }
    let error = StateError::told(7, "PKG-HASH".to_owned(), "no".to_owned());
    let failed = IntakeBody::Update {
        update: apt.clone(),
        state: UpdateEnforcement::InstallFailed,
        error: Some(error),
    };
    site.intake(report(client_id(4), 2, vec![failed])).await.unwrap();
    let ask = |part: Part<StatesOf>| {
        let apt = apt.clone();
        async move {
            let rows = site.select_states_of_update(&apt, &part).await.unwrap();
            for row in &rows {
                // The same as what each client says.
                let own = site.client_states(row.client).await.unwrap();
                assert!(own.contains(&row.state), "{:?} of {own:?}", row.state);
            }
            rows.iter().map(|row| row.client.0.as_u128()).collect::<Vec<_>>()
        }
    };
    assert_eq!(ask(Part::first(10)).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(ask(all(vec![must(StatesOf::Detection(Detection::Required))])).await, [2, 4, 6]);
    assert_eq!(ask(all(vec![not(StatesOf::Detection(Detection::Required))])).await, [1, 3, 5]);
    assert_eq!(ask(all(vec![must(StatesOf::Enforcement(UpdateEnforcement::InstallFailed))])).await, [4]);
    assert_eq!(ask(all(vec![must(StatesOf::Failed)])).await, [4]);
    let first = site.select_states_of_update(&apt, &Part::first(2)).await.unwrap();
    let after = Some(first[1].key());
    assert_eq!(ask(Part { after, ..Part::first(3) }).await, [3, 4, 5]);
    site.set_client_state(client_id(6), ClientState::Revoked).await.unwrap();
    assert_eq!(ask(Part::first(10)).await, [1, 2, 3, 4, 5], "active ones, as in the counts");
    assert_eq!(site.select_states_of_update(&id("bookworm", "x", "1"), &Part::first(1)).await.unwrap(), []);

    let four = site.client(client_id(4)).await.unwrap().unwrap();
    let rows = site.select_states_of_client(&four, &Part::first(10)).await.unwrap();
    assert_eq!(rows.len(), 4);
    assert!(rows.is_sorted_by(|a, b| a.key() < b.key()));
    let part = Part { after: Some(rows[0].key()), ..Part::first(2) };
    assert_eq!(site.select_states_of_client(&four, &part).await.unwrap(), rows[1..3]);
    let part = all(vec![must(StatesOf::Failed)]);
    assert_eq!(site.select_states_of_client(&four, &part).await.unwrap().len(), 1);
    let row =
        &site.select_clients(&all(vec![must(ClientIs::Id(four.id.to_string()))]), at(0), true).await.unwrap()
            [0];
    let numbers = row.updates.unwrap();
    assert_eq!((numbers.required, numbers.installed, numbers.failed, numbers.pending_restart), (1, 3, 1, 0));
}

async fn deployments_with_whom_they_reach(db: Db) {
    use DeploymentStateIs::{Called, Client, Code, Deployment, Enforcement, Error, Reported};

    let site = &db.site;
    catalogue(&db).await;
    for n in 1..=5 {
        client(site, n).await;
    }
    let before = site.select_number().await.unwrap();
    let mut register = Register::default();
    register.collections.insert(name("all"), collection("c", 1..=5));
    let apt = || vec![id("bookworm", "apt", "1")];
    register.deployments.insert(name("one.x"), deployment("one.x", "uid-1", "all", apt(), 1..=4));
    register.deployments.insert(name("one"), deployment("one", "uid-2", "all", apt(), [5]));
    site.put_register(&register, None, at(1)).await.unwrap();
    assert!(site.select_number().await.unwrap() > before, "whom a deployment reaches is a change");
    let say =
        |state, error| IntakeBody::Enforcement { deployment: "uid-1".to_owned(), state, until: None, error };
    let error = StateError::told(0x87D0_0324, "PKG-HASH".to_owned(), "a \0 b".to_owned());
    let compliant = IntakeBody::Compliance { deployment: "uid-1".to_owned(), state: Compliance::Compliant };
    site.intake(report(client_id(1), 1, vec![say(DeploymentEnforcement::InstallFailed, Some(error))]))
        .await
        .unwrap();
    site.intake(report(client_id(2), 1, vec![say(DeploymentEnforcement::Installed, None), compliant]))
        .await
        .unwrap();
    // It spoke of it and is reached no longer.
    site.intake(report(client_id(5), 1, vec![say(DeploymentEnforcement::Downloading, None)])).await.unwrap();

    let ask = |part: Part<DeploymentStateIs>| async move {
        let rows = site.select_deployment_states(&part).await.unwrap();
        rows.iter().map(|row| format!("{}/{}", row.deployment, row.client.0.as_u128())).collect::<Vec<_>>()
    };
    assert_eq!(ask(Part::first(10)).await, ["one/5", "one.x/1", "one.x/2", "one.x/3", "one.x/4"]);
    assert_eq!(ask(all(vec![must(Deployment("one".to_owned()))])).await, ["one/5"]);
    assert_eq!(ask(all(vec![not(Deployment("one.x".to_owned()))])).await, ["one/5"]);
    assert_eq!(ask(all(vec![must(Client(client_id(2).to_string()))])).await, ["one.x/2"]);
    assert_eq!(ask(all(vec![must(Called("host-3".to_owned()))])).await, ["one.x/3"]);
    let unknown = DeploymentEnforcement::Unknown;
    assert_eq!(
        ask(all(vec![must(Enforcement(unknown))])).await,
        ["one/5", "one.x/3", "one.x/4"],
        "never reported"
    );
    assert_eq!(ask(all(vec![not(Enforcement(unknown))])).await, ["one.x/1", "one.x/2"]);
    assert_eq!(ask(all(vec![not(Reported)])).await, ["one/5", "one.x/3", "one.x/4"]);
    assert_eq!(ask(all(vec![must(DeploymentStateIs::Compliance(Compliance::Compliant))])).await, ["one.x/2"]);
    let rows =
        site.select_deployment_states(&all(vec![must(Client(client_id(1).to_string()))])).await.unwrap();
    assert_eq!(rows[0].state.as_ref().unwrap().error.as_ref().unwrap().symbol, "PKG-HASH");
    // PostgreSQL's text cannot hold what this message has.
    assert_eq!(ask(all(vec![must(Error("PKG-HASH".to_owned()))])).await, ["one.x/1"]);
    assert_eq!(ask(all(vec![not(Error(String::new()))])).await, ["one.x/1"], "with any error");
    assert_eq!(ask(all(vec![must(Code(0x87D0_0324))])).await, ["one.x/1"]);
    let keys = Some(vec![rows[0].key(), "one.nobody".to_owned()]);
    assert_eq!(ask(Part { keys, ..Part::first(9) }).await, ["one.x/1"]);
    let mut after = None;
    let mut seen = Vec::new();
    loop {
        let part = Part { after, ..Part::first(2) };
        let rows = site.select_deployment_states(&part).await.unwrap();
        let Some(last) = rows.last() else { break };
        after = Some(last.key());
        seen.extend(rows.iter().map(|row| row.client.0.as_u128()));
    }
    assert_eq!(seen, [5, 1, 2, 3, 4]);
}

async fn pages_are_the_whole_list_once_whatever_comes_between(db: Db) {
    let site = &db.site;
    for n in (2..=40).step_by(2) {
        client(site, n).await;
    }
    let (mut after, mut seen, mut next) = (None, Vec::new(), 1);
    loop {
        let rows = site.select_clients(&Part { after, ..Part::first(7) }, at(0), false).await.unwrap();
        let Some(last) = rows.last() else { break };
        after = Some(last.client.id.to_string());
        seen.extend(rows.iter().map(|row| row.client.id.0.as_u128()));
        client(site, next).await;
        next += 14;
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "each once, in order");
    assert!((2..=40).step_by(2).all(|n| seen.contains(&n)), "who was there throughout is there: {seen:?}");
}
