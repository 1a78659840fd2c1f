//! The custom resources as they would be.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_crds::annotations::{DISABLED, OWNER_NAME, PRUNE};
use patchtide_intent::yaml::object::API_VERSION;
use patchtide_planner::site::forecast::Change;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Prune,
    fields::{FieldChange, differences},
    source::Wish,
};

/// Objects that one revision of a `GitSource` may prune when it does not say.
const MAX_DELETIONS: u64 = 10;

/// A resource that is added, changed or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectChange {
    pub kind: String,
    pub name: String,
    pub change: Change,
    /// Where it stands: file, line and column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Fields of the spec that differ; none for one that is added or removed.
    pub fields: Vec<FieldChange>,
}

/// The resources as they would be.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub resources: Vec<Value>,
    pub changes: Vec<ObjectChange>,
    /// What pruning would run into.
    pub warnings: Vec<String>,
}

type Key = (String, String);

/// `base` with what is wished. One whose spec says the same stays as it is, so that nothing of it changes.
pub(super) fn merge(base: &[Value], wish: &Wish, prune: Option<Prune>, namespace: &str) -> Merged {
    let mut all: BTreeMap<Key, Value> =
        base.iter().filter_map(|object| Some((key(object)?, object.clone()))).collect();
    let mut merged = Merged::default();
    for ((kind, name), wished) in &wish.objects {
        let place = Some(wished.place.to_string());
        let change = |change, fields| ObjectChange {
            kind: kind.clone(),
            name: name.clone(),
            change,
            place: place.clone(),
            fields,
        };
        let at = (kind.clone(), name.clone());
        match all.get_mut(&at) {
            None => {
                let mut object = wished.json.clone();
                object["metadata"]["namespace"] = json!(namespace);
                object["metadata"]["generation"] = json!(1);
                all.insert(at, object);
                merged.changes.push(change(Change::Added, Vec::new()));
            }
            Some(there) => {
                let (was, will) = (spec(kind, there), spec(kind, &wished.json));
                if was != will {
                    merged.changes.push(change(Change::Changed, differences(&was, &will)));
                    there["spec"] = wished.json["spec"].clone();
                    let generation = there["metadata"]["generation"].as_i64().unwrap_or_default();
                    there["metadata"]["generation"] = json!(generation + 1);
                }
            }
        }
    }
    let mut by_owner: BTreeMap<String, u64> = BTreeMap::new();
    for at in going(&all, wish, prune) {
        let Some(gone) = all.remove(&at) else { continue };
        if let Some(owner) = owner(&gone) {
            *by_owner.entry(owner.to_owned()).or_default() += 1;
        }
        let (kind, name) = at;
        merged.changes.push(ObjectChange {
            kind,
            name,
            change: Change::Removed,
            place: None,
            fields: Vec::new(),
        });
    }
    for (owner, count) in by_owner {
        let source = all.get(&("GitSource".to_owned(), owner.clone()));
        let most = source.and_then(|source| source["spec"]["maxDeletions"].as_u64()).unwrap_or(MAX_DELETIONS);
        if count > most {
            merged.warnings.push(format!(
                "GitSource/{owner} would prune {count} objects, more than its maxDeletions {most}: it prunes nothing until a person approves that or raises the limit"
            ));
        }
    }
    merged.changes.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
    merged.resources = all.into_values().collect();
    merged
}

/// What goes: what the range of commits takes out, or what pruning reaches.
fn going(all: &BTreeMap<Key, Value>, wish: &Wish, prune: Option<Prune>) -> BTreeSet<Key> {
    let reached = |object: &Value| match prune {
        None => false,
        Some(Prune::Owned) => owner(object).is_some(),
        Some(Prune::All) => true,
    };
    let kept = |object: &Value| {
        object["metadata"]["annotations"].get(PRUNE).and_then(Value::as_str) == Some(DISABLED)
    };
    let pruned = all
        .iter()
        .filter(|(at, object)| wish.whole && reached(object) && !wish.objects.contains_key(*at))
        .map(|(at, _)| at);
    let removed = wish.removed.iter().filter(|at| all.contains_key(*at));
    let going = pruned.chain(removed).filter(|at| !all.get(*at).is_some_and(kept));
    going.cloned().collect()
}

fn owner(object: &Value) -> Option<&str> {
    object["metadata"]["labels"].get(OWNER_NAME).and_then(Value::as_str)
}

fn key(object: &Value) -> Option<Key> {
    (object["apiVersion"] == API_VERSION)
        .then(|| Some((object["kind"].as_str()?.to_owned(), object["metadata"]["name"].as_str()?.to_owned())))
        .flatten()
}

/// The spec with every default in it, as the API server stores it: only so can two be compared.
fn spec(kind: &str, object: &Value) -> Value {
    macro_rules! typed {
        ($($type:ident),+) => {
            match kind {
                $(stringify!($type) => serde_json::from_value::<patchtide_crds::$type>(object.clone())
                    .ok()
                    .and_then(|typed| serde_json::to_value(&typed.spec).ok()),)+
                _ => None,
            }
        };
    }
    patchtide_crds::for_all_kinds!(typed).unwrap_or_else(|| object["spec"].clone())
}
