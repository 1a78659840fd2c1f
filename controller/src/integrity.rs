//! The site's library is what the site database says: a quick look at every file at the start and now and then, and a slow
//! reading of all bytes beside everything else. What is damaged is taken out, said to be absent, and fetched again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use patchtide_model::{Digest, LineId};
use patchtide_store::{
    StoreError,
    content::{Scrub, ScrubPace},
    library::Damage,
};
use tokio::time::{Instant, sleep};

use crate::{context::Context, error::chain, kinds::software_update_point::publish::publish};

/// Every file is looked at this often, and whether all are to be read.
const LOOK: Duration = Duration::from_mins(10);
/// What nothing refers to in the site database is collected this often.
const UPKEEP: Duration = Duration::from_hours(24);
/// The first time, after a start.
const FIRST_UPKEEP: Duration = Duration::from_hours(1);

/// Runs until the task is dropped. The first look is the content loop's, before it fetches.
pub async fn run(ctx: Arc<Context>) {
    let mut upkeep = Instant::now() + FIRST_UPKEEP;
    loop {
        if let Err(error) = read_all(&ctx, ScrubPace::default()).await {
            tracing::warn!(error = %chain(&error), "content is not read through; tried again");
        }
        if Instant::now() >= upkeep {
            upkeep = Instant::now() + UPKEEP;
            match ctx.store.collect_leaf_sets().await {
                Ok(sets) => tracing::info!(sets, "leaf sets that no client refers to are deleted"),
                Err(error) => tracing::warn!(error = %chain(&error), "leaf sets are not collected"),
            }
        }
        sleep(LOOK).await;
        if let Err(error) = look_at_all(&ctx).await {
            tracing::warn!(error = %chain(&error), "content is not looked at; tried again");
        }
    }
}

/// Looks whether every file that counts as present is there with its size. Returns how many are not.
pub async fn look_at_all(ctx: &Context) -> Result<usize, StoreError> {
    let files = present(ctx).await?;
    let library = ctx.library.clone();
    let look = move || -> Vec<(Digest, Damage)> {
        let damage = |(digest, size): (&Digest, &u64)| Some((*digest, library.look(*digest, *size).err()?));
        files.iter().filter_map(damage).collect()
    };
    let damaged = tokio::task::spawn_blocking(look).await.map_err(|_| StoreError::Closed)?;
    for (digest, damage) in &damaged {
        replace(ctx, *digest, damage).await?;
    }
    Ok(damaged.len())
}

/// Reads every file that counts as present, when that is due. Returns how many are damaged; none when it was not due.
pub async fn read_all(ctx: &Context, pace: ScrubPace) -> Result<Option<usize>, StoreError> {
    let files = present(ctx).await?;
    if files.is_empty() {
        return Ok(None);
    }
    let (store, library) = (ctx.store.clone(), ctx.library.clone());
    let begun = Scrub::begin(store, library, vec![None], files, pace, ctx.clock.now()).await?;
    let Some(mut round) = begun else { return Ok(None) };
    let mut damaged = 0;
    loop {
        ctx.metrics.check_left(round.left());
        let Some((digest, size, damage)) = round.next(ctx.clock.now()).await? else { break };
        ctx.metrics.checked(size);
        // It may have been collected, or replaced, since the round began.
        if let Some(damage) = damage
            && present(ctx).await?.contains_key(&digest)
        {
            replace(ctx, digest, &damage).await?;
            damaged += 1;
        }
    }
    let now = ctx.clock.now();
    round.complete(now).await?;
    ctx.metrics.check_completed(now);
    tracing::info!(damaged, "every file of the site's library was read");
    Ok(Some(damaged))
}

/// What counts as present: packages' files and published catalogues.
async fn present(ctx: &Context) -> Result<BTreeMap<Digest, u64>, StoreError> {
    let mut files = ctx.store.content_present().await?;
    files.extend(catalogues(ctx).await?.into_iter().map(|(digest, (_, size))| (digest, size)));
    Ok(files)
}

async fn catalogues(ctx: &Context) -> Result<BTreeMap<Digest, (LineId, u64)>, StoreError> {
    let lines = ctx.store.lines().await?.into_iter();
    Ok(lines
        .filter_map(|line| line.catalogue.map(|catalogue| (catalogue.digest, (line.line, catalogue.size))))
        .collect())
}

/// First the word, then the deed: what is said to be here must be here.
async fn replace(ctx: &Context, digest: Digest, damage: &Damage) -> Result<(), StoreError> {
    let detail = damage.to_string();
    tracing::error!(%digest, detail, "a file of the site's library is damaged; it is made anew");
    ctx.metrics.damaged();
    ctx.store.content_damaged(None, digest, &detail, ctx.clock.now()).await?;
    if let Err(error) = ctx.library.remove(digest) {
        tracing::warn!(error = %chain(&error), %digest, "a damaged file is not deleted");
        return Ok(());
    }
    if let Some((line, _)) = catalogues(ctx).await?.remove(&digest) {
        match publish(ctx, &line).await {
            Ok(_) => ctx.store.content_repaired(digest, ctx.clock.now()).await?,
            Err(failure) => tracing::warn!(%line, error = %failure, "its catalogue is not written anew"),
        }
    }
    ctx.content_progress.send_modify(|version| *version += 1);
    Ok(())
}
