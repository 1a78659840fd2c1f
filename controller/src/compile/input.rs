//! What policy is compiled from: the site database, and which lines the software update points in force offer.

use patchtide_model::object::SiteObjects;
use patchtide_planner::site::SiteInput;
use patchtide_store::site::OfferedLines;
use tokio::time::Instant;

use super::{CompileError, arrivals::Arrivals, keep::Ground, store};
use crate::{
    context::Context,
    kinds::software_update_point::{active, memory},
};

/// Everything the planner needs beside the objects, from the site database; of clients those that changed `after` a change
/// number, or all.
pub(super) async fn load(
    ground: Ground<'_>,
    mut objects: SiteObjects,
    offered: OfferedLines,
    after: Option<u64>,
    arrivals: &mut Arrivals,
    now: Instant,
) -> Result<SiteInput, CompileError> {
    let database = ground.store;
    database.add_token_members(&mut objects).await.map_err(store("load members by token"))?;
    let clients = match after {
        Some(number) => database.clients_changed_after(number).await,
        None => database.clients().await,
    };
    let clients = clients.map_err(store("load clients"))?;
    // Whoever answers what this compiler does has no other way to know.
    database.set_offered_lines(&offered).await.map_err(store("keep the offered lines"))?;
    // In this order: a file that arrives in between is on its way, and the next run tells it.
    let on_its_way = database.content_on_its_way().await.map_err(store("look for content on its way"))?;
    let found = database.approvable(&objects, offered).await.map_err(store("load what is deployed"))?;
    let holders = arrivals.tell(found.holders, on_its_way, now);
    Ok(SiteInput {
        site: ground.site.clone(),
        objects,
        clients: clients.into_iter().map(Into::into).collect(),
        lines: found.lines,
        updates: found.updates,
        required_leaves: found.required_leaves,
        dependencies: found.dependencies,
        holders: Some(holders),
    })
}

/// Lines of the sources of software update points in force, with who their release says it is: a line whose source is
/// gone, or only a spare one's, is kept but not scanned.
pub(super) async fn offered_lines(ctx: &Context) -> Result<OfferedLines, CompileError> {
    let points = ctx.caches.software_update_points.all();
    let mut offered = OfferedLines::new();
    for source in active::offered_sources(&points) {
        let releases = memory::releases(ctx, &source.name).await.map_err(store("load releases"))?;
        offered.extend(active::lines(source).map(|(suite, line)| (line, releases.get(suite).cloned())));
    }
    Ok(offered)
}
