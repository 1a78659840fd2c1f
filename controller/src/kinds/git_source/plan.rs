//! Plan: what is written, what is left, what goes. Pure; every reason for doing nothing is data.

use std::collections::{BTreeMap, BTreeSet};

use kube::{ResourceExt as _, api::DynamicObject};
use patchtide_crds::{GitSource, KINDS, annotations};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::dereference::{Live, Reading};
use crate::git::{object::GitObject, verdict::Finding};

/// Annotation: SHA-256 of the document as it stood in Git. Tells a field that went from Git, which a comparison of
/// values cannot.
pub(super) const DIGEST: &str = "patchtide.dev/source-digest";

/// What a run will do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Objects to apply, in this order.
    pub(super) apply: Vec<(GitObject, Value)>,
    /// Objects that are as they should be.
    pub(super) unchanged: usize,
    /// Objects to delete, in this order.
    pub(super) prune: Vec<(String, String)>,
    /// A prune that needs a person.
    pub(super) blocked: Option<Blocked>,
    /// Objects whose last good version is kept.
    pub(super) kept: usize,
    /// Findings of this step.
    pub(super) findings: Vec<Finding>,
}

/// A prune that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blocked {
    /// Why, and how it is approved.
    pub(super) why: String,
    /// What would go.
    pub(super) objects: Vec<(String, String)>,
}

/// Decides.
pub(super) fn plan(source: &GitSource, reading: &Reading, live: &Live, namespace: &str) -> Plan {
    let name = source.name_any();
    let mut plan = Plan::default();
    for kind in KINDS {
        for object in reading.content.objects.values().filter(|object| object.kind == kind.kind) {
            let key = (object.kind.clone(), object.name.clone());
            let body = body(object, &name, namespace);
            match live.get(&key) {
                Some(found) if found.metadata.deletion_timestamp.is_some() => plan.findings.push(
                    Finding::warning("OBJ-DELETING", object.place.clone(), "is being deleted in the cluster; applied when it is gone")
                        .of(&object.kind, &object.name),
                ),
                Some(found) if foreign_owner(found, &name, namespace).is_some() => {
                    let owner = foreign_owner(found, &name, namespace).unwrap_or_default();
                    plan.findings.push(
                        Finding::failure(
                            "OWNED-BY-OTHER",
                            object.place.clone(),
                            format!("belongs to {owner} and is left alone; remove it there first, or here"),
                        )
                        .of(&object.kind, &object.name),
                    );
                }
                Some(found) if is_current(found, &body) => plan.unchanged += 1,
                _ => plan.apply.push((object.clone(), body)),
            }
        }
    }
    let owned = || live.iter().filter(|(_, object)| owner(object) == Some((name.as_str(), namespace)));
    let gone: Vec<(String, String)> = owned()
        .filter(|(key, object)| {
            !reading.content.objects.contains_key(*key)
                && !annotations::prune_disabled(object.metadata.annotations.as_ref())
                && object.metadata.deletion_timestamp.is_none()
        })
        .map(|(key, _)| key.clone())
        .collect();
    let failed = reading.content.findings.iter().chain(&plan.findings).any(Finding::is_failure);
    if failed {
        plan.kept = gone.len();
    } else if source.spec.prune {
        decide_prune(source, reading, live, gone, &mut plan);
    }
    plan
}

fn decide_prune(source: &GitSource, reading: &Reading, live: &Live, gone: Vec<(String, String)>, plan: &mut Plan) {
    let approved = source.annotations().get(annotations::APPROVE_PRUNE) == Some(&reading.revision);
    let limit = usize::try_from(source.spec.max_deletions).unwrap_or(usize::MAX);
    let opened = last_windows(live, &gone);
    let approve = format!("approve it with the annotation {}: {}", annotations::APPROVE_PRUNE, reading.revision);
    let why = if approved {
        None
    } else if gone.len() > limit {
        Some(format!("{} objects would go, more than spec.maxDeletions {limit}; {approve}", gone.len()))
    } else if opened.is_empty() {
        None
    } else {
        Some(format!(
            "the last maintenance window of {} would go, and its clients could be patched at any time; {approve}",
            opened.into_iter().collect::<Vec<_>>().join(", ")
        ))
    };
    match why {
        Some(why) => plan.blocked = Some(Blocked { why, objects: gone }),
        None => {
            plan.prune = gone;
            let order = |kind: &str| KINDS.iter().position(|known| known.kind == kind);
            plan.prune.sort_by_key(|(kind, _)| std::cmp::Reverse(order(kind)));
        }
    }
}

/// Collections that a deployment would still target and whose last allowing window is among `gone`.
fn last_windows(live: &Live, gone: &[(String, String)]) -> BTreeSet<String> {
    let collection = |object: &DynamicObject| object.data["spec"]["collection"].as_str().unwrap_or_default().to_owned();
    let of = |kind: &'static str| live.iter().filter(move |((found, _), _)| found == kind);
    let mut left: BTreeMap<String, usize> = BTreeMap::new();
    let mut lost = BTreeSet::new();
    for (key, window) in of("MaintenanceWindow") {
        if gone.contains(key) {
            lost.insert(collection(window));
        } else {
            *left.entry(collection(window)).or_default() += 1;
        }
    }
    let deployed = of("UpdateDeployment").any(|(key, _)| !gone.contains(key));
    lost.retain(|name| deployed && !left.contains_key(name));
    lost
}

/// The document that is applied.
fn body(object: &GitObject, source: &str, namespace: &str) -> Value {
    let mut body = object.json.clone();
    let digest = hex::encode(Sha256::digest(object.json.to_string().as_bytes()));
    let metadata = &mut body["metadata"];
    metadata["namespace"] = json!(namespace);
    metadata["labels"][annotations::OWNER_NAME] = json!(source);
    metadata["labels"][annotations::OWNER_NAMESPACE] = json!(namespace);
    metadata["annotations"][annotations::ORIGIN_FILE] = json!(object.origin);
    metadata["annotations"][DIGEST] = json!(digest);
    body
}

fn owner(object: &DynamicObject) -> Option<(&str, &str)> {
    let labels = object.labels();
    Some((labels.get(annotations::OWNER_NAME)?, labels.get(annotations::OWNER_NAMESPACE)?))
}

/// Who else applies this object, if anybody.
fn foreign_owner(object: &DynamicObject, source: &str, namespace: &str) -> Option<String> {
    if let Some(name) = object.labels().get(annotations::FLUX_OWNER) {
        return Some(format!("the Flux Kustomization {name}"));
    }
    if let Some(id) = object.annotations().get(annotations::ARGO_OWNER) {
        return Some(format!("the Argo CD application {}", id.split(':').next().unwrap_or_default()));
    }
    match owner(object) {
        Some((name, space)) if (name, space) != (source, namespace) => Some(format!("GitSource {name}")),
        _ => None,
    }
}

fn is_current(live: &DynamicObject, body: &Value) -> bool {
    let metadata = serde_json::to_value(&live.metadata).unwrap_or_default();
    ["labels", "annotations"].iter().all(|field| contains(&metadata[field], &body["metadata"][field]))
        && contains(&live.data["spec"], &body["spec"])
}

/// Whether everything that `wanted` says is so in `live`; what only `live` has (defaults) does not matter.
fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (_, Value::Null) => live.is_null(),
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| contains(live.get(key).unwrap_or(&Value::Null), value))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| contains(live, wanted))
        }
        (Value::Number(live), Value::Number(wanted)) => live.as_f64() == wanted.as_f64(),
        _ => live == wanted,
    }
}

#[cfg(test)]
mod tests {
    use crate::git::{
        object::Revision,
        verdict::{Finding, Place},
    };

    use super::*;

    fn source(max_deletions: u32) -> GitSource {
        let spec = json!({ "url": "https://h/r", "prune": true, "maxDeletions": max_deletions });
        let object = json!({
            "apiVersion": "patchtide.dev/v1alpha1", "kind": "GitSource",
            "metadata": { "name": "fleet", "namespace": "lab" }, "spec": spec,
        });
        serde_json::from_value(object).unwrap()
    }

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
        let first = plan(&source(10), &reading(&objects), &Live::new(), "lab");
        assert_eq!((first.apply.len(), first.unchanged), (3, 0));
        let again = plan(&source(10), &reading(&objects), &live(&objects), "lab");
        assert_eq!((again.apply.len(), again.unchanged, again.prune.len()), (0, 3, 0));
    }

    #[test]
    fn a_field_that_went_from_git_is_written_although_all_others_agree() {
        let before = [object("UpdateDeployment", "d", json!({ "collection": "all", "suspend": true }))];
        let after = [object("UpdateDeployment", "d", json!({ "collection": "all" }))];
        assert_eq!(plan(&source(10), &reading(&after), &live(&before), "lab").apply.len(), 1);
    }

    #[test]
    fn drift_in_the_cluster_is_taken_back_and_defaults_are_not_drift() {
        let objects = names(1);
        let mut drifted = live(&objects);
        for found in drifted.values_mut() {
            found.data["spec"]["priority"] = json!(7);
        }
        assert_eq!(plan(&source(10), &reading(&objects), &drifted, "lab").unchanged, 1);
        for found in drifted.values_mut() {
            found.data["spec"]["all"] = json!(false);
        }
        assert_eq!(plan(&source(10), &reading(&objects), &drifted, "lab").apply.len(), 1);
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
        let plan = plan(&source(10), &reading(&[]), &cluster, "lab");
        let pruned: Vec<_> = plan.prune.iter().map(|(kind, name)| format!("{kind}/{name}")).collect();
        assert_eq!(pruned, ["UpdateDeployment/gone", "Collection/gone"]);
    }

    #[test]
    fn more_deletions_than_allowed_wait_for_approval_of_this_revision() {
        let cluster = live(&names(3));
        let blocked = plan(&source(2), &reading(&[]), &cluster, "lab");
        assert!(blocked.prune.is_empty());
        assert_eq!(blocked.blocked.unwrap().objects.len(), 3);
        let mut approved = source(2);
        approved.annotations_mut().insert(annotations::APPROVE_PRUNE.to_owned(), "main@sha1:1".to_owned());
        assert_eq!(plan(&approved, &reading(&[]), &cluster, "lab").prune.len(), 3);
    }

    #[test]
    fn bad_input_44_a_revision_with_a_failure_prunes_nothing() {
        let mut reading = reading(&names(1));
        reading.content.findings.push(Finding::failure("YAML-SYNTAX", Place::file("b.yaml"), "no"));
        let plan = plan(&source(10), &reading, &live(&names(3)), "lab");
        assert_eq!((plan.prune.len(), plan.kept, plan.unchanged), (0, 2, 1));
    }

    #[test]
    fn pruning_the_last_window_of_a_collection_is_guarded() {
        let deployment = object("UpdateDeployment", "d", json!({ "collection": "servers" }));
        let window = |name: &str| object("MaintenanceWindow", name, json!({ "collection": "servers" }));
        let cluster = live(&[deployment.clone(), window("a"), window("b")]);
        let one_left = plan(&source(10), &reading(&[deployment.clone(), window("a")]), &cluster, "lab");
        assert_eq!(one_left.prune.len(), 1);
        let none_left = plan(&source(10), &reading(&[deployment]), &cluster, "lab");
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
            let plan = plan(&source(10), &reading(&objects), &cluster, "lab");
            assert!(plan.apply.is_empty());
            assert_eq!(plan.findings[0].code, "OWNED-BY-OTHER");
            assert!(plan.findings[0].message.contains(value), "{}", plan.findings[0].message);
        }
    }
}
