//! Since when a deployment stands in the repository, and what its dates are worth.

use patchtide_crds::annotations;

use super::{Bed, collection, support::condition};

/// A list that nobody has a member for, and a deployment of it due 14 days after it began.
pub fn deployment(name: &str, note: &str) -> String {
    format!(
        "apiVersion: patchtide.dev/v1alpha1\nkind: UpdateDeployment\nmetadata:\n  name: {name}\nspec:\n  description: {note}\n  updateList: open\n  listReference: Follow\n  collection: a\n  settings:\n    available: {{asSoonAsPossible: true}}\n    deadline: {{after: 14d}}\n"
    )
}

const LIST: &str = "apiVersion: patchtide.dev/v1alpha1\nkind: SearchFolder\nmetadata:\n  name: open\nspec:\n  criteria: {sources: [nothing-has-this-name]}\n---\napiVersion: patchtide.dev/v1alpha1\nkind: UpdateList\nmetadata:\n  name: open\nspec:\n  searchFolder: {name: open, refresh: OnChange}\n";

/// Design section 3: "as soon as possible" is anchored once, by the introducing commit's time, so that a rebuilt cluster
/// keeps its deadlines.
pub async fn a_deployment_begins_with_the_commit_that_introduced_it(bed: &mut Bed) {
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

pub fn two_weeks_after(time: &str) -> String {
    let time: jiff::Timestamp = time.parse().unwrap();
    (time + jiff::SignedDuration::from_hours(14 * 24)).to_string()
}

pub async fn bad_input_42_a_date_that_cannot_be_is_told_and_not_used(bed: &Bed) {
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
