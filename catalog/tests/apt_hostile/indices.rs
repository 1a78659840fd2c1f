//! Indices: hashes, stanzas, compression, size.

use patchtide_catalog::apt::{AptState, Compression, Mode, RunOptions};

use super::{
    Ground,
    support::{
        self, changed, now, refused,
        repo::{Package, Repo, compress, package, repo},
        run_all, run_one,
        server::Answer,
    },
    three,
};

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

    // The archive says that it has them by hash, and has not, or forbids to look: by name then.
    for status in [404, 403] {
        let ground = Ground::new().await;
        ground.publish(&new);
        for path in new.by_hash().keys() {
            ground.server.set(path, Answer::Status(status, "", ""));
        }
        assert_eq!(
            changed(run_one(ground.source(), AptState::default()).await.0).updates.len(),
            1,
            "{status}"
        );
        let requests = ground.server.take_requests();
        assert!(requests.len() == 3 && requests[2].0.ends_with("Packages.xz"), "{requests:?}");
    }

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
