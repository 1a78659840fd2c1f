//! What policy is compiled from, read from the site database.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{
    Digest, UpdateId,
    catalogue::Leaf,
    object::SiteObjects,
    policy::{LinePolicy, LineRelease},
};
use patchtide_planner::site::SiteInput;
use tokio::time::Instant;

use super::{
    CompileError,
    arrivals::{Arrivals, Holders},
    store,
};
use crate::{
    context::Context,
    dependencies,
    kinds::{
        deployment_package::{PACKAGE_CONTENT, plan::Content},
        site::enrolment::add_token_members,
        software_update_point::{active, memory},
    },
};

/// Everything the planner needs beside the objects, from the site database.
pub(super) async fn load(
    ctx: &Context,
    mut objects: SiteObjects,
    arrivals: &mut Arrivals,
) -> Result<SiteInput, CompileError> {
    add_token_members(ctx, &mut objects).await.map_err(store("load members by token"))?;
    let clients = ctx.store.clients().await.map_err(store("load clients"))?;
    let lines = ctx.store.lines().await.map_err(store("load lines"))?;
    let mut offered = offered_lines(ctx).await?;
    let lines = lines
        .into_iter()
        .filter_map(|line| {
            let release = offered.remove(line.line.as_str())?;
            let catalogue = line.catalogue?;
            Some(LinePolicy {
                release,
                line: line.line,
                catalogue_version: catalogue.version,
                digest: catalogue.digest,
                size: catalogue.size,
            })
        })
        .collect();
    let ids: BTreeSet<UpdateId> =
        objects.deployments.values().flat_map(|deployment| deployment.updates.iter().cloned()).collect();
    let list: Vec<UpdateId> = ids.iter().cloned().collect();
    let updates = ctx.store.updates(&list).await.map_err(store("load updates"))?;
    let mut required_leaves = ctx.store.required_leaves(&ids).await.map_err(store("load required leaves"))?;
    let packages = packages(ctx).await?;
    // What a package holds stays approved with its update when nobody requires it any more: it heals what falls below
    // it again, and the end of an installation is no reason for another policy.
    for update in updates.values() {
        let held = update
            .leaves
            .iter()
            .filter(|leaf| packages.iter().any(|content| content.files.contains_key(&leaf.file.sha256)));
        for leaf in held {
            required_leaves.entry(update.id.clone()).or_default().insert(leaf.reference());
        }
    }
    let dependencies =
        if ids.is_empty() { Vec::new() } else { new_dependencies(ctx, &packages, &ids).await? };
    let approved = updates.values().flat_map(|update| {
        let required = required_leaves.get(&update.id);
        let is_offered =
            move |leaf: &&Leaf| required.is_some_and(|required| required.contains(&leaf.reference()));
        update.leaves.iter().filter(is_offered)
    });
    let files: BTreeSet<Digest> = approved.chain(&dependencies).map(|leaf| leaf.file.sha256).collect();
    let holders = holders(ctx, &files, arrivals).await?;
    Ok(SiteInput {
        site: ctx.site.clone(),
        objects,
        clients,
        lines,
        updates,
        required_leaves,
        dependencies,
        holders: Some(holders),
    })
}

/// Which distribution points have the files, as clients are told.
async fn holders(
    ctx: &Context,
    files: &BTreeSet<Digest>,
    arrivals: &mut Arrivals,
) -> Result<Holders, CompileError> {
    // In this order: a file that arrives in between is on its way, and the next run tells it.
    let on_its_way = ctx.store.content_on_its_way().await.map_err(store("look for content on its way"))?;
    let files: Vec<Digest> = files.iter().copied().collect();
    let there = ctx.store.dps_with(&files).await.map_err(store("load distributed content"))?;
    Ok(arrivals.tell(there, on_its_way, Instant::now()))
}

/// What the packages hold.
async fn packages(ctx: &Context) -> Result<Vec<Content>, CompileError> {
    let rows = ctx.store.objects(PACKAGE_CONTENT).await.map_err(store("load packages"))?;
    Ok(rows.iter().filter_map(|row| serde_json::from_str(&row.json).ok()).collect())
}

/// Lines of the sources of software update points in force, with who their release says it is: a line whose source is
/// gone, or only a spare one's, is kept but not scanned.
async fn offered_lines(ctx: &Context) -> Result<BTreeMap<String, Option<LineRelease>>, CompileError> {
    let points = ctx.caches.software_update_points.all();
    let mut offered = BTreeMap::new();
    for source in active::offered_sources(&points) {
        let releases = memory::releases(ctx, &source.name).await.map_err(store("load releases"))?;
        offered.extend(active::lines(source).map(|(suite, line)| (line, releases.get(suite).cloned())));
    }
    Ok(offered)
}

/// Packages that updates newly depend on, as clients named them, where the catalogue knows them.
async fn new_dependencies(
    ctx: &Context,
    packages: &[Content],
    deployed: &BTreeSet<UpdateId>,
) -> Result<Vec<Leaf>, CompileError> {
    let mut needed = ctx.store.needed_leaves().await.map_err(store("load new dependencies"))?;
    needed.extend(packages.iter().flat_map(|content| content.dependencies.iter().cloned()));
    let held = |file: &Digest| packages.iter().any(|content| content.files.contains_key(file));
    let found =
        dependencies::find(ctx, needed, deployed, held).await.map_err(store("find new dependencies"))?;
    let leaves: BTreeSet<Leaf> = found.leaves.into_values().map(|(_, leaf)| leaf).collect();
    Ok(leaves.into_iter().collect())
}
