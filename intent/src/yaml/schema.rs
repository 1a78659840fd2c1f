//! Checking documents against the schemas of our own kinds, so that a mistake is told with its place in the
//! repository, the field and the remedy. The API server stays the judge; this only explains better and earlier.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{
    document::{Node, Value},
    verdict::Finding,
};

/// The schemas by kind.
pub struct Schemas(BTreeMap<String, Json>);

impl Schemas {
    /// The schemas of the kinds that this build knows.
    pub fn new() -> Self {
        let schemas = patchtide_crds::crds().into_iter().filter_map(|crd| {
            let version = crd.spec.versions.into_iter().next()?;
            let schema = serde_json::to_value(version.schema?.open_api_v3_schema?).ok()?;
            Some((crd.spec.names.kind, schema))
        });
        Self(schemas.collect())
    }

    /// Whether the kind is known.
    pub fn knows(&self, kind: &str) -> bool {
        self.0.contains_key(kind)
    }

    /// The known kind that `kind` was probably meant to be.
    pub fn nearest_kind(&self, kind: &str) -> Option<&str> {
        nearest(kind, self.0.keys().map(String::as_str))
    }

    /// What in `spec` does not fit the kind's schema.
    pub fn check_spec(&self, kind: &str, path: &str, spec: &Node) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(schema) = self.0.get(kind).and_then(|schema| schema.pointer("/properties/spec")) {
            walk(spec, schema, path, "spec", &mut findings);
        }
        findings
    }
}

impl Default for Schemas {
    fn default() -> Self {
        Self::new()
    }
}

fn walk(node: &Node, schema: &Json, path: &str, field: &str, findings: &mut Vec<Finding>) {
    if findings.len() >= 20 {
        return;
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return;
    }
    let wanted = schema["type"].as_str().unwrap_or_default();
    match (&node.value, wanted) {
        (Value::Null, _) | (_, "") | (Value::Text(_), "string") | (Value::Bool(_), "boolean") => {}
        (Value::Map(map), "object") => {
            let properties = schema["properties"].as_object();
            for (key, child) in map {
                let below = format!("{field}.{key}");
                if let Some(schema) = properties.and_then(|p| p.get(key)) {
                    walk(child, schema, path, &below, findings);
                } else if schema["additionalProperties"].is_object() {
                    walk(child, &schema["additionalProperties"], path, &below, findings);
                } else {
                    let known = properties.map(|p| p.keys().map(String::as_str)).into_iter().flatten();
                    let hint = nearest(key, known).map_or_else(
                        || format!("see kubectl explain for the fields of {field}"),
                        |near| format!("did you mean {near:?}?"),
                    );
                    findings.push(Finding::failure(
                        "FIELD-UNKNOWN",
                        child.place(path),
                        format!("{below} is not a field; {hint}"),
                    ));
                }
            }
        }
        (Value::List(items), "array") => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &schema["items"], path, &format!("{field}[{index}]"), findings);
            }
        }
        (Value::Integer(number), "integer" | "number") => {
            #[expect(clippy::cast_precision_loss, reason = "bounds of the schemas are far below 2^52")]
            range(*number as f64, node, schema, path, field, findings);
        }
        (Value::Float(number), "number") => range(*number, node, schema, path, field, findings),
        (Value::Float(_), "integer") => findings.push(Finding::failure(
            "RANGE",
            node.place(path),
            format!("{field} must be a whole number{}", allowed(schema)),
        )),
        (Value::Float(_), "string") => findings.push(Finding::failure(
            "TYPE-VERSION",
            node.place(path),
            format!("{field} must be text: put it in quotes, or digits get lost (1.10 would become 1.1)"),
        )),
        (Value::Integer(_) | Value::Bool(_), "string") => findings.push(Finding::failure(
            "TYPE",
            node.place(path),
            format!("{field} must be text: put the value in quotes"),
        )),
        (Value::Text(text), "boolean") if matches!(text.as_str(), "yes" | "no" | "on" | "off") => {
            findings.push(Finding::failure(
                "TYPE",
                node.place(path),
                format!("{field} must be true or false; {text:?} is text in YAML 1.2"),
            ));
        }
        (value, wanted) => findings.push(Finding::failure(
            "TYPE",
            node.place(path),
            format!("{field} must be {}, not {}", word(wanted), shape(value)),
        )),
    }
}

fn range(number: f64, node: &Node, schema: &Json, path: &str, field: &str, findings: &mut Vec<Finding>) {
    let low = schema["minimum"].as_f64().is_none_or(|low| number >= low);
    let high = schema["maximum"].as_f64().is_none_or(|high| number <= high);
    if !low || !high || !number.is_finite() {
        findings.push(Finding::failure(
            "RANGE",
            node.place(path),
            format!("{field} is {number}, out of range{}", allowed(schema)),
        ));
    }
}

fn allowed(schema: &Json) -> String {
    match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(low), Some(high)) => format!("; allowed: {low} to {high}"),
        (Some(low), None) => format!("; allowed: {low} or more"),
        (None, Some(high)) => format!("; allowed: at most {high}"),
        (None, None) => String::new(),
    }
}

fn word(kind: &str) -> &str {
    match kind {
        "object" => "a map",
        "array" => "a list",
        "string" => "text",
        "boolean" => "true or false",
        "integer" => "a whole number",
        other => other,
    }
}

fn shape(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Text(_) => "text",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
    }
}

fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (strsim::damerau_levenshtein(&word.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= name.len().max(3) / 3)
        .min()
        .map(|(_, name)| name)
}
