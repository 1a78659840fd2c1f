//! What a deployment refers to, and what was pinned before.

use std::collections::BTreeSet;

use kube::ResourceExt;
use patchtide_crds::{UpdateDeployment, conditions::reason};
use patchtide_intent::{
    Problem, deployment_template,
    update_deployment::{Inputs, begun, pin::Memory},
    update_list as lists,
};
use patchtide_model::UpdateId;
use patchtide_store::ObjectRow;

use crate::{
    context::Context,
    error::Failure,
    kinds::{PINNED, database, update_list},
};

/// Reads what the deployment refers to.
pub async fn dereference(ctx: &Context, object: &UpdateDeployment) -> Result<Inputs, Failure> {
    let spec = &object.spec;
    let template = match &spec.template {
        None => None,
        Some(name) => {
            let Some(template) = ctx.caches.deployment_templates.get(name) else {
                return Err(Problem::missing("deployment template", name).into());
            };
            Some((deployment_template::digest(&template.spec), template.spec.clone()))
        }
    };
    let members = match &spec.update_list {
        None => None,
        Some(name) => {
            if ctx.caches.update_lists.get(name).is_none() {
                return Err(Problem::missing("update list", name).into());
            }
            let Some(members) = update_list::members(ctx, name).await? else {
                return Err(Failure::wait(
                    reason::DEPENDENCY_NOT_READY,
                    format!("update list {name} is not resolved yet"),
                ));
            };
            Some(members)
        }
    };
    let memory = memory(ctx, object).await?;
    let own = lists::identities(&spec.pinned_updates())?;
    let remembered = memory.list.as_ref().map(|list| list.members.clone()).unwrap_or_default();
    let ids: BTreeSet<UpdateId> =
        own.iter().chain(members.iter().flatten()).chain(&remembered).cloned().collect();
    let ids: Vec<UpdateId> = ids.into_iter().collect();
    let known = ctx.store.updates(&ids).await.map_err(|error| database(&error))?;
    // A deployment that was taken out and comes back is another one: its UID is in the key.
    let key =
        format!("{}/{}/{}", super::UPDATE_DEPLOYMENT, object.name_any(), object.uid().unwrap_or_default());
    let anchor =
        ctx.store.anchor(&key, begun(object, ctx.clock.now())).await.map_err(|error| database(&error))?;
    Ok(Inputs { template, members, memory, known, own, anchor, collections: ctx.caches.collections.names() })
}

/// What was pinned for this object before.
async fn memory(ctx: &Context, object: &UpdateDeployment) -> Result<Memory, Failure> {
    let row = ctx.store.object(PINNED, &object.name_any()).await.map_err(|error| database(&error))?;
    let uid = object.uid().unwrap_or_default();
    match row.filter(|row| row.uid == uid) {
        None => Ok(Memory::default()),
        Some(row) => serde_json::from_str(&row.json).map_err(|error| {
            Failure::of("what this deployment has pinned cannot be read back from the site database", &error)
        }),
    }
}

/// Keeps what is pinned.
pub async fn remember(ctx: &Context, object: &UpdateDeployment, memory: &Memory) -> Result<(), Failure> {
    let json = serde_json::to_string(memory)
        .map_err(|error| Failure::of("what this deployment pins cannot be written as JSON", &error))?;
    let row = ObjectRow {
        kind: PINNED.to_owned(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        json,
    };
    ctx.store.put_object(row).await.map_err(|error| database(&error))?;
    Ok(())
}
