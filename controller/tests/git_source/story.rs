//! The daily life of a repository: commits, removals, reverts, drift, prunes, another past.

use std::time::{Duration, Instant};

use patchtide_crds::annotations;
use serde_json::Value;

use super::{Bed, SOURCE, collection, support::condition};

/// Three intervals without a commit: no object of the namespace gets another resource version.
pub async fn an_unchanged_resync_writes_nothing(bed: &Bed) {
    // The other kinds' first statuses are written meanwhile.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let versions = |all: Vec<Value>| -> Vec<String> {
        all.iter()
            .map(|o| format!("{} {} {}", o["kind"], o["metadata"]["name"], o["metadata"]["resourceVersion"]))
            .collect()
    };
    let before = versions(bed.ground.all());
    tokio::time::sleep(Duration::from_secs(32)).await;
    assert_eq!(before, versions(bed.ground.all()));
}

/// Longest time in which a source with an interval of 10 s carries a commit out: the interval and a twentieth, and the work.
/// Two intervals are longer, however short they turn out.
const ONE_INTERVAL: Duration = Duration::from_secs(18);

/// Waits until these collections are there and no other, without asking the source for anything.
async fn carried_out(bed: &Bed, what: &str, wanted: &[&str]) {
    let started = Instant::now();
    loop {
        let names = bed.names("collections");
        if names == wanted {
            println!("{what}: {:.1} s", started.elapsed().as_secs_f64());
            return;
        }
        assert!(
            started.elapsed() < ONE_INTERVAL,
            "{what} was not carried out within one interval: {names:?}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub async fn commit_removal_and_revert_are_carried_out(bed: &Bed) {
    bed.repository.commit("one more", &[("fleet/e.yaml", &collection("e", "six"))]).unwrap();
    carried_out(bed, "one more", &["a", "b", "c", "e"]).await;
    bed.repository.remove("fleet/a.yaml").unwrap();
    bed.repository.commit_all("one less").unwrap();
    carried_out(bed, "one less", &["b", "c", "e"]).await;
    bed.repository.revert().unwrap();
    carried_out(bed, "the revert", &["a", "b", "c", "e"]).await;
    // As Flux does: an event for each revision that changes something, although Ready stays as it is.
    bed.reconcile().await;
    let events = bed.ground.kubectl(&["get", "events", "-o", "json"]);
    for change in ["Collection/e created", "Collection/a deleted", "Collection/a created"] {
        assert!(events.contains(change), "{change}: {events}");
    }
}

pub async fn drift_is_taken_back(bed: &Bed) {
    let patch = r#"{"spec":{"description":"changed by hand"}}"#;
    bed.ground.kubectl(&["patch", "collection", "e", "--type=merge", "-p", patch]);
    bed.reconcile().await;
    assert_eq!(bed.ground.get("collection", "e")["spec"]["description"], "six");
}

pub async fn too_many_deletions_wait_for_approval(bed: &Bed) {
    bed.source("  path: fleet\n  maxDeletions: 1\n");
    bed.repository.remove("fleet/b.yaml").unwrap();
    let commit = bed.repository.commit_all("two less").unwrap();
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "PruneBlocked")["status"], "True", "{:#}", source["status"]);
    // What Git says is not in force yet, so it is not ready either.
    assert_eq!(condition(&source, "Ready")["reason"], "TooManyDeletions", "{:#}", source["status"]);
    assert_eq!(source["status"]["prune"]["objects"], serde_json::json!(["Collection/b", "Collection/c"]));
    assert!(bed.names("collections").contains(&"b".to_owned()));
    let approve = format!("{}=main@sha1:{commit}", annotations::APPROVE_PRUNE);
    bed.ground.kubectl(&["annotate", "--overwrite", SOURCE, "fleet", &approve]);
    let source = bed.reconcile().await;
    assert_eq!(bed.names("collections"), ["a", "e"], "{:#}", source["status"]);
    assert_eq!(condition(&source, "PruneBlocked"), Value::Null);
}

pub async fn rewritten_history_is_refused(bed: &Bed) {
    let applied = bed.ground.get(SOURCE, "fleet")["status"]["lastAppliedRevision"].clone();
    bed.repository.git(&["reset", "-q", "--hard", "HEAD~1"]).unwrap();
    bed.repository.commit("another past", &[("fleet/g.yaml", &collection("g", "eight"))]).unwrap();
    let source = bed.reconcile().await;
    let ready = condition(&source, "Ready");
    assert!(ready["message"].as_str().unwrap().contains("GIT-NOT-DESCENDANT"), "{ready}");
    assert_eq!(source["status"]["lastAppliedRevision"], applied);
    assert!(!bed.names("collections").contains(&"g".to_owned()));
    bed.source("  path: fleet\n  allowHistoryRewrite: true\n  maxDeletions: 10\n");
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "Ready")["status"], "True", "{:#}", source["status"]);
    assert!(bed.names("collections").contains(&"g".to_owned()));
}

/// Deleting a source leaves what it applied. Another one that names it in Git goes on with it; as long as the first is
/// there it does not.
pub async fn what_a_deleted_source_left_is_taken_over_and_its_cache_goes(bed: &Bed) {
    let first = bed.ground.get(SOURCE, "fleet")["metadata"]["uid"].as_str().unwrap().to_owned();
    let cache = bed.folder.path().join("cache/git").join(first);
    assert!(cache.is_dir());
    let url = bed.repository.url();
    bed.ground.apply(&format!(
        "apiVersion: patchtide.dev/v1alpha1\nkind: GitSource\nmetadata:\n  name: second\nspec:\n  url: {url}\n  path: fleet\n  interval: 10s\n  prune: true\n"
    ));
    bed.ground
        .until(SOURCE, "second", 30, |object| {
            let ready = condition(object, "Ready");
            let told = ready["message"].as_str().unwrap_or_default();
            let refused = told.contains("OWNED-BY-OTHER") && told.contains("GitSource fleet");
            if refused { Ok(()) } else { Err(ready.to_string()) }
        })
        .await;
    bed.ground.kubectl(&["delete", SOURCE, "fleet"]);
    bed.ground.ready(SOURCE, "second", 30).await;
    let owner = bed.ground.get("collection", "a")["metadata"]["labels"][annotations::OWNER_NAME].clone();
    assert_eq!(owner, "second");
    // The folder of a deleted source goes with it; the others' stay.
    let end = Instant::now() + Duration::from_secs(20);
    while cache.exists() {
        assert!(Instant::now() < end, "{} is still there", cache.display());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let second = bed.ground.get(SOURCE, "second")["metadata"]["uid"].as_str().unwrap().to_owned();
    assert!(bed.folder.path().join("cache/git").join(second).is_dir());
}
