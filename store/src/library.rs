//! Content-addressed files: `sha256/ab/<64 hexadecimal digits>` below one folder. What is there is complete, verified and
//! never changes; it appears by a rename after its bytes are on disk. What is on its way is in `incoming/`, and in `partial/`
//! where a later process may go on with it.
//!
//! Blocking: call it from `spawn_blocking`.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
};

use patchtide_model::Digest;

mod incoming;
mod integrity;

pub use incoming::Incoming;
pub use integrity::Damage;

/// Bytes read at once when a file is copied or verified.
const CHUNK: usize = 256 * 1024;

/// An operation on a library that did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// The folder cannot be used.
    #[error("cannot use {folder} as a content library: create it, or make it writable")]
    Open {
        /// The folder.
        folder: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Bytes cannot be written.
    #[error("cannot write to {path}: check the free space and the permissions")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The bytes are not those of the digest; nothing was published.
    #[error("the bytes are not {expected} (got {got}): the source is damaged or changed; fetch it again")]
    WrongDigest {
        /// Expected.
        expected: Digest,
        /// What they are.
        got: Digest,
    },
    /// More or fewer bytes than announced; nothing was published.
    #[error("{expected} bytes were announced and {got} came: the transfer broke off, or the source changed")]
    WrongSize {
        /// Announced.
        expected: u64,
        /// Came.
        got: u64,
    },
    /// Not there.
    #[error("{0} is not in the content library")]
    Missing(Digest),
    /// There, but not what it was.
    #[error("the file {digest} {damage}: it is to be fetched again")]
    Damaged {
        /// The file.
        digest: Digest,
        /// What is wrong with it.
        damage: Damage,
    },
}

/// A content library. Cheap to clone; several processes may use one folder.
#[derive(Debug, Clone)]
pub struct Library {
    root: PathBuf,
}

impl Library {
    /// Opens the library in `folder`, creates it when it is absent, and removes what writers that are gone left behind.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, LibraryError> {
        let root = folder.into();
        let library = Self { root };
        let open = |source| LibraryError::Open { folder: library.root.clone(), source };
        fs::create_dir_all(library.root.join("sha256")).map_err(open)?;
        fs::create_dir_all(library.incoming()).map_err(open)?;
        fs::create_dir_all(library.partial()).map_err(open)?;
        for entry in fs::read_dir(library.incoming()).map_err(open)? {
            let path = entry.map_err(open)?.path();
            // Who writes holds the lock; the kernel drops it with the process.
            if let Ok(file) = File::open(&path)
                && !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
            {
                let _ = fs::remove_file(&path);
            }
        }
        Ok(library)
    }

    fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the file of `digest` is, or would be.
    pub fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        let mut path = self.root.join("sha256");
        path.push(&name[..2]);
        path.push(name);
        path
    }

    /// Whether it is here.
    pub fn contains(&self, digest: Digest) -> bool {
        self.size(digest).is_some()
    }

    /// Its bytes, when it is here.
    pub fn size(&self, digest: Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().filter(fs::Metadata::is_file).map(|data| data.len())
    }

    /// Puts `bytes` and returns their name.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, LibraryError> {
        let digest = Digest::of(bytes);
        if self.is_sound(digest).is_ok() {
            return Ok(digest);
        }
        let mut incoming = self.writer()?;
        incoming.write(bytes)?;
        incoming.finish(digest, bytes.len() as u64)?;
        Ok(digest)
    }

    /// Reads a file whole and verifies it.
    pub fn read(&self, digest: Digest) -> Result<Vec<u8>, LibraryError> {
        let path = self.path(digest);
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => LibraryError::Missing(digest),
            _ => LibraryError::Read { path, source },
        })?;
        match Digest::of(&bytes) {
            got if got == digest => Ok(bytes),
            got => Err(LibraryError::WrongDigest { expected: digest, got }),
        }
    }

    /// Removes a file. True when it was there.
    pub fn remove(&self, digest: Digest) -> Result<bool, LibraryError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(LibraryError::Write { path, source }),
        }
    }

    /// Everything that is here: name and bytes, in no particular order. Files with other names are left alone.
    #[expect(clippy::iter_not_returning_iterator, reason = "opening the folder may fail")]
    pub fn iter(&self) -> Result<impl Iterator<Item = (Digest, u64)>, LibraryError> {
        let folder = self.root.join("sha256");
        let read = |source| LibraryError::Read { path: folder.clone(), source };
        let parts = fs::read_dir(&folder).map_err(read)?.collect::<Result<Vec<_>, _>>().map_err(read)?;
        Ok(parts
            .into_iter()
            .filter_map(|part| fs::read_dir(part.path()).ok())
            .flatten()
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let digest = entry.file_name().to_str()?.parse().ok()?;
                Some((digest, entry.metadata().ok().filter(fs::Metadata::is_file)?.len()))
            }))
    }

    /// Takes a file over from another library, verified: by a hard link where both are on one file system, else by a copy.
    pub fn import(&self, other: &Self, digest: Digest) -> Result<(), LibraryError> {
        if self.contains(digest) {
            return Ok(());
        }
        let source_path = other.path(digest);
        let size = other.size(digest).ok_or(LibraryError::Missing(digest))?;
        match other.is_sound(digest) {
            Ok(()) => {}
            Err(Damage::Gone) => return Err(LibraryError::Missing(digest)),
            Err(damage) => return Err(LibraryError::Damaged { digest, damage }),
        }
        let target = self.path(digest);
        self.make_folder(&target)?;
        match fs::hard_link(&source_path, &target) {
            Ok(()) => return sync_folder(&target),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            // Another file system, or one without links: copy.
            Err(_) => {}
        }
        let read = |source| LibraryError::Read { path: source_path.clone(), source };
        let mut file = File::open(&source_path).map_err(read)?;
        let mut incoming = self.writer()?;
        let mut chunk = vec![0; CHUNK];
        loop {
            match file.read(&mut chunk).map_err(read)? {
                0 => break,
                n => incoming.write(&chunk[..n])?,
            }
        }
        incoming.finish(digest, size).map(drop)
    }

    /// Creates the folder of `target` durably.
    fn make_folder(&self, target: &Path) -> Result<(), LibraryError> {
        let Some(folder) = target.parent() else { return Ok(()) };
        match fs::create_dir(folder) {
            Ok(()) => sync_folder(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(source) => Err(LibraryError::Write { path: self.root.clone(), source }),
        }
    }
}

/// Makes the name of `path` durable.
fn sync_folder(path: &Path) -> Result<(), LibraryError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    OpenOptions::new()
        .read(true)
        .open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| LibraryError::Write { path: folder.to_owned(), source })
}

#[cfg(test)]
mod tests;
