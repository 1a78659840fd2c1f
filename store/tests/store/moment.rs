//! A site as it is at one moment, whatever is written meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{
    Digest, ObjectName, UpdateId,
    catalogue::LeafRef,
    client::ClientState,
    deployment::{Deadline, Deployment, DeploymentSettings},
    object::PackageContent,
    policy::LineRelease,
    search::Criteria,
    state::{Compliance, Detection, StateError, UpdateEnforcement},
};
use patchtide_store::{ObjectRow, clients::StoredPolicy, intake::IntakeBody, site::PACKAGE_CONTENT};

use crate::common::{Db, at, client, detected, id, leaf_ref, on_both, report, scan, sync, update};

on_both!(
    what_is_read_of_a_moment_belongs_together,
    pages_hold_what_single_questions_answer,
    what_is_deployed_is_found_with_what_packages_hold,
);

async fn what_is_read_of_a_moment_belongs_together(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("one", "1"), ("two", "1")]), at(0)).await.unwrap();
    let first = client(site, 1).await;
    let required = |source| detected(source, "1", Detection::Required);
    site.intake(report(first, 1, vec![scan("b", 1, vec![required("one")])])).await.unwrap();
    let both = BTreeSet::from([id("b", "one", "1"), id("b", "two", "1")]);

    let moment = site.at_this_moment().await.unwrap();
    // Everything changes: clients, states, leaf sets, counts, lines, values.
    let second = client(site, 2).await;
    site.intake(report(second, 1, vec![scan("b", 1, vec![required("one"), required("two")])])).await.unwrap();
    site.intake(report(first, 2, vec![scan("b", 1, vec![required("two")])])).await.unwrap();
    site.apply_line_sync(sync("c", &[("three", "1")]), at(1)).await.unwrap();
    site.set_value("k", "v").await.unwrap();
    site.set_client_state(first, ClientState::Revoked).await.unwrap();

    for _ in 0..2 {
        assert_eq!(moment.clients().await.unwrap().len(), 1);
        assert_eq!(moment.get_value("k").await.unwrap(), None);
        assert_eq!(moment.lines().await.unwrap().len(), 1);
        let leaves = moment.required_leaves(&both).await.unwrap();
        assert_eq!(leaves.keys().cloned().collect::<Vec<_>>(), [id("b", "one", "1")]);
        let pages = moment.client_page(None, 10).await.unwrap();
        assert_eq!((pages.len(), pages[0].updates.len(), pages[0].client.state), (1, 1, ClientState::Active));
        let counts = moment.required_counts(&[id("b", "one", "1")]).await.unwrap();
        assert_eq!((counts[&id("b", "one", "1")].required, moment.active_clients().await.unwrap()), (1, 1));
        let found = moment.search(&Criteria::default(), 10).await.unwrap();
        assert_eq!(found.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1, 0]);
    }
    drop(moment);
    let moment = site.at_this_moment().await.unwrap();
    assert_eq!(moment.clients().await.unwrap().len(), 2);
    assert_eq!(moment.required_leaves(&both).await.unwrap().len(), 2);
    let counts = moment.required_counts(&[id("b", "two", "1")]).await.unwrap();
    assert_eq!(counts[&id("b", "two", "1")].required, 1);
}

async fn pages_hold_what_single_questions_answer(db: Db) {
    let site = &db.site;
    let sources: Vec<String> = (0..40).map(|n| format!("s{n:02}")).collect();
    let updates: Vec<(&str, &str)> = sources.iter().map(|source| (source.as_str(), "1")).collect();
    site.apply_line_sync(sync("b", &updates), at(0)).await.unwrap();
    let mut clients = Vec::new();
    for n in 1..=7_usize {
        let id_of = client(site, n as u128).await;
        clients.push(id_of);
        if n == 7 {
            continue;
        }
        // Few states lie as rows, many as a segment.
        let reported = sources.iter().take(n * n).enumerate();
        let states = reported.map(|(at, source)| {
            detected(source, "1", if at % 3 == 0 { Detection::Installed } else { Detection::Required })
        });
        let failed = IntakeBody::Update {
            update: id("b", "s01", "1"),
            state: UpdateEnforcement::InstallFailed,
            error: Some(StateError::told(7, "S".to_owned(), "no room".to_owned())),
        };
        let told = IntakeBody::Compliance { deployment: "uid".to_owned(), state: Compliance::NonCompliant };
        let bodies = vec![scan("b", 1, states.collect()), failed, told];
        site.intake(report(id_of, 1, bodies)).await.unwrap();
    }
    let policy = StoredPolicy {
        client: clients[2],
        epoch: 1,
        number: 4,
        body_digest: Digest::of(b"body"),
        orders: Digest::of(b"orders"),
        updates: Digest::of(b"updates"),
        statement: b"signed".to_vec(),
        issued_at: at(77),
    };
    let parts = [b"orders".to_vec(), b"updates".to_vec()].map(|part| (Digest::of(&part), part));
    site.put_policies(vec![policy], parts.into()).await.unwrap();

    let moment = site.at_this_moment().await.unwrap();
    let slots = moment.slots().await.unwrap();
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let pages = moment.client_page(after, 3).await.unwrap();
        let Some(last) = pages.last() else { break };
        after = Some(last.client.id);
        seen.extend(pages);
    }
    assert_eq!(seen.iter().map(|page| page.client.id).collect::<Vec<_>>(), clients);
    let reports = site.client_reports().await.unwrap();
    for page in &seen {
        let of = page.client.id;
        let mut states = site.client_states(of).await.unwrap();
        states.retain(|state| {
            state.detection != Detection::Unknown || state.enforcement != UpdateEnforcement::Unknown
        });
        let mut found: Vec<_> =
            page.updates.iter().map(|state| (slots.get(state.slot).unwrap(), state)).collect();
        found.sort_by_key(|(update, _)| (*update).clone());
        assert_eq!(found.len(), states.len());
        for (state, (update, paged)) in states.iter().zip(found) {
            assert_eq!(&state.update, update);
            assert_eq!(
                (state.detection, state.enforcement, state.since, &state.error),
                (paged.detection, paged.enforcement, paged.since, &paged.error)
            );
            if state.detection == Detection::Required {
                let set = paged.leaf_set.unwrap();
                let leaves = moment.leaf_sets(BTreeSet::from([set])).await.unwrap();
                assert_eq!(leaves[&set], [leaf_ref(&update.source, "1")]);
            }
        }
        assert_eq!(page.report.as_ref(), reports.iter().find(|report| report.client == of));
        assert_eq!(page.scans, site.client_scans(of).await.unwrap());
        assert_eq!(page.deployments.len(), usize::from(page.report.is_some()));
        assert_eq!(page.signed.is_some(), of == clients[2]);
        assert_eq!(moment.client_in_full(of).await.unwrap().as_ref(), Some(page));
    }
    assert_eq!(seen[2].signed, Some((1, 4, at(77))));
    assert_eq!(site.clients_called("host-3").await.unwrap(), [clients[2]]);
    assert_eq!(site.clients_called(&clients[3].to_string()).await.unwrap(), [clients[3]]);
    assert!(site.clients_called("host-99").await.unwrap().is_empty());
}

async fn what_is_deployed_is_found_with_what_packages_hold(db: Db) {
    let site = &db.site;
    assert!(!site.exists().await.unwrap());
    site.apply_line_sync(sync("b", &[("one", "1"), ("two", "1")]), at(0)).await.unwrap();
    let offered = BTreeMap::from([("debian/b/main".to_owned(), Some(LineRelease::default()))]);
    assert!(site.set_offered_lines(&offered).await.unwrap());
    assert!(!site.set_offered_lines(&offered).await.unwrap(), "nothing new is not written");
    assert_eq!(site.offered_lines().await.unwrap(), offered);
    site.set_line_catalogue(&id("b", "one", "1").line, 1, Digest::of(b"c"), 10).await.unwrap();

    let file = update("b", "two", "1").leaves[0].file.sha256;
    let content = PackageContent { files: BTreeMap::from([(file, 1234)]), ..PackageContent::default() };
    let row = ObjectRow {
        kind: PACKAGE_CONTENT.to_owned(),
        name: "p".to_owned(),
        uid: "u".to_owned(),
        generation: 1,
        json: serde_json::to_string(&content).unwrap(),
    };
    site.put_object(row).await.unwrap();
    let mut objects = site.load_objects().await.unwrap();
    let found = site.approvable(&objects, offered.clone()).await.unwrap();
    assert_eq!((found.lines.len(), found.updates.len(), found.holders.len()), (1, 0, 0));

    objects.deployments.insert(ObjectName::new("d").unwrap(), deployment("d", id("b", "two", "1")));
    let found = site.approvable(&objects, offered).await.unwrap();
    let leaf: LeafRef = leaf_ref("two", "1");
    assert_eq!(found.required_leaves, BTreeMap::from([(id("b", "two", "1"), BTreeSet::from([leaf]))]));
    assert_eq!(found.holders, BTreeMap::from([(file, BTreeSet::new())]));
}

fn deployment(name: &str, update: UpdateId) -> Deployment {
    let settings = DeploymentSettings { deadline: Deadline::None, ..DeploymentSettings::default() };
    Deployment {
        name: ObjectName::new(name).unwrap(),
        uid: "uid".to_owned(),
        generation: 1,
        collection: ObjectName::new("all").unwrap(),
        include_subcollections: false,
        suspend: false,
        settings,
        updates: vec![update],
        provenance: BTreeMap::new(),
        anchor: at(0),
    }
}
