//! The machine's real Debian archive, end to end: its signatures, its indices, its files.

#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::process::Command;

use patchtide_catalog::apt::{
    AptSource, AptState, LineResult, LineSnapshot, Mode, RunOptions, compare_versions,
};
use patchtide_catalog::http::{Expected, join};
use patchtide_catalog::openpgp::Keyring;
use patchtide_model::catalogue::Classification;
use support::machine::{self, Suite};
use support::{changed, run_all, source};

fn suite(name: &str) -> Suite {
    let suites = machine::suites();
    let found = suites.iter().find(|s| s.suite == name).cloned();
    found.unwrap_or_else(|| panic!("this test needs an apt source for {name}; apt has {suites:?}"))
}

fn real(name: &str) -> AptSource {
    let keyring = std::fs::read(machine::KEYRING).unwrap_or_else(|error| {
        panic!("this test needs {} (package debian-archive-keyring): {error}", machine::KEYRING)
    });
    let mut source = source(&suite(name).archive, &keyring);
    source.suites = vec![name.to_owned()];
    source.architectures = [machine::architecture()].into();
    // The machine's mirror may be a frozen copy; whether it is stale is told by a test of its own.
    source.dates.check_valid_until = false;
    source
}

async fn read(source: &AptSource) -> (LineSnapshot, AptState) {
    let (mut events, state) =
        run_all(source.clone(), AptState::default(), Mode::Full, RunOptions::default()).await;
    (changed(events.remove(0).result), state)
}

/// What apt's own downloader and dpkg's own sorting say about the same index.
fn index_by_apt(source: &AptSource) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("Packages.xz");
    let url = format!(
        "{}/dists/{}/main/binary-{}/Packages.xz",
        source.url.as_str().trim_end_matches('/'),
        source.suites[0],
        machine::architecture()
    );
    let status =
        Command::new("/usr/lib/apt/apt-helper").args(["download-file", &url]).arg(&file).output().unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let text = Command::new("xzcat").arg(&file).output().unwrap();
    String::from_utf8(text.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_security_suite_is_what_apt_sees() {
    let source = real("bookworm-security");
    let (snapshot, state) = read(&source).await;
    assert_eq!(snapshot.bad, 0, "{:?}", snapshot.bad_stanzas);
    assert!(snapshot.updates.iter().all(|u| u.classification == Classification::SecurityUpdates));
    assert!(snapshot.updates.iter().all(|u| u.product == "Debian bookworm"));
    let theirs = index_by_apt(&source);
    let stanzas: BTreeSet<&str> = theirs.split("\n\n").map(str::trim).filter(|s| !s.is_empty()).collect();
    assert_eq!(snapshot.stanzas, stanzas.len() as u64);
    let ours: BTreeSet<&str> =
        snapshot.updates.iter().flat_map(|u| &u.leaves).map(|l| l.stanza.trim()).collect();
    assert_eq!(ours, stanzas, "every stanza, unchanged, and no other");
    // A version that is superseded is older than the one that supersedes it.
    for update in &snapshot.updates {
        if let Some(by) = &update.superseded_by {
            assert!(compare_versions(&update.id.version, &by.version).is_lt(), "{} {by}", update.id);
        }
    }
    // Asking again is one small question.
    let begin = std::time::Instant::now();
    let (events, _) = run_all(source, state, Mode::Full, RunOptions::default()).await;
    assert!(matches!(events[0].result, Ok(LineResult::Unchanged { .. })));
    println!("unchanged: {:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn bookworm_main_is_read_whole() {
    let source = real("bookworm");
    let (snapshot, _) = read(&source).await;
    assert_eq!(snapshot.bad, 0, "{:?}", snapshot.bad_stanzas);
    assert!(snapshot.stanzas > 60_000, "{}", snapshot.stanzas);
    assert!(snapshot.updates.len() > 25_000, "{}", snapshot.updates.len());
    let leaves: u64 = snapshot.updates.iter().map(|u| u.leaves.len() as u64).sum();
    assert_eq!(leaves, snapshot.stanzas);
    let rebuilt = snapshot.updates.iter().flat_map(|u| u.leaves.iter().map(move |l| (u, l)));
    assert!(
        rebuilt.filter(|(u, l)| u.id.version != l.version).count() > 1000,
        "binary rebuilds keep their source"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_of_the_archive_is_fetched_and_is_what_dpkg_says_it_is() {
    let source = real("bookworm-security");
    let (snapshot, _) = read(&source).await;
    let leaf = snapshot
        .updates
        .iter()
        .flat_map(|u| &u.leaves)
        .filter(|l| l.file.path.contains('~') || l.file.path.contains('+'))
        .min_by_key(|l| l.file.size)
        .unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let url = join(&source.url, &leaf.file.path).unwrap();
    let expected = Expected { size: leaf.file.size, sha256: leaf.file.sha256 };
    support::fetcher().expected(&url, expected, file.as_file_mut(), &|_| {}).await.unwrap();
    let output = Command::new("dpkg-deb")
        .args(["-W", "--showformat=${Package} ${Version} ${Architecture}"])
        .arg(file.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, format!("{} {} {}", leaf.package, leaf.version, leaf.architecture));
}

/// reliability.md 4 #58: with a keyring that lacks the archive's keys nothing is read, and the key is named.
#[tokio::test(flavor = "multi_thread")]
async fn bad_input_58_without_the_archive_key_nothing_is_read() {
    let mut source = real("bookworm-security");
    source.keyring = Keyring::parse(&support::keys::Key::new().public()).unwrap();
    let (mut events, state) = run_all(source, AptState::default(), Mode::Full, RunOptions::default()).await;
    let error = support::refused(events.remove(0).result);
    assert_eq!(error.code(), "APT-KEY");
    assert!(error.chain().contains("is not in the keyring"), "{}", error.chain());
    assert_eq!(state, AptState::default());
}
