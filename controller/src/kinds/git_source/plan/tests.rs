use std::sync::Arc;

use crate::git::{
    object::Revision,
    verdict::{Finding, Place},
};

use super::{super::dereference::Introduced, *};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn source(max_deletions: u32) -> GitSource {
    let spec = json!({ "url": "https://h/r", "prune": true, "maxDeletions": max_deletions });
    let object = json!({
        "apiVersion": "patchtide.dev/v1alpha1", "kind": "GitSource",
        "metadata": { "name": "fleet", "namespace": "lab" }, "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "tests hand over what json! makes")]
fn object(kind: &str, name: &str, spec: Value) -> GitObject {
    let json = json!({
        "apiVersion": "patchtide.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
    });
    GitObject {
        kind: kind.to_owned(),
        name: name.to_owned(),
        place: Place::file("a.yaml"),
        origin: "a.yaml#0".to_owned(),
        json,
    }
}

fn reading(objects: &[GitObject]) -> Reading {
    let objects = objects.iter().map(|o| ((o.kind.clone(), o.name.clone()), o.clone())).collect();
    Reading {
        revision: "main@sha1:1".to_owned(),
        commit_time: None,
        signer: None,
        introduced: Arc::default(),
        content: Revision { objects, findings: Vec::new(), files: 1 },
    }
}

/// The cluster after `objects` were applied.
fn live(objects: &[GitObject]) -> Live {
    objects
        .iter()
        .map(|object| {
            let body = body(object, "fleet", "lab");
            ((object.kind.clone(), object.name.clone()), serde_json::from_value(body).unwrap())
        })
        .collect()
}

fn names(count: usize) -> Vec<GitObject> {
    (0..count).map(|n| object("Collection", &format!("c{n}"), json!({ "all": true }))).collect()
}

#[test]
fn an_applied_revision_needs_nothing_more() {
    let objects = names(3);
    let first = plan(&source(10), &reading(&objects), &Live::new(), "lab", NOW);
    assert_eq!((first.apply.len(), first.unchanged), (3, 0));
    let again = plan(&source(10), &reading(&objects), &live(&objects), "lab", NOW);
    assert_eq!((again.apply.len(), again.unchanged, again.prune.len()), (0, 3, 0));
}

#[test]
fn a_field_that_went_from_git_is_written_although_all_others_agree() {
    let before = [object("UpdateDeployment", "d", json!({ "collection": "all", "suspend": true }))];
    let after = [object("UpdateDeployment", "d", json!({ "collection": "all" }))];
    assert_eq!(plan(&source(10), &reading(&after), &live(&before), "lab", NOW).apply.len(), 1);
}

#[test]
fn drift_in_the_cluster_is_taken_back_and_defaults_are_not_drift() {
    let objects = names(1);
    let mut drifted = live(&objects);
    for found in drifted.values_mut() {
        found.data["spec"]["priority"] = json!(7);
    }
    assert_eq!(plan(&source(10), &reading(&objects), &drifted, "lab", NOW).unchanged, 1);
    for found in drifted.values_mut() {
        found.data["spec"]["all"] = json!(false);
    }
    assert_eq!(plan(&source(10), &reading(&objects), &drifted, "lab", NOW).apply.len(), 1);
}

#[test]
fn only_what_the_source_owns_is_pruned_dependants_first() {
    let mut cluster = live(&[
        object("Collection", "gone", json!({})),
        object("UpdateDeployment", "gone", json!({})),
        object("Collection", "kept", json!({})),
    ]);
    let keep = cluster.get_mut(&("Collection".to_owned(), "kept".to_owned())).unwrap();
    keep.annotations_mut().insert(annotations::PRUNE.to_owned(), annotations::DISABLED.to_owned());
    let mut foreign: DynamicObject = cluster.values().next().unwrap().clone();
    foreign.metadata.labels = None;
    foreign.metadata.name = Some("foreign".to_owned());
    cluster.insert(("Collection".to_owned(), "foreign".to_owned()), foreign);
    let plan = plan(&source(10), &reading(&[]), &cluster, "lab", NOW);
    let pruned: Vec<_> = plan.prune.iter().map(|(kind, name)| format!("{kind}/{name}")).collect();
    assert_eq!(pruned, ["UpdateDeployment/gone", "Collection/gone"]);
}

#[test]
fn more_deletions_than_allowed_wait_for_approval_of_this_revision() {
    let cluster = live(&names(3));
    let blocked = plan(&source(2), &reading(&[]), &cluster, "lab", NOW);
    assert!(blocked.prune.is_empty());
    assert_eq!(blocked.blocked.unwrap().objects.len(), 3);
    let mut approved = source(2);
    approved.annotations_mut().insert(annotations::APPROVE_PRUNE.to_owned(), "main@sha1:1".to_owned());
    assert_eq!(plan(&approved, &reading(&[]), &cluster, "lab", NOW).prune.len(), 3);
}

#[test]
fn bad_input_44_a_revision_with_a_failure_prunes_nothing() {
    let mut reading = reading(&names(1));
    reading.content.findings.push(Finding::failure("YAML-SYNTAX", Place::file("b.yaml"), "no"));
    let plan = plan(&source(10), &reading, &live(&names(3)), "lab", NOW);
    assert_eq!((plan.prune.len(), plan.owned.len(), plan.unchanged), (0, 3, 1));
}

#[test]
fn pruning_the_last_window_of_a_collection_is_guarded() {
    let deployment = object("UpdateDeployment", "d", json!({ "collection": "servers" }));
    let window = |name: &str| object("MaintenanceWindow", name, json!({ "collection": "servers" }));
    let cluster = live(&[deployment.clone(), window("a"), window("b")]);
    let one_left = plan(&source(10), &reading(&[deployment.clone(), window("a")]), &cluster, "lab", NOW);
    assert_eq!(one_left.prune.len(), 1);
    let none_left = plan(&source(10), &reading(&[deployment]), &cluster, "lab", NOW);
    assert!(none_left.blocked.unwrap().why.contains("last maintenance window of servers"));
}

#[test]
fn objects_of_other_tools_are_left_alone_and_named() {
    let objects = names(1);
    for (label, value) in [(annotations::FLUX_OWNER, "apps"), (annotations::OWNER_NAME, "other")] {
        let mut cluster = live(&objects);
        for found in cluster.values_mut() {
            found.labels_mut().insert(label.to_owned(), value.to_owned());
        }
        cluster.extend(live(&[object("GitSource", "other", json!({}))]));
        let plan = plan(&source(10), &reading(&objects), &cluster, "lab", NOW);
        assert!(plan.apply.is_empty());
        assert_eq!(plan.findings[0].code, "OWNED-BY-OTHER");
        assert!(plan.findings[0].message.contains(value), "{}", plan.findings[0].message);
    }
}

#[test]
fn what_a_deleted_source_left_belongs_to_who_names_it_in_git() {
    let objects = names(1);
    let mut cluster = live(&objects);
    for found in cluster.values_mut() {
        found.labels_mut().insert(annotations::OWNER_NAME.to_owned(), "gone".to_owned());
    }
    let taken = plan(&source(10), &reading(&objects), &cluster, "lab", NOW);
    assert_eq!((taken.apply.len(), taken.findings.len()), (1, 0));
    // Only what Git names: the rest is nobody's to prune.
    let left = plan(&source(10), &reading(&[]), &cluster, "lab", NOW);
    assert!(left.prune.is_empty() && left.blocked.is_none());
    // A source of another namespace cannot be seen, so it is taken to be there.
    for found in cluster.values_mut() {
        found.labels_mut().insert(annotations::OWNER_NAMESPACE.to_owned(), "elsewhere".to_owned());
    }
    let foreign = plan(&source(10), &reading(&objects), &cluster, "lab", NOW);
    assert!(foreign.findings[0].message.contains("GitSource gone of namespace elsewhere"));
}

#[test]
fn what_somebody_took_over_or_keeps_is_not_pruned() {
    let cluster = live(&names(1));
    let found = cluster.values().next().unwrap();
    assert!(may_prune(&source(10), found));
    let mut kept = found.clone();
    kept.annotations_mut().insert(annotations::PRUNE.to_owned(), annotations::DISABLED.to_owned());
    let mut taken = found.clone();
    taken.labels_mut().insert(annotations::OWNER_NAME.to_owned(), "other".to_owned());
    let mut made = found.clone();
    made.metadata.labels = None;
    for object in [kept, taken, made] {
        assert!(!may_prune(&source(10), &object));
    }
}

#[test]
fn bad_input_42_a_deployment_whose_date_cannot_be_begins_when_it_was_first_seen_and_stays_there() {
    let objects = [object("UpdateDeployment", "d", json!({ "collection": "all" }))];
    let commit = "00000000000000000000000000000000000000aa".parse().unwrap();
    let of = |time: Option<Timestamp>| {
        let mut reading = reading(&objects);
        let mut introduced = Introduced::default();
        introduced.objects.insert(("UpdateDeployment".into(), "d".into()), Introduction { commit, time });
        reading.introduced = Arc::new(introduced);
        reading
    };
    let first = Timestamp::from_second(1_000).unwrap();
    let at = |plan: &Plan| plan.apply[0].1["metadata"]["annotations"][annotations::INTRODUCED_AT].clone();
    let seen = plan(&source(10), &of(None), &Live::new(), "lab", first);
    assert_eq!(at(&seen), first.to_string());
    let key = ("UpdateDeployment".to_owned(), "d".to_owned());
    let live = Live::from([(key, serde_json::from_value(seen.apply[0].1.clone()).unwrap())]);
    let later = plan(&source(10), &of(None), &live, "lab", Timestamp::from_second(9_000).unwrap());
    assert_eq!((later.apply.len(), later.unchanged), (0, 1));
    let known = Timestamp::from_second(500).unwrap();
    assert_eq!(at(&plan(&source(10), &of(Some(known)), &Live::new(), "lab", first)), known.to_string());
}

#[test]
fn a_failure_says_which_last_good_versions_stay() {
    let mut reading = reading(&names(1));
    let broken = Finding::failure("YAML-SYNTAX", Place::file("a.yaml"), "no");
    reading.content.findings.push(broken.clone());
    let plan = plan(&source(10), &reading, &live(&names(2)), "lab", NOW);
    let told = Plan::with_last_good(&plan.last_good, broken).message;
    assert_eq!(told, "no; the last good version of Collection/c0, Collection/c1 stays in force");
    let other = Finding::failure("TYPE", Place::file("b.yaml"), "no").of("Collection", "c1");
    assert!(
        Plan::with_last_good(&plan.last_good, other).message.ends_with("of Collection/c1 stays in force")
    );
    let unknown = Finding::failure("TYPE", Place::file("b.yaml"), "no").of("Collection", "c9");
    assert_eq!(Plan::with_last_good(&plan.last_good, unknown).message, "no");
}
