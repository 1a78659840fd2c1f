//! The table of resources as `OpenAPI`, in both versions: what `kubectl explain` and completion of fields read.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    GROUP, VERSION,
    discovery::API_VERSION,
    resource::{About, Parameter, RESOURCES, Resource},
};

const TITLE: &str = "Patchtide reports";
const JSON: &str = "application/json";

/// What every list understands.
const LIST: &[Parameter] = &[
    Parameter {
        name: "fieldSelector",
        of: "string",
        words: "Fields that objects must have; what can be asked for is in docs/kubectl.md, and in the error about what \
                cannot.",
    },
    Parameter { name: "labelSelector", of: "string", words: "Labels that objects must have." },
    Parameter {
        name: "limit",
        of: "integer",
        words: "Most objects of one answer, at most 5000; none: all of them, as a stream.",
    },
    Parameter {
        name: "continue",
        of: "string",
        words: "Where the answer before ended; good for 15 minutes.",
    },
    Parameter { name: "resourceVersion", of: "string", words: "As everywhere in Kubernetes." },
    Parameter { name: "resourceVersionMatch", of: "string", words: "As everywhere in Kubernetes." },
];

/// What a watch understands beside that.
const WATCH: &[Parameter] = &[
    Parameter { name: "watch", of: "boolean", words: "Changes as they come, instead of a list." },
    Parameter {
        name: "allowWatchBookmarks",
        of: "boolean",
        words: "With events that only say how far it is.",
    },
    Parameter { name: "sendInitialEvents", of: "boolean", words: "Begins with what there is." },
    Parameter { name: "timeoutSeconds", of: "integer", words: "Ends after so long, at most an hour." },
];

/// The members of `T`, which is told as an object, for [`Resource::properties`].
pub(crate) fn properties<T: JsonSchema>() -> Map<String, Value> {
    let settings = SchemaSettings::openapi3().for_serialize().with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    plain(&mut schema);
    match schema.get_mut("properties").map(Value::take) {
        Some(Value::Object(properties)) => properties,
        _ => Map::new(),
    }
}

/// What is missing is left out, never null; and versions 2 and 3 know no formats of Rust.
fn plain(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.remove("nullable");
            if members.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint"))
            {
                members.insert("format".to_owned(), "int64".into());
            }
            members.values_mut().for_each(plain);
        }
        Value::Array(members) => members.iter_mut().for_each(plain),
        _ => {}
    }
}

/// `body` as JSON.
pub(crate) fn body(body: &impl Serialize) -> Value {
    // Structs of texts, numbers and lists are always JSON.
    serde_json::to_value(body).unwrap_or_default()
}

/// Name of a kind's schema.
fn schema_name(kind: &str) -> String {
    format!("dev.patchtide.reports.v1alpha1.{kind}")
}

fn kind(about: &About, suffix: &str) -> Value {
    json!({"group": GROUP, "version": VERSION, "kind": format!("{}{suffix}", about.kind)})
}

/// Version 2, which the kube-apiserver merges with everybody's.
pub(crate) fn v2() -> Value {
    let reference = |kind: String| json!({"$ref": format!("#/definitions/{}", schema_name(&kind))});
    let parameter = |place: &str, parameter: &Parameter| {
        json!({
            "name": parameter.name, "in": place, "required": place == "path", "type": parameter.of,
            "description": parameter.words, "uniqueItems": true,
        })
    };
    let answer = |schema: Value| json!({"200": {"description": "OK", "schema": schema}});
    let document = Document { reference: &reference, parameter: &parameter, answer: &answer, produces: true };
    json!({
        "swagger": "2.0",
        "info": {"title": TITLE, "version": VERSION},
        "paths": document.paths(),
        "definitions": document.schemas(),
    })
}

/// Version 3.
pub(crate) fn v3() -> Value {
    let reference = |kind: String| json!({"$ref": format!("#/components/schemas/{}", schema_name(&kind))});
    let parameter = |place: &str, parameter: &Parameter| {
        json!({
            "name": parameter.name, "in": place, "required": place == "path", "description": parameter.words,
            "schema": {"type": parameter.of, "uniqueItems": true},
        })
    };
    let answer = |schema: Value| json!({"200": {"description": "OK", "content": {JSON: {"schema": schema}}}});
    let document =
        Document { reference: &reference, parameter: &parameter, answer: &answer, produces: false };
    json!({
        "openapi": "3.0.0",
        "info": {"title": TITLE, "version": VERSION},
        "paths": document.paths(),
        "components": {"schemas": document.schemas()},
    })
}

/// In what the two versions differ.
struct Document<'a> {
    reference: &'a dyn Fn(String) -> Value,
    parameter: &'a dyn Fn(&str, &Parameter) -> Value,
    answer: &'a dyn Fn(Value) -> Value,
    produces: bool,
}

impl Document<'_> {
    fn paths(&self) -> Map<String, Value> {
        let mut paths = Map::new();
        for resource in RESOURCES {
            let about = resource.about();
            let namespaced = format!("/apis/{API_VERSION}/namespaces/{{namespace}}/{}", about.plural);
            if about.has("get") {
                let get = self.operation(*resource, "get", "read", "Namespaced", &["namespace", "name"]);
                paths.insert(format!("{namespaced}/{{name}}"), json!({"get": get}));
            }
            if about.has("list") {
                let list = self.operation(*resource, "list", "list", "Namespaced", &["namespace"]);
                paths.insert(namespaced, json!({"get": list}));
                let all = self.operation(*resource, "list", "listForAll", "", &[]);
                paths.insert(format!("/apis/{API_VERSION}/{}", about.plural), json!({"get": all}));
            }
        }
        paths
    }

    fn operation(
        &self,
        resource: &dyn Resource,
        action: &str,
        verb: &str,
        scope: &str,
        path: &[&'static str],
    ) -> Value {
        let about = resource.about();
        let lists = action == "list";
        let in_path = path.iter().map(|name| {
            let words = if *name == "name" { "Name of the object." } else { "Namespace of the site." };
            (self.parameter)("path", &Parameter { name, of: "string", words })
        });
        let mut query: Vec<&Parameter> = resource.parameters().iter().collect();
        if lists {
            query.extend(LIST);
            query.extend(if about.has("watch") { WATCH } else { &[] });
        }
        let suffix = if lists { "List" } else { "" };
        let mut operation = json!({
            "tags": ["reportsPatchtideDev_v1alpha1"],
            "description": about.words,
            "operationId": format!("{verb}ReportsPatchtideDevV1alpha1{scope}{}", about.kind),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kind(about, ""),
            "parameters": in_path.chain(query.into_iter().map(|one| (self.parameter)("query", one))).collect::<Vec<_>>(),
            "responses": (self.answer)((self.reference)(format!("{}{suffix}", about.kind))),
        });
        if self.produces
            && let Value::Object(operation) = &mut operation
        {
            operation.insert("produces".to_owned(), json!([JSON]));
            operation.insert("schemes".to_owned(), json!(["https"]));
        }
        operation
    }

    fn schemas(&self) -> Map<String, Value> {
        let mut schemas = Map::new();
        let text = |words: &str| json!({"type": "string", "description": words});
        for resource in RESOURCES {
            let about = resource.about();
            let mut properties = Map::new();
            properties.insert("apiVersion".to_owned(), text("Version of this form."));
            properties.insert("kind".to_owned(), text("What it is."));
            properties.insert("metadata".to_owned(), metadata());
            properties.extend(resource.properties());
            schemas.insert(
                schema_name(about.kind),
                json!({
                    "description": about.words,
                    "type": "object",
                    "properties": properties,
                    "x-kubernetes-group-version-kind": [kind(about, "")],
                }),
            );
            if about.has("list") {
                schemas.insert(
                    schema_name(&format!("{}List", about.kind)),
                    json!({
                        "description": format!("A list of {}.", about.plural),
                        "type": "object",
                        "required": ["items"],
                        "properties": {
                            "apiVersion": text("Version of this form."),
                            "kind": text("What it is."),
                            "metadata": {"type": "object", "description": "How far the list is, and of when.", "properties": {
                                "resourceVersion": text("From where a watch goes on."),
                                "continue": text("Where the next answer goes on; none: this is the end."),
                            }},
                            "items": {"type": "array", "description": "The objects.", "items": (self.reference)(about.kind.to_owned())},
                        },
                        "x-kubernetes-group-version-kind": [kind(about, "List")],
                    }),
                );
            }
        }
        schemas
    }
}

fn metadata() -> Value {
    let text = |words: &str| json!({"type": "string", "description": words});
    json!({"type": "object", "description": "What every object of Kubernetes has.", "properties": {
        "name": text("Name, unique in the namespace."),
        "namespace": text("Namespace of the site."),
        "uid": text("Identity; never given again."),
        "resourceVersion": text("The site's change number when it was read."),
        "creationTimestamp": {"type": "string", "format": "date-time", "description": "Since when there is one, where that is known."},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}, "description": "What can be selected by."},
    }})
}
