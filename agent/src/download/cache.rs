//! The content cache: verified files by digest, and the beginnings of others.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use patchtide_model::{Digest, catalogue::ContentFile};

use super::DownloadError;
use crate::state::{StateError, StateFolder, remove};

/// Bytes that stay free beside a download.
const MARGIN: u64 = 64 * 1024 * 1024;

/// The cache folder.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    partial: PathBuf,
}

impl Cache {
    /// The cache of this machine.
    pub fn open(state: &StateFolder) -> Result<Self, StateError> {
        Ok(Self { folder: state.folder("cache")?, partial: state.folder("cache/partial")? })
    }

    /// Where a file is, once it is complete.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }

    pub(super) fn partial(&self, digest: &Digest) -> PathBuf {
        self.partial.join(digest.to_string())
    }

    /// Bytes there are of a file that is not complete.
    pub fn partial_len(&self, digest: &Digest) -> u64 {
        fs::metadata(self.partial(digest)).map_or(0, |found| found.len())
    }

    /// Whether the file is here, complete. Only verified files get here.
    pub fn contains(&self, file: &ContentFile) -> bool {
        fs::metadata(self.path(&file.sha256)).is_ok_and(|found| found.len() == file.size)
    }

    /// A verified beginning becomes the file.
    pub(super) fn take(&self, digest: &Digest) -> Result<(), StateError> {
        let (from, to) = (self.partial(digest), self.path(digest));
        fs::rename(&from, &to)
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(|source| StateError::Write { path: to, source })
    }

    /// Fails with PRE-DISK when the rest of the file has no room.
    pub(super) fn check_room(&self, file: &ContentFile) -> Result<(), DownloadError> {
        let missing = file.size.saturating_sub(self.partial_len(&file.sha256));
        let free = free_bytes(&self.folder)
            .map_err(|source| DownloadError::Write { path: self.folder.display().to_string(), source })?;
        if missing + MARGIN > free {
            return Err(DownloadError::Disk {
                needed: missing + MARGIN,
                free,
                folder: self.folder.display().to_string(),
            });
        }
        Ok(())
    }

    /// Digests of all complete files.
    pub fn present(&self) -> Result<BTreeSet<Digest>, StateError> {
        Ok(names(&self.folder)?.into_iter().collect())
    }

    /// Removes every file but those of `keep`.
    pub fn keep(&self, keep: &BTreeSet<Digest>) -> Result<(), StateError> {
        for folder in [&self.folder, &self.partial] {
            for digest in names(folder)? {
                if !keep.contains(&digest) {
                    remove(&folder.join(digest.to_string()))?;
                }
            }
        }
        Ok(())
    }

    /// Removes one file: it turned out not to be what it should.
    pub fn discard(&self, digest: &Digest) -> Result<(), StateError> {
        remove(&self.path(digest))
    }

    /// Puts a file there; its digest.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StateError> {
        let digest = Digest::of(bytes);
        crate::state::write_file(&self.path(&digest), bytes, 0o600)?;
        Ok(digest)
    }
}

fn names(folder: &Path) -> Result<Vec<Digest>, StateError> {
    let entries =
        fs::read_dir(folder).map_err(|source| StateError::Read { path: folder.to_owned(), source })?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Bytes that are free for root on the file system of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bfree.saturating_mul(found.f_frsize))
}
