//! What must hold of every schema, and that the checked-in YAML is what the types say.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use patchtide_crds::{KINDS, crds};

/// Calls `see` with every schema of the tree and its path.
fn walk(path: &str, schema: &JSONSchemaProps, see: &mut impl FnMut(&str, &JSONSchemaProps)) {
    see(path, schema);
    for (name, child) in schema.properties.iter().flatten() {
        walk(&format!("{path}.{name}"), child, see);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        walk(&format!("{path}[]"), items, see);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        walk(&format!("{path}{{}}"), values, see);
    }
}

fn root(crd: &CustomResourceDefinition) -> &JSONSchemaProps {
    crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()
}

/// What is missing in any schema, one line each.
fn complaints(mut about: impl FnMut(&str, &JSONSchemaProps) -> Option<String>) -> String {
    let mut all = String::new();
    for crd in crds() {
        for part in ["spec", "status"] {
            let schema = &root(&crd).properties.as_ref().unwrap()[part];
            walk(&format!("{}.{part}", crd.spec.names.kind), schema, &mut |path, schema| {
                if let Some(complaint) = about(path, schema) {
                    writeln!(all, "{path}: {complaint}").unwrap();
                }
            });
        }
    }
    all
}

#[test]
fn every_string_and_list_is_bounded() {
    let open = complaints(|_, schema| match schema.type_.as_deref() {
        Some("string") if schema.max_length.is_none() && schema.enum_.is_none() => {
            (schema.format.as_deref() != Some("date-time")).then(|| "string without maxLength".to_owned())
        }
        Some("array") if schema.max_items.is_none() => Some("list without maxItems".to_owned()),
        Some("object") if schema.properties.is_none() && schema.max_properties.is_none() => {
            Some("map without maxProperties".to_owned())
        }
        None => Some("no type".to_owned()),
        _ => None,
    });
    assert_eq!(open, "");
}

#[test]
fn every_field_says_what_it_is() {
    let silent = complaints(|path, schema| {
        let described =
            schema.description.as_deref().is_some_and(|text| text.len() > 8 || path.contains(".status."));
        let ends_well = schema.description.as_deref().is_some_and(|text| text.ends_with('.'));
        let of_k8s = path.contains(".conditions[]");
        (!path.ends_with(']') && !path.ends_with('}') && !of_k8s && (!described || !ends_well))
            .then(|| format!("description {:?}", schema.description))
    });
    assert_eq!(silent, "");
}

/// A reader of `kubectl explain` learns what each value does, not only that it exists. Names of days and published
/// names speak for themselves.
#[test]
fn every_value_of_a_field_is_explained() {
    let unexplained = complaints(|path, schema| {
        let values: Vec<_> = schema.enum_.iter().flatten().filter_map(|value| value.0.as_str()).collect();
        let plain =
            ["weekday", "week", "format", "classification", "severity"].iter().any(|end| path.ends_with(end));
        if path.contains(".status.") || path.ends_with(']') || plain {
            return None;
        }
        let description = schema.description.as_deref().unwrap_or_default();
        let silent: Vec<_> = values.into_iter().filter(|value| !description.contains(value)).collect();
        (!silent.is_empty()).then(|| format!("{silent:?} not in {description:?}"))
    });
    assert_eq!(unexplained, "");
}

#[test]
fn nothing_stumbles_over_null() {
    assert_eq!(complaints(|_, schema| schema.nullable.map(|_| "nullable".to_owned())), "");
    let unknown = complaints(|_, schema| {
        let format = schema.format.clone()?;
        (!["int64", "date", "date-time"].contains(&format.as_str())).then_some(format)
    });
    assert_eq!(unknown, "");
}

#[test]
fn every_rule_names_its_remedy() {
    let mute = complaints(|_, schema| {
        let mute = schema.x_kubernetes_validations.iter().flatten().find(|rule| rule.message.is_none())?;
        Some(mute.rule.clone())
    });
    assert_eq!(mute, "");
}

#[test]
fn every_kind_keeps_the_conventions() {
    let mut names = BTreeSet::new();
    assert_eq!(crds().len(), KINDS.len());
    for (crd, kind) in crds().iter().zip(KINDS) {
        let all = &crd.spec.names;
        assert_eq!(
            (all.kind.as_str(), all.plural.as_str()),
            (kind.kind, kind.plural),
            "crds() and KINDS have one order"
        );
        assert_eq!((crd.spec.group.as_str(), crd.spec.scope.as_str()), ("patchtide.dev", "Namespaced"));
        assert_eq!(all.categories.as_deref(), Some(["patchtide".to_owned()].as_slice()));
        for name in all.short_names.iter().flatten() {
            assert!(
                names.insert(name.clone())
                    && !["po", "svc", "no", "ns", "cm", "pdb"].contains(&name.as_str())
            );
        }
        let version = &crd.spec.versions[0];
        assert!(version.subresources.as_ref().unwrap().status.is_some());
        let columns: Vec<_> =
            version.additional_printer_columns.iter().flatten().map(|column| column.name.as_str()).collect();
        assert_eq!((columns[0], columns[1], *columns.last().unwrap()), ("Ready", "Reason", "Age"));
        let status = &root(crd).properties.as_ref().unwrap()["status"];
        assert_eq!(status.default.as_ref().unwrap().0["observedGeneration"], -1);
        let fields = status.properties.as_ref().unwrap();
        assert_eq!(fields["conditions"].x_kubernetes_list_type.as_deref(), Some("map"));
        assert!(fields.contains_key("observedGeneration") && fields.contains_key("lastHandledReconcileAt"));
        assert!(root(crd).description.as_ref().unwrap().len() > 60);
    }
}

/// With `PATCHTIDE_WRITE_CRDS=1` (`cargo xtask crds`) it writes what it otherwise demands.
#[test]
fn generated_yaml_is_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("generated");
    let write = std::env::var_os("PATCHTIDE_WRITE_CRDS").is_some_and(|value| value == "1");
    let mut expected = BTreeSet::from(["kustomization.yaml".to_owned()]);
    let mut kustomization = "# Generated by `cargo xtask crds`. Do not edit.\nresources:\n".to_owned();
    for crd in crds() {
        let name = format!("{}.yaml", crd.spec.names.plural);
        let yaml = format!("# Generated by `cargo xtask crds`. Do not edit.\n{}", yaml(&crd));
        writeln!(kustomization, "  - {name}").unwrap();
        compare(&folder.join(&name), &yaml, write);
        expected.insert(name);
    }
    compare(&folder.join("kustomization.yaml"), &kustomization, write);
    let found: BTreeSet<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected, "files in crds/generated");
}

fn yaml(crd: &CustomResourceDefinition) -> String {
    let mut value = serde_json::to_value(crd).unwrap();
    whole_numbers(&mut value);
    let text = serde_saphyr::to_string(&value).unwrap();
    let back: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(back, value, "the YAML says what the type says");
    text
}

/// Limits are floating-point in the type; `maximum: 31` reads better than `31.0`.
fn whole_numbers(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Array(all) => all.iter_mut().for_each(whole_numbers),
        serde_json::Value::Object(all) => all.values_mut().for_each(whole_numbers),
        serde_json::Value::Number(number) if number.is_f64() => {
            if let Ok(whole) = number.to_string().trim_end_matches(".0").parse::<i64>() {
                *value = whole.into();
            }
        }
        _ => {}
    }
}

fn compare(path: &Path, text: &str, write: bool) {
    if write {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == text,
        "{} is not what the types say: run `cargo xtask crds` and commit the result",
        path.display()
    );
}
