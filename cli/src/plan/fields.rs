//! Fields of two specs that differ.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

/// Characters of a value that are shown.
const SHOWN: usize = 200;
/// Elements of a list that are shown.
const LISTED: usize = 5;

/// A field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FieldChange {
    /// As written in YAML, from `spec` on.
    pub field: String,
    /// What stood there; for a list what goes from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What would stand there; for a list what comes to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// The fields that differ, in order.
pub(super) fn differences(before: &Value, after: &Value) -> Vec<FieldChange> {
    let mut found = Vec::new();
    compare("spec", before, after, &mut found);
    found
}

fn compare(field: &str, before: &Value, after: &Value, found: &mut Vec<FieldChange>) {
    if before == after {
        return;
    }
    let nothing = Value::Null;
    match (before, after) {
        (Value::Object(was), Value::Object(will)) => {
            let keys: BTreeSet<&String> = was.keys().chain(will.keys()).collect();
            for key in keys {
                let (was, will) = (was.get(key).unwrap_or(&nothing), will.get(key).unwrap_or(&nothing));
                compare(&format!("{field}.{key}"), was, will, found);
            }
        }
        (Value::Array(was), Value::Array(will)) => found.push(list(field, was, will)),
        (Value::Object(inner), Value::Null) | (Value::Null, Value::Object(inner)) if !inner.is_empty() => {
            for (key, value) in inner {
                let (was, will) = if before.is_null() { (&nothing, value) } else { (value, &nothing) };
                compare(&format!("{field}.{key}"), was, will, found);
            }
        }
        _ => found.push(FieldChange { field: field.to_owned(), before: text(before), after: text(after) }),
    }
}

/// Of a list what goes and what comes; an order that changes is told by the whole of it.
fn list(field: &str, before: &[Value], after: &[Value]) -> FieldChange {
    let count = |all: &[Value]| -> BTreeMap<String, Value> {
        all.iter().map(|value| (value.to_string(), value.clone())).collect()
    };
    let (was, will) = (count(before), count(after));
    let only = |all: &BTreeMap<String, Value>, other: &BTreeMap<String, Value>| -> Vec<Value> {
        all.iter().filter(|(key, _)| !other.contains_key(*key)).map(|(_, value)| value.clone()).collect()
    };
    let (gone, come) = (only(&was, &will), only(&will, &was));
    let field = field.to_owned();
    if gone.is_empty() && come.is_empty() {
        return FieldChange { field, before: Some(listed(before)), after: Some(listed(after)) };
    }
    let some = |all: &[Value]| (!all.is_empty()).then(|| listed(all));
    FieldChange { field, before: some(&gone), after: some(&come) }
}

fn listed(all: &[Value]) -> String {
    let mut texts: Vec<String> = all.iter().take(LISTED).filter_map(text).collect();
    if let Some(more) = all.len().checked_sub(LISTED).filter(|more| *more > 0) {
        texts.push(format!("and {more} more"));
    }
    texts.join(", ")
}

fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    Some(short)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_named_and_lists_say_what_comes_and_goes() {
        let before = json!({"a": {"b": 1, "c": "x"}, "l": ["u", "v"], "gone": {"y": true}});
        let after = json!({"a": {"b": 2, "c": "x"}, "l": ["v", "w"], "new": "z"});
        let told: Vec<String> = differences(&before, &after)
            .into_iter()
            .map(|change| format!("{} {:?} {:?}", change.field, change.before, change.after))
            .collect();
        assert_eq!(
            told,
            [
                r#"spec.a.b Some("1") Some("2")"#,
                r#"spec.gone.y Some("true") None"#,
                r#"spec.l Some("u") Some("w")"#,
                r#"spec.new None Some("z")"#,
            ]
        );
        let many: Vec<String> = (0..9).map(|n| n.to_string()).collect();
        let change = differences(&json!({"l": []}), &json!({ "l": many })).remove(0);
        assert_eq!(change.after.as_deref(), Some("0, 1, 2, 3, 4, and 4 more"));
        assert_eq!(
            differences(&json!({"l": [1, 2]}), &json!({"l": [2, 1]}))[0].before.as_deref(),
            Some("1, 2")
        );
    }
}
