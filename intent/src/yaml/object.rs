//! From documents to the objects of a revision, each with its origin; duplicates, bad names and foreign
//! kinds are told and left out (bad-input catalogue #14 to #17, #25).

use std::collections::BTreeMap;

use patchtide_model::ObjectName;

use super::{
    document::{Node, Value},
    schema::Schemas,
    verdict::{Finding, Place},
};

/// API version of our kinds.
pub const API_VERSION: &str = "patchtide.dev/v1alpha1";
/// Bytes of one object.
const OBJECT_BYTES: usize = 512 << 10;

/// An object of a revision.
#[derive(Debug, Clone, PartialEq)]
pub struct GitObject {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// File and number of the document in it: `lists/security.yaml#0`.
    pub origin: String,
    /// The document.
    pub json: serde_json::Value,
}

/// YAML files and what was wrong on the way.
#[derive(Debug, Default)]
pub struct Files {
    /// Contents by path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Findings.
    pub findings: Vec<Finding>,
}

/// Whether a file of this name is read for objects. Hidden files (`.gitlab-ci.yml`) are other tools', and so is what
/// kubectl and Flux read beside the objects.
pub fn is_object_file(name: &str) -> bool {
    let (stem, ending) = name.rsplit_once('.').unwrap_or_default();
    !stem.is_empty()
        && !name.starts_with('.')
        && matches!(ending, "yaml" | "yml")
        && !matches!(name, "kustomization.yaml" | "kustomization.yml")
}

/// The objects of a revision in a stable order, and all findings.
#[derive(Debug, Default)]
pub struct Revision {
    /// Objects by kind and name.
    pub objects: BTreeMap<(String, String), GitObject>,
    /// Findings.
    pub findings: Vec<Finding>,
    /// Files read.
    pub files: usize,
}

/// Limits on what a revision may hold, besides those of the tree.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Objects of one revision.
    pub objects: usize,
    /// Limits of a document.
    pub document: super::document::Limits,
}

/// Reads all objects out of the files. `namespace` is the only one they may name.
pub fn collect(files: Files, namespace: &str, schemas: &Schemas, limits: Limits) -> Revision {
    let mut revision = Revision { files: files.files.len(), findings: files.findings, ..Revision::default() };
    let mut seen: BTreeMap<(String, String), Place> = BTreeMap::new();
    for (path, bytes) in &files.files {
        let (documents, findings) = super::document::parse(path, bytes, limits.document);
        revision.findings.extend(findings);
        for (number, document) in documents.iter().enumerate() {
            match object(path, number, document, namespace, schemas) {
                Ok(object) => {
                    let key = (object.kind.clone(), object.name.clone());
                    if let Some(other) = seen.insert(key.clone(), object.place.clone()) {
                        revision.findings.push(
                            Finding::failure(
                                "OBJ-DUP",
                                object.place.clone(),
                                format!("stands at {other} too; keep one of the two (neither is applied)"),
                            )
                            .of(&object.kind, &object.name),
                        );
                        revision.objects.remove(&key);
                    } else {
                        revision.objects.insert(key, object);
                    }
                }
                Err(findings) => revision.findings.extend(findings),
            }
        }
    }
    if revision.objects.len() > limits.objects {
        let many = revision.objects.len();
        revision.objects.clear();
        revision.findings.push(Finding::failure(
            "GIT-LIMIT",
            Place::file(""),
            format!(
                "the revision holds {many} objects, more than the {} of spec.limits.objects",
                limits.objects
            ),
        ));
    }
    revision
}

fn object(
    path: &str,
    number: usize,
    document: &Node,
    namespace: &str,
    schemas: &Schemas,
) -> Result<GitObject, Vec<Finding>> {
    let place = document.place(path);
    let fail = |code, node: Option<&Node>, message: String| {
        vec![Finding::failure(code, node.map_or_else(|| place.clone(), |node| node.place(path)), message)]
    };
    let text = |field: &str| document.get(field).and_then(Node::text).unwrap_or_default();
    if !matches!(document.value, Value::Map(_)) {
        return Err(fail(
            "KIND-UNKNOWN",
            None,
            "is not an object: it needs apiVersion, kind and metadata".into(),
        ));
    }
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let metadata = document.get("metadata");
    let name_node = metadata.and_then(|metadata| metadata.get("name"));
    let name = name_node.and_then(Node::text).unwrap_or_default();
    let mut findings = Vec::new();
    if api_version != API_VERSION || !schemas.knows(kind) {
        let hint = schemas
            .nearest_kind(kind)
            .map_or_else(String::new, |near| format!("; did you mean {API_VERSION} {near}?"));
        return Err(fail(
            "KIND-UNKNOWN",
            document.get("kind"),
            format!("{api_version} {kind} is not a kind of Patchtide{hint}"),
        )
        .into_iter()
        .map(|finding| finding.of(kind, name))
        .collect());
    }
    if !valid_name(name) {
        findings.extend(fail(
            "NAME-INVALID",
            name_node.or(metadata),
            format!("metadata.name {name:?} is not valid: 1 to 253 of a-z, 0-9, - and ., starting and ending with a letter or digit"),
        ));
    }
    if let Some(node) = metadata.and_then(|metadata| metadata.get("namespace"))
        && node.text() != Some(namespace)
    {
        findings.extend(fail(
            "NAMESPACE",
            Some(node),
            format!("metadata.namespace must be {namespace}, that of the GitSource, or be left out"),
        ));
    }
    findings.extend(check_metadata(path, metadata));
    if let Value::Map(map) = &document.value {
        for (field, node) in map {
            if field == "status" {
                findings.extend(fail(
                    "FIELD-UNKNOWN",
                    Some(node),
                    "status is written by the controller; remove it".into(),
                ));
            } else if !matches!(field.as_str(), "apiVersion" | "kind" | "metadata" | "spec") {
                findings.extend(fail(
                    "FIELD-UNKNOWN",
                    Some(node),
                    format!("{field} is not a field of an object; did you mean spec.{field}?"),
                ));
            }
        }
    }
    match document.get("spec") {
        Some(spec) => findings.extend(schemas.check_spec(kind, path, spec)),
        None => findings.extend(fail("FIELD-MISSING", None, "spec is missing".into())),
    }
    let json = document.to_json();
    if json.to_string().len() > OBJECT_BYTES {
        findings.extend(fail(
            "OBJ-SIZE",
            None,
            format!("the object is larger than {OBJECT_BYTES} bytes; split it"),
        ));
    }
    if findings.is_empty() {
        let origin = format!("{path}#{number}");
        Ok(GitObject { kind: kind.to_owned(), name: name.to_owned(), place, origin, json })
    } else {
        Err(findings.into_iter().map(|finding| finding.of(kind, name)).collect())
    }
}

fn check_metadata(path: &str, metadata: Option<&Node>) -> Vec<Finding> {
    let Some(Value::Map(map)) = metadata.map(|metadata| &metadata.value) else { return Vec::new() };
    let mut findings = Vec::new();
    for (field, node) in map {
        match field.as_str() {
            "name" | "namespace" => {}
            "labels" | "annotations" => {
                let Value::Map(entries) = &node.value else {
                    findings.push(Finding::failure(
                        "TYPE",
                        node.place(path),
                        format!("metadata.{field} must be a map of texts"),
                    ));
                    continue;
                };
                for (key, value) in entries {
                    match value.text() {
                        None => findings.push(Finding::failure(
                            "TYPE",
                            value.place(path),
                            format!("metadata.{field}.{key} must be text: put the value in quotes"),
                        )),
                        Some(text) if field == "labels" && !valid_label(text) => findings.push(Finding::failure(
                            "LABEL-INVALID",
                            value.place(path),
                            format!("metadata.labels.{key}: at most 63 letters, digits, - _ and ., starting and ending with a letter or digit"),
                        )),
                        Some(_) => {}
                    }
                }
            }
            other => findings.push(Finding::failure(
                "FIELD-UNKNOWN",
                node.place(path),
                format!("metadata.{other} cannot be set from Git; remove it"),
            )),
        }
    }
    findings
}

fn valid_name(name: &str) -> bool {
    ObjectName::new(name).is_ok() && !name.contains("..")
}

fn valid_label(value: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    value.is_empty()
        || (value.len() <= 63
            && edge(value.chars().next())
            && edge(value.chars().next_back())
            && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        objects: 5_000,
        document: super::super::document::Limits { depth: 32, documents: 200, aliases: 0 },
    };

    fn revision(files: &[(&str, &str)]) -> Revision {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
        collect(Files { files, findings: Vec::new() }, "lab", &Schemas::new(), LIMITS)
    }

    /// Findings of one document of the kind with this spec.
    fn findings(kind: &str, spec: &str) -> Vec<String> {
        let text = format!("apiVersion: {API_VERSION}\nkind: {kind}\nmetadata:\n  name: x\nspec:\n{spec}");
        revision(&[("a.yaml", &text)]).findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_object_comes_through_with_its_origin() {
        let text = format!(
            "---\napiVersion: {API_VERSION}\nkind: Collection\nmetadata: {{name: all}}\nspec: {{all: true}}\n"
        );
        let revision = revision(&[("c/all.yaml", &text)]);
        assert_eq!(revision.findings, []);
        let object = &revision.objects[&("Collection".to_owned(), "all".to_owned())];
        assert_eq!(object.origin, "c/all.yaml#0");
    }

    #[test]
    fn bad_input_13_unknown_fields_get_the_nearest_name_and_their_line() {
        let found = findings("UpdateDeployment", "  colection: all\n");
        assert!(found[0].starts_with("a.yaml:6:"), "{found:?}");
        assert!(
            found[0].contains("FIELD-UNKNOWN UpdateDeployment/x") && found[0].contains("\"collection\""),
            "{found:?}"
        );
    }

    #[test]
    fn bad_input_10_11_21_types_and_ranges_name_the_field() {
        let found = findings("UpdateDeployment", "  collection: 1.10\n  suspend: yes\n");
        assert!(
            found.iter().any(|f| f.contains("TYPE-VERSION") && f.contains("spec.collection")),
            "{found:?}"
        );
        assert!(found.iter().any(|f| f.contains("spec.suspend must be true or false")), "{found:?}");
        let found = findings("GitSource", "  url: https://h/r\n  prune: true\n  maxDeletions: -1\n");
        assert!(found[0].contains("RANGE") && found[0].contains("0 to 100000"), "{found:?}");
        let found =
            findings("GitSource", "  url: https://h/r\n  prune: true\n  maxDeletions: 9223372036854775808\n");
        assert!(found[0].contains("RANGE") || found[0].contains("TYPE"), "{found:?}");
    }

    #[test]
    fn bad_input_14_unknown_kinds_do_not_take_the_others_along() {
        let revision = revision(&[
            (
                "a.yaml",
                "apiVersion: patchtide.dev/v1alpha1\nkind: Colection\nmetadata: {name: a}\nspec: {}\n",
            ),
            (
                "b.yaml",
                "apiVersion: patchtide.dev/v1alpha1\nkind: Collection\nmetadata: {name: b}\nspec: {all: true}\n",
            ),
            ("c.yaml", "- just\n- a list\n"),
        ]);
        assert_eq!(revision.objects.len(), 1);
        assert!(revision.findings[0].message.contains("did you mean patchtide.dev/v1alpha1 Collection?"));
        assert!(revision.findings.iter().all(|f| f.code == "KIND-UNKNOWN" && f.is_failure()));
    }

    #[test]
    fn bad_input_15_duplicates_name_both_places_and_neither_is_applied() {
        let text =
            "apiVersion: patchtide.dev/v1alpha1\nkind: Collection\nmetadata: {name: a}\nspec: {all: true}\n";
        let revision = revision(&[("a.yaml", text), ("b.yaml", text)]);
        assert!(revision.objects.is_empty());
        assert_eq!(revision.findings[0].code, "OBJ-DUP");
        assert!(
            revision.findings[0].to_string().contains("a.yaml")
                && revision.findings[0].to_string().contains("b.yaml")
        );
    }

    #[test]
    fn bad_input_16_17_names_labels_and_namespaces() {
        for name in ["Upper", "trailing.", "é", "a b", "", "x..y", &"a".repeat(254)] {
            let text = format!(
                "apiVersion: {API_VERSION}\nkind: Collection\nmetadata:\n  name: {name:?}\nspec: {{all: true}}\n"
            );
            let found = revision(&[("a.yaml", &text)]).findings;
            assert_eq!(found.first().map(|f| f.code), Some("NAME-INVALID"), "{name} {found:?}");
        }
        let metadata = format!("{{name: a, namespace: other, labels: {{x: {}}}, uid: u}}", "v".repeat(64));
        let text = format!(
            "apiVersion: {API_VERSION}\nkind: Collection\nmetadata: {metadata}\nspec: {{all: true}}\n"
        );
        let codes: Vec<_> = revision(&[("a.yaml", &text)]).findings.iter().map(|f| f.code).collect();
        assert_eq!(codes, ["NAMESPACE", "LABEL-INVALID", "FIELD-UNKNOWN"]);
    }

    #[test]
    fn bad_input_25_oversized_objects() {
        let text = format!(
            "apiVersion: {API_VERSION}\nkind: Collection\nmetadata: {{name: a}}\nspec: {{all: true, description: {}}}\n",
            "d".repeat(600 << 10)
        );
        assert!(revision(&[("a.yaml", &text)]).findings.iter().any(|f| f.code == "OBJ-SIZE"));
    }

    #[test]
    fn status_cannot_come_from_git() {
        let text = "apiVersion: patchtide.dev/v1alpha1\nkind: Collection\nmetadata: {name: a}\nspec: {all: true}\nstatus: {}\n";
        assert!(revision(&[("a.yaml", text)]).findings[0].message.contains("written by the controller"));
    }
}
