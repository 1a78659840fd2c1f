//! Kinds as people type them.

use std::fmt::Debug;

use anyhow::{Context as _, bail};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
};
use serde::de::DeserializeOwned;

use crate::why::hint;

/// The object of that name. Where there is none, names like it are told.
pub(crate) async fn get<K>(api: &Api<K>, namespace: &str, kind: &str, name: &str) -> anyhow::Result<K>
where
    K: Clone + DeserializeOwned + Debug,
{
    let found = api.get_opt(name).await.with_context(|| format!("{kind} {name} cannot be read"))?;
    if let Some(object) = found {
        return Ok(object);
    }
    let names: Vec<String> = match api.list_metadata(&ListParams::default()).await {
        Ok(list) => list.items.into_iter().filter_map(|object| object.metadata.name).collect(),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            bail!(
                "the cluster knows no kind {kind}: apply manifests/ of Patchtide, or install its Helm chart"
            )
        }
        // Who may read one object need not be allowed to list them.
        Err(_) => Vec::new(),
    };
    bail!(
        "there is no {kind} {name:?} in namespace {namespace}{}",
        hint(name, names.iter().map(String::as_str))
    )
}

/// The API of a kind given by its name, plural or short name in any case.
pub(crate) fn api(
    client: &Client,
    namespace: &str,
    typed: &str,
) -> anyhow::Result<(Api<DynamicObject>, String)> {
    let wanted = typed.to_lowercase();
    for crd in patchtide_crds::crds() {
        let names = crd.spec.names;
        let short = names.short_names.unwrap_or_default();
        let singular = names.kind.to_lowercase();
        if wanted == singular || wanted == names.plural || short.contains(&wanted) {
            let gvk = GroupVersionKind::gvk(patchtide_crds::GROUP, patchtide_crds::VERSION, &names.kind);
            let resource = ApiResource::from_gvk_with_plural(&gvk, &names.plural);
            return Ok((Api::namespaced_with(client.clone(), namespace, &resource), names.kind));
        }
    }
    let known: Vec<&str> = patchtide_crds::KINDS.iter().map(|kind| kind.kind).collect();
    bail!("{typed:?} is not a kind of Patchtide; known: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn short_names_do_not_collide() {
        let mut seen = std::collections::BTreeMap::new();
        for crd in patchtide_crds::crds() {
            let names = crd.spec.names;
            for name in names.short_names.unwrap_or_default().into_iter().chain([names.plural]) {
                assert_eq!(seen.insert(name.clone(), names.kind.clone()), None, "{name}");
            }
        }
        assert_eq!(seen.get("ud").map(String::as_str), Some("UpdateDeployment"));
    }
}
