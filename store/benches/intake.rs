//! Durable intake of scans of 500 states: the store against a row layout in the same run, on the same disk, in turns.
//!
//! `cargo bench -p patchtide-store --bench intake [-- CLIENTS]`. Each round runs on a new database in `BENCH_DIR` (default:
//! the temporary folder; give one on the disk that is to be measured). What it prints is what it is.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a measurement that cannot go on ends"
)]

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, Digest, LineId, SiteName, UpdateId,
    catalogue::{Classification, ContentFile, Leaf, LeafRef, RestartRule, Severity, Update},
    client::Facts,
    state::Detection,
};
use patchtide_store::{
    OpenOptions, SiteStore, Store,
    catalogue::LineSync,
    clients::EnrolmentRow,
    intake::{DetectedUpdate, DetectionReport, IntakeBody, IntakeMessage, IntakeReport},
};
use sqlx::{
    Connection as _, QueryBuilder, Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::Semaphore;
use uuid::Uuid;

const STATES: usize = 500;
/// Updates of the line; a client has 500 of them, most clients nearly the same ones.
const UPDATES: usize = 2_000;
/// Of a client's states, the share that is required, in percent.
const REQUIRED: usize = 5;
const ROUNDS: usize = 3;
/// Reports under way at once.
const CONCURRENT: usize = 2_048;

fn main() {
    let clients = std::env::args().skip(1).find_map(|text| text.parse().ok()).unwrap_or(10_000);
    let folder = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(run(clients, &folder));
}

async fn run(clients: usize, folder: &Path) {
    println!("{clients} clients, {STATES} states each, {REQUIRED} % required, {UPDATES} updates in the line");
    let mut rates: [Vec<f64>; 4] = Default::default();
    for round in 0..ROUNDS {
        println!("round {}: 4 KiB write + fdatasync {:.2} ms", round + 1, fsync_ms(folder));
        // In turns, so that a slow phase of the machine meets both.
        let rows = rows(folder, clients / 20).await;
        let segments = segments(folder, clients).await;
        println!("  rows                        {:>8.0} first scans/s {:>8.0} us CPU each", rows.0, rows.1);
        for (what, (rate, cpu)) in
            ["first scans", "rescans, 5 changed", "rescans, unchanged"].iter().zip(segments)
        {
            println!("  segments {what:<18} {rate:>8.0}/s {cpu:>8.0} us CPU each");
        }
        println!("  segments {:.1} KB a client on disk, with history", segments[3].0);
        for (all, one) in rates.iter_mut().zip([rows, segments[0], segments[1], segments[2]]) {
            all.push(one.0);
        }
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let [rows, first, changed, unchanged] = rates.each_mut().map(median);
    println!(
        "median of {ROUNDS}: {first:.0} first scans/s durable ({:.1} M states/s)",
        first * STATES as f64 / 1e6
    );
    println!("ratio to rows (first scans): {:.1}", first / rows);
    println!(
        "ratio of rescans to first scans: 5 changed {:.2}, unchanged {:.2}",
        changed / first,
        unchanged / first
    );
}

fn fsync_ms(folder: &Path) -> f64 {
    let path = folder.join("patchtide-bench-fsync");
    let mut file = File::create(&path).unwrap();
    let started = Instant::now();
    for _ in 0..100 {
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
    }
    let elapsed = started.elapsed();
    fs::remove_file(path).unwrap();
    elapsed.as_secs_f64() * 10.0
}

fn at() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

fn line() -> LineId {
    LineId::new("debian/bookworm/main").unwrap()
}

fn name(n: usize) -> String {
    format!("source-{n}")
}

/// What client `client` has of the line: a common set, and some of its own.
fn picked(client: usize) -> impl Iterator<Item = usize> {
    (0..STATES).map(move |n| if n % 10 == 9 { (n * 4 + client * 7) % UPDATES } else { n })
}

fn states(client: usize, changed: usize) -> Vec<DetectedUpdate> {
    let unique: BTreeSet<usize> = picked(client).collect();
    unique
        .into_iter()
        .enumerate()
        .map(|(place, n)| {
            let required = (n + client).is_multiple_of(100 / REQUIRED) != (place < changed);
            let leaves = if required {
                vec![LeafRef { package: name(n), architecture: "amd64".to_owned(), version: "1".to_owned() }]
            } else {
                Vec::new()
            };
            let state = if required { Detection::Required } else { Detection::Installed };
            DetectedUpdate { source: name(n), version: "1".to_owned(), state, leaves }
        })
        .collect()
}

fn report(client: usize, seq: u64, changed: usize) -> IntakeReport {
    let body = IntakeBody::Detection(DetectionReport {
        line: line(),
        catalogue_version: 1,
        part: 0,
        last: true,
        states: states(client, changed),
        needs: Vec::new(),
        numbered: None,
    });
    IntakeReport {
        client: ClientId(Uuid::from_u128(client as u128)),
        incarnation: Uuid::from_u128(1),
        boot: Uuid::from_u128(1),
        sent_at: at(),
        received_at: at(),
        policy: None,
        messages: vec![IntakeMessage { seq, at: at(), body }],
    }
}

async fn site(url: &str) -> SiteStore {
    let store = Store::open(url, &OpenOptions::default()).await.unwrap();
    store.site(&SiteName::new("bench").unwrap())
}

async fn prepare(site: &SiteStore, clients: usize) {
    let update = |n| Update {
        id: UpdateId { line: line(), source: name(n), version: "1".to_owned() },
        title: name(n),
        classification: Classification::Updates,
        product: "Debian".to_owned(),
        severity: Severity::None,
        cves: BTreeSet::new(),
        bulletins: BTreeSet::new(),
        posted: at(),
        leaves: vec![Leaf {
            package: name(n),
            version: "1".to_owned(),
            architecture: "amd64".to_owned(),
            file: ContentFile { sha256: Digest::of(&[]), size: 1, path: "pool/x".to_owned() },
            stanza: String::new(),
        }],
        maximum_run_time: None,
        exclusive: false,
        restart: RestartRule::Auto,
        superseded_by: None,
        expired: false,
    };
    let updates = (0..UPDATES).map(update).collect();
    site.apply_line_sync(LineSync { line: line(), release_date: at(), updates, full: true }, at())
        .await
        .unwrap();
    for n in 0..clients {
        let row = EnrolmentRow {
            id: Digest::of(&n.to_le_bytes()),
            csr_pem: String::new(),
            token_digest: None,
            name: name(n),
            facts: Facts::new(),
            address: None,
            requested_at: at(),
        };
        site.put_enrolment(row.clone()).await.unwrap();
        let client = ClientId(Uuid::from_u128(n as u128));
        site.approve_enrolment(row.id, client, "", at(), at()).await.unwrap();
    }
}

/// CPU time of this process so far, in seconds, in steps of a hundredth: what a busy neighbour does not change much.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

/// Sends one report of each client, made beforehand; scans a second, and microseconds of CPU each.
async fn send(site: &SiteStore, clients: usize, seq: u64, changed: usize) -> (f64, f64) {
    let reports: Vec<IntakeReport> =
        (0..clients).map(|n| report((n * 7919) % clients, seq, changed)).collect();
    let gate = Arc::new(Semaphore::new(CONCURRENT));
    let (started, before) = (Instant::now(), cpu());
    let mut tasks = tokio::task::JoinSet::new();
    for report in reports {
        let permit = Arc::clone(&gate).acquire_owned().await.unwrap();
        let site = site.clone();
        tasks.spawn(async move {
            let ack = site.intake(report).await.unwrap();
            drop(permit);
            ack.acknowledged
        });
    }
    while let Some(ack) = tasks.join_next().await {
        assert_eq!(ack.unwrap(), seq);
    }
    (clients as f64 / started.elapsed().as_secs_f64(), (cpu() - before) * 1e6 / clients as f64)
}

async fn segments(folder: &Path, clients: usize) -> [(f64, f64); 4] {
    let folder = tempfile::tempdir_in(folder).unwrap();
    let path = folder.path().join("site.db");
    let site = site(&format!("sqlite://{}", path.display())).await;
    prepare(&site, clients).await;
    let first = send(&site, clients, 1, 0).await;
    let changed = send(&site, clients, 2, 5).await;
    let unchanged = send(&site, clients, 3, 5).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(site.verify().await.unwrap().is_empty());
    site.store().close().await.unwrap();
    let kilobytes = fs::metadata(&path).unwrap().len() as f64 / 1024.0 / clients as f64;
    [first, changed, unchanged, (kilobytes, 0.0)]
}

/// The layout everyone writes first: a row per client and update, an index to ask by update; 1,000 clients a commit.
async fn rows(folder: &Path, clients: usize) -> (f64, f64) {
    let folder = tempfile::tempdir_in(folder).unwrap();
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("rows.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .page_size(8192)
        .pragma("cache_size", "-65536")
        .pragma("wal_autocheckpoint", "65536");
    let mut conn = SqliteConnection::connect_with(&options).await.unwrap();
    for statement in [
        "CREATE TABLE state (client INTEGER, update_id INTEGER, state INTEGER, at INTEGER, \
         PRIMARY KEY (client, update_id)) WITHOUT ROWID",
        "CREATE INDEX state_update ON state (update_id, state, client)",
    ] {
        sqlx::query(statement).execute(&mut conn).await.unwrap();
    }
    let (started, before) = (Instant::now(), cpu());
    let order: Vec<usize> = (0..clients).map(|n| (n * 7919) % clients).collect();
    for chunk in order.chunks(1_000) {
        let mut tx = conn.begin().await.unwrap();
        for client in chunk {
            let found = states(*client, 0);
            let mut builder =
                QueryBuilder::<Sqlite>::new("INSERT INTO state (client, update_id, state, at) ");
            builder.push_values(found, |mut row, state| {
                let update: i64 = state.source["source-".len()..].parse().unwrap();
                row.push_bind(i64::try_from(*client).unwrap());
                row.push_bind(update).push_bind(i64::from(state.state.id())).push_bind(at().as_microsecond());
            });
            builder.push(
                " ON CONFLICT (client, update_id) DO UPDATE SET state = excluded.state, at = excluded.at",
            );
            builder.build().execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
    }
    (clients as f64 / started.elapsed().as_secs_f64(), (cpu() - before) * 1e6 / clients as f64)
}
