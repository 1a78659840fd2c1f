//! Releases: signature, dates, identity, and what comes in their place.

use patchtide_catalog::apt::AptState;

use super::{
    Ground, hours,
    support::{
        changed,
        keys::Key,
        now, refused,
        repo::{Repo, package},
        run_one,
        server::{Answer, Server},
    },
    three,
};

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
    // An end is demanded and not given.
    let mut strict = ground.source();
    strict.dates.require_valid_until = true;
    assert_eq!(refused(run_one(strict, AptState::default()).await.0).code(), "APT-NO-END");
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
