//! Whether files are still what they were when they were published.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    ops::ControlFlow,
    path::Path,
};

use patchtide_model::Digest;
use rustix::fs::{Advice, fadvise};
use sha2::{Digest as _, Sha256};

use super::{CHUNK, Library};

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// Somebody deleted it.
    #[error("is gone from the disk")]
    Gone,
    /// It is shorter or longer than it was.
    #[error("has {got} bytes on disk instead of {expected}")]
    Size {
        /// As it was published.
        expected: u64,
        /// As it is.
        got: u64,
    },
    /// Other bytes.
    #[error("has other bytes on disk than it was published with")]
    Bytes,
    /// The disk does not give it back.
    #[error("cannot be read from the disk: {0}")]
    Unreadable(String),
}

impl Library {
    /// Whether the file is there with its size: one system call.
    pub fn look(&self, digest: Digest, size: u64) -> Result<(), Damage> {
        match fs::metadata(self.path(digest)) {
            Ok(data) if data.is_file() && data.len() == size => Ok(()),
            Ok(data) if data.is_file() => Err(Damage::Size { expected: size, got: data.len() }),
            Ok(_) => Err(Damage::Gone),
            Err(error) => Err(unreadable(&error)),
        }
    }

    /// Reads the file from the disk, past what the kernel remembers of it, and compares it with its digest. `pace` is told of
    /// every piece's bytes and may wait, or break it off: then nothing is known.
    pub fn verify(
        &self,
        digest: Digest,
        pace: impl FnMut(usize) -> ControlFlow<()>,
    ) -> ControlFlow<(), Result<(), Damage>> {
        match hash(&self.path(digest), pace) {
            Ok(None) => ControlFlow::Break(()),
            Ok(Some(got)) if got == digest => ControlFlow::Continue(Ok(())),
            Ok(Some(_)) => ControlFlow::Continue(Err(Damage::Bytes)),
            Err(error) => ControlFlow::Continue(Err(unreadable(&error))),
        }
    }

    /// Whether the file is there and has the bytes of its digest.
    pub fn is_sound(&self, digest: Digest) -> Result<(), Damage> {
        match self.verify(digest, |_| ControlFlow::Continue(())) {
            ControlFlow::Continue(verdict) => verdict,
            ControlFlow::Break(()) => Ok(()),
        }
    }
}

fn unreadable(error: &io::Error) -> Damage {
    match error.kind() {
        io::ErrorKind::NotFound => Damage::Gone,
        _ => Damage::Unreadable(error.to_string()),
    }
}

/// The digest of a file; nothing when `pace` broke it off.
fn hash(path: &Path, mut pace: impl FnMut(usize) -> ControlFlow<()>) -> io::Result<Option<Digest>> {
    let mut file = File::open(path)?;
    // What is in memory may be sound while the disk is not; and reading everything must not push out what is in use. Where
    // the file system does not do as advised, what is in memory is compared.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        if pace(read).is_break() {
            return Ok(None);
        }
    }
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    Ok(Some(Digest::from_bytes(hash.finalize().into())))
}
