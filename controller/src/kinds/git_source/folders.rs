//! Where the object databases of the sources lie: by the source's UID, and in there by number, so that two fetches never
//! work in one.

use std::{
    collections::BTreeSet,
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use crate::{context::Context, error::Failure};

/// Folders in which one source may fetch at the same time.
const FOLDERS: usize = 4;

fn all(ctx: &Context) -> PathBuf {
    ctx.cache_dir.join("git")
}

/// The folder of the source of this UID.
pub(super) fn of(ctx: &Context, uid: &str) -> PathBuf {
    all(ctx).join(uid)
}

/// A folder that nobody else works in, below that of the source: a fetch for an earlier spec, or of a lost lease, may
/// still go on in another. It is the caller's as long as the lock is.
pub(super) fn take(dir: &Path) -> io::Result<(PathBuf, File)> {
    std::fs::create_dir_all(dir)?;
    for number in 0..FOLDERS {
        let lock = File::create(dir.join(format!("{number}.lock")))?;
        // Where the file system knows no locks there is one process, and hardly ever two fetches.
        if !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
            return Ok((dir.join(number.to_string()), lock));
        }
    }
    Err(io::Error::other("fetches for earlier specs still go on; each ends at its spec.timeout"))
}

/// Removes what is kept of repositories whose sources are no more; `here` are the UIDs of those that are.
pub(super) async fn forget(ctx: &Context, here: BTreeSet<String>) -> Result<(), Failure> {
    let all = all(ctx);
    let swept = tokio::task::spawn_blocking(move || -> io::Result<()> {
        let entries = match std::fs::read_dir(&all) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_str().is_none_or(|uid| !here.contains(uid)) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    });
    match swept.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::of("cannot remove the Git cache of a deleted source", &error)),
        Err(error) => Err(Failure::of("cannot remove the Git cache of a deleted source", &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_fetches_never_work_in_one_folder() {
        let dir = tempfile::tempdir().unwrap();
        let mut taken: Vec<(PathBuf, File)> = (0..FOLDERS).map(|_| take(dir.path()).unwrap()).collect();
        let folders: BTreeSet<&PathBuf> = taken.iter().map(|(folder, _)| folder).collect();
        assert_eq!(folders.len(), FOLDERS);
        let error = take(dir.path()).unwrap_err();
        assert!(error.to_string().contains("spec.timeout"), "{error}");
        let (first, lock) = taken.remove(0);
        drop(lock);
        assert_eq!(take(dir.path()).unwrap().0, first, "the objects that are there are used again");
    }
}
