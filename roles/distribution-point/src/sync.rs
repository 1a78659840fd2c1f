//! Keeping the library equal to what the site wants there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use patchtide_endpoint::CancellationToken;
use patchtide_model::{Digest, ObjectName};
use patchtide_store::{
    StoreError,
    library::{Damage, LibraryError},
};

use crate::{DistributionPoint, Names};

/// Why a round did not finish; the next one starts over.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The site database.
    #[error("the site database does not say what is wanted here")]
    Store(#[source] StoreError),
    /// The library.
    #[error("the library cannot be listed")]
    Library(#[source] LibraryError),
    /// A blocking task ended early.
    #[error("a task of the distribution point was stopped")]
    Task(#[source] tokio::task::JoinError),
}

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    /// Files taken over.
    pub imported: u64,
    /// Files removed.
    pub removed: u64,
    /// Wanted files that are still missing.
    pub missing: u64,
    /// Files that were not what they should be.
    pub damaged: u64,
}

/// Longest time between two rounds, so that what was missed heals, and a file that somebody removed.
const FLOOR: Duration = Duration::from_mins(5);
/// Shortest, while files are missing that the site is still fetching.
const PACE: Duration = Duration::from_millis(500);
/// The site is asked to look after one file so often at most.
const DOUBT: Duration = Duration::from_hours(1);

impl DistributionPoint {
    /// Runs rounds at every change of the site until `stop`, and reads all files again and again beside that.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.rounds(&stop) => {}
            () = self.scrub() => {}
        }
    }

    async fn rounds(&self, stop: &CancellationToken) {
        let mut changes = self.store.changes();
        let mut reported = Reported::new();
        loop {
            changes.mark_unchanged();
            match self.round(&mut reported).await {
                Ok(round) if round.imported + round.removed + round.damaged > 0 => {
                    tracing::info!(
                        imported = round.imported,
                        removed = round.removed,
                        missing = round.missing,
                        damaged = round.damaged,
                        "distribution point brought up to date"
                    );
                }
                Ok(_) => {}
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "distribution point: trying again");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PACE) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                woken = changes.changed() => if woken.is_err() { return },
                () = tokio::time::sleep(FLOOR) => {}
            }
        }
    }

    /// One round: imports what is wanted and not here as it should be, says what is here, removes what nobody wants.
    /// `reported` holds what is known to stand in the site database about each name, so that only news is written.
    pub async fn round(&self, reported: &mut Reported) -> Result<Round, SyncError> {
        let mut wanted: BTreeMap<Digest, Wanted> = BTreeMap::new();
        for name in self.names().await? {
            for (digest, file) in self.store.dp_files(&name).await.map_err(SyncError::Store)? {
                let one = wanted.entry(digest).or_default();
                one.size = one.size.or(file.size);
                if file.present {
                    // Perhaps by a process before this one: if it is not true any more, that is news too.
                    reported.entry((name.clone(), digest)).or_insert(None);
                }
                one.names.insert(name.clone());
            }
        }
        let mut round = Round::default();
        let mut bytes = 0;
        for (digest, one) in &wanted {
            let held = |name: &ObjectName| reported.get(&(name.clone(), *digest)) == Some(&None);
            let lost = match self.look(*digest, one.size).await? {
                Ok(size) => {
                    bytes += size;
                    self.say(reported, *digest, one, None).await?;
                    continue;
                }
                Err(damage) if damage != Damage::Gone || one.names.iter().any(held) => Some(damage),
                Err(_) => None,
            };
            if let Some(damage) = &lost {
                self.discard(*digest, &one.names, damage).await?;
                for name in &one.names {
                    reported.remove(&(name.clone(), *digest));
                }
                round.damaged += 1;
            }
            let state = match self.import(*digest).await? {
                Import::New(size) => {
                    bytes += size;
                    round.imported += 1;
                    None
                }
                Import::NotYet => {
                    round.missing += 1;
                    self.doubt(*digest).await?;
                    if lost.is_none() {
                        continue;
                    }
                    Some("the file is gone, and the site's library does not have it".to_owned())
                }
                Import::Damaged(error) => {
                    round.missing += 1;
                    self.doubt(*digest).await?;
                    Some(error)
                }
                Import::Failed(error) => {
                    round.missing += 1;
                    Some(error)
                }
            };
            self.say(reported, *digest, one, state).await?;
        }
        reported.retain(|(name, digest), _| wanted.get(digest).is_some_and(|one| one.names.contains(name)));
        round.removed = self.collect(wanted.keys().copied().collect()).await?;
        self.metrics.imported.inc_by(round.imported);
        self.metrics.removed.inc_by(round.removed);
        self.metrics.missing.set(round.missing.cast_signed());
        self.metrics.files.set((wanted.len() as u64 - round.missing).cast_signed());
        self.metrics.bytes.set(bytes.cast_signed());
        Ok(round)
    }

    /// Writes what is news about a file.
    async fn say(
        &self,
        reported: &mut Reported,
        digest: Digest,
        wanted: &Wanted,
        state: Option<String>,
    ) -> Result<(), SyncError> {
        for name in &wanted.names {
            let key = (name.clone(), digest);
            if reported.get(&key) == Some(&state) {
                continue;
            }
            let said = state.clone().map_or(Ok(()), Err);
            let put = self.store.set_dp_present(name, digest, said, (self.clock)());
            put.await.map_err(SyncError::Store)?;
            reported.insert(key, state.clone());
        }
        Ok(())
    }

    /// Whether a file is here with the size that it should have; its size.
    async fn look(&self, digest: Digest, size: Option<u64>) -> Result<Result<u64, Damage>, SyncError> {
        let library = self.shelf.library().clone();
        let look = move || {
            let Some(size) = size.or_else(|| library.size(digest)) else { return Err(Damage::Gone) };
            library.look(digest, size).map(|()| size)
        };
        tokio::task::spawn_blocking(look).await.map_err(SyncError::Task)
    }

    /// Takes a damaged file off the shelf, and says so before anything else is done about it.
    pub(crate) async fn discard(
        &self,
        digest: Digest,
        names: &BTreeSet<ObjectName>,
        damage: &Damage,
    ) -> Result<(), SyncError> {
        tracing::error!(%digest, %damage, "a file of the distribution point is damaged; it is taken anew");
        self.metrics.damaged.inc();
        let (files, now, detail) = (Arc::clone(&self.shelf), (self.clock)(), damage.to_string());
        for name in names {
            let put = self.store.content_damaged(Some(name), digest, &detail, now);
            put.await.map_err(SyncError::Store)?;
        }
        let remove = move || {
            let removed = files.library().remove(digest);
            files.forget(digest);
            removed
        };
        let removed = tokio::task::spawn_blocking(remove).await.map_err(SyncError::Task)?;
        removed.map(drop).map_err(SyncError::Library)
    }

    /// Has the site look after a file that it says to have; for each file once in a while.
    async fn doubt(&self, digest: Digest) -> Result<(), SyncError> {
        let now = (self.clock)();
        let doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).copied();
        if doubted.is_some_and(|at| now.duration_since(at).unsigned_abs() < DOUBT) {
            return Ok(());
        }
        if self.store.doubt_content(digest, now).await.map_err(SyncError::Store)? {
            tracing::warn!(%digest, "the site says to have a file that its library does not give");
            let mut doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
            doubted.retain(|_, at| now.duration_since(*at).unsigned_abs() < DOUBT);
            doubted.insert(digest, now);
        }
        Ok(())
    }

    pub(crate) async fn names(&self) -> Result<BTreeSet<ObjectName>, SyncError> {
        match &self.names {
            Names::These(names) => Ok(names.clone()),
            Names::All => {
                let rows = self.store.objects("DistributionPoint").await.map_err(SyncError::Store)?;
                Ok(rows.into_iter().filter_map(|row| row.name.parse().ok()).collect())
            }
        }
    }

    async fn import(&self, digest: Digest) -> Result<Import, SyncError> {
        let (library, source) = (self.shelf.library().clone(), self.source.clone());
        let import = move || {
            if !source.contains(digest) {
                return Import::NotYet;
            }
            match library.import(&source, digest) {
                Ok(()) => Import::New(library.size(digest).unwrap_or_default()),
                Err(error @ LibraryError::Damaged { .. }) => {
                    Import::Damaged(format!("in the site's library {}", describe(&error)))
                }
                Err(error) => Import::Failed(describe(&error)),
            }
        };
        tokio::task::spawn_blocking(import).await.map_err(SyncError::Task)
    }

    /// Removes what is not wanted. Runs after the imports of the same round, so that a file that moves from one package
    /// to another is never missing in between.
    async fn collect(&self, wanted: BTreeSet<Digest>) -> Result<u64, SyncError> {
        let kept = Arc::clone(&self.shelf);
        let collect = move || {
            let mut removed = 0;
            let here: Vec<Digest> = kept.library().iter()?.map(|(digest, _)| digest).collect();
            for digest in here {
                if !wanted.contains(&digest) && kept.library().remove(digest)? {
                    kept.forget(digest);
                    removed += 1;
                }
            }
            Ok(removed)
        };
        let removed = tokio::task::spawn_blocking(collect).await.map_err(SyncError::Task)?;
        removed.map_err(SyncError::Library)
    }
}

/// What is known to stand in the site database about a file of each name: none when it is there, or why it is not.
pub type Reported = BTreeMap<(ObjectName, Digest), Option<String>>;

/// A file that is to be here.
#[derive(Default)]
struct Wanted {
    /// Under which names.
    names: BTreeSet<ObjectName>,
    /// Its bytes, when the site knows them.
    size: Option<u64>,
}

enum Import {
    /// Is here now.
    New(u64),
    /// The site does not have it yet.
    NotYet,
    /// The site's is damaged.
    Damaged(String),
    Failed(String),
}

fn describe(error: &LibraryError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
