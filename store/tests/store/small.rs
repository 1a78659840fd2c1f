//! Values, anchors, objects, signals, tokens.

use std::{collections::BTreeSet, time::Duration};

use patchtide_model::{
    Digest, SiteName,
    object::{Blocked, Collection},
};
use patchtide_store::{ObjectRow, OpenOptions, Store, StoreError, clients::TokenRow, roles::RoleBeat};

use crate::common::{Db, at, on_both};

on_both!(
    values_and_anchors,
    objects_are_kept_once_and_unreadable_ones_are_errors,
    one_time_tokens_are_used_once_by_whoever_comes_first,
    other_processes_writes_are_seen,
    sites_are_apart,
    signs_of_life_wake_nobody,
);

async fn values_and_anchors(db: Db) {
    let site = &db.site;
    assert_eq!(site.get_value("k").await.unwrap(), None);
    site.set_value("k", "nul \0 and 'quote'").await.unwrap();
    assert_eq!(site.get_value("k").await.unwrap().unwrap(), "nul \u{fffd} and 'quote'");
    assert_eq!(site.anchor("a", at(5)).await.unwrap(), at(5));
    assert_eq!(site.anchor("a", at(9)).await.unwrap(), at(5));
    assert_eq!(
        (site.epoch().await.unwrap(), site.raise_epoch().await.unwrap(), site.epoch().await.unwrap()),
        (1, 2, 2)
    );
    db.store.ping().await.unwrap();
}

fn collection(name: &str) -> ObjectRow {
    let json = serde_json::to_string(&Collection {
        name: name.parse().unwrap(),
        all: true,
        selector: Vec::new(),
        direct_members: BTreeSet::new(),
        include: BTreeSet::new(),
        exclude: BTreeSet::new(),
        limiting: None,
        parent: None,
    })
    .unwrap();
    ObjectRow {
        kind: "Collection".to_owned(),
        name: name.to_owned(),
        uid: "u".to_owned(),
        generation: 1,
        json,
    }
}

async fn objects_are_kept_once_and_unreadable_ones_are_errors(db: Db) {
    let site = &db.site;
    let mut changes = site.changes();
    assert!(site.put_object(collection("all")).await.unwrap());
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert!(!site.put_object(collection("all")).await.unwrap());
    assert!(!changes.has_changed().unwrap(), "an equal row wakes nobody");
    let blocked = Blocked { reason: "not understood".to_owned(), collections: BTreeSet::new() };
    assert!(site.set_blocked("MaintenanceWindow", "night", Some(blocked.clone())).await.unwrap());
    assert!(!site.set_blocked("MaintenanceWindow", "night", Some(blocked.clone())).await.unwrap());
    site.put_object(ObjectRow { kind: "UpdateList".to_owned(), ..collection("x") }).await.unwrap();
    let objects = site.load_objects().await.unwrap();
    assert_eq!(objects.collections.len(), 1);
    assert_eq!(objects.blocked.get("MaintenanceWindow/night"), Some(&blocked));
    assert_eq!(site.object_names("MaintenanceWindow").await.unwrap(), ["night"]);
    assert!(site.delete_object("MaintenanceWindow", "night").await.unwrap());
    assert!(!site.delete_object("MaintenanceWindow", "night").await.unwrap());
    assert_eq!(site.object("UpdateList", "x").await.unwrap().unwrap().generation, 1);
    assert_eq!(site.objects("Collection").await.unwrap(), [collection("all")]);
    site.put_object(ObjectRow { json: "{}".to_owned(), ..collection("all") }).await.unwrap();
    assert!(matches!(site.load_objects().await, Err(StoreError::Document { .. })));
}

async fn one_time_tokens_are_used_once_by_whoever_comes_first(db: Db) {
    let site = &db.site;
    let token = |text: &str, one_time, expires| TokenRow {
        digest: Digest::of(text.as_bytes()),
        one_time,
        expires,
        name: text.to_owned(),
    };
    for row in [token("once", true, None), token("many", false, None), token("old", false, Some(at(5)))] {
        site.put_token(row).await.unwrap();
    }
    let once = Digest::of(b"once");
    let tries = (0..16).map(|n| {
        let site = site.clone();
        tokio::spawn(async move { site.consume_token(once, at(n)).await.unwrap() })
    });
    let mut used = 0;
    for one in tries.collect::<Vec<_>>() {
        used += usize::from(one.await.unwrap());
    }
    assert_eq!(used, 1);
    site.put_token(token("once", true, None)).await.unwrap();
    assert!(!site.consume_token(once, at(99)).await.unwrap());
    assert!(site.token(once).await.unwrap().unwrap().used_at.is_some());
    for _ in 0..2 {
        assert!(site.consume_token(Digest::of(b"many"), at(1)).await.unwrap());
    }
    assert!(site.consume_token(Digest::of(b"old"), at(4)).await.unwrap());
    assert!(!site.consume_token(Digest::of(b"old"), at(5)).await.unwrap());
    assert!(!site.consume_token(Digest::of(b"none"), at(1)).await.unwrap());
    assert!(site.delete_token(once).await.unwrap() && site.token(once).await.unwrap().is_none());
}

async fn other_processes_writes_are_seen(db: Db) {
    let other = db.second().await;
    let poller = other.spawn_change_poller(Duration::from_millis(20));
    let mut changes = other.changes();
    db.site.set_value("k", "v").await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), changes.changed()).await.unwrap().unwrap();
    assert_eq!(other.get_value("k").await.unwrap().unwrap(), "v");
    assert_eq!(other.change_number().await.unwrap(), *changes.borrow());
    poller.abort();
}

async fn sites_are_apart(db: Db) {
    let other = db.store.site(&SiteName::new("other").unwrap());
    db.site.set_value("k", "v").await.unwrap();
    db.site.put_object(collection("all")).await.unwrap();
    assert_eq!(other.get_value("k").await.unwrap(), None);
    assert!(other.load_objects().await.unwrap().collections.is_empty());
    assert_eq!(other.change_number().await.unwrap(), 0);
}

#[tokio::test]
async fn urls_that_name_no_database_are_refused_without_their_password() {
    for url in ["sqlite::memory:", "sqlite://relative.db", "mysql://root:secret@db/x", ""] {
        let error = Store::open(url, &OpenOptions::default()).await.unwrap_err();
        assert!(matches!(error, StoreError::Url { .. }) && !error.to_string().contains("secret"), "{error}");
    }
    let error = Store::open("postgres://u:secret@127.0.0.1:1/x", &OpenOptions::default()).await.unwrap_err();
    assert!(error.is_transient() && !error.to_string().contains("secret"), "{error}");
}

async fn signs_of_life_wake_nobody(db: Db) {
    let site = &db.site;
    let before = site.change_number().await.unwrap();
    let beat = |second| RoleBeat {
        at: at(second),
        address: "0.0.0.0:8443".to_owned(),
        certificate_expires: Some(at(900)),
        waiting: 2,
    };
    site.beat("management-point", "a", &beat(1)).await.unwrap();
    site.beat("management-point", "b", &beat(1)).await.unwrap();
    site.beat("management-point", "a", &beat(2)).await.unwrap();
    site.set_value("role", "not a sign of life").await.unwrap();
    let key = |instance: &str| ("management-point".to_owned(), instance.to_owned());
    let beats = site.beats().await.unwrap();
    assert_eq!((beats.len(), &beats[&key("a")], &beats[&key("b")]), (2, &beat(2), &beat(1)));
    site.forget_beat("management-point", "b").await.unwrap();
    assert_eq!(site.beats().await.unwrap().len(), 1);
    assert_eq!(site.change_number().await.unwrap(), before + 1, "only the value was news");
    assert_eq!(site.waiting_reports(), 0);
}
