//! The catalogue.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{
    Digest, UpdateId,
    catalogue::{Leaf, Update},
    search::Criteria,
    state::Detection,
};
use patchtide_store::{
    StoreError,
    catalogue::{CleanUp, LineCounts, LineSync, SyncOutcome},
};

use crate::common::{
    Db, at, client, detected, id, kept, leaf_ref, line, on_both, report, scan, sync, update,
};

on_both!(
    a_sync_tells_new_revised_superseded_and_withdrawn_apart,
    a_delta_looks_only_at_what_is_new,
    an_update_taken_back_is_withdrawn_and_its_forerunner_current,
    several_versions_in_one_index_are_ordered_by_the_caller,
    search_finds_by_every_criterion,
    leaves_are_found_by_name,
    the_scan_catalogue_holds_what_is_current,
    a_changed_applicability_makes_states_unknown,
    supersedence_expires,
    what_expired_and_is_gone_is_cleaned_up,
    two_sources_that_disagree_about_a_file_are_told,
);

async fn a_sync_tells_new_revised_superseded_and_withdrawn_apart(db: Db) {
    let site = &db.site;
    let first = site.apply_line_sync(sync("b", &[("a", "1"), ("b", "1"), ("c", "1")]), at(1)).await.unwrap();
    assert_eq!(first, SyncOutcome { new: 3, version: 1, changed: true, ..SyncOutcome::default() });
    let mut changes = site.changes();
    changes.mark_unchanged();
    let same = site.apply_line_sync(sync("b", &[("a", "1"), ("b", "1"), ("c", "1")]), at(2)).await.unwrap();
    assert_eq!(same, SyncOutcome { unchanged: 3, version: 1, ..SyncOutcome::default() });
    assert!(!changes.has_changed().unwrap());
    assert_eq!(site.lines().await.unwrap()[0].synced_at, at(2));

    let mut next = sync("b", &[("a", "2"), ("b", "1"), ("d", "1")]);
    next.updates[1].title = "b - another title".to_owned();
    let next = site.apply_line_sync(next, at(3)).await.unwrap();
    let expected = SyncOutcome {
        new: 2,
        revised: 1,
        expired: 1,
        superseded: 1,
        unchanged: 0,
        version: 2,
        changed: true,
    };
    assert_eq!(next, expected);
    let a1 = site.update(&id("b", "a", "1")).await.unwrap().unwrap();
    assert_eq!((a1.superseded_by, a1.expired), (Some(id("b", "a", "2")), false));
    assert!(site.update(&id("b", "c", "1")).await.unwrap().unwrap().expired);
    let stored = site.update(&id("b", "b", "1")).await.unwrap().unwrap();
    assert_eq!(stored, Update { title: "b - another title".to_owned(), ..update("b", "b", "1") });
    let counts = LineCounts { current: 3, superseded: 1, expired: 1 };
    assert_eq!(site.catalogue_counts().await.unwrap(), BTreeMap::from([(line("b"), counts)]));

    // Back again.
    let back = site
        .apply_line_sync(sync("b", &[("a", "2"), ("b", "1"), ("c", "1"), ("d", "1")]), at(4))
        .await
        .unwrap();
    assert_eq!((back.version, back.revised, back.expired), (3, 2, 0));
    assert!(!site.update(&id("b", "c", "1")).await.unwrap().unwrap().expired);
}

async fn a_delta_looks_only_at_what_is_new(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1"), ("b", "1"), ("c", "1")]), at(1)).await.unwrap();
    let mut delta = LineSync { full: false, ..sync("b", &[("a", "2"), ("b", "1")]) };
    delta.updates[1].title = "revised".to_owned();
    let outcome = site.apply_line_sync(delta, at(2)).await.unwrap();
    assert_eq!((outcome.new, outcome.superseded, outcome.revised, outcome.expired), (1, 1, 0, 0));
    assert_eq!(site.update(&id("b", "b", "1")).await.unwrap().unwrap().title, "b - a thing");
}

async fn an_update_taken_back_is_withdrawn_and_its_forerunner_current(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1")]), at(1)).await.unwrap();
    site.apply_line_sync(sync("b", &[("a", "2")]), at(2)).await.unwrap();
    site.apply_line_sync(sync("b", &[("a", "1")]), at(3)).await.unwrap();
    let found = site.updates(&[id("b", "a", "1"), id("b", "a", "2"), id("b", "x", "1")]).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[&id("b", "a", "1")].superseded_by, None);
    assert!(found[&id("b", "a", "2")].expired && found[&id("b", "a", "2")].superseded_by.is_none());
}

async fn several_versions_in_one_index_are_ordered_by_the_caller(db: Db) {
    let site = &db.site;
    let mut both = sync("b", &[("a", "1"), ("a", "2")]);
    both.updates[0].superseded_by = Some(id("b", "a", "2"));
    let outcome = site.apply_line_sync(both.clone(), at(1)).await.unwrap();
    assert_eq!((outcome.new, outcome.superseded), (2, 1));
    assert!(!site.apply_line_sync(both, at(2)).await.unwrap().changed);
    let catalogue = site.scan_catalogue(&line("b")).await.unwrap();
    assert_eq!(catalogue.updates.iter().map(|update| update.version.as_str()).collect::<Vec<_>>(), ["2"]);
}

async fn search_finds_by_every_criterion(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("openssl", "1"), ("zlib", "1"), ("curl", "1")]), at(1)).await.unwrap();
    site.apply_line_sync(sync("s", &[("openssl", "2")]), at(1)).await.unwrap();
    let one = client(site, 1).await;
    let states =
        vec![detected("zlib", "1", Detection::Required), detected("curl", "1", Detection::Installed)];
    assert_eq!(site.intake(report(one, 1, vec![scan("b", 1, states)])).await.unwrap(), kept(1));
    let find = async |criteria: Criteria| {
        let found = site.search(&criteria, 10).await.unwrap();
        assert!(found.iter().all(|(update, _)| update.leaves[0].stanza.is_empty()));
        found.into_iter().map(|(update, n)| (update.id.source, n)).collect::<Vec<_>>()
    };
    let named =
        |names: &[(&str, u64)]| names.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<Vec<_>>();
    assert_eq!(find(Criteria::default()).await.len(), 4);
    assert_eq!(site.search(&Criteria::default(), 2).await.unwrap().len(), 2);
    let required = Criteria { required_by_at_least: Some(1), ..Criteria::default() };
    assert_eq!(find(required).await, named(&[("zlib", 1)]));
    let title = Criteria { title: Some("THING curl".to_owned()), ..Criteria::default() };
    assert_eq!(find(title).await, named(&[("curl", 0)]));
    let cve = Criteria { cves: BTreeSet::from(["CVE-2026-7".to_owned()]), ..Criteria::default() };
    assert_eq!(find(cve).await, named(&[("openssl", 0), ("openssl", 0)]));
    let lines = Criteria { lines: BTreeSet::from(["debian/s/*".to_owned()]), ..Criteria::default() };
    assert_eq!(find(lines).await, named(&[("openssl", 0)]));
    let late = Criteria { posted_after: Some(at(1)), ..Criteria::default() };
    assert!(find(late).await.is_empty());
    let gone = Criteria { expired: Some(true), ..Criteria::default() };
    assert!(find(gone).await.is_empty());
}

async fn leaves_are_found_by_name(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1"), ("b", "1")]), at(1)).await.unwrap();
    // Another source carries a leaf of the same name, and is superseded.
    let mut other = sync("s", &[("c", "1")]);
    other.updates[0].leaves.push(Leaf { ..update("b", "a", "1").leaves[0].clone() });
    site.apply_line_sync(other, at(1)).await.unwrap();
    site.apply_line_sync(sync("s", &[("c", "2")]), at(2)).await.unwrap();
    let (found, leaf) = site.find_leaf(&leaf_ref("a", "1")).await.unwrap().unwrap();
    assert_eq!((found, leaf.file.size), (id("b", "a", "1"), 1234));
    assert!(leaf.stanza.contains("Package: a"));
    let many = site.find_leaves(&[leaf_ref("b", "1"), leaf_ref("none", "1")]).await.unwrap();
    assert_eq!(many.into_keys().collect::<Vec<_>>(), [leaf_ref("b", "1")]);
}

async fn the_scan_catalogue_holds_what_is_current(db: Db) {
    let site = &db.site;
    assert!(matches!(site.scan_catalogue(&line("b")).await, Err(StoreError::Missing { .. })));
    site.apply_line_sync(sync("b", &[("b", "1"), ("a", "1")]), at(1)).await.unwrap();
    site.apply_line_sync(sync("b", &[("a", "2"), ("b", "1")]), at(2)).await.unwrap();
    let catalogue = site.scan_catalogue(&line("b")).await.unwrap();
    assert_eq!((catalogue.version, catalogue.updates.len()), (2, 2));
    assert_eq!((catalogue.updates[0].source.as_str(), catalogue.updates[0].version.as_str()), ("a", "2"));
    assert_eq!(catalogue.updates[0].leaves[0].depends, "dpkg, libc6 (>= 2), zlib1g");
    site.set_line_catalogue(&line("b"), 2, Digest::of(b"doc"), 77).await.unwrap();
    let state = site.lines().await.unwrap().remove(0);
    assert_eq!((state.version, state.catalogue.unwrap().size), (2, 77));
    assert!(matches!(
        site.set_line_catalogue(&line("x"), 1, Digest::of(b""), 0).await,
        Err(StoreError::Missing { .. })
    ));
}

async fn a_changed_applicability_makes_states_unknown(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1"), ("z", "1")]), at(1)).await.unwrap();
    let (one, two) = (client(site, 1).await, client(site, 2).await);
    let required = || vec![scan("b", 1, vec![detected("a", "1", Detection::Required)])];
    site.intake(report(one, 1, required())).await.unwrap();
    site.intake(report(two, 1, required())).await.unwrap();
    // A rebuild: the same source version, another leaf.
    let mut rebuilt = sync("b", &[("a", "1"), ("z", "1")]);
    rebuilt.updates[0].leaves[0].version = "1+b1".to_owned();
    let outcome = site.apply_line_sync(rebuilt, at(2)).await.unwrap();
    assert_eq!((outcome.revised, outcome.version), (1, 2));
    let a = id("b", "a", "1");
    let counts = async || {
        let counts = site.required_counts(std::slice::from_ref(&a)).await.unwrap()[&a];
        (counts.unknown, counts.not_required, counts.required, counts.installed)
    };
    assert_eq!(counts().await, (2, 0, 0, 0));
    // A scan against the old catalogue that comes late says nothing about the new leaves.
    site.intake(report(one, 2, required())).await.unwrap();
    assert_eq!(counts().await, (2, 0, 0, 0));
    site.intake(report(one, 3, vec![scan("b", 2, vec![detected("a", "1", Detection::Required)])]))
        .await
        .unwrap();
    site.intake(report(two, 2, vec![scan("b", 2, vec![])])).await.unwrap();
    assert_eq!(counts().await, (0, 1, 1, 0));
    assert_eq!(site.verify().await.unwrap(), []);
    // A new title alone changes nothing about that.
    let mut titled = sync("b", &[("a", "1"), ("z", "1")]);
    titled.updates[0].leaves[0].version = "1+b1".to_owned();
    titled.updates[0].title = "other".to_owned();
    assert_eq!(site.apply_line_sync(titled, at(3)).await.unwrap().version, 3);
    assert_eq!(counts().await, (0, 1, 1, 0));
}

async fn supersedence_expires(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1")]), at(1)).await.unwrap();
    site.apply_line_sync(sync("b", &[("a", "2")]), at(100)).await.unwrap();
    assert_eq!(site.expire_superseded(at(100)).await.unwrap(), 0);
    assert_eq!(site.expire_superseded(at(101)).await.unwrap(), 1);
    assert_eq!(site.expire_superseded(at(101)).await.unwrap(), 0);
    assert!(site.update(&id("b", "a", "1")).await.unwrap().unwrap().expired);
}

/// R-LIFE-04 to R-LIFE-06.
async fn what_expired_and_is_gone_is_cleaned_up(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]), at(1)).await.unwrap();
    let one = client(site, 1).await;
    let states = vec![detected("b", "1", Detection::Required), detected("d", "1", Detection::Required)];
    site.intake(report(one, 1, vec![scan("b", 1, states)])).await.unwrap();
    // Withdrawn: b and c. Superseded: a.
    site.apply_line_sync(sync("b", &[("a", "2"), ("d", "1")]), at(10)).await.unwrap();
    let clean = async |gone, superseded, keep: &[UpdateId]| {
        let keep = keep.iter().cloned().collect();
        let which = CleanUp { gone_before: at(gone), superseded_before: at(superseded), keep };
        site.clean_up_updates(&which).await.unwrap()
    };
    let held = id("b", "c", "1");
    assert_eq!(clean(10, 10, &[]).await, 0, "not that long ago");
    assert_eq!(clean(11, 11, std::slice::from_ref(&held)).await, 1, "the superseded one has not expired");
    assert!(site.update(&id("b", "b", "1")).await.unwrap().is_none());
    assert!(site.find_leaf(&leaf_ref("b", "1")).await.unwrap().is_none());
    assert!(site.update(&held).await.unwrap().is_some());
    site.expire_superseded(at(11)).await.unwrap();
    assert_eq!(clean(11, 10, std::slice::from_ref(&held)).await, 0, "it expired only now");
    assert_eq!(clean(11, 11, &[]).await, 2);
    assert_eq!(site.verify().await.unwrap(), []);
    // What clients said of others holds, and the line goes on; one that comes back is new.
    let counts = site.required_counts(&[id("b", "d", "1")]).await.unwrap();
    assert_eq!(counts[&id("b", "d", "1")].required, 1);
    let again = site.apply_line_sync(sync("b", &[("a", "2"), ("d", "1"), ("b", "1")]), at(20)).await.unwrap();
    assert_eq!((again.new, again.unchanged), (1, 2));
    let states = vec![detected("b", "1", Detection::Required), detected("d", "1", Detection::Required)];
    site.intake(report(one, 2, vec![scan("b", again.version, states)])).await.unwrap();
    let counts = site.required_counts(&[id("b", "b", "1")]).await.unwrap();
    assert_eq!(counts[&id("b", "b", "1")].required, 1);
    assert_eq!(site.verify().await.unwrap(), []);
    // In the index it stays, expired or not: removed, it would come back as new.
    site.apply_line_sync(sync("b", &[("a", "2"), ("d", "1")]), at(30)).await.unwrap();
    site.apply_line_sync(sync("b", &[("a", "2"), ("d", "1"), ("b", "1")]), at(31)).await.unwrap();
    assert_eq!(clean(1_000, 1_000, &[]).await, 0);
}

/// reliability.md 4 #53: same name and version, other content in two lines.
async fn two_sources_that_disagree_about_a_file_are_told(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1"), ("c", "1")]), at(1)).await.unwrap();
    let mut mirror = sync("m", &[("a", "1"), ("c", "1")]);
    // One of its files is another one, the other is the same.
    mirror.updates[0].leaves[0].file.sha256 = Digest::of(b"another file");
    mirror.updates[1].leaves = site.update(&id("b", "c", "1")).await.unwrap().unwrap().leaves;
    let theirs = mirror.updates[0].id.clone();
    site.apply_line_sync(mirror, at(2)).await.unwrap();
    let found = site.conflicting(&[id("b", "a", "1"), id("b", "c", "1")]).await.unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), [&id("b", "a", "1")]);
    let (leaf, other) = &found[&id("b", "a", "1")][0];
    assert_eq!((leaf.version.as_str(), other), ("1", &theirs));
    let both = site.disagreeing(&[leaf_ref("a", "1"), leaf_ref("c", "1")]).await.unwrap();
    let holders: Vec<_> = both[&leaf_ref("a", "1")].iter().map(|(update, _)| update).collect();
    assert_eq!((both.len(), holders), (1, vec![&id("b", "a", "1"), &theirs]));
    // Withdrawn there: nobody disagrees any more.
    site.apply_line_sync(sync("m", &[("c", "1")]), at(3)).await.unwrap();
    assert_eq!(site.conflicting(&[id("b", "a", "1")]).await.unwrap(), BTreeMap::new());
    assert_eq!(site.disagreeing(&[leaf_ref("a", "1")]).await.unwrap(), BTreeMap::new());
}
