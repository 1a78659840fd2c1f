//! Scans that name updates by the numbers of a published catalogue.

use std::collections::BTreeSet;

use patchtide_model::{
    Digest,
    catalogue::{LineCatalogue, ScanUpdate},
    state::Detection::{self, Installed, Required},
};
use patchtide_store::{
    SiteStore,
    catalogue::CleanUp,
    intake::{DetectionReport, IntakeAck, IntakeBody, Numbered, NumberedUpdate},
};

use crate::common::{
    Db, at, client, detected, id, kept, leaf_ref, line, on_both, report, scan, sync, update,
};

on_both!(
    by_number_says_the_same_as_by_name,
    numbers_of_a_catalogue_that_was_not_published_say_nothing,
    what_was_revised_since_is_unknown,
    parts_by_number_take_effect_with_the_last_one,
    the_number_of_what_was_cleaned_up_counts_for_nothing_else,
);

/// Publishes the line as it is.
async fn publish(site: &SiteStore) -> (Digest, LineCatalogue) {
    let catalogue = site.scan_catalogue(&line("b")).await.unwrap();
    let digest = Digest::of(&serde_json::to_vec(&catalogue).unwrap());
    site.set_line_catalogue(&line("b"), catalogue.version, digest, 1).await.unwrap();
    (digest, catalogue)
}

fn found<'a>(catalogue: &'a LineCatalogue, source: &str) -> &'a ScanUpdate {
    catalogue.updates.iter().find(|update| update.source == source).unwrap()
}

/// A scan by number: source, state, places of leaves.
fn numbered(
    (digest, catalogue): &(Digest, LineCatalogue),
    states: &[(&str, Detection, &[u16])],
) -> DetectionReport {
    let mut states: Vec<NumberedUpdate> = states
        .iter()
        .map(|(source, state, leaves)| NumberedUpdate {
            number: found(catalogue, source).number,
            state: *state,
            leaves: leaves.to_vec(),
        })
        .collect();
    states.sort_by_key(|state| state.number);
    DetectionReport {
        line: line("b"),
        catalogue_version: catalogue.version,
        part: 0,
        last: true,
        states: Vec::new(),
        needs: Vec::new(),
        numbered: Some(Numbered { catalogue: *digest, states }),
    }
}

/// `z`, `m` and `a` with a second leaf `a-data`: the numbers are not in the order of the names.
async fn catalogue(site: &SiteStore) -> (Digest, LineCatalogue) {
    site.apply_line_sync(sync("b", &[("z", "1")]), at(1)).await.unwrap();
    let mut all = sync("b", &[("z", "1"), ("m", "1"), ("a", "1")]);
    let mut data = all.updates[2].leaves[0].clone();
    data.package = "a-data".to_owned();
    all.updates[2].leaves.push(data);
    site.apply_line_sync(all, at(2)).await.unwrap();
    let published = publish(site).await;
    assert!(found(&published.1, "z").number < found(&published.1, "a").number);
    published
}

async fn by_number_says_the_same_as_by_name(db: Db) {
    let site = &db.site;
    let published = catalogue(site).await;
    let place = |name: &str| {
        let leaves = &found(&published.1, "a").leaves;
        u16::try_from(leaves.iter().position(|leaf| leaf.package == name).unwrap()).unwrap()
    };
    let (one, two, three) = (client(site, 1).await, client(site, 2).await, client(site, 3).await);
    let mut a = detected("a", "1", Required);
    a.leaves = vec![leaf_ref("a-data", "1")];
    let named = scan("b", 2, vec![a, detected("m", "1", Installed), detected("z", "1", Required)]);
    let only = [place("a-data")];
    let z: &[u16] = &[0];
    let states = [("a", Required, &only[..]), ("m", Installed, &[]), ("z", Required, z)];
    let numbered = IntakeBody::Detection(numbered(&published, &states));
    // The number alone first, so that its leaves are read and not remembered from the names.
    assert_eq!(site.intake(report(two, 1, vec![numbered.clone()])).await.unwrap(), kept(1));
    site.intake(report(one, 1, vec![named])).await.unwrap();
    let other = db.second().await;
    assert_eq!(other.intake(report(three, 1, vec![numbered.clone()])).await.unwrap(), kept(1));
    assert_eq!(site.intake(report(two, 2, vec![numbered])).await.unwrap(), kept(2));
    let expected = site.client_states(one).await.unwrap();
    assert_eq!(expected.len(), 3);
    for by_number in [two, three] {
        assert_eq!(site.client_states(by_number).await.unwrap(), expected);
        assert_eq!(site.client_scans(by_number).await.unwrap(), [(line("b"), 2, at(11))]);
    }
    let (a, z) = (id("b", "a", "1"), id("b", "z", "1"));
    let leaves = site.required_leaves(&BTreeSet::from([a.clone(), z.clone()])).await.unwrap();
    assert_eq!(leaves[&a], BTreeSet::from([leaf_ref("a-data", "1")]));
    assert_eq!(leaves[&z], BTreeSet::from([leaf_ref("z", "1")]));
    assert_eq!(site.requiring_clients(&a).await.unwrap(), [one, two, three]);
    assert_eq!(site.verify().await.unwrap(), []);
}

async fn numbers_of_a_catalogue_that_was_not_published_say_nothing(db: Db) {
    let site = &db.site;
    let published = catalogue(site).await;
    let one = client(site, 1).await;
    let body = IntakeBody::Detection(numbered(&published, &[("m", Installed, &[])]));
    site.intake(report(one, 1, vec![body])).await.unwrap();
    let before = site.client_states(one).await.unwrap();
    assert_eq!(before.len(), 1);
    let elsewhere = (Digest::of(b"another life of this site"), published.1.clone());
    let body = IntakeBody::Detection(numbered(&elsewhere, &[("a", Required, &[0])]));
    let answer = site.intake(report(one, 2, vec![body.clone()])).await.unwrap();
    assert_eq!(answer, IntakeAck { by_name: true, ..kept(2) });
    assert_eq!(site.client_states(one).await.unwrap(), before, "neither more nor less is known");
    // Of a line that nobody has.
    let IntakeBody::Detection(mut nowhere) = body else { panic!() };
    nowhere.line = line("nowhere");
    let answer = site.intake(report(one, 3, vec![IntakeBody::Detection(nowhere)])).await.unwrap();
    assert_eq!(answer, IntakeAck { by_name: true, ..kept(3) });
    // Numbers that nothing has are left out.
    let mut odd = numbered(&published, &[("m", Installed, &[])]);
    let states = &mut odd.numbered.as_mut().unwrap().states;
    states.push(NumberedUpdate { number: 1 << 40, state: Required, leaves: vec![0] });
    states.push(NumberedUpdate { number: u64::MAX, state: Required, leaves: vec![0, u16::MAX] });
    assert_eq!(site.intake(report(one, 4, vec![IntakeBody::Detection(odd)])).await.unwrap(), kept(4));
    assert_eq!(site.client_states(one).await.unwrap(), before);
    assert_eq!(site.verify().await.unwrap(), []);
}

async fn what_was_revised_since_is_unknown(db: Db) {
    let site = &db.site;
    let before = catalogue(site).await;
    let one = client(site, 1).await;
    // Other leaves at the same places.
    let mut all = sync("b", &[("z", "1"), ("m", "1")]);
    let mut revised = update("b", "a", "1");
    revised.leaves[0].package = "a-other".to_owned();
    all.updates.push(revised);
    site.apply_line_sync(all, at(3)).await.unwrap();
    let after = publish(site).await;
    let states: &[(&str, Detection, &[u16])] = &[("a", Required, &[0]), ("z", Installed, &[])];
    site.intake(report(one, 1, vec![IntakeBody::Detection(numbered(&before, states))])).await.unwrap();
    let a = id("b", "a", "1");
    let state = async || site.client_update(one, &a).await.unwrap().unwrap().detection;
    assert_eq!(state().await, Detection::Unknown);
    assert_eq!(site.client_states(one).await.unwrap().len(), 1);
    assert_eq!(site.client_scans(one).await.unwrap(), [(line("b"), 2, at(11))]);
    site.intake(report(one, 2, vec![IntakeBody::Detection(numbered(&after, states))])).await.unwrap();
    assert_eq!(state().await, Required);
    let leaves = site.required_leaves(&BTreeSet::from([a.clone()])).await.unwrap();
    assert_eq!(leaves[&a], BTreeSet::from([leaf_ref("a-other", "1")]));
    assert_eq!(site.verify().await.unwrap(), []);
}

async fn parts_by_number_take_effect_with_the_last_one(db: Db) {
    let site = &db.site;
    let published = catalogue(site).await;
    let one = client(site, 1).await;
    let part = |part, last, source| {
        let whole = numbered(&published, &[(source, Required, &[0])]);
        IntakeBody::Detection(DetectionReport { part, last, ..whole })
    };
    site.intake(report(one, 1, vec![part(0, false, "z")])).await.unwrap();
    assert!(site.client_states(one).await.unwrap().is_empty());
    let other = db.second().await;
    other.intake(report(one, 2, vec![part(1, true, "a")])).await.unwrap();
    assert_eq!(site.client_states(one).await.unwrap().len(), 2);
    assert_eq!(site.verify().await.unwrap(), []);
}

async fn the_number_of_what_was_cleaned_up_counts_for_nothing_else(db: Db) {
    let site = &db.site;
    let before = catalogue(site).await;
    let (one, two) = (client(site, 1).await, client(site, 2).await);
    site.apply_line_sync(sync("b", &[("z", "1"), ("a", "1")]), at(3)).await.unwrap();
    let after = publish(site).await;
    // Whoever looks names up knows the line with the update that goes now, the last one by number.
    site.intake(report(one, 1, vec![IntakeBody::Detection(numbered(&after, &[("z", Installed, &[])]))]))
        .await
        .unwrap();
    let which = CleanUp { gone_before: at(4), superseded_before: at(4), keep: BTreeSet::new() };
    assert_eq!(site.clean_up_updates(&which).await.unwrap(), 1);
    let states: &[(&str, Detection, &[u16])] = &[("m", Required, &[0]), ("z", Installed, &[])];
    site.intake(report(one, 2, vec![IntakeBody::Detection(numbered(&before, states))])).await.unwrap();
    let named = vec![detected("m", "1", Required), detected("z", "1", Installed)];
    site.intake(report(two, 1, vec![scan("b", 3, named)])).await.unwrap();
    let next = sync("b", &[("z", "1"), ("a", "1"), ("n", "1")]);
    assert_eq!(site.apply_line_sync(next, at(5)).await.unwrap().new, 1);
    let published = publish(site).await;
    assert_eq!(found(&published.1, "n").number, found(&before.1, "m").number, "given anew");
    for who in [one, two] {
        let update = site.client_update(who, &id("b", "n", "1")).await.unwrap().unwrap();
        assert_eq!(update.detection, Detection::Unknown);
        assert_eq!(site.client_states(who).await.unwrap().len(), 1);
    }
    assert_eq!(site.verify().await.unwrap(), []);
}
