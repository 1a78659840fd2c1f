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
    let mut bed = Bed::new().await;
    valid_objects_apply_beside_a_broken_file(&bed).await;
    an_unchanged_resync_writes_nothing(&bed).await;
    commit_removal_and_revert_are_carried_out(&bed).await;
    drift_is_taken_back(&bed).await;
    what_the_server_refuses_keeps_its_last_good_version(&bed).await;
    too_many_deletions_wait_for_approval(&bed).await;
    an_account_without_rights_applies_nothing(&bed).await;
    rewritten_history_is_refused(&bed).await;
    a_deployment_begins_with_the_commit_that_introduced_it(&mut bed).await;
    bad_input_42_a_date_that_cannot_be_is_told_and_not_used(&bed).await;
    bad_input_20_objects_of_another_tenant_are_missing_ones(&bed).await;
    bad_input_26_an_immutable_field_is_told_with_old_and_new(&bed).await;
    bed.ground.stop().await;
    bad_input_27_nothing_of_an_object_is_lost_in_storage(&bed);
}

/// A list that nobody has a member for, and a deployment of it due 14 days after it began.
fn deployment(name: &str, note: &str) -> String {
    format!(
        "apiVersion: patchtide.dev/v1alpha1\nkind: UpdateDeployment\nmetadata:\n  name: {name}\nspec:\n  description: {note}\n  updateList: open\n  listReference: Follow\n  collection: a\n  settings:\n    available: {{asSoonAsPossible: true}}\n    deadline: {{after: 14d}}\n"
    )
}

const LIST: &str = "apiVersion: patchtide.dev/v1alpha1\nkind: SearchFolder\nmetadata:\n  name: open\nspec:\n  criteria: {sources: [nothing-has-this-name]}\n---\napiVersion: patchtide.dev/v1alpha1\nkind: UpdateList\nmetadata:\n  name: open\nspec:\n  searchFolder: {name: open, refresh: OnChange}\n";

impl Bed {
    /// A commit that says that it was made at `date`.
    fn commit_at(&self, date: &str, files: &[(&str, &str)]) -> String {
        for (file, content) in files {
            self.repository.write(file, content).unwrap();
        }
        self.repository.git(&["add", "--all"]).unwrap();
        let mut command = self.repository.command();
        command.env("GIT_AUTHOR_DATE", date).env("GIT_COMMITTER_DATE", date);
        assert!(command.args(["commit", "-q", "-m", "dated"]).status().unwrap().success());
        self.repository.head().unwrap()
    }

    async fn deadline(&self, name: &str) -> String {
        let told = |object: &Value| object["status"]["deadline"].as_str().map(str::to_owned);
        self.ground
            .until("updatedeployment", name, 60, |object| {
                told(object).map(drop).ok_or_else(|| "no deadline".into())
            })
            .await;
        told(&self.ground.get("updatedeployment", name)).unwrap()
    }
}

/// Design section 3: "as soon as possible" is anchored once, by the introducing commit's time, so that a rebuilt cluster
/// keeps its deadlines.
async fn a_deployment_begins_with_the_commit_that_introduced_it(bed: &mut Bed) {
    const DEADLINE: &str = "2026-01-19T10:00:00Z";
    // The branch's own past is of today: dates before it are raised to it, so this one begins a branch.
    bed.repository.git(&["checkout", "-q", "--orphan", "dated"]).unwrap();
    bed.repository.git(&["rm", "-rqf", "."]).unwrap();
    let first = bed.commit_at(
        "2026-01-01T10:00:00Z",
        &[("fleet/a.yaml", &collection("a", "one")), ("fleet/list.yaml", LIST)],
    );
    let commit = bed.commit_at("2026-01-05T10:00:00Z", &[("fleet/ud.yaml", &deployment("dated", "one"))]);
    assert_ne!(first, commit);
    let on_branch = "  path: fleet\n  ref: {branch: dated}\n  maxDeletions: 100\n";
    bed.source(on_branch);
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "Ready")["status"], "True", "{:#}", source["status"]);
    assert_eq!(bed.deadline("dated").await, DEADLINE);
    let object = bed.ground.get("updatedeployment", "dated");
    assert_eq!(object["metadata"]["annotations"][annotations::INTRODUCED_BY], commit);
    // An edit, and a move to another file, change nothing about that.
    bed.repository.remove("fleet/ud.yaml").unwrap();
    bed.commit_at("2026-03-01T10:00:00Z", &[("fleet/moved.yaml", &deployment("dated", "two"))]);
    bed.reconcile().await;
    assert_eq!(bed.ground.get("updatedeployment", "dated")["spec"]["description"], "two");
    assert_eq!(bed.deadline("dated").await, DEADLINE);
    // Nor does a restart, nor what a rebuilt cluster sees: another UID, and no cache of the repository.
    bed.ground.stop().await;
    let cache = bed.folder.path().join("cache");
    std::fs::remove_dir_all(&cache).unwrap();
    bed.ground.kubectl(&["delete", "updatedeployment", "dated"]);
    bed.ground.start();
    bed.reconcile().await;
    let again = bed.ground.get("updatedeployment", "dated");
    assert_ne!(again["metadata"]["uid"], object["metadata"]["uid"]);
    assert_eq!(bed.deadline("dated").await, DEADLINE);
    // Applied by hand: it began when it was made.
    bed.ground.apply(&deployment("by-hand", "three"));
    let made = bed.ground.get("updatedeployment", "by-hand")["metadata"]["creationTimestamp"].clone();
    assert_eq!(bed.deadline("by-hand").await, two_weeks_after(made.as_str().unwrap()));
}

fn two_weeks_after(time: &str) -> String {
    let time: jiff::Timestamp = time.parse().unwrap();
    (time + jiff::SignedDuration::from_hours(14 * 24)).to_string()
}

async fn bad_input_42_a_date_that_cannot_be_is_told_and_not_used(bed: &Bed) {
    bed.commit_at("2099-01-01T00:00:00Z", &[("fleet/future.yaml", &deployment("future", "x"))]);
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "Ready")["status"], "True", "{:#}", source["status"]);
    assert_eq!(source["status"]["inventory"]["warnings"], 1);
    let object = bed.ground.get("updatedeployment", "future");
    let seen = object["metadata"]["annotations"][annotations::INTRODUCED_AT].as_str().unwrap().to_owned();
    assert_eq!(bed.deadline("future").await, two_weeks_after(&seen));
    let made: jiff::Timestamp = object["metadata"]["creationTimestamp"].as_str().unwrap().parse().unwrap();
    let seen: jiff::Timestamp = seen.parse().unwrap();
    assert!(made.duration_since(seen).as_secs() < 60, "{made} {seen}");
    let events = bed.ground.kubectl(&["get", "events", "-o", "json"]);
    assert!(events.contains("RevisionWarnings") && events.contains("GIT-DATE"), "{events}");
    bed.repository.remove("fleet/future.yaml").unwrap();
    bed.repository.commit_all("without it").unwrap();
    bed.reconcile().await;
}

async fn bad_input_20_objects_of_another_tenant_are_missing_ones(bed: &Bed) {
    bed.ground.plane.kubectl(&["create", "namespace", "tenant-b"]).unwrap();
    let theirs = collection("theirs", "x").replacen("metadata:", "metadata:\n  namespace: tenant-b", 1);
    bed.ground.plane.apply(&theirs).unwrap();
    let mut told = Vec::new();
    for name in ["theirs", "nobodys"] {
        let text = deployment(name, "x").replace("collection: a", &format!("collection: {name}"));
        bed.ground.apply(&text);
        bed.ground
            .until("updatedeployment", name, 60, |object| {
                let ready = condition(object, "Ready");
                if ready["status"] == "False" { Ok(()) } else { Err(ready.to_string()) }
            })
            .await;
        let ready = condition(&bed.ground.get("updatedeployment", name), "Ready");
        let message = ready["message"].as_str().unwrap().replace(name, "NAME");
        told.push((ready["reason"].clone(), message));
        bed.ground.kubectl(&["delete", "updatedeployment", name]);
    }
    // The same answer: it does not say what exists elsewhere.
    assert_eq!(told[0], told[1]);
    assert!(told[0].1.contains("does not exist"), "{told:?}");
}

/// No field of our kinds is immutable so far; a server whose definition makes one so refuses a change in its own words.
async fn bad_input_26_an_immutable_field_is_told_with_old_and_new(bed: &Bed) {
    let rule = r#"[{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/description/x-kubernetes-validations","value":[{"rule":"self == oldSelf","message":"the field is immutable"}]}]"#;
    let crd = "collections.patchtide.dev";
    bed.ground.plane.kubectl(&["patch", "crd", crd, "--type=json", "-p", rule]).unwrap();
    // The server takes a changed definition over within moments; until then the change passes and is taken back.
    let mut told = Vec::new();
    for number in 0..10 {
        let text = collection("a", &format!("other-{number}"));
        bed.repository.commit("changed", &[("fleet/a.yaml", &text)]).unwrap();
        told = failures(&bed.reconcile().await);
        if !told.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(told.len() == 1 && told[0].contains("FIELD-IMMUTABLE Collection/a"), "{told:?}");
    for part in ["spec.description is ", "cannot become", "other-", "last good version of Collection/a"] {
        assert!(told[0].contains(part), "{part}: {told:?}");
    }
    bed.repository.revert().unwrap();
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "Ready")["status"], "True", "{:#}", source["status"]);
}

/// There is one version of the API so far, so nothing converts; what the server keeps is what it was given.
fn bad_input_27_nothing_of_an_object_is_lost_in_storage(bed: &Bed) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/kinds");
    bed.ground.plane.kubectl(&["create", "namespace", "kept"]).unwrap();
    let mut kinds = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        bed.ground.plane.kubectl(&["-n", "kept", "apply", "-f", path.to_str().unwrap()]).unwrap();
        let given: Vec<Value> =
            serde_saphyr::from_multiple(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for object in given {
            let (kind, name) =
                (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
            let kept = bed.ground.plane.get(&["-n", "kept", kind, name]).unwrap();
            lost(&object["spec"], &kept["spec"], &format!("{kind}.spec"));
            kinds += 1;
        }
    }
    assert!(kinds >= 12, "{kinds}");
}

fn lost(given: &Value, kept: &Value, at: &str) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (key, value) in given {
                lost(value, kept.get(key).unwrap_or(&Value::Null), &format!("{at}.{key}"));
            }
        }
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => {
            for (n, (given, kept)) in given.iter().zip(kept).enumerate() {
                lost(given, kept, &format!("{at}[{n}]"));
            }
        }
        _ => assert_eq!(given, kept, "{at}"),
    }
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
    // As Flux does: an event for each revision that changes something, although Ready stays as it is.
    let events = bed.ground.kubectl(&["get", "events", "-o", "json"]);
    for change in ["Collection/e created", "Collection/a deleted"] {
        assert!(events.contains(change), "{change}: {events}");
    }
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
    assert!(told[0].contains("the last good version of MaintenanceWindow/night stays in force"), "{told:?}");
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
