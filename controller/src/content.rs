//! Fetches the files of packages into the site's library, each once, verified while it streams; deletes what nothing
//! refers to any more.

mod room;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use patchtide_catalog::http::{Expected, FetchError, Fetcher, HttpOptions};
use patchtide_crds::SoftwareUpdatePoint;
use patchtide_model::Digest;
use patchtide_store::{
    StoreError,
    content::{Content, ContentState},
    library::{Incoming, LibraryError},
};
use tokio::time::{Instant, sleep, timeout};

use self::room::Room;
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
    #[error("the proxy {0:?} of the software update point is not a URL: correct proxy.url")]
    Proxy(String),
    #[error("no HTTP client can be made")]
    Client(#[source] FetchError),
    #[error("the file could not be fetched: check the source's url and the network")]
    Fetch(#[source] FetchError),
    #[error(
        "there is no room for {size} bytes in the content store of {limit}: raise Site.spec.limits.contentStore, or take updates out of packages"
    )]
    Full { size: u64, limit: u64 },
    #[error("the content store could not be looked through: check the rights of the data folder")]
    Library(#[source] LibraryError),
    #[error("the file could not be kept: check the space and rights of the data folder")]
    Keep(#[source] LibraryError),
}

/// Runs until the task is dropped.
pub async fn run(ctx: Arc<Context>) {
    let mut changes = ctx.store.changes();
    let fetchers = Fetchers::default();
    let mut orphans = BTreeMap::new();
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

async fn fetch_file(
    ctx: &Context,
    fetchers: &Fetchers,
    wanted: &patchtide_store::content::WantedContent,
) -> Result<(), ContentError> {
    let url = url::Url::parse(&wanted.url).map_err(|_| ContentError::Url(wanted.url.clone()))?;
    let points = ctx.caches.software_update_points.all();
    let fetcher = fetchers.through(proxy_of(&points, &wanted.url))?;
    let mut out = Out(ctx.library.writer().map_err(ContentError::Keep)?);
    let expected = Expected { size: wanted.size, sha256: wanted.digest };
    fetcher.expected(&url, expected, &mut out, &|_| {}).await.map_err(ContentError::Fetch)?;
    out.0.finish(wanted.digest, wanted.size).map_err(ContentError::Keep)?;
    Ok(())
}

/// The proxy of the software update point whose archive has the file; a mirror of a package's own is reached without.
fn proxy_of(points: &[Arc<SoftwareUpdatePoint>], url: &str) -> Option<String> {
    points.iter().find_map(|point| {
        let proxy = point.spec.proxy.as_ref()?;
        let mut archives = point.spec.sources.iter().filter_map(|source| source.apt.as_ref());
        let has = |root: &str| {
            url.strip_prefix(root.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
        };
        archives.any(|apt| has(&apt.url)).then(|| proxy.url.clone())
    })
}

/// One HTTP client for each proxy in use.
#[derive(Default)]
struct Fetchers(Mutex<BTreeMap<Option<String>, Fetcher>>);

impl Fetchers {
    fn through(&self, proxy: Option<String>) -> Result<Fetcher, ContentError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fetcher) = known.get(&proxy) {
            return Ok(fetcher.clone());
        }
        let url = proxy.as_ref().map(|text| text.parse().map_err(|_| ContentError::Proxy(text.clone())));
        let options = HttpOptions { proxy: url.transpose()?, ..HttpOptions::default() };
        let fetcher = Fetcher::new(options).map_err(ContentError::Client)?;
        known.insert(proxy, fetcher.clone());
        Ok(fetcher)
    }
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
    let age = site::in_force(ctx).and_then(|site| site.spec.retention.orphaned_content.seconds().ok());
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
    fn files_come_through_the_proxy_of_their_archive() {
        let yaml = "apiVersion: patchtide.dev/v1alpha1\nkind: SoftwareUpdatePoint\nmetadata: {name: d}\nspec: {proxy: {url: 'http://proxy.example:3128'}, sources: [{name: d, apt: {url: 'http://archive.example/debian/', suites: [s], components: [main], architectures: [amd64], keyring: {keyringFile: /k}}}]}\n";
        let points = [Arc::new(serde_saphyr::from_str::<SoftwareUpdatePoint>(yaml).unwrap())];
        let of = |url| proxy_of(&points, url);
        assert_eq!(
            of("http://archive.example/debian/pool/x.deb").as_deref(),
            Some("http://proxy.example:3128")
        );
        assert_eq!(of("http://archive.example/debian-security/pool/x.deb"), None);
        assert_eq!(of("http://mirror.example/debian/pool/x.deb"), None);
        let fetchers = Fetchers::default();
        assert!(fetchers.through(Some("http://proxy.example:3128".to_owned())).is_ok());
        assert!(matches!(fetchers.through(Some("::".to_owned())), Err(ContentError::Proxy(_))));
    }

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
