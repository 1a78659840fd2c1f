//! Collecting leaf sets that nothing refers to, beside writers that refer to them.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{ClientId, catalogue::LeafRef, state::Detection};
use patchtide_store::{
    SiteStore,
    intake::{DetectedUpdate, DetectionReport, IntakeBody},
};
use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::common::{Db, at, client, id, leaf_ref, line, on_both, report, sync};

on_both!(
    what_nothing_refers_to_goes,
    a_set_that_another_process_collected_is_made_again,
    collecting_beside_writers_loses_nothing,
);

/// Rows of `leaf_set`.
async fn rows(db: &Db) -> i64 {
    let question = "SELECT COUNT(*) FROM leaf_set";
    if db.url.starts_with("sqlite") {
        let mut conn = SqliteConnection::connect(&db.url).await.unwrap();
        sqlx::query_scalar(question).fetch_one(&mut conn).await.unwrap()
    } else {
        let mut conn = PgConnection::connect(&db.url).await.unwrap();
        sqlx::query_scalar(question).fetch_one(&mut conn).await.unwrap()
    }
}

fn leaves(source: &str, kind: u64) -> Vec<LeafRef> {
    vec![leaf_ref(source, "1"), leaf_ref(&format!("{source}-{kind}"), "1")]
}

/// A part of a scan that requires `source` with the leaves of `kind`, and newly depends on others of that kind.
fn scan(source: &str, kind: u64, part: u16, last: bool) -> IntakeBody {
    let state = DetectedUpdate {
        source: source.to_owned(),
        version: "1".to_owned(),
        state: Detection::Required,
        leaves: leaves(source, kind),
    };
    IntakeBody::Detection(DetectionReport {
        line: line("b"),
        catalogue_version: 1,
        part,
        last,
        states: vec![state],
        needs: leaves("need", kind),
        numbered: None,
    })
}

async fn told(site: &SiteStore, client: ClientId, seq: u64, body: IntakeBody) {
    let answer = site.intake(report(client, seq, vec![body])).await.unwrap();
    assert_eq!(answer.acknowledged, seq);
}

async fn required(site: &SiteStore, source: &str) -> BTreeSet<LeafRef> {
    let update = id("b", source, "1");
    site.required_leaves(&BTreeSet::from([update.clone()])).await.unwrap().remove(&update).unwrap_or_default()
}

async fn what_nothing_refers_to_goes(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("s", "1"), ("t", "1")]), at(1)).await.unwrap();
    let (one, two) = (client(site, 1).await, client(site, 2).await);
    for kind in 0..5 {
        told(site, one, kind + 1, scan("s", kind, 0, true)).await;
    }
    // The first of two parts: its sets wait for the second.
    told(site, two, 1, scan("t", 7, 0, false)).await;
    assert_eq!(rows(&db).await, 12);
    // The last row of all stays in any case, and here it is referred to.
    assert_eq!(site.collect_leaf_sets().await.unwrap(), 8);
    assert_eq!(site.collect_leaf_sets().await.unwrap(), 0);
    assert_eq!(rows(&db).await, 4);
    assert_eq!(required(site, "s").await, leaves("s", 4).into_iter().collect());
    told(site, two, 2, scan("s", 4, 1, true)).await;
    assert_eq!(required(site, "t").await, leaves("t", 7).into_iter().collect());
    let needed: BTreeSet<LeafRef> = leaves("need", 4).into_iter().chain(leaves("need", 7)).collect();
    assert_eq!(site.needed_leaves().await.unwrap(), needed);
    // One that is gone is made again.
    told(site, one, 6, scan("s", 0, 0, true)).await;
    assert_eq!(required(site, "s").await, leaves("s", 0).into_iter().chain(leaves("s", 4)).collect());
    assert_eq!(site.verify().await.unwrap(), []);
}

/// The other process knows the number of a set that is deleted here; it must not refer to it.
async fn a_set_that_another_process_collected_is_made_again(db: Db) {
    let (site, other) = (&db.site, db.second().await);
    site.apply_line_sync(sync("b", &[("s", "1")]), at(1)).await.unwrap();
    let one = client(site, 1).await;
    told(&other, one, 1, scan("s", 0, 0, true)).await;
    told(&other, one, 2, scan("s", 1, 0, true)).await;
    assert_eq!(site.collect_leaf_sets().await.unwrap(), 2);
    told(&other, one, 3, scan("s", 0, 0, true)).await;
    assert_eq!(required(&other, "s").await, leaves("s", 0).into_iter().collect());
    assert_eq!(required(site, "s").await, leaves("s", 0).into_iter().collect());
    assert_eq!(site.needed_leaves().await.unwrap(), leaves("need", 0).into_iter().collect());
}

async fn collecting_beside_writers_loses_nothing(db: Db) {
    const CLIENTS: u64 = 6;
    let site = &db.site;
    let sources: Vec<String> = (0..CLIENTS).map(|n| format!("s{n}")).collect();
    let all: Vec<(&str, &str)> = sources.iter().map(|source| (source.as_str(), "1")).collect();
    site.apply_line_sync(sync("b", &all), at(1)).await.unwrap();
    let stores = [db.site.clone(), db.second().await];
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        clients.push(client(site, u128::from(n)).await);
    }
    let mut writers = Vec::new();
    for (n, id) in (0..CLIENTS).zip(clients) {
        let store = stores[usize::try_from(n % 2).unwrap()].clone();
        let source = sources[usize::try_from(n).unwrap()].clone();
        writers.push(tokio::spawn(async move {
            let mut last = 0;
            for seq in 1..=60 {
                // Few kinds, so that sets become loose and are referred to again and again.
                last = (seq * (n + 3)) % 4;
                told(&store, id, seq, scan(&source, last, 0, true)).await;
            }
            (source, last)
        }));
    }
    let mut collected = 0;
    let mut rounds = 0;
    while writers.iter().any(|writer| !writer.is_finished()) {
        collected += site.collect_leaf_sets().await.unwrap();
        rounds += 1;
        // Once a day in earnest; without any pause reports would be looked up anew for ever.
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    let mut last = BTreeMap::new();
    for writer in writers {
        let (source, kind) = writer.await.unwrap();
        last.insert(source, kind);
    }
    assert!(
        rounds > 2 && collected > 0,
        "{rounds} rounds, {collected} collected: nothing happened at the same time"
    );
    for (source, kind) in &last {
        assert_eq!(required(site, source).await, leaves(source, *kind).into_iter().collect(), "{source}");
    }
    let needed: BTreeSet<LeafRef> = last.values().flat_map(|kind| leaves("need", *kind)).collect();
    assert_eq!(site.needed_leaves().await.unwrap(), needed);
    site.collect_leaf_sets().await.unwrap();
    let referred = last.len() + last.values().collect::<BTreeSet<_>>().len();
    let left = usize::try_from(rows(&db).await).unwrap();
    assert!(left == referred || left == referred + 1, "{left} rows, {referred} referred to");
    assert_eq!(site.verify().await.unwrap(), []);
}
