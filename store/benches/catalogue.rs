//! A line the size of bookworm main (34,000 sources, 63,000 leaves, 60 MB of stanzas): first sync, unchanged sync, a few
//! changes, the catalogue that clients scan with, searches; beside the bare JSON and hashing of the same updates.
//!
//! `cargo bench -p patchtide-store --bench catalogue`, in `BENCH_DIR` (default: the temporary folder).

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement that cannot go on ends")]

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use patchtide_model::{
    Digest, LineId, SiteName, UpdateId,
    catalogue::{Classification, ContentFile, Leaf, LeafRef, RestartRule, Severity, Update},
    search::Criteria,
};
use patchtide_store::{OpenOptions, Store, catalogue::LineSync};

const SOURCES: usize = 34_000;

fn main() {
    tokio::runtime::Runtime::new().unwrap().block_on(run());
}

fn line() -> LineId {
    LineId::new("debian/bookworm/main").unwrap()
}

/// Stanzas of about a kilobyte that do not compress better than real ones.
fn leaf(source: usize, n: usize, version: &str) -> Leaf {
    let package = format!("package-{source}-{n}");
    let noise: Vec<String> =
        (0..9).map(|i| Digest::of(format!("{package}{i}").as_bytes()).to_string()).collect();
    Leaf {
        stanza: format!(
            "Package: {package}\nVersion: {version}\nArchitecture: amd64\nDepends: libc6 (>= 2.36), package-{}-0\n\
             Description: {}\nSHA256: {}\n",
            source / 2,
            "a program that does what its name says and some more of it ".repeat(5),
            noise.join(" ")
        ),
        file: ContentFile {
            sha256: Digest::of(package.as_bytes()),
            size: 1 << 20,
            path: format!("pool/main/p/{package}_{version}_amd64.deb"),
        },
        package,
        version: version.to_owned(),
        architecture: "amd64".to_owned(),
    }
}

fn sync(changed: usize) -> LineSync {
    let updates = (0..SOURCES)
        .map(|source| {
            let version = if source < changed { "1.0-2" } else { "1.0-1" };
            Update {
                id: UpdateId {
                    line: line(),
                    source: format!("source-{source}"),
                    version: version.to_owned(),
                },
                title: format!("source-{source} - a program that does what its name says"),
                classification: Classification::Updates,
                product: "Debian bookworm".to_owned(),
                severity: Severity::None,
                cves: BTreeSet::new(),
                bulletins: BTreeSet::new(),
                posted: Timestamp::UNIX_EPOCH,
                leaves: (0..=usize::from(source % 20 < 17)).map(|n| leaf(source, n, version)).collect(),
                maximum_run_time: None,
                exclusive: false,
                restart: RestartRule::Auto,
                superseded_by: None,
                expired: false,
            }
        })
        .collect();
    LineSync { line: line(), release_date: Timestamp::UNIX_EPOCH, updates, full: true }
}

fn show(what: &str, elapsed: Duration) {
    println!("{what:<46} {:>8.0} ms", elapsed.as_secs_f64() * 1000.0);
}

async fn run() {
    let folder = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder).unwrap();
    let path = folder.path().join("site.db");
    let store = Store::open(&format!("sqlite://{}", path.display()), &OpenOptions::default()).await.unwrap();
    let site = store.site(&SiteName::new("bench").unwrap());
    let input = sync(0);
    let started = Instant::now();
    let leaves: usize = input.updates.iter().map(|update| update.leaves.len()).sum();
    let bytes: usize = input.updates.iter().map(|update| serde_json::to_vec(update).unwrap().len()).sum();
    println!("{SOURCES} sources, {leaves} leaves, {} MB as JSON", bytes / 1_000_000);
    show("bare limit: all of it as JSON, one thread", started.elapsed());
    let started = Instant::now();
    let distinct: BTreeSet<Digest> = input.updates.iter().map(Update::revision_digest).collect();
    assert_eq!(distinct.len(), SOURCES);
    show("bare limit: revision digests, one thread", started.elapsed());
    for (what, sync) in [
        ("first sync", input),
        ("unchanged sync", sync(0)),
        ("sync with 20 new versions", sync(20)),
        ("unchanged sync", sync(20)),
    ] {
        let started = Instant::now();
        let outcome = site.apply_line_sync(sync, Timestamp::UNIX_EPOCH).await.unwrap();
        show(what, started.elapsed());
        println!("    {outcome:?}");
    }
    let started = Instant::now();
    let catalogue = site.scan_catalogue(&line()).await.unwrap();
    show("catalogue that clients scan with", started.elapsed());
    assert_eq!(catalogue.updates.len(), SOURCES);
    let started = Instant::now();
    let found =
        site.search(&Criteria { title: Some("source-33777".to_owned()), ..Criteria::default() }, 10).await;
    show("search by title", started.elapsed());
    assert_eq!(found.unwrap().len(), 1);
    let started = Instant::now();
    let required = Criteria { required_by_at_least: Some(1), ..Criteria::default() };
    assert!(site.search(&required, 10).await.unwrap().is_empty());
    show("search by what clients require", started.elapsed());
    let names: Vec<LeafRef> = (0..400)
        .map(|n| LeafRef {
            package: format!("package-{}-0", n * 80),
            architecture: "amd64".to_owned(),
            version: if n == 0 { "1.0-2" } else { "1.0-1" }.to_owned(),
        })
        .collect();
    let started = Instant::now();
    assert_eq!(site.find_leaves(&names).await.unwrap().len(), 400);
    show("400 leaves by name", started.elapsed());
    store.close().await.unwrap();
    println!("database: {} MB", fs::metadata(path).unwrap().len() / 1_000_000);
}
