//! What there is, in the forms in which Kubernetes asks: from memory alone, so that a database that is down does not keep
//! the cluster from deleting namespaces.

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    GROUP, VERSION,
    answer::Answer,
    openapi,
    path::Wanted,
    resource::{About, RESOURCES, Resource},
};

/// The group's version, as it stands in `apiVersion`.
pub(crate) const API_VERSION: &str = "reports.patchtide.dev/v1alpha1";

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
        "/openapi/v2" => (openapi::v2(), JSON),
        "/openapi/v3" => {
            let hash = etag(&openapi::v3().to_string());
            let url = format!("{v3}?hash={}", hash.trim_matches('"'));
            (json!({"paths": {format!("apis/{API_VERSION}"): {"serverRelativeURL": url}}}), JSON)
        }
        path if path == v3 => (openapi::v3(), JSON),
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
    let resource = |resource: &&dyn Resource| {
        let about = resource.about();
        let mut told = json!({
            "name": about.plural, "singularName": about.singular, "namespaced": true, "kind": about.kind,
            "verbs": about.verbs,
        });
        names(&mut told, about);
        told
    };
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION,
        "resources": RESOURCES.iter().map(resource).collect::<Vec<_>>(),
    })
}

fn aggregated() -> Value {
    let resource = |resource: &&dyn Resource| {
        let about = resource.about();
        let mut told = json!({
            "resource": about.plural,
            "responseKind": {"group": GROUP, "version": VERSION, "kind": about.kind},
            "scope": "Namespaced",
            "singularResource": about.singular,
            "verbs": about.verbs,
        });
        names(&mut told, about);
        told
    };
    let resources: Vec<Value> = RESOURCES.iter().map(resource).collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": [{
            "metadata": {"name": GROUP, "creationTimestamp": null},
            "versions": [{"version": VERSION, "resources": resources, "freshness": "Current"}],
        }],
    })
}

fn names(told: &mut Value, about: &About) {
    for (key, names) in [("shortNames", about.short), ("categories", about.categories)] {
        if let (Value::Object(told), false) = (&mut *told, names.is_empty()) {
            told.insert(key.to_owned(), json!(names));
        }
    }
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
