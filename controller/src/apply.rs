//! Writes objects other than status: server-side apply under one field manager. With [`crate::status`] the only
//! writer of this crate, apart from the Git source, which applies under managers of its own.

use std::fmt::Debug;

use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};

/// Field manager of what the controller itself owns (`ConfigMap`s, `Secret`s). Never change it: a new name would leave the
/// old fields without an owner.
pub const MANAGER: &str = "patchtide-controller";

/// An object that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot apply {kind} {name}: check the controller's rights in this namespace")]
pub struct ApplyError {
    kind: String,
    name: String,
    #[source]
    source: Box<kube::Error>,
}

/// Applies `object` in `namespace`. An identical object is not written again by the API server.
pub async fn apply<K>(client: &Client, namespace: &str, name: &str, object: &K) -> Result<K, ApplyError>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await.map_err(|source| {
        ApplyError { kind: K::kind(&()).into_owned(), name: name.to_owned(), source: Box::new(source) }
    })
}
