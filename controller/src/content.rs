//! Fetches the files of packages into the site's library, each once, verified while it streams; deletes what nothing
//! refers to any more.

mod fetch;
mod room;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use patchtide_model::Digest;
use patchtide_store::{
    StoreError,
    content::{Content, ContentState},
};
use tokio::time::{Instant, sleep, timeout};

use self::{
    fetch::{ContentError, Fetchers, fetch_file},
    room::Room,
};
use crate::{
    context::Context,
    error::chain,
    integrity,
    kinds::{
        deployment_package::{PACKAGE_CONTENT, plan},
        site,
    },
};

/// Files fetched at the same time.
const PARALLEL: usize = 4;
/// Files taken up before it is looked again what is wanted.
const AT_ONCE: usize = 32;
/// Pause before a file that failed is tried again.
const RETRY: SignedDuration = SignedDuration::from_mins(1);
/// The loop looks this often although nothing woke it.
const PERIOD: Duration = Duration::from_secs(20);
/// What nothing refers to is looked for this often.
const COLLECT: Duration = Duration::from_mins(10);

/// Runs until the task is dropped.
pub async fn run(ctx: Arc<Context>) {
    let mut changes = ctx.store.changes();
    let fetchers = Fetchers::default();
    let mut collected = Instant::now();
    // Before anything is sent on: what is said to be here may have gone while no process ran.
    match integrity::look_at_all(&ctx).await {
        Ok(0) => {}
        Ok(files) => tracing::warn!(files, "files of the site's library are damaged"),
        Err(error) => tracing::warn!(error = %chain(&error), "content is not looked at"),
    }
    loop {
        changes.mark_unchanged();
        match fetch_all(&ctx, &fetchers).await {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "content fetched"),
            Err(error) => tracing::warn!(error = %chain(&error), "content not fetched; tried again"),
        }
        if collected.elapsed() > COLLECT {
            collected = Instant::now();
            if let Err(error) = collect(&ctx).await {
                tracing::warn!(error = %chain(&error), "content that nothing refers to was not looked for");
            }
        }
        let wake = async {
            let _ = changes.changed().await;
            sleep(Duration::from_millis(100)).await;
        };
        let _ = timeout(PERIOD, wake).await;
    }
}

/// The files that some package has.
async fn referenced(ctx: &Context) -> Result<BTreeSet<Digest>, StoreError> {
    let rows = ctx.store.objects(PACKAGE_CONTENT).await?;
    Ok(rows
        .iter()
        .filter_map(|row| serde_json::from_str::<plan::Content>(&row.json).ok())
        .flat_map(|content| content.files.into_keys())
        .collect())
}

async fn fetch_all(ctx: &Context, fetchers: &Fetchers) -> Result<usize, StoreError> {
    let now = ctx.clock.now();
    let missing = ctx.store.content_missing().await?;
    if missing.is_empty() {
        return Ok(0);
    }
    let wanted = referenced(ctx).await?;
    let due: Vec<Content> = missing
        .into_iter()
        .filter(|content| wanted.contains(&content.wanted.digest) && is_due(content, now))
        .collect();
    let due = first_of(due);
    if due.is_empty() {
        return Ok(0);
    }
    let limit = ctx.store.site_limits().await?.and_then(|limits| limits.content_store);
    // A size that cannot be kept to is not ignored: nothing is fetched then.
    let room = match limit.map(|limit| Room::of(limit, &ctx.library)).transpose() {
        Ok(room) => room,
        Err(error) => {
            tracing::warn!(error = %chain(&ContentError::Library(error)), "content not fetched; tried again");
            return Ok(0);
        }
    };
    let results: Vec<Result<bool, StoreError>> = stream::iter(due)
        .map(|content| fetch_one(ctx, fetchers, room.as_ref(), content))
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    let mut files = 0;
    for result in results {
        files += usize::from(result?);
    }
    Ok(files)
}

/// Those that are taken up next: the small ones, so that what is wanted from now on does not wait for everything large. Each
/// that comes wakes the next look.
fn first_of(mut due: Vec<Content>) -> Vec<Content> {
    due.sort_by_key(|content| content.wanted.size);
    due.truncate(AT_ONCE);
    due
}

/// Failed files wait; what a process that died was fetching is taken up again.
fn is_due(content: &Content, now: Timestamp) -> bool {
    match content.state {
        ContentState::Failed(_) => content.changed_at.is_none_or(|at| now.duration_since(at) >= RETRY),
        _ => true,
    }
}

async fn fetch_one(
    ctx: &Context,
    fetchers: &Fetchers,
    room: Option<&Room>,
    content: Content,
) -> Result<bool, StoreError> {
    let wanted = content.wanted;
    let state = if is_here(ctx, wanted.digest).await {
        ContentState::Present
    } else {
        match fetch_into(ctx, fetchers, room, &wanted).await {
            Ok(()) => ContentState::Present,
            Err(error) => {
                let error = format!("{}: {}", wanted.url, chain(&error));
                tracing::warn!(update = %wanted.update, error, "file not fetched");
                ContentState::Failed(error)
            }
        }
    };
    let here = state == ContentState::Present;
    ctx.store.set_content_state(wanted.digest, state, ctx.clock.now()).await?;
    ctx.content_progress.send_modify(|version| *version += 1);
    Ok(here)
}

/// Fetches a file where there is room for it.
async fn fetch_into(
    ctx: &Context,
    fetchers: &Fetchers,
    room: Option<&Room>,
    wanted: &patchtide_store::content::WantedContent,
) -> Result<(), ContentError> {
    let Some(room) = room else { return fetch_file(ctx, fetchers, wanted).await };
    if !room.take(wanted.size) {
        return Err(ContentError::Full { size: wanted.size, limit: room.limit() });
    }
    let fetched = fetch_file(ctx, fetchers, wanted).await;
    if fetched.is_err() {
        room.give_back(wanted.size);
    }
    fetched
}

/// Whether the file is here already, left by a process that ended, or doubted by a distribution point: its bytes decide.
async fn is_here(ctx: &Context, digest: Digest) -> bool {
    if !ctx.library.contains(digest) {
        return false;
    }
    let library = ctx.library.clone();
    let read = tokio::task::spawn_blocking(move || library.is_sound(digest));
    match read.await {
        Ok(Ok(())) => true,
        Ok(Err(damage)) => {
            tracing::error!(%digest, %damage, "a file of the site's library is damaged; it is fetched again");
            ctx.metrics.damaged();
            let told = ctx.store.content_damaged(None, digest, &damage.to_string(), ctx.clock.now()).await;
            if let Err(error) = told {
                tracing::warn!(error = %chain(&error), "that it was damaged is not kept");
            }
            // The fetched file takes its place by a rename.
            false
        }
        Err(_) => false,
    }
}

/// Where it is kept since when nothing refers to a file.
const ORPHANS: &str = "orphaned-content";

/// Since when nothing refers to each of these.
type Orphans = BTreeMap<Digest, Timestamp>;

/// Deletes files that no package and no line refers to, when they have been so for the time that the Site gives, and what
/// is known of them. Since when is kept in the site database: a process that is started anew every night collects too.
pub async fn collect(ctx: &Context) -> Result<usize, StoreError> {
    let now = ctx.clock.now();
    let kept = kept(ctx).await?;
    let library = ctx.library.clone();
    let list = move || -> (BTreeSet<Digest>, Vec<Digest>) {
        let files = library.iter().map(|all| all.map(|(digest, _)| digest).collect());
        (files.unwrap_or_default(), library.partials().unwrap_or_default())
    };
    let listed = tokio::task::spawn_blocking(list).await.map_err(|_| StoreError::Closed)?;
    let (mut all, partials) = listed;
    all.extend(partials.iter().copied());
    all.extend(ctx.store.content_present().await?.into_keys());
    all.extend(ctx.store.content_missing().await?.into_iter().map(|content| content.wanted.digest));
    let age = site::in_force(ctx).and_then(|site| site.spec.retention.orphaned_content.seconds().ok());
    let age = SignedDuration::from_secs(age.unwrap_or(86_400));
    let text = ctx.store.get_value(ORPHANS).await?.unwrap_or_default();
    let known: Orphans = serde_json::from_str(&text).unwrap_or_default();
    let (mut orphans, mut due) = judge(&known, all, &kept, now, age);
    if !due.is_empty() {
        // Once more, as late as can be: what a package has just come to refer to stays.
        let still = self::kept(ctx).await?;
        due.retain(|digest| !still.contains(digest));
        orphans.retain(|digest, _| !due.contains(digest));
        // First the word, then the deed: a file that is said to be here must be here.
        ctx.store.forget_content(&due).await?;
        for digest in &due {
            if let Err(error) = ctx.library.remove(*digest).and_then(|_| ctx.library.forget_partial(*digest))
            {
                tracing::warn!(error = %chain(&error), %digest, "content that nothing refers to was not deleted");
            }
        }
        tracing::info!(files = due.len(), "content that nothing refers to is deleted");
    }
    if orphans != known
        && let Ok(text) = serde_json::to_string(&orphans)
    {
        ctx.store.set_value(ORPHANS, &text).await?;
    }
    Ok(due.len())
}

/// What something refers to: packages, lines, distribution points.
async fn kept(ctx: &Context) -> Result<BTreeSet<Digest>, StoreError> {
    let mut kept = referenced(ctx).await?;
    kept.extend(ctx.store.lines().await?.into_iter().filter_map(|line| Some(line.catalogue?.digest)));
    for point in ctx.caches.distribution_points.names() {
        if let Ok(point) = patchtide_model::ObjectName::new(point) {
            kept.extend(ctx.store.dp_wanted(&point).await?);
        }
    }
    Ok(kept)
}

/// Since when nothing refers to each of `all`, and those that have been so for `age`. Pure.
fn judge(
    known: &Orphans,
    all: BTreeSet<Digest>,
    kept: &BTreeSet<Digest>,
    now: Timestamp,
    age: SignedDuration,
) -> (Orphans, BTreeSet<Digest>) {
    let loose = all.into_iter().filter(|digest| !kept.contains(digest));
    // A time of before a clock was set back would never come.
    let orphans: Orphans =
        loose.map(|digest| (digest, known.get(&digest).copied().unwrap_or(now).min(now))).collect();
    let due = orphans.iter().filter(|(_, since)| now.duration_since(**since) >= age);
    let due = due.map(|(digest, _)| *digest).collect();
    (orphans, due)
}

#[cfg(test)]
mod tests {
    use patchtide_store::content::WantedContent;

    use super::*;

    #[test]
    fn a_failed_file_waits_before_it_is_tried_again() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let content = |state| Content {
            wanted: WantedContent {
                digest: Digest::of(b"x"),
                size: 1,
                url: "http://archive.example/x".into(),
                update: "a/b/c:d@1".parse().unwrap(),
            },
            state,
            changed_at: Some(at("2026-07-01T00:00:00Z")),
        };
        let failed = content(ContentState::Failed("away".into()));
        assert!(!is_due(&failed, at("2026-07-01T00:00:59Z")));
        assert!(is_due(&failed, at("2026-07-01T00:01:00Z")));
        assert!(is_due(&content(ContentState::Fetching), at("2026-07-01T00:00:01Z")));
    }

    #[test]
    fn small_files_come_first_and_a_few_at_a_time() {
        let content = |size: u64| Content {
            wanted: WantedContent {
                digest: Digest::of(&size.to_le_bytes()),
                size,
                url: "http://archive.example/x".into(),
                update: "a/b/c:d@1".parse().unwrap(),
            },
            state: ContentState::Wanted,
            changed_at: None,
        };
        let taken = first_of((0..100).map(|n| content(n * 37 % 101)).collect());
        assert_eq!(taken.len(), AT_ONCE);
        assert!(taken.is_sorted_by_key(|content| content.wanted.size));
        assert_eq!(taken[1].wanted.size, 1);
    }

    #[test]
    fn what_nothing_refers_to_goes_after_its_time_also_across_restarts() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|text| Digest::of(text.as_bytes()));
        let (age, all) = (SignedDuration::from_hours(24), BTreeSet::from([a, b, c]));
        let first = at("2026-07-01T00:00:00Z");
        let (known, due) = judge(&Orphans::new(), all.clone(), &[c].into(), first, age);
        assert_eq!((known.clone(), due.len()), ([(a, first), (b, first)].into(), 0));
        // As it is read back by another process; b is referred to for a while.
        let known: Orphans = serde_json::from_str(&serde_json::to_string(&known).unwrap()).unwrap();
        let noon = at("2026-07-01T12:00:00Z");
        let (known, due) = judge(&known, all.clone(), &[b, c].into(), noon, age);
        assert_eq!((known.clone(), due.len()), ([(a, first)].into(), 0));
        let (known, due) = judge(&known, all.clone(), &[c].into(), at("2026-07-02T00:00:00Z"), age);
        assert_eq!(due, [a].into());
        assert_eq!(known[&b], at("2026-07-02T00:00:00Z"));
        // The clock was a year ahead.
        let ahead = Orphans::from([(a, at("2027-07-01T00:00:00Z"))]);
        assert_eq!(judge(&ahead, all, &[].into(), first, age).0[&a], first);
    }
}
