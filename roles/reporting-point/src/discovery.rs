//! What there is, in the forms in which Kubernetes asks: from memory alone, so that a database that is down does not keep
//! the cluster from deleting namespaces.

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{GROUP, VERSION, answer::Answer, path::Wanted};

/// The group's version, as it stands in `apiVersion`.
pub(crate) const API_VERSION: &str = "reports.patchtide.dev/v1alpha1";
/// Name of the one resource.
pub(crate) const SNAPSHOTS: &str = "snapshots";

/// Form in which everything is told at once; the kube-apiserver takes it under exactly this name.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const JSON: &str = "application/json";

/// The document at a path; none: there is none.
pub(crate) fn answer(path: &str, headers: &HeaderMap) -> Result<Response, Answer> {
    let v3 = format!("/openapi/v3/apis/{API_VERSION}");
    let (document, form) = match path.trim_end_matches('/') {
        "/apis" if asks_for_all(headers) => (aggregated(), AGGREGATED),
        "/apis" => (json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group()]}), JSON),
        path if path == format!("/apis/{GROUP}") => (group(), JSON),
        path if path == format!("/apis/{API_VERSION}") => (resources(), JSON),
        "/openapi/v2" => (openapi_v2(), JSON),
        "/openapi/v3" => {
            let hash = etag(&openapi_v3().to_string());
            let url = format!("{v3}?hash={}", hash.trim_matches('"'));
            (json!({"paths": {format!("apis/{API_VERSION}"): {"serverRelativeURL": url}}}), JSON)
        }
        path if path == v3 => (openapi_v3(), JSON),
        "/version" => (json!({"gitVersion": format!("v{}", env!("CARGO_PKG_VERSION"))}), JSON),
        _ => return Err(Answer::not_found(&Wanted::Path(path.to_owned()))),
    };
    Ok(document_as(headers, &document.to_string(), form))
}

fn asks_for_all(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|form| {
        let mut parts = form.split(';').map(str::trim);
        parts.next() == Some(JSON) && {
            let parts: Vec<&str> = parts.collect();
            ["g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"]
                .iter()
                .all(|part| parts.contains(part))
        }
    })
}

fn document_as(headers: &HeaderMap, text: &str, form: &'static str) -> Response {
    let tag = etag(text);
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Body::from(text.to_owned()).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn etag(text: &str) -> String {
    format!("\"{}\"", hex::encode_upper(Sha256::digest(text.as_bytes())))
}

fn group() -> Value {
    let version = json!({"groupVersion": API_VERSION, "version": VERSION});
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version,
    })
}

fn resources() -> Value {
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION,
        "resources": [{
            "name": SNAPSHOTS, "singularName": "snapshot", "namespaced": true, "kind": "Snapshot", "verbs": ["get"],
        }],
    })
}

fn aggregated() -> Value {
    let resource = json!({
        "resource": SNAPSHOTS,
        "responseKind": {"group": GROUP, "version": VERSION, "kind": "Snapshot"},
        "scope": "Namespaced",
        "singularResource": "snapshot",
        "verbs": ["get"],
    });
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": [{
            "metadata": {"name": GROUP, "creationTimestamp": null},
            "versions": [{"version": VERSION, "resources": [resource], "freshness": "Current"}],
        }],
    })
}

const TITLE: &str = "Patchtide reports";
const SCHEMA: &str = "dev.patchtide.reports.v1alpha1.Snapshot";

fn openapi_v2() -> Value {
    json!({"swagger": "2.0", "info": {"title": TITLE, "version": VERSION}, "paths": {}, "definitions": {}})
}

fn openapi_v3() -> Value {
    let kind = json!({"group": GROUP, "version": VERSION, "kind": "Snapshot"});
    let parameter = |name: &str, place: &str, of: &str, about: &str| {
        json!({
            "name": name, "in": place, "required": place == "path", "description": about, "schema": {"type": of},
        })
    };
    let path = format!("/apis/{API_VERSION}/namespaces/{{namespace}}/{SNAPSHOTS}/{{name}}");
    json!({
        "openapi": "3.0.0",
        "info": {"title": TITLE, "version": VERSION},
        "paths": {path: {"get": {
            "tags": ["reportsPatchtideDev_v1alpha1"],
            "description": "The site at one moment: what policy is compiled from and what clients reported.",
            "operationId": "readReportsPatchtideDevV1alpha1NamespacedSnapshot",
            "x-kubernetes-action": "get",
            "x-kubernetes-group-version-kind": kind,
            "parameters": [
                parameter("namespace", "path", "string", "Namespace of the site."),
                parameter("name", "path", "string", "Only `current`."),
                parameter("client", "query", "string", "Name or id of the one client that is told of; none: all."),
                parameter("catalogue", "query", "boolean", "With the whole catalogue."),
            ],
            "responses": {"200": {"description": "OK", "content": {JSON: {"schema": {
                "$ref": format!("#/components/schemas/{SCHEMA}"),
            }}}}},
        }}},
        "components": {"schemas": {SCHEMA: {
            "description": "A site at one moment. It names every machine with its facts and what it lacks. Read it with \
                            `kubectl patchtide snapshot`; its fields are those of the program's version.",
            "type": "object",
            "properties": {
                "apiVersion": {"type": "string", "description": "Version of this form."},
                "kind": {"type": "string", "description": "Snapshot."},
                "metadata": {"type": "object", "description": "Name, always `current`, and namespace."},
                "version": {"type": "integer", "description": "Version of the fields below."},
                "taken_at": {"type": "string", "description": "When it was read, by the site's clock."},
                "input": {"type": "object", "description": "What policy is compiled from."},
                "reports": {"type": "object", "description": "What clients reported, by client."},
            },
            "x-kubernetes-preserve-unknown-fields": true,
            "x-kubernetes-group-version-kind": [kind],
        }}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, accept: &str) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        answer(path, &headers).unwrap()
    }

    #[test]
    fn everything_at_once_is_told_only_to_who_asks_for_it() {
        let kubernetes = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        let all = get("/apis", kubernetes);
        assert_eq!(all.headers()[header::CONTENT_TYPE], AGGREGATED);
        assert_eq!(get("/apis", "application/json").headers()[header::CONTENT_TYPE], JSON);
        let old =
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(get("/apis", old).headers()[header::CONTENT_TYPE], JSON);
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, kubernetes.parse().unwrap());
        headers.insert(header::IF_NONE_MATCH, all.headers()[header::ETAG].clone());
        assert_eq!(answer("/apis", &headers).unwrap().status(), StatusCode::NOT_MODIFIED);
        assert!(answer("/apis/other", &headers).is_err());
    }
}
