//! `spec.suspend`: as with Flux, nothing is done at all, whoever asks for it.

use std::time::Duration;

use serde_json::Value;

use super::{Bed, SOURCE, collection, contract::check_contract, support::condition};

/// The commit is in the source's object database.
fn fetched(bed: &Bed, uid: &Value, commit: &str) -> bool {
    let cache = bed.folder.path().join("cache/git").join(uid.as_str().unwrap()).join("0");
    let git = |object: &str| {
        let mut command = bed.repository.command();
        command.arg("--git-dir").arg(&cache).args(["cat-file", "-e", object]).status().unwrap().success()
    };
    assert!(git("refs/patchtide/fetched"), "no cache where one is expected: {}", cache.display());
    git(commit)
}

pub async fn nothing_is_fetched_applied_or_pruned_until_it_is_let_go(bed: &Bed) {
    let files = [("fleet/a.yaml", collection("a", "one")), ("fleet/b.yaml", collection("b", "one"))];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let first = bed.repository.commit("start", &files).unwrap();
    bed.source("  path: fleet\n");
    bed.ground.ready(SOURCE, "fleet", 60).await;
    // Something of its own that waits, so that there is a condition beside Ready which must not outlive its meaning.
    bed.repository.remove("fleet/b.yaml").unwrap();
    let waits = bed.repository.commit_all("one less").unwrap();
    bed.source("  path: fleet\n  maxDeletions: 0\n");
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "PruneBlocked")["status"], "True", "{:#}", source["status"]);

    bed.source("  path: fleet\n  maxDeletions: 0\n  suspend: true\n");
    bed.ground.ready(SOURCE, "fleet", 60).await;
    let source = bed.ground.get(SOURCE, "fleet");
    let ready = condition(&source, "Ready");
    assert_eq!(ready["reason"], "Suspended", "{ready}");
    assert!(ready["message"].as_str().unwrap().contains("spec.suspend"), "{ready}");
    assert_eq!(condition(&source, "PruneBlocked"), Value::Null);
    check_contract(&bed.ground);

    // A commit, drift and a request: none of them is answered, now or an interval later.
    let commit = bed.repository.commit("meanwhile", &[("fleet/h.yaml", &collection("h", "two"))]).unwrap();
    let patch = r#"{"spec":{"description":"changed by hand"}}"#;
    bed.ground.kubectl(&["patch", "collection", "a", "--type=merge", "-p", patch]);
    let uid = &source["metadata"]["uid"];
    for _ in 0..2 {
        let source = bed.reconcile().await;
        assert_eq!(condition(&source, "Ready")["reason"], "Suspended");
        assert!(!fetched(bed, uid, &commit), "a suspended source has fetched");
        assert!(fetched(bed, uid, &waits));
        assert_eq!(source["status"]["lastAttemptedRevision"], format!("main@sha1:{waits}"));
        assert_eq!(source["status"]["lastAppliedRevision"], format!("main@sha1:{first}"));
        assert_eq!(bed.names("collections"), ["a", "b"]);
        assert_eq!(bed.ground.get("collection", "a")["spec"]["description"], "changed by hand");
        tokio::time::sleep(Duration::from_secs(12)).await;
    }

    // Let go: all of it at once, without a request.
    bed.source("  path: fleet\n  suspend: false\n");
    bed.ground.ready(SOURCE, "fleet", 30).await;
    let source = bed.ground.get(SOURCE, "fleet");
    assert_eq!(condition(&source, "Ready")["reason"], "ReconciliationSucceeded");
    assert_eq!(source["status"]["lastAppliedRevision"], format!("main@sha1:{commit}"));
    assert_eq!(bed.names("collections"), ["a", "h"]);
    assert_eq!(bed.ground.get("collection", "a")["spec"]["description"], "one");
}
