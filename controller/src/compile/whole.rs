//! Whether the picture is whole: every window and collection that there is has been taken into the database.

use std::collections::BTreeSet;

use kube::{
    Api, ResourceExt,
    api::{ListParams, PartialObjectMeta},
};
use patchtide_crds::annotations::{DISABLED, RECONCILE};
use patchtide_model::object::SiteObjects;
use patchtide_store::ObjectRow;

use super::{CompileError, store};
use crate::{
    cache::Cache,
    context::Context,
    kinds::{COLLECTION, MAINTENANCE_WINDOW},
    status::Object,
};

/// The objects of the site, and a window or collection that the watches have seen and that is neither in the database in
/// its newest generation nor marked as blocking.
pub(super) async fn objects(ctx: &Context) -> Result<(SiteObjects, Option<String>), CompileError> {
    let windows = ctx.store.objects(MAINTENANCE_WINDOW).await.map_err(store("load windows"))?;
    let collections = ctx.store.objects(COLLECTION).await.map_err(store("load collections"))?;
    // After the rows: what is found to be in the database is in the objects too.
    let objects = ctx.store.load_objects().await.map_err(store("load objects"))?;
    let blocked: BTreeSet<&str> = objects.blocked.keys().map(String::as_str).collect();
    let window = missing(MAINTENANCE_WINDOW, &ctx.caches.maintenance_windows, &windows, &blocked);
    let behind = window.or_else(|| missing(COLLECTION, &ctx.caches.collections, &collections, &blocked));
    Ok((objects, behind))
}

fn missing<K: Object>(
    kind: &str,
    cache: &Cache<K>,
    rows: &[ObjectRow],
    blocked: &BTreeSet<&str>,
) -> Option<String> {
    if !cache.is_complete() {
        return Some(kind.to_owned());
    }
    cache.all().iter().find_map(|object| {
        let name = object.name_any();
        let uid = object.uid().unwrap_or_default();
        let generation = object.meta().generation.unwrap_or_default();
        let label = format!("{kind}/{name}");
        // An object that is left alone on purpose stays as it last was.
        let left = object.annotations().get(RECONCILE).is_some_and(|value| value == DISABLED);
        let settled = left
            || object.meta().deletion_timestamp.is_some()
            || blocked.contains(label.as_str())
            || rows.iter().any(|row| row.name == name && row.uid == uid && row.generation >= generation);
        (!settled).then_some(label)
    })
}

/// A window or collection that the API server knows at this moment and the watches have not seen: one consistent read
/// before anything new goes out.
pub(super) async fn unseen(ctx: &Context) -> Result<Option<String>, CompileError> {
    let window = unseen_of(ctx, MAINTENANCE_WINDOW, &ctx.caches.maintenance_windows).await?;
    if window.is_some() {
        return Ok(window);
    }
    unseen_of(ctx, COLLECTION, &ctx.caches.collections).await
}

async fn unseen_of<K: Object>(
    ctx: &Context,
    kind: &'static str,
    cache: &Cache<K>,
) -> Result<Option<String>, CompileError> {
    let api: Api<PartialObjectMeta<K>> = Api::namespaced(ctx.client.clone(), &ctx.namespace);
    let list = api
        .list(&ListParams::default())
        .await
        .map_err(|source| CompileError::List { kind, source: Box::new(source) })?;
    let unseen = list.iter().find(|there| {
        let seen = cache.get(&there.name_any()).is_some_and(|here| {
            here.meta().uid == there.metadata.uid && here.meta().generation >= there.metadata.generation
        });
        !seen && there.metadata.deletion_timestamp.is_none()
    });
    Ok(unseen.map(|object| format!("{kind}/{}", object.name_any())))
}
