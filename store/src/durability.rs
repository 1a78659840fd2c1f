//! State messages that are committed to SQLite become durable here, outside of the writing connection: while one commit's
//! bytes go to the disk, the next one is made. One `fdatasync` serves every commit that waits for it.
//!
//! SQLite appends these commits to its write-ahead log without a sync (`synchronous=NORMAL`: it syncs around checkpoints, so
//! that the database stays whole whatever happens); after a loss of power the log's whole frames up to the last sync are
//! there, and nothing is acknowledged before the sync that covers it. Every other write is synced by its own commit
//! (`FULL`), and with it what came before in the log: what was decided by a state message is never kept without it. A sync
//! that fails says nothing about what it leaves on the disk, and the next one would not know: from then on nothing is
//! written until the process starts anew and reads what is there.
//!
//! That goes for SQLite's own syncs too ([`Durability::fail`]), and then for checkpoints: one that followed a sync of the log that
//! failed would bring the database further than what is left of the log, and the log's old pages would lie over new ones. Linux
//! tells a failed write to every open file once, so the log is kept open: what another one was told of is told here too.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::Instant,
};

use tokio::sync::oneshot;

use crate::metrics::Metrics;

type Reply = oneshot::Sender<Result<(), Arc<io::Error>>>;

/// Waits for the disk. Its thread ends with it.
#[derive(Debug)]
pub(crate) struct Durability {
    requests: mpsc::Sender<Reply>,
    failed: Arc<OnceLock<Arc<io::Error>>>,
}

impl Durability {
    /// For the database file at `path`.
    pub(crate) fn start(path: &Path, metrics: Metrics) -> io::Result<Self> {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let (log, path) = (PathBuf::from(log), path.to_owned());
        let mut open: Option<File> = None;
        let mut sync = move || {
            let there = match fs::metadata(&log) {
                Ok(there) => there,
                // The last connection of all processes was closed meanwhile: SQLite moved everything into the database.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    open = None;
                    return File::open(&path)?.sync_data();
                }
                Err(error) => return Err(error),
            };
            let same = |known: &File| {
                known.metadata().is_ok_and(|known| (known.dev(), known.ino()) == (there.dev(), there.ino()))
            };
            match &open {
                Some(known) if same(known) => known.sync_data(),
                _ => open.insert(File::open(&log)?).sync_data(),
            }
        };
        Self::with(move || {
            let began = Instant::now();
            let synced = sync();
            match &synced {
                Ok(()) => metrics.synced(began),
                Err(_) => metrics.failed("sync"),
            }
            synced
        })
    }

    fn with(mut sync: impl FnMut() -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (requests, received) = mpsc::channel::<Reply>();
        let failed = Arc::new(OnceLock::new());
        let note = Arc::clone(&failed);
        thread::Builder::new().name("durability".to_owned()).spawn(move || {
            while let Ok(first) = received.recv() {
                // Whoever asked until now has committed before this sync begins.
                let waiting: Vec<Reply> = std::iter::once(first).chain(received.try_iter()).collect();
                let result = match note.get() {
                    Some(error) => Err(Arc::clone(error)),
                    None => sync().map_err(Arc::new),
                };
                if let Err(error) = &result
                    && note.set(Arc::clone(error)).is_ok()
                {
                    tracing::error!(%error, "the disk did not take the site database's log: restart the process");
                }
                for reply in waiting {
                    let _ = reply.send(result.clone());
                }
            }
        })?;
        Ok(Self { requests, failed })
    }

    /// Returns when everything that is committed now is on the disk.
    pub(crate) async fn wait(&self) -> Result<(), Arc<io::Error>> {
        let gone = || Arc::new(io::Error::other("the thread that waits for the disk has ended"));
        let (reply, answer) = oneshot::channel();
        self.requests.send(reply).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// A sync that somebody else made has failed.
    pub(crate) fn fail(&self, error: io::Error) {
        if self.failed.set(Arc::new(error)).is_ok() {
            tracing::error!("the disk did not take the site database: restart the process");
        }
    }

    /// Why nothing can be made durable any more.
    pub(crate) fn failure(&self) -> Option<Arc<io::Error>> {
        self.failed.get().map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use super::*;

    #[tokio::test]
    async fn many_that_wait_share_a_sync_that_began_after_they_asked() {
        let (starts, ended) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (one, other) = (Arc::clone(&starts), Arc::clone(&ended));
        let durability = Durability::with(move || {
            one.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(100));
            other.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
        let durability = Arc::new(durability);
        let first = tokio::spawn({
            let durability = Arc::clone(&durability);
            async move { durability.wait().await }
        });
        while starts.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut others = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (durability, ended) = (Arc::clone(&durability), Arc::clone(&ended));
            others.spawn(async move {
                durability.wait().await.unwrap();
                assert!(ended.load(Ordering::SeqCst) >= 2, "the first one began before they asked");
            });
        }
        first.await.unwrap().unwrap();
        others.join_all().await;
        assert!(ended.load(Ordering::SeqCst) <= 3, "not one for each");
    }

    #[tokio::test]
    async fn after_a_sync_that_failed_nothing_is_durable() {
        let mut count = 0;
        let durability = Durability::with(move || {
            count += 1;
            if count == 2 { Err(io::Error::other("EIO")) } else { Ok(()) }
        })
        .unwrap();
        durability.wait().await.unwrap();
        assert!(durability.failure().is_none());
        for _ in 0..2 {
            assert_eq!(durability.wait().await.unwrap_err().to_string(), "EIO");
        }
        assert!(durability.failure().is_some());
    }

    #[tokio::test]
    async fn a_log_that_is_gone_is_in_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.db");
        let start = |path: &Path| Durability::start(path, Metrics::default()).unwrap();
        std::fs::write(&path, "x").unwrap();
        start(&path).wait().await.unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(start(&path).wait().await.is_err());
    }
}
