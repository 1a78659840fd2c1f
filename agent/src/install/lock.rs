//! dpkg's lock: whether another process works on packages right now.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::MetadataExt as _,
};

use rustix::fs::{FlockOperation, fcntl_lock};

use super::InstallError;
use crate::root::Root;

const LOCKS: [&str; 2] = ["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock"];

/// Who holds dpkg's lock, in words; none: nobody. The locks are taken and given back at once, as apt itself would.
pub fn holder(root: &Root) -> Result<Option<String>, InstallError> {
    for lock in LOCKS {
        let path = root.path(lock);
        let failed = |source| InstallError::Lock { path: path.clone(), source };
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                return Err(InstallError::ReadOnly(path));
            }
            Err(error) => return Err(failed(error)),
        };
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let _ = fcntl_lock(&file, FlockOperation::Unlock);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                let inode = file.metadata().map_err(failed)?.ino();
                return Ok(Some(process_of(root, inode)));
            }
            Err(error) => return Err(failed(error.into())),
        }
    }
    Ok(None)
}

/// The process that holds a lock on the inode, from `/proc/locks`.
fn process_of(root: &Root, inode: u64) -> String {
    let ends = format!(":{inode}");
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let process = locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let file = words.iter().position(|word| word.ends_with(&ends))?;
        words.get(file.checked_sub(1)?)?.parse::<u32>().ok().filter(|pid| *pid > 0)
    });
    match process {
        None => "a process that cannot be seen from here".to_owned(),
        Some(pid) => {
            let name = fs::read_to_string(root.path(format!("/proc/{pid}/comm")))
                .or_else(|_| fs::read_to_string(format!("/proc/{pid}/comm")))
                .unwrap_or_default();
            format!("process {pid} ({})", name.trim())
        }
    }
}
