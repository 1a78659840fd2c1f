//! Fields that a kind does not have, each with the nearest one that it has.

use std::{collections::BTreeMap, sync::LazyLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

/// A field that the kind does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField {
    /// Where it is, for example `spec.sources[0].apt.suits`.
    pub path: String,
    /// A field of the same place with nearly that name.
    pub nearest: Option<String>,
}

static SPECS: LazyLock<BTreeMap<String, JSONSchemaProps>> = LazyLock::new(|| {
    let spec = |root: JSONSchemaProps| root.properties.and_then(|mut all| all.remove("spec"));
    let all = crate::crds().into_iter().filter_map(|crd| {
        let root = crd.spec.versions.into_iter().next()?.schema?.open_api_v3_schema?;
        Some((crd.spec.names.kind, spec(root)?))
    });
    all.collect()
});

/// The fields of an object's spec that its kind does not have. An unknown kind has no unknown fields.
pub fn unknown(kind: &str, object: &Value) -> Vec<UnknownField> {
    let mut found = Vec::new();
    if let (Some(schema), Some(spec)) = (SPECS.get(kind), object.get("spec")) {
        look("spec", schema, spec, &mut found);
    }
    found
}

/// The kind of the group with nearly that name.
pub fn nearest_kind(name: &str) -> Option<&'static str> {
    nearest(name, crate::KINDS.iter().map(|kind| kind.kind))
}

fn look(path: &str, schema: &JSONSchemaProps, value: &Value, found: &mut Vec<UnknownField>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                match (&schema.properties, &schema.additional_properties) {
                    (_, Some(JSONSchemaPropsOrBool::Schema(values))) => look(&path, values, value, found),
                    (Some(known), _) => {
                        if let Some(child) = known.get(name) {
                            look(&path, child, value, found);
                        } else {
                            let nearest = nearest(name, known.keys().map(String::as_str)).map(str::to_owned);
                            found.push(UnknownField { path, nearest });
                        }
                    }
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    look(&format!("{path}[{index}]"), schema, item, found);
                }
            }
        }
        _ => {}
    }
}

/// The candidate with the fewest changed letters, when that is at most a third of them.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.chars().take(64).flat_map(char::to_lowercase).collect();
    candidates
        .map(|candidate| (distance(&name, &candidate.to_lowercase().chars().collect::<Vec<_>>()), candidate))
        .filter(|(changes, candidate)| *changes <= candidate.len().max(3) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, delete or replace to get from one word to the other (Levenshtein).
fn distance(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_field_names_the_one_that_was_meant() {
        let object = serde_json::json!({"kind": "UpdateDeployment", "spec": {
            "colection": "c", "settings": {"deadline": {"aftr": "1d"}, "zzzzzz": 1}, "updates": ["a"]
        }});
        let found: Vec<_> = unknown("UpdateDeployment", &object)
            .into_iter()
            .map(|f| (f.path, f.nearest.unwrap_or_default()))
            .collect();
        let expected = [
            ("spec.colection", "collection"),
            ("spec.settings.deadline.aftr", "after"),
            ("spec.settings.zzzzzz", ""),
        ];
        assert_eq!(found, expected.map(|(path, nearest)| (path.to_owned(), nearest.to_owned())));
    }

    #[test]
    fn facts_and_lists_are_looked_into() {
        let object = serde_json::json!({"spec": {"selector": {
            "matchLabels": {"any.fact": "x"}, "matchExpressions": [{"key": "a", "operator": "Exists", "value": []}]
        }}});
        let found = unknown("Collection", &object);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "spec.selector.matchExpressions[0].value");
        assert_eq!(found[0].nearest.as_deref(), Some("values"));
        assert_eq!(nearest_kind("UpdateDeploymnet"), Some("UpdateDeployment"));
        assert_eq!(nearest_kind("Pod"), None);
    }
}
