//! A disk that can fail: a file system in user space, in the memory of this process. It keeps a journal of every write and
//! every sync, and so it can say what a power cut at any moment would have left of it; it can be full, and it can be slow.
//!
//! What a cut leaves ([`Disk::cut`]): of every file all that was written before a sync of it began that had ended, and of
//! what came later any choice of sectors of 512 bytes, so that writes are lost, torn and reordered; its length as old or
//! new; holes as zeros or as what lay there before. Of the folder all that was changed before its own sync, and of what came
//! later any number of first changes: a file whose name was never synced may be gone, however well its bytes were. That is
//! the least that Linux file systems with a journal of their metadata promise, and less than most keep.
//!
//! One flat folder. Needs root and `/dev/fuse`. The process that works on it must be another one: a thread that waits for
//! its own process' file system while it holds the lock of its memory would wait for ever.

mod journal;
mod mount;

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fuser::BackgroundSession;
use journal::Journal;

/// Files by name.
pub(crate) type Image = BTreeMap<String, Vec<u8>>;

/// What lies in a folder.
pub(crate) fn read_image(folder: &Path) -> io::Result<Image> {
    let mut image = Image::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        image.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(image)
}

/// Writes an image into a folder.
pub(crate) fn write_image(image: &Image, folder: &Path) -> io::Result<()> {
    image.iter().try_for_each(|(name, bytes)| fs::write(folder.join(name), bytes))
}

/// How the disk behaves.
#[derive(Debug, Clone, Copy)]
struct Temper {
    /// Bytes of all files at most.
    capacity: u64,
    /// How long a sync takes.
    sync: Duration,
    /// Whether syncs fail.
    broken: bool,
}

#[derive(Debug)]
struct Shared {
    journal: Mutex<Journal>,
    temper: Mutex<Temper>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mounted disk; dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Disk {
    shared: Arc<Shared>,
    folder: tempfile::TempDir,
    session: Option<BackgroundSession>,
}

impl Disk {
    /// Mounts a disk with these files, all of them durable.
    pub(crate) fn mount(image: Image) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("patchtide-disk-").tempdir()?;
        let shared = Arc::new(Shared {
            journal: Mutex::new(Journal::new(image)),
            temper: Mutex::new(Temper { capacity: u64::MAX, sync: Duration::ZERO, broken: false }),
        });
        let session = mount::mount(Arc::clone(&shared), folder.path()).map_err(|error| {
            let help = "cannot mount a file system of this process: it takes root and /dev/fuse";
            io::Error::new(error.kind(), format!("{help} (the kernel's module fuse): {error}"))
        })?;
        Ok(Self { shared, folder, session: Some(session) })
    }

    /// Where it is mounted.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How many changes and syncs there have been: what is acknowledged now must be there after every cut from now on.
    pub(crate) fn moment(&self) -> usize {
        lock(&self.shared.journal).moment()
    }

    /// What a power cut at that moment would have left. Equal numbers, equal image.
    pub(crate) fn cut(&self, moment: usize, seed: u64) -> Image {
        lock(&self.shared.journal).cut(moment, seed)
    }

    /// What is there now, as if everything had been synced.
    pub(crate) fn image(&self) -> Image {
        lock(&self.shared.journal).image()
    }

    /// From now on it takes so many bytes more; none: as many as come.
    pub(crate) fn set_room(&self, more: Option<u64>) {
        let used = lock(&self.shared.journal).bytes();
        lock(&self.shared.temper).capacity = more.map_or(u64::MAX, |more| used.saturating_add(more));
    }

    /// From now on syncs of files fail, or not.
    pub(crate) fn set_broken(&self, broken: bool) {
        lock(&self.shared.temper).broken = broken;
    }

    /// From now on every sync takes that long.
    pub(crate) fn set_sync_time(&self, time: Duration) {
        lock(&self.shared.temper).sync = time;
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join();
        }
    }
}
