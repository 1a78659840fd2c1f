//! The controller on a real control plane, with credentials from Secrets and servers that fail.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use patchtide_tests::wait::until;
use serde_json::Value;

use super::{
    Bed,
    ssh::{self, Sshd},
    support::{Ground, condition},
    tls::{self, Identity, Manner, Server},
};

const COLLECTION: &str =
    "apiVersion: patchtide.dev/v1alpha1\nkind: Collection\nmetadata:\n  name: NAME\nspec:\n  all: true\n";

fn indented(text: &str) -> String {
    text.trim().lines().fold(String::new(), |text, line| text + "    " + line + "\n")
}

fn secret(ground: &Ground, name: &str, data: &[(&str, &str)]) {
    let fields =
        data.iter().fold(String::new(), |text, (key, value)| text + "  " + key + ": |\n" + &indented(value));
    ground.apply(&format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\nstringData:\n{fields}"));
}

fn source(ground: &Ground, name: &str, url: &str, more: &str) {
    ground.apply(&format!(
        "apiVersion: patchtide.dev/v1alpha1\nkind: GitSource\nmetadata:\n  name: {name}\nspec:\n  url: {url}\n  path: {name}\n  interval: 10s\n  prune: true\n{more}"
    ));
}

async fn failed(ground: &Ground, name: &str, code: &str, reason: &str) -> Value {
    ground
        .until("gitsource", name, 60, |object| {
            let ready = condition(object, "Ready");
            let told = ready["message"].as_str().unwrap_or_default();
            if told.starts_with(code) && ready["reason"] == reason { Ok(()) } else { Err(ready.to_string()) }
        })
        .await;
    ground.get("gitsource", name)
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_secrets_and_failing_servers_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut ground = Ground::new(folder.path()).await;
    ground.start();
    let bed = Bed::new();
    let files: Vec<(String, String)> = ["web", "shell", "slow", "other"]
        .iter()
        .map(|name| (format!("{name}/a.yaml"), COLLECTION.replace("NAME", name)))
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    bed.repository.commit("collections", &files).unwrap();

    // https: user, password and authority; a wrong password first, and the right one at once when the Secret changes.
    let identity = Identity::new("localhost", 2099);
    let (_server, url) = bed.serve(&identity, Manner::Honest);
    let web = |password| {
        [("username", tls::USER.0), ("password", password), ("ca.crt", identity.authority.as_str())]
    };
    secret(&ground, "web", &web("guess"));
    source(&ground, "web", &url, "  secretRef: {name: web}\n");
    let object = failed(&ground, "web", "GIT-AUTH", "AuthenticationFailed").await;
    assert_eq!(condition(&object, "FetchFailed")["status"], "True");
    assert_eq!(condition(&object, "Stalled"), Value::Null, "it heals without a change of the spec");
    secret(&ground, "web", &web(tls::USER.1));
    ground.ready("gitsource", "web", 60).await;
    assert_eq!(condition(&ground.get("gitsource", "web"), "FetchFailed"), Value::Null);
    ground.get("collection", "web");

    // ssh: a protected key and the host's.
    let sshd = Sshd::start(&bed.folder.path().join("ssh"));
    let shell = |known_hosts| {
        [
            ("identity", sshd.identity()),
            ("password", ssh::PASSPHRASE.to_owned()),
            ("known_hosts", known_hosts),
        ]
    };
    let put = |data: [(&str, String); 3]| {
        let data: Vec<(&str, &str)> = data.iter().map(|(key, value)| (*key, value.as_str())).collect();
        secret(&ground, "shell", &data);
    };
    put(shell(sshd.known_hosts()));
    source(&ground, "shell", &sshd.url(bed.repository.path()), "  secretRef: {name: shell}\n");
    ground.ready("gitsource", "shell", 60).await;
    ground.get("collection", "shell");

    // Bad input 39: the host key changed; what is applied stays, and nothing is fetched.
    let applied = ground.get("gitsource", "shell")["status"]["lastAppliedRevision"].clone();
    let stranger = Sshd::start(&bed.folder.path().join("stranger"));
    put(shell(stranger.known_hosts().replace(&stranger.port.to_string(), &sshd.port.to_string())));
    let object = failed(&ground, "shell", "GIT-PEER", "GitOperationFailed").await;
    assert_eq!(object["status"]["lastAppliedRevision"], applied);
    ground.get("collection", "shell");

    // Bad input 38: one byte a second; told in time, and left alone longer from try to try.
    let (server, url) = bed.serve(&identity, Manner::Drip);
    source(&ground, "slow", &url, "  timeout: 5s\n  secretRef: {name: web}\n");
    failed(&ground, "slow", "GIT-TIMEOUT", "GitOperationFailed").await;
    server.honest.store(true, Ordering::Relaxed);
    ground.ready("gitsource", "slow", 90).await;
    ground.get("collection", "slow");
    ground.stop().await;
}

/// Waits until a client asks a server for the pack that it holds back.
fn begun(server: &Server) {
    until("the fetch", Duration::from_secs(30), || {
        if server.held.load(Ordering::Relaxed) { Ok(()) } else { Err("not begun".into()) }
    })
    .unwrap();
}

/// What changed while a revision was being fetched counts, and a server that holds one source up does not hold up the
/// others.
#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_comes_after_the_suspension_is_not_applied() {
    let folder = tempfile::tempdir().unwrap();
    let mut ground = Ground::new(folder.path()).await;
    ground.start();
    let bed = Bed::new();
    let files = ["late", "other"].map(|name| (format!("{name}/a.yaml"), COLLECTION.replace("NAME", name)));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    bed.repository.commit("collections", &files).unwrap();
    let identity = Identity::new("localhost", 2099);
    let data =
        [("username", tls::USER.0), ("password", tls::USER.1), ("ca.crt", identity.authority.as_str())];
    secret(&ground, "web", &data);
    let (server, url) = bed.serve(&identity, Manner::Held);
    source(&ground, "late", &url, "  secretRef: {name: web}\n");
    begun(&server);
    let began = Instant::now();
    source(&ground, "late", &url, "  secretRef: {name: web}\n  suspend: true\n");
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.honest.store(true, Ordering::Relaxed);
    ground
        .until("gitsource", "late", 30, |object| {
            let ready = condition(object, "Ready");
            if ready["reason"] == "Suspended" { Ok(()) } else { Err(ready.to_string()) }
        })
        .await;
    assert!(began.elapsed() < Duration::from_secs(9), "it was not within one run: {:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ground.get("gitsource", "late")["status"]["lastAttemptedRevision"], Value::Null);
    assert_eq!(ground.kubectl(&["get", "collections", "-o", "name"]), "");

    bed.repository.commit("more to fetch", &[("more.txt", "x")]).unwrap();
    let (server, url) = bed.serve(&identity, Manner::Held);
    source(&ground, "late", &url, "  secretRef: {name: web}\n");
    begun(&server);
    source(&ground, "other", &bed.repository.url(), "");
    ground.ready("gitsource", "other", 30).await;
    let late = ground.get("gitsource", "late");
    assert_eq!(condition(&late, "Ready")["reason"], "Progressing", "{:#}", late["status"]);
    // Its end wakes the source.
    server.honest.store(true, Ordering::Relaxed);
    ground.ready("gitsource", "late", 10).await;
    ground.get("collection", "late");
    ground.stop().await;
}
