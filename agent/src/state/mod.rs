//! Durable state: whole files, replaced atomically. A kill or a power cut at any moment leaves the old or the new
//! content, never a part of either.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// Why a state file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Reading.
    #[error("cannot read {path}: check that the agent runs as root and the disk is sound")]
    Read {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Writing.
    #[error("cannot write {path}: check free space and that the file system is not read-only")]
    Write {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Not what the agent once wrote.
    #[error("{path} is damaged: remove it, the agent makes it anew and reports everything again")]
    Damaged {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
}

impl StateError {
    /// Whether the disk had no room (PRE-DISK).
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

/// The agent's folder, by default `/var/lib/patchtide`.
#[derive(Debug, Clone)]
pub struct StateFolder(PathBuf);

impl StateFolder {
    /// Opens the folder, makes it when it is missing; only root may look inside.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, StateError> {
        let folder = folder.into();
        make_folder(&folder)?;
        Ok(Self(folder))
    }

    /// A file or folder inside.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A folder inside, made when missing.
    pub fn folder(&self, name: &str) -> Result<PathBuf, StateError> {
        let folder = self.0.join(name);
        make_folder(&folder)?;
        Ok(folder)
    }

    /// The document `name`, or nothing when it was never written.
    pub fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        read_json(&self.path(name))
    }

    /// The document `name`; a damaged one is set aside as `<name>.damaged`, said in the log, and counts as missing.
    pub fn load_or_default<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, StateError> {
        match self.load(name) {
            Ok(found) => Ok(found.unwrap_or_default()),
            Err(error @ StateError::Damaged { .. }) => {
                tracing::error!(error = &error as &dyn std::error::Error, "state set aside");
                let path = self.path(name);
                fs::rename(&path, path.with_extension("damaged"))
                    .map_err(|source| StateError::Write { path, source })?;
                Ok(T::default())
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the document `name` durably.
    pub fn save<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StateError> {
        write_json(&self.path(name), value)
    }
}

fn make_folder(folder: &Path) -> Result<(), StateError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| StateError::Write { path: folder.to_owned(), source })
}

/// A JSON document, or nothing when the file does not exist.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| StateError::Damaged { path: path.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Read { path: path.to_owned(), source }),
    }
}

/// Writes a JSON document durably.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    let bytes = serde_json::to_vec(value)
        .map_err(|source| StateError::Write { path: path.to_owned(), source: source.into() })?;
    write_file(path, &bytes, 0o600)
}

/// Writes a file durably: a new file beside it, fsync, rename, fsync of the folder.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StateError> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|source| StateError::Write { path: path.to_owned(), source })
}

/// Removes a file or folder; one that is not there is fine.
pub fn remove(path: &Path) -> Result<(), StateError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| StateError::Write { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_come_back_and_damage_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path().join("state")).unwrap();
        assert_eq!(state.load::<u64>("a.json").unwrap(), None);
        state.save("a.json", &7).unwrap();
        assert_eq!(state.load::<u64>("a.json").unwrap(), Some(7));
        fs::write(state.path("a.json"), b"{").unwrap();
        assert!(matches!(state.load::<u64>("a.json"), Err(StateError::Damaged { .. })));
        assert_eq!(state.load_or_default::<u64>("a.json").unwrap(), 0);
        assert!(state.path("a.damaged").exists());
        let left: Vec<_> = fs::read_dir(folder.path().join("state")).unwrap().collect();
        assert_eq!(left.len(), 1, "no temporary file stays behind");
    }
}
