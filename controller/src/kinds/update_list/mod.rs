//! `UpdateList`: pinned updates and those that a search found; such a list only grows by itself.

pub mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kube::ResourceExt;
use patchtide_crds::{
    UpdateList, UpdateListStatus,
    conditions::{CATALOGUE_CONFLICT, reason},
};
use patchtide_intent::Problem;
use patchtide_intent::update_list::{self, Members, digest, identities, refresh_due};
use patchtide_model::{UpdateId, catalogue::LeafRef};
use tokio::sync::watch;

use crate::{
    cache::Cache,
    context::Context,
    driver::Reconciler,
    error::{Failure, Outcome},
    kinds::{
        self, UPDATE_LIST, database, flag, search_folder, software_update_point::active::offered_lines,
        sweep_rows, time,
    },
};

/// The kind.
pub struct UpdateLists;

impl Reconciler for UpdateLists {
    type Object = UpdateList;

    fn cache(ctx: &Context) -> &Arc<Cache<UpdateList>> {
        &ctx.caches.update_lists
    }

    fn wakes(&self, ctx: &Context) -> Vec<watch::Receiver<u64>> {
        vec![ctx.store.changes(), ctx.caches.search_folders.version()]
    }

    async fn reconcile(
        &self,
        ctx: &Context,
        object: &UpdateList,
        status: &mut UpdateListStatus,
    ) -> Result<Outcome, Failure> {
        let name = object.name_any();
        let uid = object.uid().unwrap_or_default();
        let pinned = identities(&object.spec.pinned())?;
        let row = ctx.store.object(UPDATE_LIST, &name).await.map_err(|error| database(&error))?;
        let old: Members = row
            .filter(|row| row.uid == uid)
            .and_then(|row| serde_json::from_str(&row.json).ok())
            .unwrap_or_default();
        let now = ctx.clock.now();
        let due = refresh_due(object, &old, now)?;
        let found = if due.now {
            let mut found = found(ctx, object).await?;
            let fresh: Vec<UpdateId> = found
                .iter()
                .filter(|id| !old.followed.contains(id) && !pinned.contains(id))
                .cloned()
                .collect();
            let conflicts = conflicts(ctx, &fresh).await?;
            found.retain(|id| !conflicts.contains_key(id));
            let text = conflict_message(&conflicts);
            let told = text.as_ref().map(|text| (true, "CatConflict", text.as_str()));
            let generation = object.metadata.generation.unwrap_or_default();
            flag(status, CATALOGUE_CONFLICT, generation, &ctx.clock.time(), told);
            Some(found)
        } else {
            None
        };
        let wanted: BTreeSet<UpdateId> =
            pinned.iter().chain(&old.followed).chain(found.iter().flatten()).cloned().collect();
        let wanted: Vec<UpdateId> = wanted.into_iter().collect();
        let known = ctx.store.updates(&wanted).await.map_err(|error| database(&error))?;
        let folder = object.spec.search_folder.as_ref().map(|folder| folder.name.clone());
        let mut next =
            update_list::plan(&old, folder, &pinned, found.as_ref(), &object.spec.exclusions, &known);
        if due.now && due.period.is_some() {
            next.refreshed = Some(time(now).0);
        }
        next.request.clone_from(&due.request);
        kinds::keep(ctx, UPDATE_LIST, object, &next).await?;
        let digest = digest(&next.members);
        if status.digest.as_ref() != Some(&digest) {
            status.changed_time = Some(time(now));
        }
        status.digest = Some(digest);
        status::fill(ctx, status, &pinned, &next, &known).await?;
        status.next_refresh_time =
            due.period.zip(next.refreshed).and_then(|(period, last)| last.checked_add(period).ok()).map(time);
        let mut outcome = Outcome::ready(format!("{} updates", next.members.len()));
        if let Some(next) = &status.next_refresh_time {
            outcome = outcome.again(Duration::try_from(next.0.duration_since(now)).unwrap_or_default());
        }
        Ok(outcome)
    }

    async fn sweep(&self, ctx: &Context, names: &BTreeSet<String>) -> Result<(), Failure> {
        sweep_rows(ctx, UPDATE_LIST, names).await
    }
}

async fn found(ctx: &Context, object: &UpdateList) -> Result<BTreeSet<UpdateId>, Failure> {
    let Some(reference) = &object.spec.search_folder else {
        return Ok(BTreeSet::new());
    };
    let Some(folder) = ctx.caches.search_folders.get(&reference.name) else {
        return Err(Problem::missing("search folder", &reference.name).into());
    };
    let found = search_folder::search(ctx, &folder.spec.criteria).await.map_err(|failure| {
        let message = format!("search folder {}: {}", reference.name, failure.message);
        Failure::wait(reason::DEPENDENCY_NOT_READY, message)
    })?;
    Ok(found.into_iter().map(|update| update.id).collect())
}

/// Of updates that a search found: those whose packages another source has with other content (reliability.md #53), each
/// with one that disagrees. Neither is selected until a person pins one.
async fn conflicts(
    ctx: &Context,
    fresh: &[UpdateId],
) -> Result<BTreeMap<UpdateId, (LeafRef, UpdateId)>, Failure> {
    let offered = offered_lines(&ctx.caches.software_update_points.all());
    let all = ctx.store.conflicting(fresh).await.map_err(|error| database(&error))?;
    Ok(all
        .into_iter()
        .filter_map(|(id, others)| {
            let other = others.into_iter().find(|(_, other)| offered.contains(other.line.as_str()))?;
            Some((id, other))
        })
        .collect())
}

fn conflict_message(conflicts: &BTreeMap<UpdateId, (LeafRef, UpdateId)>) -> Option<String> {
    let (id, (leaf, other)) = conflicts.first_key_value()?;
    Some(format!(
        "CAT-CONFLICT: {} updates that the search finds are left out, first {id}: its {} {} ({}) is another file than that of {other}; pin the one you trust in spec.updates, or take one of the sources out",
        conflicts.len(),
        leaf.package,
        leaf.version,
        leaf.architecture
    ))
}

/// The members of a list as its last reconcile kept them; none when it has not been reconciled.
pub async fn members(ctx: &Context, name: &str) -> Result<Option<BTreeSet<UpdateId>>, Failure> {
    let Some(list) = ctx.caches.update_lists.get(name) else {
        return Ok(None);
    };
    let row = ctx.store.object(UPDATE_LIST, name).await.map_err(|error| database(&error))?;
    let uid = list.uid().unwrap_or_default();
    Ok(row
        .filter(|row| row.uid == uid)
        .and_then(|row| serde_json::from_str::<Members>(&row.json).ok())
        .map(|members| members.members))
}
