//! What the plan says as rows: always exactly the last register, written with what is other.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, civil};
use patchtide_model::{
    ClientId, Digest, ObjectName, UpdateId,
    deployment::{Deployment, DeploymentSettings},
    shared::Shared,
    window::{AppliesTo, Recurrence, Window, WindowAction, Zone},
};
use patchtide_store::{
    SiteStore, StoreError,
    catalogue::CleanUp,
    register::{
        Origin, Register, RegisteredCollection, RegisteredDeployment, RegisteredList, RegisteredPackage,
        RegisteredWindow,
    },
};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};
use uuid::Uuid;

use crate::common::{Db, at, client, id, on_both, rows, sync};

on_both!(
    whatever_came_before_the_rows_are_those_of_the_last_register,
    an_update_has_a_row_as_soon_as_the_catalogue_has_it,
    a_register_is_of_one_site_and_of_one_writer,
    much_comes_in_portions,
);

const CLIENTS: u128 = 6;
const SOURCES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

pub(crate) fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

pub(crate) fn origin(uid: &str, generation: i64) -> Origin {
    Origin { uid: uid.to_owned(), generation, description: None, created: Some(at(5)) }
}

pub(crate) fn clients(numbers: impl IntoIterator<Item = u128>) -> Shared<BTreeSet<ClientId>> {
    numbers.into_iter().map(|n| ClientId(Uuid::from_u128(n))).collect()
}

pub(crate) fn collection(uid: &str, members: impl IntoIterator<Item = u128>) -> RegisteredCollection {
    RegisteredCollection { origin: origin(uid, 1), parent: None, members: clients(members) }
}

pub(crate) fn deployment(
    of: &str,
    uid: &str,
    collection: &str,
    updates: Vec<UpdateId>,
    targets: impl IntoIterator<Item = u128>,
) -> RegisteredDeployment {
    RegisteredDeployment {
        origin: origin(uid, 1),
        deployment: Deployment {
            name: name(of),
            uid: uid.to_owned(),
            generation: 1,
            collection: name(collection),
            include_subcollections: false,
            suspend: false,
            settings: DeploymentSettings::default(),
            updates,
            anchor: at(0),
            provenance: BTreeMap::new(),
        },
        list: None,
        available: Some(at(0)),
        deadline: Some(at(14 * 86_400)),
        targets: clients(targets),
    }
}

pub(crate) fn window(uid: &str, collection: &str) -> RegisteredWindow {
    RegisteredWindow {
        origin: origin(uid, 1),
        window: Window {
            name: name("night"),
            collection: name(collection),
            recurrence: Recurrence::MonthlyByWeekday {
                every: 1,
                anchor: civil::date(2026, 1, 1),
                order: 2,
                weekday: 2,
                offset_days: 3,
            },
            start: civil::time(2, 30, 0, 0),
            duration: SignedDuration::from_hours(3),
            zone: Zone::Iana("Europe/Berlin".to_owned()),
            effective_from: Some(civil::date(2026, 1, 1)),
            effective_until: None,
            applies_to: AppliesTo::Updates,
            action: WindowAction::Allow,
        },
        enabled: true,
    }
}

/// A deployment: an uid, a generation, clients, updates, its collection.
type MadeDeployment = (u8, i64, Vec<u128>, Vec<usize>, u8);

/// One object of each kind as a random test has it.
#[derive(Debug, Clone)]
struct Made {
    /// By place: an uid, a generation, clients, updates, which other object.
    collections: BTreeMap<u8, (u8, Vec<u128>)>,
    lists: BTreeMap<u8, (u8, i64, Vec<usize>)>,
    deployments: BTreeMap<u8, MadeDeployment>,
    windows: BTreeMap<u8, u8>,
    packages: BTreeMap<u8, (u64, Vec<usize>, Vec<u8>)>,
    remembered: bool,
}

fn made() -> impl Strategy<Value = Made> {
    use proptest::collection::btree_map as map;

    let who = || proptest::collection::vec(1..=CLIENTS, 0..6);
    // One more than the catalogue has.
    let what = || proptest::collection::vec(0..=SOURCES.len(), 0..5);
    (
        map(0_u8..4, (0_u8..2, who()), 0..4),
        map(0_u8..3, (0_u8..2, 1_i64..3, what()), 0..3),
        map(0_u8..3, (0_u8..2, 1_i64..3, who(), what(), 0_u8..4), 0..3),
        map(0_u8..2, 0_u8..4, 0..2),
        map(0_u8..2, (1_u64..3, what(), proptest::collection::vec(0_u8..3, 0..3)), 0..2),
        any::<bool>(),
    )
        .prop_map(|(collections, lists, deployments, windows, packages, remembered)| Made {
            collections,
            lists,
            deployments,
            windows,
            packages,
            remembered,
        })
}

fn updates(numbers: &[usize]) -> BTreeSet<UpdateId> {
    numbers.iter().map(|n| id("b", SOURCES.get(*n).copied().unwrap_or("unknown"), "1")).collect()
}

fn register(made: &Made) -> Register {
    let collections = made.collections.iter().map(|(n, (uid, members))| {
        (name(&format!("c{n}")), collection(&format!("c{n}-{uid}"), members.iter().copied()))
    });
    let lists = made.lists.iter().map(|(n, (uid, generation, members))| {
        let origin = origin(&format!("l{n}-{uid}"), *generation);
        (name(&format!("l{n}")), RegisteredList { origin, folder: None, members: updates(members) })
    });
    let deployments = made.deployments.iter().map(|(n, (uid, generation, targets, of, to))| {
        let (this, uid, to) = (format!("d{n}"), format!("d{n}-{uid}"), format!("c{to}"));
        let updates = updates(of).into_iter().collect();
        let mut one = deployment(&this, &uid, &to, updates, targets.iter().copied());
        one.origin.generation = *generation;
        one.list = Some(name(&format!("l{n}")));
        (name(&this), one)
    });
    let windows = made.windows.iter().map(|(n, to)| (name(&format!("w{n}")), window("w", &format!("c{to}"))));
    let packages = made.packages.iter().map(|(n, (version, of, files))| {
        let package = RegisteredPackage {
            origin: origin("p", 1),
            version: *version,
            updates: updates(of),
            files: files.iter().map(|n| Digest::of(&[*n])).collect(),
            points: files.iter().map(|n| name(&format!("dp{n}"))).collect(),
        };
        (name(&format!("p{n}")), package)
    });
    Register {
        collections: collections.collect(),
        lists: lists.collect(),
        deployments: deployments.collect(),
        windows: windows.collect(),
        packages: packages.collect(),
    }
}

/// All rows of the register in words that have no numbers in them.
async fn kept(db: &Db) -> Vec<String> {
    let questions = [
        "SELECT 'collection', name || ' ' || uid FROM collection",
        "SELECT 'member', o.name || ' ' || c.uuid FROM collection_member m JOIN collection o ON o.id = m.collection \
         JOIN client c ON c.id = m.client",
        "SELECT 'list', name || ' ' || uid || ' ' || generation FROM update_list",
        "SELECT 'of list', o.name || ' ' || u.source FROM update_list_member m JOIN update_list o ON o.id = m.list \
         JOIN software_update u ON u.id = m.update_id",
        "SELECT 'deployment', d.name || ' ' || d.uid || ' ' || d.generation || ' to ' || COALESCE(c.name, '-') \
         FROM deployment d LEFT JOIN collection c ON c.id = d.collection",
        "SELECT 'target', o.uid || ' ' || c.uuid FROM deployment_target m JOIN deployment o ON o.id = m.deployment \
         JOIN client c ON c.id = m.client",
        "SELECT 'deployed', o.uid || ' ' || u.source FROM deployment_update m JOIN deployment o ON o.id = m.deployment \
         JOIN software_update u ON u.id = m.update_id",
        "SELECT 'deploys', o.uid || ' ' || l.name FROM deployment_list m JOIN deployment o ON o.id = m.deployment \
         JOIN update_list l ON l.id = m.list",
        "SELECT 'window', w.name || ' of ' || COALESCE(c.name, '-') || ' ' || w.schedule FROM service_window w \
         LEFT JOIN collection c ON c.id = w.collection",
        "SELECT 'package', name || ' ' || version FROM package",
        "SELECT 'packed', o.name || ' ' || u.source FROM package_update m JOIN package o ON o.id = m.package \
         JOIN software_update u ON u.id = m.update_id",
        "SELECT 'file', o.name || ' ' || m.digest FROM package_file m JOIN package o ON o.id = m.package",
        "SELECT 'point', o.name || ' ' || m.dp FROM package_point m JOIN package o ON o.id = m.package",
    ];
    let mut all = Vec::new();
    for question in questions {
        all.extend(rows(db, question).await.into_iter().map(|row| row.join(" ")));
    }
    // Rows that hang on nothing would be told by no question above.
    for (table, owner, column) in [
        ("collection_member", "collection", "collection"),
        ("update_list_member", "update_list", "list"),
        ("deployment_target", "deployment", "deployment"),
        ("deployment_update", "deployment", "deployment"),
        ("deployment_list", "deployment", "deployment"),
        ("package_update", "package", "package"),
        ("package_file", "package", "package"),
        ("package_point", "package", "package"),
    ] {
        let lost = format!("SELECT {column} FROM {table} WHERE {column} NOT IN (SELECT id FROM {owner})");
        assert_eq!(rows(db, &lost).await, Vec::<Vec<String>>::new(), "{table}");
    }
    all.sort();
    all
}

/// The same as the test knows it.
fn wanted(made: &Made) -> Vec<String> {
    let client = |n: &u128| Uuid::from_u128(*n).to_string();
    let known =
        |of: &[usize]| -> BTreeSet<&str> { of.iter().filter_map(|n| SOURCES.get(*n).copied()).collect() };
    let to = |n: &u8| if made.collections.contains_key(n) { format!("c{n}") } else { "-".to_owned() };
    let mut all = Vec::new();
    for (n, (uid, members)) in &made.collections {
        all.push(format!("collection c{n} c{n}-{uid}"));
        let members: BTreeSet<&u128> = members.iter().collect();
        all.extend(members.into_iter().map(|member| format!("member c{n} {}", client(member))));
    }
    for (n, (uid, generation, members)) in &made.lists {
        all.push(format!("list l{n} l{n}-{uid} {generation}"));
        all.extend(known(members).iter().map(|source| format!("of list l{n} {source}")));
    }
    for (n, (uid, generation, targets, of, collection)) in &made.deployments {
        all.push(format!("deployment d{n} d{n}-{uid} {generation} to {}", to(collection)));
        let targets: BTreeSet<&u128> = targets.iter().collect();
        all.extend(targets.into_iter().map(|target| format!("target d{n}-{uid} {}", client(target))));
        all.extend(known(of).iter().map(|source| format!("deployed d{n}-{uid} {source}")));
        if made.lists.contains_key(n) {
            all.push(format!("deploys d{n}-{uid} l{n}"));
        }
    }
    for (n, collection) in &made.windows {
        let schedule = "every month on the second Tuesday, 3 days after at 02:30 for 180 min, Europe/Berlin";
        all.push(format!("window w{n} of {} {schedule}", to(collection)));
    }
    for (n, (version, of, files)) in &made.packages {
        all.push(format!("package p{n} {version}"));
        all.extend(known(of).iter().map(|source| format!("packed p{n} {source}")));
        for file in files.iter().collect::<BTreeSet<_>>() {
            all.push(format!("file p{n} {}", Digest::of(&[*file])));
            all.push(format!("point p{n} dp{file}"));
        }
    }
    all.sort();
    all
}

async fn whatever_came_before_the_rows_are_those_of_the_last_register(db: Db) {
    let site = &db.site;
    let all: Vec<(&str, &str)> = SOURCES.iter().map(|source| (*source, "1")).collect();
    site.apply_line_sync(sync("b", &all), at(0)).await.unwrap();
    for n in 1..=CLIENTS {
        client(site, n).await;
    }
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let mut before: Option<Register> = None;
    for _ in 0..60 {
        let made = made().new_tree(&mut runner).unwrap().current();
        let next = register(&made);
        let known = before.take().filter(|_| made.remembered);
        site.put_register(&next, known.as_ref(), at(9)).await.unwrap();
        assert_eq!(kept(&db).await, wanted(&made), "{made:?}");
        // Equal content costs no write, remembered or not.
        assert_eq!(site.put_register(&next, None, at(10)).await.unwrap(), 0);
        assert_eq!(site.put_register(&next, Some(&next), at(10)).await.unwrap(), 0);
        before = Some(next);
    }
    site.put_register(&Register::default(), None, at(11)).await.unwrap();
    assert_eq!(kept(&db).await, Vec::<String>::new());
}

/// A register with everything in it once.
pub(crate) fn one_of_each(updates: &[UpdateId], members: &[u128]) -> Register {
    let list =
        RegisteredList { origin: origin("l", 1), folder: None, members: updates.iter().cloned().collect() };
    let mut deployment = deployment("d", "d", "c", updates.to_vec(), members.iter().copied());
    deployment.list = Some(name("l"));
    Register {
        collections: BTreeMap::from([(name("c"), collection("c", members.iter().copied()))]),
        lists: BTreeMap::from([(name("l"), list)]),
        deployments: BTreeMap::from([(name("d"), deployment)]),
        windows: BTreeMap::from([(name("night"), window("w", "c"))]),
        packages: BTreeMap::new(),
    }
}

async fn an_update_has_a_row_as_soon_as_the_catalogue_has_it(db: Db) {
    let site = &db.site;
    let named = [id("b", "early", "1"), id("b", "late", "1")];
    let register = one_of_each(&named, &[]);
    let deployed = "SELECT u.source FROM deployment_update d JOIN software_update u ON u.id = d.update_id \
                    JOIN update_list_member m ON m.update_id = u.id ORDER BY u.source";
    site.apply_line_sync(sync("b", &[("early", "1")]), at(0)).await.unwrap();
    assert!(site.put_register(&register, None, at(1)).await.unwrap() > 0);
    assert_eq!(rows(&db, deployed).await, [["early"]]);
    let modified = "SELECT modified FROM deployment";
    let first = rows(&db, modified).await;
    site.apply_line_sync(sync("b", &[("early", "1"), ("late", "1")]), at(2)).await.unwrap();
    assert!(site.put_register(&register, Some(&register), at(3)).await.unwrap() > 0);
    assert_eq!(rows(&db, deployed).await, [["early"], ["late"]]);
    assert_ne!(rows(&db, modified).await, first, "its updates became others");

    // It leaves the catalogue, and with it every row that names it; a number that is given again is another update's.
    site.apply_line_sync(sync("b", &[("early", "1")]), at(4)).await.unwrap();
    let gone =
        CleanUp { gone_before: at(1_000_000), superseded_before: at(1_000_000), keep: BTreeSet::new() };
    assert_eq!(site.clean_up_updates(&gone).await.unwrap(), 1);
    for table in ["deployment_update", "update_list_member"] {
        assert_eq!(rows(&db, &format!("SELECT count(*) FROM {table}")).await, [["1"]]);
    }
    site.apply_line_sync(sync("b", &[("early", "1"), ("late", "1")]), at(5)).await.unwrap();
    assert!(site.put_register(&register, Some(&register), at(6)).await.unwrap() > 0);
    assert_eq!(rows(&db, deployed).await, [["early"], ["late"]]);
}

async fn a_register_is_of_one_site_and_of_one_writer(db: Db) {
    let other: SiteStore = db.store.site(&patchtide_model::SiteName::new("other").unwrap());
    let (mine, theirs) = (client(&db.site, 1).await, client(&other, 2).await);
    assert_ne!(mine, theirs);
    let mut of_other = one_of_each(&[], &[2, 1]);
    of_other.deployments.values_mut().for_each(|one| one.origin.uid = "other".to_owned());
    db.site.put_register(&one_of_each(&[], &[1, 2]), None, at(1)).await.unwrap();
    other.put_register(&of_other, None, at(1)).await.unwrap();
    let members = "SELECT o.site, c.uuid FROM collection_member m JOIN collection o ON o.id = m.collection \
                   JOIN client c ON c.id = m.client ORDER BY 1";
    // A client of another site is no client here, whoever names it.
    let of = |n: u128| Uuid::from_u128(n).to_string();
    assert_eq!(rows(&db, members).await, [["other".to_owned(), of(2)], ["site".to_owned(), of(1)]]);
    db.site.put_register(&Register::default(), None, at(2)).await.unwrap();
    assert_eq!(rows(&db, members).await, [["other".to_owned(), of(2)]]);

    // Another process went on meanwhile: what this one remembers is not believed.
    let second = db.second().await;
    let (first, next) = (one_of_each(&[], &[1]), one_of_each(&[], &[]));
    db.site.put_register(&first, None, at(3)).await.unwrap();
    second.put_register(&next, None, at(4)).await.unwrap();
    db.site.put_register(&first, Some(&first), at(5)).await.unwrap();
    let count = "SELECT count(*) FROM collection_member m JOIN collection o ON o.id = m.collection WHERE o.site = 'site'";
    assert_eq!(rows(&db, count).await, [["1"]]);
    let both =
        tokio::join!(second.put_register(&next, None, at(6)), db.site.put_register(&next, None, at(6)));
    for one in [both.0, both.1] {
        assert!(matches!(one, Ok(_) | Err(StoreError::Overtaken { .. })), "{one:?}");
    }
    assert_eq!(rows(&db, count).await, [["0"]]);
}

/// A fleet's worth of rows is written in several transactions; one client more is a few rows.
async fn much_comes_in_portions(db: Db) {
    let site = &db.site;
    for n in 1..=3 {
        client(site, n).await;
    }
    // As if there were many: numbers from the third on.
    let insert = "INSERT INTO client (id, site, uuid, name, state, facts, certificate, not_after) \
                  WITH RECURSIVE n (n) AS (SELECT 4 UNION ALL SELECT n + 1 FROM n WHERE n < 60000) \
                  SELECT n, 'site', CAST(n AS TEXT), 'host', 0, '{}', '', 0 FROM n";
    let hex = if db.url.starts_with("sqlite") {
        "UPDATE client SET uuid = printf('00000000-0000-0000-0000-%012x', id) WHERE id > 3"
    } else {
        "UPDATE client SET uuid = '00000000-0000-0000-0000-' || lpad(to_hex(id), 12, '0') WHERE id > 3"
    };
    rows(&db, insert).await;
    rows(&db, hex).await;
    let fleet = one_of_each(&[], &(1..=60_000).collect::<Vec<u128>>());
    assert!(site.put_register(&fleet, None, at(1)).await.unwrap() > 120_000);
    let count = "SELECT (SELECT count(*) FROM collection_member), (SELECT count(*) FROM deployment_target)";
    assert_eq!(rows(&db, count).await, [["60000", "60000"]]);
    assert_eq!(site.put_register(&fleet, None, at(1)).await.unwrap(), 0);
    let less = one_of_each(&[], &(2..=60_000).collect::<Vec<u128>>());
    assert_eq!(
        site.put_register(&less, Some(&fleet), at(2)).await.unwrap(),
        4,
        "two rows of clients, two objects"
    );
    assert_eq!(site.put_register(&fleet, None, at(3)).await.unwrap(), 4);
    assert_eq!(rows(&db, count).await, [["60000", "60000"]]);
}
