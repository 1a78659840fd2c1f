//! Plan: what is written, what is left, what goes. Pure; every reason for doing nothing is data.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::{ResourceExt as _, api::DynamicObject};
use patchtide_crds::{GitSource, KINDS, annotations};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::dereference::{Live, Reading};
use crate::git::{history::Introduction, object::GitObject, verdict::Finding};

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
    /// Objects that carry the source's owner labels now.
    pub(super) owned: BTreeSet<(String, String)>,
    /// What the source's failures leave in force, by place and object: told with the failure.
    pub(super) last_good: Vec<LastGood>,
    /// Findings of this step.
    pub(super) findings: Vec<Finding>,
}

/// An object of the source in the cluster, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastGood {
    /// `Kind/name`.
    object: String,
    /// File and number of its document.
    origin: String,
}

impl Plan {
    /// The finding, with what stays in force because of it.
    pub(super) fn with_last_good(last_good: &[LastGood], mut finding: Finding) -> Finding {
        let of_file = |known: &&LastGood| {
            finding.object.is_empty()
                && known.origin.rsplit_once('#').is_some_and(|(file, _)| file == finding.place.path)
        };
        let stay: Vec<&str> = last_good
            .iter()
            .filter(|known| known.object == finding.object || of_file(known))
            .map(|known| known.object.as_str())
            .collect();
        if finding.is_failure() && !stay.is_empty() {
            let more = stay.len().saturating_sub(NAMED);
            let more = if more == 0 { String::new() } else { format!(" and of {more} more") };
            let named = stay[..stay.len().min(NAMED)].join(", ");
            finding.message =
                format!("{}; the last good version of {named}{more} stays in force", finding.message);
        }
        finding
    }
}

/// Objects that a failure names of those which stay.
const NAMED: usize = 5;

/// A prune that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blocked {
    /// Why, and how it is approved.
    pub(super) why: String,
    /// What would go.
    pub(super) objects: Vec<(String, String)>,
}

/// Decides.
pub(super) fn plan(
    source: &GitSource,
    reading: &Reading,
    live: &Live,
    namespace: &str,
    now: Timestamp,
) -> Plan {
    let name = source.name_any();
    let mut plan = Plan::default();
    let mine = || live.iter().filter(|(_, object)| owner(object) == Some((name.as_str(), namespace)));
    plan.owned = mine().map(|(key, _)| key.clone()).collect();
    plan.last_good = mine().map(|((kind, name), object)| last_good(kind, name, object)).collect();
    for kind in KINDS {
        for object in reading.content.objects.values().filter(|object| object.kind == kind.kind) {
            let key = (object.kind.clone(), object.name.clone());
            let mut body = body(object, &name, namespace);
            if let Some(introduction) = reading.introduced.objects.get(&key) {
                introduce(&mut body, introduction, live.get(&key), now);
            }
            match live.get(&key) {
                Some(found) if found.metadata.deletion_timestamp.is_some() => plan.findings.push(
                    Finding::warning(
                        "OBJ-DELETING",
                        object.place.clone(),
                        "is being deleted in the cluster; applied when it is gone",
                    )
                    .of(&object.kind, &object.name),
                ),
                Some(found) if foreign_owner(found, &name, namespace, live).is_some() => {
                    let owner = foreign_owner(found, &name, namespace, live).unwrap_or_default();
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
    let gone: Vec<(String, String)> = mine()
        .filter(|(key, object)| {
            !reading.content.objects.contains_key(*key)
                && may_prune(source, object)
                && object.metadata.deletion_timestamp.is_none()
        })
        .map(|(key, _)| key.clone())
        .collect();
    let failed = reading.content.findings.iter().chain(&plan.findings).any(Finding::is_failure);
    if !failed && source.spec.prune {
        decide_prune(source, reading, live, gone, &mut plan);
    }
    plan
}

fn decide_prune(
    source: &GitSource,
    reading: &Reading,
    live: &Live,
    gone: Vec<(String, String)>,
    plan: &mut Plan,
) {
    let approved = source.annotations().get(annotations::APPROVE_PRUNE) == Some(&reading.revision);
    let limit = usize::try_from(source.spec.max_deletions).unwrap_or(usize::MAX);
    let opened = last_windows(live, &gone);
    let approve =
        format!("approve it with the annotation {}: {}", annotations::APPROVE_PRUNE, reading.revision);
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
    if let Some(why) = why {
        plan.blocked = Some(Blocked { why, objects: gone });
    } else {
        plan.prune = gone;
        let order = |kind: &str| KINDS.iter().position(|known| known.kind == kind);
        plan.prune.sort_by_key(|(kind, _)| std::cmp::Reverse(order(kind)));
    }
}

/// Collections that a deployment would still target and whose last allowing window is among `gone`.
fn last_windows(live: &Live, gone: &[(String, String)]) -> BTreeSet<String> {
    let collection =
        |object: &DynamicObject| object.data["spec"]["collection"].as_str().unwrap_or_default().to_owned();
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

/// Since when the deployment stands in the repository. Where the commit's date cannot be, the moment at which it was
/// first seen stands for it, and stays.
fn introduce(body: &mut Value, introduction: &Introduction, live: Option<&DynamicObject>, now: Timestamp) {
    let by = introduction.commit.to_string();
    let seen = || {
        let annotations = live?.annotations();
        (annotations.get(annotations::INTRODUCED_BY)? == &by)
            .then(|| annotations.get(annotations::INTRODUCED_AT).cloned())?
    };
    let second = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap_or(time).to_string();
    let at = introduction.time.map_or_else(|| seen().unwrap_or_else(|| second(now)), second);
    let annotations = &mut body["metadata"]["annotations"];
    annotations[annotations::INTRODUCED_BY] = json!(by);
    annotations[annotations::INTRODUCED_AT] = json!(at);
}

fn last_good(kind: &str, name: &str, object: &DynamicObject) -> LastGood {
    let origin = object.annotations().get(annotations::ORIGIN_FILE).cloned().unwrap_or_default();
    LastGood { object: format!("{kind}/{name}"), origin }
}

/// Whether the object carries the source's owner labels and nobody wants it kept.
pub(super) fn may_prune(source: &GitSource, object: &DynamicObject) -> bool {
    let (name, namespace) = (source.name_any(), source.namespace().unwrap_or_default());
    owner(object) == Some((name.as_str(), namespace.as_str()))
        && !annotations::prune_disabled(object.metadata.annotations.as_ref())
}

fn owner(object: &DynamicObject) -> Option<(&str, &str)> {
    let labels = object.labels();
    Some((labels.get(annotations::OWNER_NAME)?, labels.get(annotations::OWNER_NAMESPACE)?))
}

/// Who else applies this object, if anybody. What a source left behind that is no more belongs to nobody: the one that
/// names it in Git takes it over.
fn foreign_owner(object: &DynamicObject, source: &str, namespace: &str, live: &Live) -> Option<String> {
    if let Some(name) = object.labels().get(annotations::FLUX_OWNER) {
        return Some(format!("the Flux Kustomization {name}"));
    }
    if let Some(id) = object.annotations().get(annotations::ARGO_OWNER) {
        return Some(format!("the Argo CD application {}", id.split(':').next().unwrap_or_default()));
    }
    match owner(object) {
        Some((name, space)) if (name, space) != (source, namespace) => {
            let here = space == namespace;
            let gone = here && !live.contains_key(&("GitSource".to_owned(), name.to_owned()));
            (!gone).then(|| {
                let of = if here { String::new() } else { format!(" of namespace {space}") };
                format!("GitSource {name}{of}")
            })
        }
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
