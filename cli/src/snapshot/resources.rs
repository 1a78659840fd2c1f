//! The custom resources of a namespace, with the rights of the person who asks.

use anyhow::Context as _;
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::Value;

/// Objects asked for at once.
const PAGE: u32 = 500;

/// All objects of the twelve kinds, without status and without who manages which field, by kind and name.
pub(super) async fn list(client: &Client, namespace: &str) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    for crd in patchtide_crds::crds() {
        let names = crd.spec.names;
        let gvk = GroupVersionKind::gvk(patchtide_crds::GROUP, patchtide_crds::VERSION, &names.kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, &names.plural);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let list = api
                .list(&params)
                .await
                .with_context(|| format!("the {} of namespace {namespace} cannot be listed", names.plural))?;
            let next = list.metadata.continue_.filter(|next| !next.is_empty());
            for mut object in list.items {
                object.metadata.managed_fields = None;
                let mut value =
                    serde_json::to_value(object).context("an object cannot be written as JSON")?;
                value["apiVersion"] = format!("{}/{}", patchtide_crds::GROUP, patchtide_crds::VERSION).into();
                value["kind"] = names.kind.as_str().into();
                if let Some(fields) = value.as_object_mut() {
                    fields.remove("status");
                }
                found.push(value);
            }
            match next {
                Some(next) => params = params.continue_token(&next),
                None => break,
            }
        }
    }
    Ok(found)
}
