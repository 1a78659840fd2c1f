//! What policy is compiled from: the site database, and which lines the software update points in force offer.

use patchtide_model::object::SiteObjects;
use patchtide_planner::site::SiteInput;
use patchtide_store::site::OfferedLines;
use tokio::time::Instant;

use super::{CompileError, arrivals::Arrivals, store};
use crate::{
    context::Context,
    kinds::software_update_point::{active, memory},
};

/// Everything the planner needs beside the objects, from the site database.
pub(super) async fn load(
    ctx: &Context,
    mut objects: SiteObjects,
    arrivals: &mut Arrivals,
) -> Result<SiteInput, CompileError> {
    ctx.store.add_token_members(&mut objects).await.map_err(store("load members by token"))?;
    let clients = ctx.store.clients().await.map_err(store("load clients"))?;
    let offered = offered_lines(ctx).await?;
    // Whoever answers what this compiler does has no other way to know.
    ctx.store.set_offered_lines(&offered).await.map_err(store("keep the offered lines"))?;
    // In this order: a file that arrives in between is on its way, and the next run tells it.
    let on_its_way = ctx.store.content_on_its_way().await.map_err(store("look for content on its way"))?;
    let found = ctx.store.approvable(&objects, offered).await.map_err(store("load what is deployed"))?;
    let holders = arrivals.tell(found.holders, on_its_way, Instant::now());
    Ok(SiteInput {
        site: ctx.site.clone(),
        objects,
        clients,
        lines: found.lines,
        updates: found.updates,
        required_leaves: found.required_leaves,
        dependencies: found.dependencies,
        holders: Some(holders),
    })
}

/// Lines of the sources of software update points in force, with who their release says it is: a line whose source is
/// gone, or only a spare one's, is kept but not scanned.
async fn offered_lines(ctx: &Context) -> Result<OfferedLines, CompileError> {
    let points = ctx.caches.software_update_points.all();
    let mut offered = OfferedLines::new();
    for source in active::offered_sources(&points) {
        let releases = memory::releases(ctx, &source.name).await.map_err(store("load releases"))?;
        offered.extend(active::lines(source).map(|(suite, line)| (line, releases.get(suite).cloned())));
    }
    Ok(offered)
}
