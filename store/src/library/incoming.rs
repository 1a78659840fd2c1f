//! Files on their way into a library.

use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use patchtide_model::Digest;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::{CHUNK, Library, LibraryError, sync_folder};

/// A file on its way into a library. Dropped unfinished, it leaves nothing, or, when it can be gone on with, what has come.
#[derive(Debug)]
pub struct Incoming {
    library: Library,
    place: Place,
    hash: Sha256,
    size: u64,
}

/// Where it is until it is complete.
#[derive(Debug)]
enum Place {
    /// Gone with the process.
    Temporary(NamedTempFile),
    /// For a later attempt, perhaps of another process.
    Partial(File, PathBuf),
}

impl Place {
    fn file(&self) -> &File {
        match self {
            Self::Temporary(file) => file.as_file(),
            Self::Partial(file, _) => file,
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(file) => file.path(),
            Self::Partial(_, path) => path,
        }
    }
}

impl Library {
    /// Starts a new file.
    pub fn writer(&self) -> Result<Incoming, LibraryError> {
        let folder = self.incoming();
        let write = |source| LibraryError::Write { path: folder.clone(), source };
        let file = tempfile::Builder::new().prefix("put-").tempfile_in(&folder).map_err(write)?;
        file.as_file().lock().map_err(write)?;
        Ok(Incoming { library: self.clone(), place: Place::Temporary(file), hash: Sha256::new(), size: 0 })
    }

    /// Goes on with the file of `digest` where an earlier attempt ended; `known` is given what that left, from the begin. A
    /// file that somebody else is at is begun anew, beside.
    pub fn resume(&self, digest: Digest, mut known: impl FnMut(&[u8])) -> Result<Incoming, LibraryError> {
        let path = self.partial().join(digest.to_string());
        let write = |source| LibraryError::Write { path: path.clone(), source };
        let open = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = open.map_err(write)?;
        match file.try_lock() {
            Ok(()) if is_at(&file, &path) => {}
            Ok(()) | Err(TryLockError::WouldBlock) => return self.writer(),
            Err(TryLockError::Error(source)) => return Err(write(source)),
        }
        let read = |source| LibraryError::Read { path: path.clone(), source };
        let (mut hash, mut size, mut chunk) = (Sha256::new(), 0, vec![0; CHUNK]);
        loop {
            let read = (&file).read(&mut chunk).map_err(read)?;
            if read == 0 {
                break;
            }
            hash.update(&chunk[..read]);
            known(&chunk[..read]);
            size += read as u64;
        }
        Ok(Incoming { library: self.clone(), place: Place::Partial(file, path), hash, size })
    }

    /// Files that were begun and can be gone on with.
    pub fn partials(&self) -> Result<Vec<Digest>, LibraryError> {
        let folder = self.partial();
        let entries = fs::read_dir(&folder).map_err(|source| LibraryError::Read { path: folder, source })?;
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
    }

    /// Removes one that nobody will go on with.
    pub fn forget_partial(&self, digest: Digest) -> Result<(), LibraryError> {
        let path = self.partial().join(digest.to_string());
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(LibraryError::Write { path, source })
            }
            _ => Ok(()),
        }
    }
}

/// Whether `path` still names `file`: who had it before may have published or removed it.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
        _ => false,
    }
}

impl Incoming {
    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), LibraryError> {
        let written = self.place.file().write_all(bytes);
        written.map_err(|source| LibraryError::Write { path: self.place.path().to_owned(), source })?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Gives it up for good: nobody goes on with what has come.
    pub fn discard(self) -> Result<(), LibraryError> {
        match self.place {
            Place::Temporary(_) => Ok(()),
            Place::Partial(_, path) => {
                fs::remove_file(&path).map_err(|source| LibraryError::Write { path, source })
            }
        }
    }

    /// Publishes the file as `digest` when it is exactly that: `size` bytes with that hash. Returns its path. Otherwise
    /// nothing of it is left.
    pub fn finish(self, digest: Digest, size: u64) -> Result<PathBuf, LibraryError> {
        let got = Digest::from_bytes(self.hash.clone().finalize().into());
        let wrong = if self.size != size {
            Some(LibraryError::WrongSize { expected: size, got: self.size })
        } else if got != digest {
            Some(LibraryError::WrongDigest { expected: digest, got })
        } else {
            None
        };
        if let Some(wrong) = wrong {
            self.discard()?;
            return Err(wrong);
        }
        let target = self.library.path(digest);
        let write = |source| LibraryError::Write { path: target.clone(), source };
        self.place.file().set_permissions(Permissions::from_mode(0o644)).map_err(write)?;
        self.place.file().sync_all().map_err(write)?;
        self.library.make_folder(&target)?;
        // A concurrent writer of the same bytes is overwritten by the same bytes.
        match self.place {
            Place::Temporary(file) => file.persist(&target).map(drop).map_err(|error| write(error.error))?,
            Place::Partial(_, path) => fs::rename(path, &target).map_err(write)?,
        }
        sync_folder(&target)?;
        Ok(target)
    }
}
