//! Writes status: the only place that does. Server-side apply to `/status` under a field manager of its own; nothing
//! is sent when nothing but times of conditions would change.

use std::fmt::Debug;

use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::object::HasStatus,
};
use patchtide_crds::{StatusContract, annotations::MANAGER_STATUS};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// A kind of ours: namespaced, with a status that keeps the contract.
pub trait Object:
    Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + HasStatus<Status: StatusContract + Clone + PartialEq + Serialize + Send + Sync>
    + Serialize
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + HasStatus<Status: StatusContract + Clone + PartialEq + Serialize + Send + Sync>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// A status that could not be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write the status of {kind} {name}: check the controller's rights on {kind} status in this namespace"
)]
pub struct StatusError {
    kind: String,
    name: String,
    #[source]
    source: Box<kube::Error>,
}

impl StatusError {
    /// Whether the object is gone meanwhile: then there is nothing to tell.
    pub fn is_gone(&self) -> bool {
        matches!(&*self.source, kube::Error::Api(status) if status.is_not_found())
    }
}

/// Publishes `status` on `object` when it differs from what the object carries. Returns the object as it is then, or
/// none when nothing had to be written.
pub async fn publish<K: Object>(
    client: &Client,
    object: &K,
    status: &K::Status,
) -> Result<Option<K>, StatusError> {
    if object.status() == Some(status) {
        return Ok(None);
    }
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let patch = Patch::Apply(body(object, status));
    match api.patch_status(&name, &PatchParams::apply(MANAGER_STATUS).force(), &patch).await {
        Ok(written) => Ok(Some(written)),
        Err(source) => Err(StatusError { kind: K::kind(&()).into_owned(), name, source: Box::new(source) }),
    }
}

/// The document that is applied. The UID makes sure that a re-created object of the same name is not written to.
fn body<K: Object>(object: &K, status: &K::Status) -> Value {
    json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {
            "name": object.name_any(),
            "namespace": object.namespace(),
            "uid": object.uid(),
        },
        "status": status,
    })
}
