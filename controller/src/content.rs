//! Fetches the files of packages into the site's library, each once, verified while it streams; deletes what nothing
//! refers to any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use patchtide_catalog::http::{Expected, FetchError, Fetcher, HttpOptions};
use patchtide_model::Digest;
use patchtide_store::{
    StoreError,
    content::{Content, ContentState},
    library::{Incoming, LibraryError},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    context::Context,
    error::chain,
    kinds::deployment_package::{PACKAGE_CONTENT, plan},
};

/// Files fetched at the same time.
const PARALLEL: usize = 4;
/// Pause before a file that failed is tried again.
const RETRY: SignedDuration = SignedDuration::from_mins(1);
/// The loop looks this often although nothing woke it.
const PERIOD: Duration = Duration::from_secs(20);
/// What nothing refers to is looked for this often.
const COLLECT: Duration = Duration::from_mins(10);

/// Why a file is not here.
#[derive(Debug, thiserror::Error)]
enum ContentError {
    #[error("{0:?} is not a URL: correct the source's url")]
    Url(String),
    #[error("the file could not be fetched: check the source's url and the network")]
    Fetch(#[source] FetchError),
    #[error("the file could not be kept: check the space and rights of the data folder")]
    Keep(#[source] LibraryError),
}

/// Runs until the task is dropped.
pub async fn run(ctx: Arc<Context>) {
    let mut changes = ctx.store.changes();
    let fetcher = match Fetcher::new(HttpOptions::default()) {
        Ok(fetcher) => fetcher,
        Err(error) => {
            tracing::error!(error = %chain(&error), "content cannot be fetched: no HTTP client");
            return;
        }
    };
    let mut orphans = BTreeMap::new();
    let mut collected = Instant::now();
    loop {
        changes.mark_unchanged();
        match fetch_all(&ctx, &fetcher).await {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "content fetched"),
            Err(error) => tracing::warn!(error = %chain(&error), "content not fetched; tried again"),
        }
        if collected.elapsed() > COLLECT {
            collected = Instant::now();
            if let Err(error) = collect(&ctx, &mut orphans).await {
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

async fn fetch_all(ctx: &Context, fetcher: &Fetcher) -> Result<usize, StoreError> {
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
    let results: Vec<Result<bool, StoreError>> = stream::iter(due)
        .map(|content| fetch_one(ctx, fetcher, content))
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    let mut files = 0;
    for result in results {
        files += usize::from(result?);
    }
    Ok(files)
}

/// Failed files wait; what a process that died was fetching is taken up again.
fn is_due(content: &Content, now: Timestamp) -> bool {
    match content.state {
        ContentState::Failed(_) => content.changed_at.is_none_or(|at| now.duration_since(at) >= RETRY),
        _ => true,
    }
}

async fn fetch_one(ctx: &Context, fetcher: &Fetcher, content: Content) -> Result<bool, StoreError> {
    let wanted = content.wanted;
    let state = if ctx.library.contains(wanted.digest) {
        ContentState::Present
    } else {
        match fetch_file(ctx, fetcher, &wanted).await {
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

async fn fetch_file(
    ctx: &Context,
    fetcher: &Fetcher,
    wanted: &patchtide_store::content::WantedContent,
) -> Result<(), ContentError> {
    let url = url::Url::parse(&wanted.url).map_err(|_| ContentError::Url(wanted.url.clone()))?;
    let mut out = Out(ctx.library.writer().map_err(ContentError::Keep)?);
    let expected = Expected { size: wanted.size, sha256: wanted.digest };
    fetcher.expected(&url, expected, &mut out, &|_| {}).await.map_err(ContentError::Fetch)?;
    out.0.finish(wanted.digest, wanted.size).map_err(ContentError::Keep)?;
    Ok(())
}

/// A library's incoming file as something to write to.
struct Out(Incoming);

impl io::Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Deletes files that no package and no line refers to, when they have been so for the time that the Site gives.
/// `orphans` remembers since when; a restart begins anew, on the safe side.
async fn collect(ctx: &Context, orphans: &mut BTreeMap<Digest, Timestamp>) -> Result<(), StoreError> {
    let now = ctx.clock.now();
    let mut kept = referenced(ctx).await?;
    kept.extend(ctx.store.lines().await?.into_iter().filter_map(|line| Some(line.catalogue?.digest)));
    for point in ctx.caches.distribution_points.names() {
        if let Ok(point) = patchtide_model::ObjectName::new(point) {
            kept.extend(ctx.store.dp_wanted(&point).await?);
        }
    }
    let age =
        ctx.caches.sites.all().first().and_then(|site| site.spec.retention.orphaned_content.seconds().ok());
    let age = SignedDuration::from_secs(age.unwrap_or(86_400));
    let Ok(all) = ctx.library.iter() else {
        return Ok(());
    };
    let loose: BTreeSet<Digest> =
        all.map(|(digest, _)| digest).filter(|digest| !kept.contains(digest)).collect();
    orphans.retain(|digest, _| loose.contains(digest));
    for digest in loose {
        let since = *orphans.entry(digest).or_insert(now);
        if now.duration_since(since) < age {
            continue;
        }
        // First the word, then the deed: a file that is said to be here must be here.
        if ctx.store.content(digest).await?.is_some() {
            ctx.store.set_content_state(digest, ContentState::Wanted, now).await?;
        }
        if let Err(error) = ctx.library.remove(digest) {
            tracing::warn!(error = %chain(&error), %digest, "content that nothing refers to was not deleted");
        }
    }
    Ok(())
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
}
