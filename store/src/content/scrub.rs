//! Reading all files of a library again and again, slowly: what the disk changes by itself is found before a client does.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{Digest, ObjectName};

use super::CheckState;
use crate::{
    Result, SiteStore, StoreError,
    library::{Damage, Library},
};

/// How fast, how often.
#[derive(Debug, Clone, Copy)]
pub struct ScrubPace {
    /// Bytes read in a second at most. Default 16 MiB.
    pub rate: u64,
    /// Time from the end of one round to the begin of the next. Default 7 days.
    pub period: SignedDuration,
    /// How often the position is kept. Default 1 minute.
    pub keep: SignedDuration,
}

impl Default for ScrubPace {
    fn default() -> Self {
        Self {
            rate: 16 * 1024 * 1024,
            period: SignedDuration::from_hours(7 * 24),
            keep: SignedDuration::from_mins(1),
        }
    }
}

/// A round through the files of a library, in the order of their digests. Its position is kept in the site database: a
/// process that is started anew goes on where the last one was.
#[derive(Debug)]
pub struct Scrub {
    store: SiteStore,
    library: Library,
    places: Vec<Option<ObjectName>>,
    pace: ScrubPace,
    left: BTreeMap<Digest, u64>,
    started_at: Timestamp,
    kept_at: Timestamp,
    stop: Arc<AtomicBool>,
}

impl Scrub {
    /// Begins a round over `files`, or goes on with the last; nothing when the next one is not due. `places` are the names
    /// under which its state is kept; none is the site's library.
    pub async fn begin(
        store: SiteStore,
        library: Library,
        places: Vec<Option<ObjectName>>,
        mut files: BTreeMap<Digest, u64>,
        pace: ScrubPace,
        now: Timestamp,
    ) -> Result<Option<Self>> {
        let Some(first) = places.first() else { return Ok(None) };
        let known = store.content_check(first.as_ref()).await?;
        let mut started_at = now;
        if let Some(known) = known {
            match known.position {
                Some(position) => {
                    started_at = known.started_at;
                    files = files.split_off(&position);
                }
                None if known
                    .completed_at
                    .is_some_and(|at| at <= now && now.duration_since(at) < pace.period) =>
                {
                    return Ok(None);
                }
                None => {}
            }
        }
        let stop = Arc::default();
        Ok(Some(Self { store, library, places, pace, left: files, started_at, kept_at: now, stop }))
    }

    /// Files that are still to be read.
    pub fn left(&self) -> usize {
        self.left.len()
    }

    /// Reads the next file: its digest, its bytes and what is wrong with it. Nothing at the end of the round. Dropped, it
    /// stops reading.
    pub async fn next(&mut self, now: Timestamp) -> Result<Option<(Digest, u64, Option<Damage>)>> {
        let Some((digest, size)) = self.left.pop_first() else { return Ok(None) };
        if now < self.kept_at || now.duration_since(self.kept_at) >= self.pace.keep {
            self.kept_at = now;
            self.keep(Some(digest), None).await?;
        }
        let (library, rate, stop) = (self.library.clone(), self.pace.rate.max(1), Arc::clone(&self.stop));
        let read = tokio::task::spawn_blocking(move || {
            library.look(digest, size)?;
            let (begin, mut bytes) = (Instant::now(), 0_u64);
            let verdict = library.verify(digest, |read| {
                bytes += read as u64;
                let due = Duration::from_micros(bytes.saturating_mul(1_000_000) / rate);
                std::thread::sleep(due.saturating_sub(begin.elapsed()));
                if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            match verdict {
                ControlFlow::Continue(verdict) => verdict,
                ControlFlow::Break(()) => Ok(()),
            }
        });
        let verdict = read.await.map_err(|_| StoreError::Closed)?;
        Ok(Some((digest, size, verdict.err())))
    }

    /// The round is at its end.
    pub async fn complete(self, now: Timestamp) -> Result<()> {
        self.keep(None, Some(now)).await
    }

    /// Files before `position` are read; that one is read again by who goes on.
    async fn keep(&self, position: Option<Digest>, completed_at: Option<Timestamp>) -> Result<()> {
        for place in &self.places {
            let before = match completed_at {
                Some(at) => Some(at),
                None => self.store.content_check(place.as_ref()).await?.and_then(|known| known.completed_at),
            };
            let check = CheckState { position, started_at: self.started_at, completed_at: before };
            self.store.set_content_check(place.as_ref(), &check).await?;
        }
        Ok(())
    }
}

impl Drop for Scrub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
