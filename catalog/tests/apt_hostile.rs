//! A hostile or broken archive: every case of reliability.md section 4 (#45 to #58) that concerns reading one.
//! Each is refused with its code, and what was accepted before stays.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "tests"
)]

mod support;

use std::collections::BTreeSet;

use jiff::SignedDuration;
use patchtide_catalog::apt::{AptState, Compression, LineResult, Mode, RunOptions};
use support::keys::Key;
use support::repo::{Package, Repo, compress, package, repo};
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
async fn bad_input_45_signature() {
    let (ground, state) = Ground::with(&three()).await;
    let path = "dists/stable/InRelease";
    let release = three().release();
    let good = ground.key.clearsign(&release);
    for (bad, code) in [
        (release.clone(), "APT-SIG"),
        (format!("Origin: Evil\n{good}"), "APT-SIG"),
        (format!("{good}Origin: Evil\n"), "APT-SIG"),
        (format!("{good}{good}"), "APT-SIG"),
        (good.replace("Origin: Test", "Origin: Evil"), "APT-SIG"),
        (good[..good.len() - 40].to_owned(), "APT-SIG"),
        (Key::new().clearsign(&release), "APT-KEY"),
        (String::new(), "APT-SIG"),
    ] {
        ground.server.file(path, bad);
        ground.refuses(&state, code).await;
    }
    // Neither InRelease nor a signature beside Release.
    ground.server.remove(path);
    ground.server.file("dists/stable/Release", release.clone());
    ground.refuses(&state, "APT-PARTIAL").await;
    // Release with its detached signature is as good.
    ground.server.file("dists/stable/Release.gpg", ground.key.detached(release.as_bytes()));
    assert!(run_one(ground.source(), state).await.0.is_ok());
}

#[tokio::test]
async fn bad_input_46_dates() {
    let (ground, state) = Ground::with(&three()).await;
    let ago = |h| now().saturating_sub(hours(h)).unwrap();
    let ahead = |h| now().saturating_add(hours(h)).unwrap();
    ground.publish(&Repo { valid_until: Some(ago(1)), ..three() });
    ground.refuses(&state, "APT-EXPIRED").await;
    let mut lenient = ground.source();
    lenient.dates.check_valid_until = false;
    assert!(run_one(lenient, state.clone()).await.0.is_ok());
    ground.publish(&Repo { date: ahead(1), valid_until: Some(ahead(24)), ..three() });
    ground.refuses(&state, "APT-FUTURE").await;
    // No end is given: the source's own greatest age counts, and without any date the time of the signature.
    let mut limited = ground.source();
    limited.dates.max_age = Some(hours(24));
    ground.publish(&Repo { date: ago(48), valid_until: None, ..three() });
    assert_eq!(refused(run_one(limited.clone(), AptState::default()).await.0).code(), "APT-EXPIRED");
    assert!(run_one(ground.source(), AptState::default()).await.0.is_ok());
    let no_date =
        |text: String| text.lines().filter(|l| !l.starts_with("Date")).map(|l| format!("{l}\n")).collect();
    ground.publish(&Repo { valid_until: None, release_edit: no_date, ..three() });
    assert!(run_one(limited, AptState::default()).await.0.is_ok());
}

#[tokio::test]
async fn bad_input_46_a_mirror_that_stands_still_expires_although_nothing_changed() {
    let repo = three();
    let (ground, mut state) = Ground::with(&repo).await;
    // The same answer, "not modified", a day later: the end of the release has passed meanwhile.
    state.suites.get_mut("stable").unwrap().valid_until = Some(now().saturating_sub(hours(1)).unwrap());
    ground.refuses(&state, "APT-EXPIRED").await;
}

#[tokio::test]
async fn replay_of_an_older_release_is_refused() {
    let old = three();
    let (ground, _) = Ground::with(&old).await;
    ground.publish(&Repo { date: now(), packages: vec![package("a", "2")], ..three() });
    let (result, state) = run_one(ground.source(), AptState::default()).await;
    changed(result);
    ground.publish(&old);
    let text = ground.refuses(&state, "APT-ROLLBACK").await;
    assert!(text.contains("already accepted"), "{text}");
    // The newer one counts from its verification on, even when nothing of it was accepted.
    let mut state = state;
    state.lines.clear();
    ground.refuses(&state, "APT-ROLLBACK").await;
}

#[tokio::test]
async fn bad_input_47_hash_size_and_weak_hashes() {
    let (ground, state) = Ground::with(&three()).await;
    let newer = Repo { date: now(), packages: vec![package("a", "2")], ..three() };
    ground.publish(&newer);
    let path = "dists/stable/main/binary-amd64/Packages.xz";
    let good = newer.indices()["main/binary-amd64/Packages.xz"].clone();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (bad, why) in [
        (flipped, "hash"),
        ([good.clone(), b"x".to_vec()].concat(), "a byte more"),
        (good[..good.len() - 1].to_vec(), "truncated"),
        (Vec::new(), "empty"),
    ] {
        ground.server.file(path, bad);
        let text = ground.refuses(&state, "APT-HASH").await;
        assert!(text.contains("Packages.xz"), "{why}: {text}");
    }
    let weak = |text: String| text.replace("SHA256:", "MD5Sum:");
    ground.publish(&Repo { release_edit: weak, ..newer.clone() });
    ground.refuses(&state, "APT-WEAKHASH").await;
    let path = |text: String| text.replace(" main/binary-amd64/Packages.gz", " ../../Packages.gz");
    ground.publish(&Repo { release_edit: path, ..newer });
    ground.refuses(&state, "APT-PATH").await;
}

#[tokio::test]
async fn bad_input_48_by_hash_first_then_the_name_and_a_mirror_in_the_middle_of_an_update() {
    let ground = Ground::new().await;
    let (old, new) = (three(), Repo { date: now(), packages: vec![package("a", "2")], ..three() });
    // Old index under the plain name, the new one under its hash.
    ground.publish(&new);
    ground.server.files(old.indices().into_iter().map(|(p, b)| (format!("dists/stable/{p}"), b)).collect());
    ground.server.files(new.by_hash());
    assert_eq!(changed(run_one(ground.source(), AptState::default()).await.0).updates.len(), 1);
    let requests = ground.server.take_requests();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(requests[1].0.contains("by-hash/SHA256/"), "{requests:?}");

    // Without by-hash, and the release is replaced while the indices are being read: the new one is read instead.
    let ground = Ground::new().await;
    ground.publish(&new);
    let release =
        |repo: &Repo| Box::new(Answer::File(repo.files(&ground.key)["dists/stable/InRelease"].clone()));
    ground.server.set("dists/stable/InRelease", Answer::Then(release(&old), release(&new)));
    let (result, state) = run_one(ground.source(), AptState::default()).await;
    assert_eq!(changed(result).updates[0].id.version, "2");
    assert_eq!(state.suites["stable"].date.as_second(), new.date.as_second());

    // New release, old indices for good: refused, never mixed.
    let ground = Ground::new().await;
    ground.publish(&new);
    ground.server.files(old.indices().into_iter().map(|(p, b)| (format!("dists/stable/{p}"), b)).collect());
    ground.refuses(&AptState::default(), "APT-HASH").await;
}

#[tokio::test]
async fn bad_input_49_another_identity_needs_approval() {
    let (ground, state) = Ground::with(&three()).await;
    ground.publish(&Repo { origin: "Other".into(), date: now(), ..three() });
    let text = ground.refuses(&state, "APT-INFO-CHANGED").await;
    assert!(text.contains("Origin") && text.contains("Test") && text.contains("Other"), "{text}");
    let mut approved = ground.source();
    approved.approvals.info_change = true;
    assert!(run_one(approved, state).await.0.is_ok());
    // Another suite under this name, signed by the same key.
    let ground = Ground::new().await;
    for (path, bytes) in (Repo { suite: "unstable".into(), ..three() }).files(&ground.key) {
        ground.server.file(&path.replace("unstable", "stable"), bytes);
    }
    ground.refuses(&AptState::default(), "APT-INFO-CHANGED").await;
}

/// A package whose stanza is not what it should be.
fn broken(extra: &str) -> Package {
    Package { extra: format!("{extra}\n"), ..package("broken", "1") }
}

#[tokio::test]
async fn bad_input_50_one_malformed_stanza_is_named_and_the_rest_is_read() {
    for (stanza, code) in [
        (broken("Version: 2").stanza(), "APT-STANZA"),
        (broken("no colon").stanza(), "APT-STANZA"),
        (broken("").stanza().replace("Version: 1\n", ""), "APT-STANZA"),
        (broken("").stanza().replace("Size: 8\n", ""), "APT-STANZA"),
        (broken("").stanza().replace("SHA256: ", "SHA1: "), "APT-WEAKHASH"),
        (broken("").stanza().replace('\n', "\r\n"), "APT-STANZA"),
        (broken("").stanza().replace("Version: 1\n", "Version: 1_0\n"), "APT-STANZA"),
        (broken("").stanza().replace("pool/main/", "../../etc/"), "APT-PATH"),
        (broken("").stanza().replace("pool/main/", "http://other.example/"), "APT-PATH"),
        (broken("").stanza().replace("pool/main/", "pool/%2e%2e/"), "APT-PATH"),
        (broken(&format!("Note: {}", "x".repeat(10_000_000))).stanza(), "APT-STANZA"),
        (package("a", "1").stanza(), "APT-STANZA"),
    ] {
        let ground = Ground::new().await;
        let text = format!("{}{stanza}{}", package("a", "1").stanza(), package("z", "1").stanza());
        ground.publish(&Repo { index_text: Some(text.into_bytes()), ..repo(Vec::new()) });
        let snapshot = changed(run_one(ground.source(), AptState::default()).await.0);
        let names: Vec<&str> = snapshot.updates.iter().map(|u| u.id.source.as_str()).collect();
        assert_eq!(names, ["a", "z"], "{}", &stanza[..stanza.len().min(200)]);
        assert_eq!((snapshot.bad, snapshot.bad_stanzas[0].number), (1, 2));
        assert_eq!(snapshot.bad_stanzas[0].code, code, "{}", snapshot.bad_stanzas[0]);
        assert!(snapshot.bad_stanzas[0].package.is_some());
    }
}

#[tokio::test]
async fn bad_input_50_more_than_one_in_a_thousand_refuses_the_snapshot() {
    let (ground, state) = Ground::with(&three()).await;
    let text = |bad: usize, good: usize| -> Vec<u8> {
        let good = (0..good).map(|n| package(&format!("p{n}"), "1").stanza());
        let bad = (0..bad).map(|n| package(&format!("bad{n}"), "1_0").stanza());
        good.chain(bad).collect::<String>().into_bytes()
    };
    ground.publish(&Repo { date: now(), index_text: Some(text(2, 1500)), ..three() });
    let error = ground.refuses(&state, "APT-STANZA").await;
    assert!(error.contains("2 of 1502") && error.contains("bad0"), "{error}");
    ground.publish(&Repo { date: now(), index_text: Some(text(2, 2000)), ..three() });
    assert_eq!(changed(run_one(ground.source(), state).await.0).bad, 2);
}

#[tokio::test]
async fn compression_bombs_and_broken_streams_are_refused() {
    let (ground, state) = Ground::with(&three()).await;
    // The release admits 1 MB; 8 MB come out. Nothing near that may be kept.
    let bomb = vec![b'\n'; 8 << 20];
    for (form, compression) in
        [(".xz", Compression::Xz), (".gz", Compression::Gzip), (".zst", Compression::Zstd)]
    {
        let sent = compress(form, &bomb);
        assert!(sent.len() < 1 << 20);
        for listed in [Some(1 << 20), None] {
            publish_index(&ground, form, &sent, listed);
            let options = RunOptions {
                compressions: vec![compression],
                uncompressed_limit: 4 << 20,
                ..RunOptions::default()
            };
            let (mut events, _) = run_all(ground.source(), state.clone(), Mode::Full, options).await;
            assert_eq!(refused(events.remove(0).result).code(), "APT-LIMIT", "{form} {listed:?}");
        }
    }
    // Signed and hashed, and still no stream; or one that ends early, or is longer or shorter than listed.
    let nothing = AptState::default();
    let whole = compress(".xz", &three().index("amd64"));
    let length = three().index("amd64").len();
    publish_index(&ground, ".xz", b"no xz at all", None);
    ground.refuses(&nothing, "APT-COMPRESSION").await;
    publish_index(&ground, ".xz", &whole[..whole.len() - 20], None);
    ground.refuses(&nothing, "APT-COMPRESSION").await;
    publish_index(&ground, ".xz", &whole, Some(length + 1));
    ground.refuses(&nothing, "APT-COMPRESSION").await;
    publish_index(&ground, ".xz", &whole, Some(length - 1));
    ground.refuses(&nothing, "APT-LIMIT").await;
}

/// Publishes an archive whose only index is these bytes.
fn publish_index(ground: &Ground, form: &str, sent: &[u8], listed: Option<usize>) {
    let base = repo(Vec::new());
    let path = format!("main/binary-amd64/Packages{form}");
    let head: String =
        base.release().lines().take_while(|l| *l != "SHA256:").map(|l| format!("{l}\n")).collect();
    let date = support::repo::rfc(base.date);
    let mut text = head.replace(&date, &support::repo::rfc(now()));
    text += &format!("SHA256:\n {} {} {path}\n", patchtide_model::Digest::of(sent), sent.len());
    if let Some(size) = listed {
        text += &format!(" {} {size} main/binary-amd64/Packages\n", patchtide_model::Digest::of(b"any"));
    }
    ground.server.file("dists/stable/InRelease", ground.key.clearsign(&text));
    ground.server.file(&format!("dists/stable/{path}"), sent);
}

#[tokio::test]
async fn bad_input_55_redirects() {
    let (ground, state) = Ground::with(&three()).await;
    let other = Server::start().await;
    other.files(three().files(&ground.key));
    let path = "dists/stable/InRelease";
    for to in [
        format!("{}/{path}", other.url),
        "file:///etc/passwd".to_owned(),
        "ftp://archive.example/x".to_owned(),
        format!("/{path}"),
        "http://[::bad".to_owned(),
    ] {
        ground.server.set(path, Answer::Redirect(to.clone()));
        let text = ground.refuses(&state, "APT-REDIRECT").await;
        assert!(text.contains("redirect"), "{to}: {text}");
    }
    assert!(other.take_requests().is_empty(), "nothing was asked of the other host");
    // A header smuggled into the Location is a header of the answer, nothing we would send on.
    ground.server.set(path, Answer::Redirect("/x\r\nset-cookie: a=b".to_owned()));
    ground.server.remove("x");
    let (result, _) = run_one(ground.source(), state.clone()).await;
    assert!(result.is_err());
    // On the same host a redirect is followed.
    ground.server.set(path, Answer::Redirect("/moved/InRelease".into()));
    ground.server.file("moved/InRelease", three().files(&ground.key)[path].clone());
    assert!(run_one(ground.source(), state).await.0.is_ok());
}

#[tokio::test]
async fn bad_input_56_a_missing_architecture_or_a_login_page_is_no_empty_catalogue() {
    let both = Repo { architectures: vec!["amd64".into(), "arm64".into()], ..three() };
    let ground = Ground::new().await;
    ground.publish(&both);
    let mut two = ground.source();
    two.architectures.insert("arm64".into());
    // Listed in the release, but not there.
    for form in [".xz", ".gz", ""] {
        ground.server.remove(&format!("dists/stable/main/binary-arm64/Packages{form}"));
    }
    let error = refused(run_one(two.clone(), AptState::default()).await.0);
    assert_eq!(error.code(), "APT-PARTIAL", "{}", error.chain());
    assert!(error.chain().contains("arm64"), "{}", error.chain());
    // Not even listed.
    ground.publish(&three());
    let error = refused(run_one(two, AptState::default()).await.0);
    assert_eq!(error.code(), "APT-PARTIAL", "{}", error.chain());
    let mut component = ground.source();
    component.components = vec!["contrib".into()];
    assert_eq!(refused(run_one(component, AptState::default()).await.0).code(), "APT-PARTIAL");

    let page = Answer::Status(200, "content-type: text/html\r\n", "<!DOCTYPE html><title>Log in</title>");
    ground.server.set("dists/stable/main/binary-amd64/Packages.xz", page.clone());
    ground.refuses(&AptState::default(), "APT-NOTINDEX").await;
    ground.server.set("dists/stable/InRelease", page);
    ground.refuses(&AptState::default(), "APT-NOTINDEX").await;
}

#[tokio::test]
async fn bad_input_57_a_catalogue_that_shrinks_at_once_is_held() {
    let many: Vec<Package> = (0..200).map(|n| package(&format!("p{n}"), "1")).collect();
    let (ground, state) = Ground::with(&repo(many.clone())).await;
    ground.publish(&Repo { date: now(), ..repo(many[..20].to_vec()) });
    let text = ground.refuses(&state, "CAT-SHRINK").await;
    assert!(text.contains("from 200 to 20"), "{text}");
    let mut approved = ground.source();
    approved.approvals.shrink = true;
    assert_eq!(changed(run_one(approved, state.clone()).await.0).updates.len(), 20);
    ground.publish(&Repo { date: now(), ..repo(many[..150].to_vec()) });
    assert_eq!(changed(run_one(ground.source(), state).await.0).updates.len(), 150);
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
    assert_eq!(options.progress.snapshot().updates, 3);
    assert!(options.progress.snapshot().bytes > 0);
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
