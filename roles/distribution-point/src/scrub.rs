//! Reading every file again and again: damage is found here and not by a client. Clients compare hashes in any case; this is
//! so that one copy that went bad is not served for ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use patchtide_store::content::Scrub;

use crate::{DistributionPoint, sync::SyncError};

/// How often it is looked whether a round is due, and how long is waited after a failure.
const LOOK: Duration = Duration::from_mins(1);

impl DistributionPoint {
    /// Never ends.
    pub(crate) async fn scrub(&self) {
        loop {
            if let Err(error) = self.scrub_once().await {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "the files of the distribution point are not checked: trying again");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Reads all files that count as present, when that is due. Returns whether it was.
    pub async fn scrub_once(&self) -> Result<bool, SyncError> {
        let names = self.names().await?;
        let mut files = BTreeMap::new();
        for name in &names {
            for (digest, file) in self.store.dp_files(name).await.map_err(SyncError::Store)? {
                if let (true, Some(size)) = (file.present, file.size) {
                    files.insert(digest, size);
                }
            }
        }
        if files.is_empty() {
            return Ok(false);
        }
        let places = names.into_iter().map(Some).collect();
        let library = self.shelf.library().clone();
        let begun = Scrub::begin(self.store.clone(), library, places, files, self.pace, (self.clock)()).await;
        let Some(mut round) = begun.map_err(SyncError::Store)? else { return Ok(false) };
        loop {
            self.metrics.check_left.set(i64::try_from(round.left()).unwrap_or(i64::MAX));
            let next = round.next((self.clock)()).await.map_err(SyncError::Store)?;
            let Some((digest, size, damage)) = next else { break };
            self.metrics.checked.inc_by(size);
            let Some(damage) = damage else { continue };
            let mut wanted = BTreeSet::new();
            for name in self.names().await? {
                let files = self.store.dp_files(&name).await.map_err(SyncError::Store)?;
                if files.get(&digest).is_some_and(|file| file.present) {
                    wanted.insert(name);
                }
            }
            // Nobody wants it any more, or a round has seen to it: nothing was damaged.
            if !wanted.is_empty() {
                // The site database wakes the round that takes it anew.
                self.discard(digest, &wanted, &damage).await?;
            }
        }
        let now = (self.clock)();
        round.complete(now).await.map_err(SyncError::Store)?;
        self.metrics.check_completed.set(now.as_second());
        tracing::info!("every file of the distribution point was read");
        Ok(true)
    }
}
