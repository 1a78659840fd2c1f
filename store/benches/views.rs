//! What the views cost on a large site: who requires one update, one client's states, the numbers of one update; and what
//! keeping the register costs.
//!
//! `cargo bench -p patchtide-store --bench views [-- CLIENTS]`. The states are written as the intake writes them, without
//! the intake; the queries are asked as `sqlite3` would ask them. Prints the plans too. What it prints is what it is.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a measurement that cannot go on ends"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Instant,
};

use jiff::Timestamp;
use patchtide_model::{ClientId, ObjectName, SiteName, UpdateId, shared::Shared};
use patchtide_store::{
    OpenOptions, Store,
    register::{Origin, Register, RegisteredCollection},
    reports::Scope,
};
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};
use uuid::Uuid;

const UPDATES: usize = 2_000;
const COLLECTIONS: u32 = 20;
const ROUNDS: usize = 21;

fn main() {
    let clients = std::env::args().skip(1).find_map(|text| text.parse().ok()).unwrap_or(100_000);
    tokio::runtime::Runtime::new().unwrap().block_on(run(clients));
}

/// A client has 500 of the 2,000 updates, most clients the same ones; 5 % of them are required. As in the bench of the intake.
fn segments(client: usize) -> Vec<(i64, Vec<u8>)> {
    let mut bytes = vec![0; UPDATES];
    for n in 0..500 {
        let slot = if n % 10 == 9 { (n * 4 + client * 7) % UPDATES } else { n };
        bytes[slot] = if (slot + client).is_multiple_of(20) { 2 } else { 3 };
    }
    let cut = |part: &[u8]| {
        let used = part.iter().rposition(|byte| *byte != 0)?;
        Some(part[..=used].to_vec())
    };
    let parts = (1..).zip(bytes.chunks(256));
    parts.filter_map(|(segment, part)| Some((segment, cut(part)?))).collect()
}

async fn fill(conn: &mut SqliteConnection, clients: usize) {
    let mut tx = conn.begin().await.unwrap();
    for statement in [
        "INSERT INTO line (id, site, name, version, release_date, synced_at) VALUES (1, 'bench', 'debian/bookworm/main', 1, 0, 0)".to_owned(),
        format!("WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {UPDATES}) \
                 INSERT INTO software_update (id, line, source, version, title, classification, product, severity, posted, \
                 expired, since_version, revision, applicability, body) \
                 SELECT n, 1, 'source-' || n, '1', 'a source', 'Updates', 'Debian', 0, 0, 0, 1, x'', x'', zeroblob(2000) FROM n"),
        format!("WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {}) \
                 INSERT INTO segment (id, line, used) SELECT n, 1, 256 FROM n", UPDATES.div_ceil(256)),
        "INSERT INTO slot (slot, update_id) SELECT id + 255, id FROM software_update".to_owned(),
        format!("WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {clients}) \
                 INSERT INTO client (id, site, uuid, name, state, facts, certificate, not_after) \
                 SELECT n, 'bench', printf('00000000-0000-0000-0000-%012x', n), 'host-' || n, 1, '{{\"os.id\":\"debian\"}}', \
                 hex(zeroblob(400)), 0 FROM n"),
        "INSERT INTO client_line (client, line, version, scanned_at) SELECT id, 1, 1, 0 FROM client".to_owned(),
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *tx).await.unwrap();
    }
    for client in 1..=clients {
        for (segment, states) in segments(client) {
            sqlx::query("INSERT INTO seg_state (segment, client, changed_at, states) VALUES ($1, $2, 0, $3)")
                .bind(segment)
                .bind(i64::try_from(client).unwrap())
                .bind(states)
                .execute(&mut *tx)
                .await
                .unwrap();
        }
    }
    tx.commit().await.unwrap();
}

/// Median time of a query, and its plan.
async fn ask(conn: &mut SqliteConnection, what: &str, query: &str) {
    let mut times = Vec::new();
    let mut found = 0;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        found = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_all(&mut *conn).await.unwrap().len();
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!("{:>9.3} ms {found:>7} rows  {what}", times[ROUNDS / 2]);
    let plan =
        sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}"))).fetch_all(conn).await.unwrap();
    for step in plan.iter().map(|row| row.get::<String, _>(3)).filter(|step| !step.starts_with("SCAN CONST"))
    {
        println!("{:>22}{step}", "");
    }
}

async fn run(clients: usize) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("site.db").display());
    let store = Store::open(&url, &OpenOptions::default()).await.unwrap();
    let mut conn = SqliteConnection::connect(&url).await.unwrap();
    fill(&mut conn, clients).await;
    println!("{clients} clients, 500 states each, {UPDATES} updates in the line");
    for (what, query) in [
        (
            "who requires a common update",
            "SELECT ResourceID FROM v_UpdateComplianceStatus WHERE CI_ID = 5 AND Status = 2",
        ),
        (
            "who requires a rare update",
            "SELECT ResourceID FROM v_UpdateComplianceStatus WHERE CI_ID = 1999 AND Status = 2",
        ),
        ("one client's states", "SELECT CI_ID, Status FROM v_UpdateComplianceStatus WHERE ResourceID = 77"),
        ("numbers of one update", "SELECT * FROM v_Update_ComplianceSummary WHERE CI_ID = 5"),
        ("numbers of every update", "SELECT * FROM v_Update_ComplianceSummary"),
    ] {
        ask(&mut conn, what, query).await;
    }
    conn.close().await.unwrap();
    register(&store, clients, folder.path()).await;
    tallies(&url).await;
}

/// What a report reads: the states of a list of updates on the members of a collection, counted by update and by client.
async fn tallies(url: &str) {
    let store = Store::open(url, &OpenOptions::default()).await.unwrap();
    let site = store.site(&SiteName::new("bench").unwrap());
    let collection = site.report_collections().await.unwrap().remove(0).number;
    let update = |n: usize| UpdateId {
        line: "debian/bookworm/main".parse().unwrap(),
        source: format!("source-{n}"),
        version: "1".to_owned(),
    };
    for (what, updates, scope) in [
        ("one update, all clients", 1, Scope::Site),
        ("a list of 50, a collection", 50, Scope::Collection(collection)),
        ("a list of 500, all clients", 500, Scope::Site),
        ("a list of 500, a collection", 500, Scope::Collection(collection)),
        ("the whole line, all clients", UPDATES, Scope::Site),
    ] {
        let ids: BTreeSet<UpdateId> = (1..=updates).map(update).collect();
        let mut times = Vec::new();
        let mut counted = 0;
        for _ in 0..5 {
            let started = Instant::now();
            let tally = site.tally(&ids, scope).await.unwrap();
            times.push(started.elapsed().as_secs_f64() * 1e3);
            counted = tally.clients.len() * tally.updates.len();
        }
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        println!("{median:>9.1} ms {:>7.1} M states/s  tally: {what}", counted as f64 / median / 1e3);
    }
    store.close().await.unwrap();
}

async fn register(store: &Store, clients: usize, folder: &Path) {
    let site = store.site(&SiteName::new("bench").unwrap());
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let members = |but: usize| -> Shared<BTreeSet<ClientId>> {
        (1..=clients).filter(|n| *n != but).map(|n| ClientId(Uuid::from_u128(n as u128))).collect()
    };
    let fleet = |but: usize| {
        let of = |n: u32| {
            let origin =
                Origin { uid: format!("c{n}"), generation: 1, description: None, created: Some(now) };
            let collection = RegisteredCollection { origin, parent: None, members: members(but) };
            (ObjectName::new(format!("c{n}")).unwrap(), collection)
        };
        Register { collections: (0..COLLECTIONS).map(of).collect::<BTreeMap<_, _>>(), ..Register::default() }
    };
    let (first, second) = (fleet(0), fleet(7));
    println!("register: {COLLECTIONS} collections of all clients");
    for (what, next, before) in [
        ("first", &first, None),
        ("again, nothing remembered", &first, None),
        ("again", &first, Some(&first)),
        ("one client less in each", &second, Some(&first)),
        ("one client more in each, nothing remembered", &first, None),
    ] {
        let started = Instant::now();
        let rows = site.put_register(next, before, now).await.unwrap();
        println!("{:>9.1} ms {rows:>9} rows written  {what}", started.elapsed().as_secs_f64() * 1e3);
    }
    store.close().await.unwrap();
    let bytes = std::fs::metadata(folder.join("site.db")).unwrap().len();
    println!("{:.0} MB", bytes as f64 / 1e6);
}
