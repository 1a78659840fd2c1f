//! The finished CustomResourceDefinitions: what the derive produces, tightened.
//!
//! The derive allows `null` in every optional field (a null would pass `has()` in a rule and then fail in it), gives
//! integers formats that the API server does not know, and cannot say the default of a status or how conditions merge.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::json;

/// The CustomResourceDefinitions of all kinds, in order of application.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut all = vec![
        crate::Site::crd(),
        crate::SoftwareUpdatePoint::crd(),
        crate::DistributionPoint::crd(),
        crate::Collection::crd(),
        crate::MaintenanceWindow::crd(),
        crate::ClientSettings::crd(),
        crate::SearchFolder::crd(),
        crate::UpdateList::crd(),
        crate::DeploymentPackage::crd(),
        crate::DeploymentTemplate::crd(),
        crate::UpdateDeployment::crd(),
        crate::GitSource::crd(),
    ];
    all.iter_mut().for_each(finish);
    all
}

/// For an enum whose variants are documented: where such a type is optional, its own description would otherwise take
/// the place of the field's.
pub(crate) fn leave_description_to_field(schema: &mut schemars::Schema) {
    schema.remove("description");
}

/// Completes one definition.
fn finish(crd: &mut CustomResourceDefinition) {
    crd.metadata
        .labels
        .get_or_insert_default()
        .insert("app.kubernetes.io/part-of".to_owned(), "patchtide".to_owned());
    for version in &mut crd.spec.versions {
        let Some(root) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
            continue;
        };
        tighten(root);
        let Some(properties) = &mut root.properties else { continue };
        if let Some(status) = properties.get_mut("status") {
            // kstatus takes an object without status for settled; this makes a new one "in progress".
            status.default = Some(JSON(json!({"observedGeneration": -1})));
            if let Some(conditions) = status.properties.as_mut().and_then(|all| all.get_mut("conditions")) {
                bound_conditions(conditions);
            }
        }
    }
}

/// Takes out what the API server would warn of or a rule would stumble over, in the whole tree.
fn tighten(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.title = None;
    if let Some(text) = &mut schema.description {
        *text = unwrap_lines(text);
    }
    if schema.type_.as_deref() == Some("integer") {
        schema.format = Some("int64".to_owned());
    }
    for child in schema.properties.iter_mut().flat_map(|all| all.values_mut()) {
        tighten(child);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tighten(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tighten(values);
    }
}

/// Joins the lines of a paragraph, so that the reader's terminal breaks them; blank lines stay.
fn unwrap_lines(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| {
        paragraph.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// What metav1 says of conditions beyond their types: merged by type, and bounded.
fn bound_conditions(conditions: &mut JSONSchemaProps) {
    conditions.x_kubernetes_list_type = Some("map".to_owned());
    conditions.x_kubernetes_list_map_keys = Some(vec!["type".to_owned()]);
    let Some(JSONSchemaPropsOrArray::Schema(item)) = &mut conditions.items else { return };
    let Some(fields) = &mut item.properties else { return };
    let mut bound = |name: &str, longest: i64, pattern: Option<&str>| {
        if let Some(field) = fields.get_mut(name) {
            field.max_length = Some(longest);
            field.pattern = pattern.map(str::to_owned);
        }
    };
    bound("message", 32_768, None);
    bound("reason", 1_024, Some("^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"));
    bound("type", 316, Some("^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"));
    if let Some(status) = fields.get_mut("status") {
        status.enum_ = Some(["True", "False", "Unknown"].map(|value| JSON(json!(value))).to_vec());
    }
    if let Some(generation) = fields.get_mut("observedGeneration") {
        generation.minimum = Some(0.0);
    }
}
