//! A Git source on a real API server, with repositories made by the real git.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, dead_code, reason = "a test")]

mod support;

use std::time::{Duration, Instant};

use patchtide_crds::annotations;
use patchtide_tests::git::Repository;
use serde_json::Value;
use support::{Ground, condition};

const SOURCE: &str = "gitsource";

struct Bed {
    ground: Ground,
    repository: Repository,
    folder: tempfile::TempDir,
}

fn collection(name: &str, description: &str) -> String {
    format!(
        "apiVersion: patchtide.dev/v1alpha1\nkind: Collection\nmetadata:\n  name: {name}\nspec:\n  all: true\n  description: {description}\n"
    )
}

impl Bed {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut ground = Ground::new(folder.path()).await;
        ground.start();
        let repository = Repository::init(&folder.path().join("repository")).unwrap();
        Self { ground, repository, folder }
    }

    fn source(&self, extra: &str) {
        let url = self.repository.url();
        self.ground.apply(&format!(
            "apiVersion: patchtide.dev/v1alpha1\nkind: GitSource\nmetadata:\n  name: fleet\nspec:\n  url: {url}\n  interval: 10s\n  retryInterval: 10s\n  prune: true\n{extra}"
        ));
    }

    /// Asks for a reconcile and waits until the source says that it was done; returns the source.
    async fn reconcile(&self) -> Value {
        let token = format!("{:?}", Instant::now());
        let note = format!("{}={token}", annotations::REQUESTED_AT);
        self.ground.kubectl(&["annotate", "--overwrite", SOURCE, "fleet", &note]);
        self.ground
            .until(SOURCE, "fleet", 60, |object| {
                let handled = &object["status"]["lastHandledReconcileAt"];
                if *handled == token { Ok(()) } else { Err(format!("handled {handled}, not {token}")) }
            })
            .await;
        self.ground.get(SOURCE, "fleet")
    }

    fn names(&self, kind: &str) -> Vec<String> {
        let text = self.ground.kubectl(&["get", kind, "-o", "name"]);
        text.lines().map(|line| line.rsplit('/').next().unwrap().to_owned()).collect()
    }
}

fn failures(source: &Value) -> Vec<String> {
    let all = source["status"]["failures"].as_array().cloned().unwrap_or_default();
    all.iter()
        .map(|f| {
            format!("{}:{} {} {}: {}", f["file"], f["line"], f["code"], f["object"], f["message"])
                .replace('"', "")
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_brought_into_force_and_kept_there() {
    let bed = Bed::new().await;
    valid_objects_apply_beside_a_broken_file(&bed).await;
    an_unchanged_resync_writes_nothing(&bed).await;
    commit_removal_and_revert_are_carried_out(&bed).await;
    drift_is_taken_back(&bed).await;
    what_the_server_refuses_keeps_its_last_good_version(&bed).await;
    too_many_deletions_wait_for_approval(&bed).await;
    an_account_without_rights_applies_nothing(&bed).await;
    rewritten_history_is_refused(&bed).await;
    let Bed { mut ground, .. } = bed;
    ground.stop().await;
}

async fn valid_objects_apply_beside_a_broken_file(bed: &Bed) {
    let files = [
        ("fleet/a.yaml", collection("a", "one")),
        ("fleet/b.yaml", format!("{}---\n{}", collection("b", "two"), collection("c", "three"))),
        (
            "fleet/broken.yaml",
            "apiVersion: patchtide.dev/v1alpha1\nkind: Collection\nkind: Twice\n".to_owned(),
        ),
        ("fleet/misspelt.yaml", collection("d", "four").replace("all:", "al:")),
        ("elsewhere.yaml", collection("not-below-the-path", "five")),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let commit = bed.repository.commit("start", &files).unwrap();
    bed.source("  path: fleet\n");
    bed.ground
        .until(SOURCE, "fleet", 60, |object| {
            let ready = condition(object, "Ready");
            if ready["reason"] == "PartiallyApplied" { Ok(()) } else { Err(ready.to_string()) }
        })
        .await;
    assert_eq!(bed.names("collections"), ["a", "b", "c"]);
    let source = bed.ground.get(SOURCE, "fleet");
    let told = failures(&source);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("fleet/broken.yaml:3 YAML-DUPKEY"), "{told:?}");
    assert!(told[1].starts_with("fleet/misspelt.yaml:6 FIELD-UNKNOWN Collection/d"), "{told:?}");
    assert!(told[1].contains("did you mean") && told[1].contains("all"), "{told:?}");
    assert_eq!(source["status"]["lastAttemptedRevision"], format!("main@sha1:{commit}"));
    assert_eq!(source["status"]["lastAppliedRevision"], Value::Null);
    let owned = bed.ground.get("collection", "a");
    assert_eq!(owned["metadata"]["labels"][annotations::OWNER_NAME], "fleet");
    assert_eq!(owned["metadata"]["annotations"][annotations::ORIGIN_FILE], "fleet/a.yaml#0");
    bed.repository.remove("fleet/broken.yaml").unwrap();
    bed.repository.remove("fleet/misspelt.yaml").unwrap();
    let commit = bed.repository.commit_all("without the broken ones").unwrap();
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "Ready")["status"], "True", "{:#}", source["status"]);
    assert_eq!(source["status"]["lastAppliedRevision"], format!("main@sha1:{commit}"));
}

/// Three intervals without a commit: no object of the namespace gets another resource version.
async fn an_unchanged_resync_writes_nothing(bed: &Bed) {
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

async fn commit_removal_and_revert_are_carried_out(bed: &Bed) {
    let limit = Duration::from_secs(25);
    bed.repository.commit("one more", &[("fleet/e.yaml", &collection("e", "six"))]).unwrap();
    let started = Instant::now();
    while !bed.names("collections").contains(&"e".to_owned()) {
        assert!(started.elapsed() < limit, "a commit was not carried out within one interval and a little");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    bed.repository.remove("fleet/a.yaml").unwrap();
    bed.repository.commit_all("one less").unwrap();
    let source = bed.reconcile().await;
    assert_eq!(bed.names("collections"), ["b", "c", "e"], "{:#}", source["status"]);
    bed.repository.revert().unwrap();
    bed.reconcile().await;
    assert_eq!(bed.names("collections"), ["a", "b", "c", "e"]);
}

async fn drift_is_taken_back(bed: &Bed) {
    let patch = r#"{"spec":{"description":"changed by hand"}}"#;
    bed.ground.kubectl(&["patch", "collection", "e", "--type=merge", "-p", patch]);
    bed.reconcile().await;
    assert_eq!(bed.ground.get("collection", "e")["spec"]["description"], "six");
}

async fn what_the_server_refuses_keeps_its_last_good_version(bed: &Bed) {
    // Passes our schema check; refused by a CEL rule of the server.
    let good = "apiVersion: patchtide.dev/v1alpha1\nkind: MaintenanceWindow\nmetadata:\n  name: night\nspec:\n  collection: e\n  start: '02:00'\n  duration: 2h\n  timeZone: UTC\n  recurrence: {daily: {}}\n";
    bed.repository.commit("window", &[("fleet/w.yaml", good)]).unwrap();
    bed.reconcile().await;
    assert_eq!(bed.names("maintenancewindows"), ["night"]);
    bed.repository.commit("longer than a day", &[("fleet/w.yaml", &good.replace("2h", "25h"))]).unwrap();
    let source = bed.reconcile().await;
    let told = failures(&source);
    assert!(told.len() == 1 && told[0].contains("OBJ-INVALID MaintenanceWindow/night"), "{told:?}");
    assert!(told[0].contains("duration"), "{told:?}");
    assert_eq!(bed.ground.get("maintenancewindow", "night")["spec"]["duration"], "2h");
    bed.repository.commit("short again", &[("fleet/w.yaml", good)]).unwrap();
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "Ready")["status"], "True", "{:#}", source["status"]);
}

async fn too_many_deletions_wait_for_approval(bed: &Bed) {
    bed.source("  path: fleet\n  maxDeletions: 1\n");
    bed.repository.remove("fleet/b.yaml").unwrap();
    let commit = bed.repository.commit_all("two less").unwrap();
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "PruneBlocked")["status"], "True", "{:#}", source["status"]);
    assert_eq!(source["status"]["prune"]["objects"], serde_json::json!(["Collection/b", "Collection/c"]));
    assert!(bed.names("collections").contains(&"b".to_owned()));
    let approve = format!("{}=main@sha1:{commit}", annotations::APPROVE_PRUNE);
    bed.ground.kubectl(&["annotate", "--overwrite", SOURCE, "fleet", &approve]);
    let source = bed.reconcile().await;
    assert_eq!(bed.names("collections"), ["a", "e"], "{:#}", source["status"]);
    assert_eq!(condition(&source, "PruneBlocked"), Value::Null);
}

async fn an_account_without_rights_applies_nothing(bed: &Bed) {
    bed.ground.plane.apply(IMPERSONATION).unwrap();
    bed.source("  path: fleet\n  serviceAccountName: tenant\n");
    bed.repository.commit("as the tenant", &[("fleet/f.yaml", &collection("f", "seven"))]).unwrap();
    let source = bed.reconcile().await;
    let told = failures(&source);
    assert!(told.len() == 1 && told[0].contains("ACCESS-DENIED Collection/f"), "{told:?}");
    assert!(told[0].contains("tenant"), "{told:?}");
    assert!(!bed.names("collections").contains(&"f".to_owned()));
    bed.source("  path: fleet\n");
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "Ready")["status"], "True", "{:#}", source["status"]);
}

async fn rewritten_history_is_refused(bed: &Bed) {
    let applied = bed.ground.get(SOURCE, "fleet")["status"]["lastAppliedRevision"].clone();
    bed.repository.git(&["reset", "-q", "--hard", "HEAD~2"]).unwrap();
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

const IMPERSONATION: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: tenant, namespace: patchtide}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: impersonate-tenant, namespace: patchtide}
rules:
- {apiGroups: [''], resources: [serviceaccounts], resourceNames: [tenant], verbs: [impersonate]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: impersonate-tenant, namespace: patchtide}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: impersonate-tenant}
subjects:
- {kind: ServiceAccount, name: patchtide, namespace: patchtide}
";
