//! Keeping the library equal to what the site wants there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use patchtide_endpoint::CancellationToken;
use patchtide_model::{Digest, ObjectName};
use patchtide_store::{StoreError, library::LibraryError};

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
}

/// Longest time between two rounds, so that what was missed heals, and a file that somebody removed.
const FLOOR: Duration = Duration::from_mins(5);
/// Shortest, while files are missing that the site is still fetching.
const PACE: Duration = Duration::from_millis(500);

impl DistributionPoint {
    /// Runs rounds at every change of the site until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut changes = self.store.changes();
        let mut reported = BTreeMap::new();
        loop {
            changes.mark_unchanged();
            match self.round(&mut reported).await {
                Ok(round) if round.imported + round.removed > 0 => {
                    tracing::info!(
                        imported = round.imported,
                        removed = round.removed,
                        missing = round.missing,
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

    /// One round: imports what is wanted and not here, says what is here, removes what nobody wants. `reported` holds what
    /// this process has said about each name, so that only news is written.
    pub async fn round(
        &self,
        reported: &mut BTreeMap<(ObjectName, Digest), Option<String>>,
    ) -> Result<Round, SyncError> {
        let mut wanted: BTreeMap<Digest, BTreeSet<ObjectName>> = BTreeMap::new();
        for name in self.names().await? {
            for digest in self.store.dp_wanted(&name).await.map_err(SyncError::Store)? {
                wanted.entry(digest).or_default().insert(name.clone());
            }
        }
        let mut round = Round::default();
        let mut bytes = 0;
        for (digest, names) in &wanted {
            let state = match self.import(*digest).await? {
                Import::Here(size) => {
                    bytes += size;
                    None
                }
                Import::New(size) => {
                    bytes += size;
                    round.imported += 1;
                    None
                }
                Import::NotYet => {
                    round.missing += 1;
                    // It was here: what was said about it is not true any more.
                    let gone = |name: &ObjectName| reported.get(&(name.clone(), *digest)) == Some(&None);
                    if !names.iter().any(gone) {
                        continue;
                    }
                    self.shelf.forget(*digest);
                    Some("the file is gone, and the site's library does not have it".to_owned())
                }
                Import::Failed(error) => {
                    round.missing += 1;
                    Some(error)
                }
            };
            for name in names {
                let key = (name.clone(), *digest);
                if reported.get(&key) == Some(&state) {
                    continue;
                }
                let said = state.clone().map_or(Ok(()), Err);
                self.store
                    .set_dp_present(name, *digest, said, (self.clock)())
                    .await
                    .map_err(SyncError::Store)?;
                reported.insert(key, state.clone());
            }
        }
        reported.retain(|(name, digest), _| wanted.get(digest).is_some_and(|names| names.contains(name)));
        round.removed = self.collect(wanted.keys().copied().collect()).await?;
        self.metrics.imported.inc_by(round.imported);
        self.metrics.removed.inc_by(round.removed);
        self.metrics.missing.set(round.missing.cast_signed());
        self.metrics.files.set((wanted.len() as u64 - round.missing).cast_signed());
        self.metrics.bytes.set(bytes.cast_signed());
        Ok(round)
    }

    async fn names(&self) -> Result<BTreeSet<ObjectName>, SyncError> {
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
            if let Some(size) = library.size(digest) {
                return Import::Here(size);
            }
            if !source.contains(digest) {
                return Import::NotYet;
            }
            match library.import(&source, digest) {
                Ok(()) => Import::New(library.size(digest).unwrap_or_default()),
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

enum Import {
    /// Was here, so many bytes.
    Here(u64),
    /// Is here now.
    New(u64),
    /// The site does not have it yet.
    NotYet,
    Failed(String),
}

fn describe(error: &LibraryError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
