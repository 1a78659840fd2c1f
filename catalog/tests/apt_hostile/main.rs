//! A hostile or broken archive: every case of reliability.md section 4 (#45 to #58) that concerns reading one.
//! Each is refused with its code, and what was accepted before stays.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod indices;
mod release;

use std::collections::BTreeSet;

use jiff::SignedDuration;
use patchtide_catalog::apt::{AptState, Compression, LineResult, Mode, RunOptions};
use support::keys::Key;
use support::repo::{Repo, package, repo};
use support::server::{Answer, Server};
use support::{changed, now, refused, run_all, run_one, source};

fn three() -> Repo {
    repo(vec![package("a", "1"), package("b", "2+x~1"), package("c", "1:3")])
}

struct Ground {
    key: Key,
    server: Server,
}

impl Ground {
    async fn new() -> Self {
        Self { key: Key::new(), server: Server::start().await }
    }

    /// With an archive that has been read and accepted once.
    async fn with(repo: &Repo) -> (Self, AptState) {
        let ground = Self::new().await;
        ground.publish(repo);
        let (result, state) =
            run_one(source(&ground.server.url, &ground.key.public()), AptState::default()).await;
        changed(result);
        ground.server.take_requests();
        (ground, state)
    }

    fn publish(&self, repo: &Repo) {
        self.server.files(repo.files(&self.key));
    }

    fn source(&self) -> patchtide_catalog::apt::AptSource {
        source(&self.server.url, &self.key.public())
    }

    /// Runs and expects this code; what was accepted stays accepted.
    async fn refuses(&self, state: &AptState, code: &str) -> String {
        let (result, after) = run_one(self.source(), state.clone()).await;
        let error = refused(result);
        assert_eq!(error.code(), code, "{}", error.chain());
        assert_eq!(after.lines, state.lines);
        error.chain()
    }
}

fn hours(n: i64) -> SignedDuration {
    SignedDuration::from_hours(n)
}

#[tokio::test]
async fn an_archive_is_read_and_not_read_again() {
    let repo = three();
    let ground = Ground::new().await;
    ground.publish(&repo);
    let (result, state) = run_one(ground.source(), AptState::default()).await;
    let snapshot = changed(result);
    let ids: Vec<String> = snapshot.updates.iter().map(|u| u.id.to_string()).collect();
    assert_eq!(ids, ["test/stable/main:a@1", "test/stable/main:b@2+x~1", "test/stable/main:c@1:3"]);
    assert_eq!((snapshot.stanzas, snapshot.bad, snapshot.signer), (3, 0, ground.key.fingerprint()));
    assert_eq!(snapshot.updates[0].leaves[0].stanza.lines().next(), Some("Package: a"));
    assert_eq!(snapshot.updates[0].posted, repo.date);
    ground.server.take_requests();
    // The state survives being kept as JSON.
    let state: AptState = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    let (result, state) = run_one(ground.source(), state).await;
    assert!(matches!(result, Ok(LineResult::Unchanged { date }) if date == repo.date));
    let requests = ground.server.take_requests();
    assert_eq!(requests.len(), 1, "one conditional request: {requests:?}");
    assert!(requests[0].1.starts_with('"'), "{requests:?}");
    // A new release with the same indices is one file, too.
    let newer = Repo { date: now(), ..repo };
    ground.publish(&newer);
    let (result, _) = run_one(ground.source(), state).await;
    assert!(matches!(result, Ok(LineResult::Unchanged { .. })));
    assert_eq!(ground.server.take_requests().len(), 1);
}

#[tokio::test]
async fn a_full_run_reads_again_what_a_delta_accepted() {
    let ground = Ground::new().await;
    ground.publish(&three());
    let options = RunOptions::default;
    let (_, state) = run_all(ground.source(), AptState::default(), Mode::Delta, options()).await;
    let (events, state) = run_all(ground.source(), state, Mode::Delta, options()).await;
    assert!(matches!(events[0].result, Ok(LineResult::Unchanged { .. })));
    let (events, state) = run_all(ground.source(), state, Mode::Full, options()).await;
    assert!(matches!(events[0].result, Ok(LineResult::Changed(_))));
    let (events, _) = run_all(ground.source(), state.clone(), Mode::Full, options()).await;
    assert!(matches!(events[0].result, Ok(LineResult::Unchanged { .. })));
    // Other settings, other result: read again.
    let mut source = ground.source();
    source.rules.wanted_products = BTreeSet::from(["Other *".to_owned()]);
    let (events, _) = run_all(source, state, Mode::Delta, options()).await;
    assert!(
        matches!(&events[0].result, Ok(LineResult::Filtered { reason }) if reason.contains("Test stable"))
    );
}

#[tokio::test]
async fn every_compression_is_read() {
    for (form, compression) in [
        (".xz", Compression::Xz),
        (".gz", Compression::Gzip),
        (".zst", Compression::Zstd),
        ("", Compression::None),
    ] {
        let ground = Ground::new().await;
        ground.publish(&Repo { forms: vec![form], ..three() });
        let options = RunOptions { compressions: vec![compression], ..RunOptions::default() };
        let (mut events, _) = run_all(ground.source(), AptState::default(), Mode::Full, options).await;
        assert_eq!(changed(events.remove(0).result).updates.len(), 3, "{form}");
    }
}

#[tokio::test]
async fn one_failing_suite_never_loses_the_rest() {
    let ground = Ground::new().await;
    for suite in ["one", "three"] {
        ground.publish(&Repo { suite: suite.into(), ..three() });
    }
    ground.server.set("dists/two/InRelease", Answer::Status(500, "", "out of order"));
    let mut all = ground.source();
    all.suites = ["one", "two", "three"].map(str::to_owned).to_vec();
    all.components = vec!["main".into(), "contrib".into()];
    let (events, state) = run_all(all, AptState::default(), Mode::Full, RunOptions::default()).await;
    let told: Vec<(String, &str)> = events
        .iter()
        .map(|e| (e.line.to_string(), e.result.as_ref().map_or_else(|error| error.code(), |_| "ok")))
        .collect();
    let expected = [
        ("test/one/main", "ok"),
        ("test/one/contrib", "APT-PARTIAL"),
        ("test/two/main", "APT-FETCH"),
        ("test/two/contrib", "APT-FETCH"),
        ("test/three/main", "ok"),
        ("test/three/contrib", "APT-PARTIAL"),
    ];
    assert_eq!(told, expected.map(|(line, code)| (line.to_owned(), code)));
    assert_eq!(state.lines.len(), 2);
}

#[tokio::test]
async fn what_was_not_accepted_is_read_again() {
    let ground = Ground::new().await;
    ground.publish(&three());
    let options = RunOptions::default();
    let start = |state| {
        let options = options.clone();
        patchtide_catalog::apt::Run::new(
            support::fetcher(),
            ground.source(),
            state,
            Mode::Full,
            now(),
            options,
        )
        .unwrap()
    };
    let mut run = start(AptState::default());
    while let Some(event) = run.next().await {
        changed(event.result);
    }
    let mut run = start(run.into_state());
    let event = run.next().await.unwrap();
    changed(event.result);
    let progress = options.progress.snapshot();
    assert_eq!((progress.updates, progress.current.as_str()), (3, "test/stable/main"));
    // Twice a release and an index, and everything that was known to be needed has come.
    assert_eq!((progress.files, progress.files_total), (4, 4));
    assert_eq!(progress.bytes, progress.bytes_total);
    // "Not modified" ends a file, too.
    let mut run = start(AptState::default());
    while let Some(event) = run.next().await {
        run.accept(&event.line);
    }
    let mut run = start(run.into_state());
    assert!(matches!(run.next().await.unwrap().result, Ok(LineResult::Unchanged { .. })));
    assert_eq!((options.progress.snapshot().files, options.progress.snapshot().files_total), (7, 7));
}

#[tokio::test]
async fn sources_that_cannot_be_used_say_so_at_once() {
    let ground = Ground::new().await;
    let with = |change: fn(&mut patchtide_catalog::apt::AptSource)| {
        let mut source = ground.source();
        change(&mut source);
        let result = patchtide_catalog::apt::Run::new(
            support::fetcher(),
            source,
            AptState::default(),
            Mode::Full,
            now(),
            RunOptions::default(),
        );
        result.err().map(|error| error.code())
    };
    assert_eq!(with(|_| {}), None);
    assert_eq!(with(|s| s.suites = vec!["./".into()]), Some("APT-SOURCE"));
    assert_eq!(with(|s| s.suites = vec!["../x".into()]), Some("APT-SOURCE"));
    assert_eq!(with(|s| s.suites.clear()), Some("APT-SOURCE"));
    assert_eq!(with(|s| s.architectures.clear()), Some("APT-SOURCE"));
    assert_eq!(with(|s| s.url = "file:///srv".parse().unwrap()), Some("APT-SOURCE"));
}
