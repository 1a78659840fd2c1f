//! The lines' catalogues on this machine: fetched by the digest that the signed policy names, verified, kept, and read
//! as a stream, so that a line of tens of thousands of updates is never in memory as a whole.

mod stream;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufReader, Read},
    path::PathBuf,
};

use patchtide_model::{Digest, LineId, catalogue::ScanUpdate, policy::LinePolicy};
use patchtide_protocol::{limits, path};
use sha2::{Digest as _, Sha256};

use crate::{
    state::{StateError, StateFolder, remove, write_file},
    transport::{Transport, TransportError},
};

/// Why a catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// No software update point is known.
    #[error(
        "no software update point is known for the line {0}: check that one is running and has an endpoint"
    )]
    NoSource(LineId),
    /// No software update point gave it.
    #[error("the catalogue of {line} could not be fetched")]
    Fetch {
        /// Line.
        line: LineId,
        /// Cause, of the last one tried.
        #[source]
        source: TransportError,
    },
    /// Other bytes than the policy names.
    #[error(
        "the catalogue of {line} that {url} serves is not the one that the policy names: its digest is {found}"
    )]
    Digest {
        /// Line.
        line: LineId,
        /// Address.
        url: String,
        /// Digest of what came.
        found: Digest,
    },
    /// Not on this machine.
    #[error("the catalogue of {0} is not on this machine: scan online")]
    Missing(LineId),
    /// Cannot be read.
    #[error("the catalogue of {line} cannot be read: scan online to fetch it anew")]
    Read {
        /// Line.
        line: LineId,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Not a catalogue.
    #[error("the catalogue of {line} is not a catalogue of this version: update the agent")]
    Form {
        /// Line.
        line: LineId,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
    /// Of another line or version than the policy names.
    #[error("the catalogue of {line} says that it is of {found}: tell the site's administrator")]
    Other {
        /// Line of the policy.
        line: LineId,
        /// What it says.
        found: String,
    },
    /// The disk.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The folder of catalogues.
#[derive(Debug, Clone)]
pub struct Catalogues {
    folder: PathBuf,
}

impl Catalogues {
    /// The catalogues of this machine.
    pub fn open(state: &StateFolder) -> Result<Self, StateError> {
        Ok(Self { folder: state.folder("catalogue")? })
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}.zst"))
    }

    /// Whether the catalogue that the policy names for this line is here.
    pub fn has(&self, line: &LinePolicy) -> bool {
        fs::metadata(self.file(&line.digest)).is_ok_and(|found| found.len() == line.size)
    }

    /// Fetches the catalogue of a line unless it is here already; from the first software update point that gives
    /// the right bytes.
    pub async fn fetch(
        &self,
        transport: &Transport,
        line: &LinePolicy,
        software_update_points: &[String],
    ) -> Result<(), CatalogueError> {
        if self.has(line) {
            return Ok(());
        }
        let mut last = CatalogueError::NoSource(line.line.clone());
        for base in software_update_points {
            let url = format!("{}{}/{}", base.trim_end_matches('/'), path::CATALOGUES, line.digest);
            let limit = usize::try_from(line.size).unwrap_or(usize::MAX).min(limits::CATALOGUE_BYTES);
            let fetched = async { transport.fetch(&url, 0).await?.read(limit).await }.await;
            match fetched {
                Ok(bytes) => {
                    let found = Digest::of(&bytes);
                    if found == line.digest {
                        write_file(&self.file(&line.digest), &bytes, 0o600)?;
                        return Ok(());
                    }
                    last = CatalogueError::Digest { line: line.line.clone(), url, found };
                }
                Err(source) => last = CatalogueError::Fetch { line: line.line.clone(), source },
            }
        }
        Err(last)
    }

    /// Reads the line's catalogue and calls `visit` for each update. The bytes are verified again first.
    pub fn for_each(
        &self,
        line: &LinePolicy,
        visit: &mut dyn FnMut(ScanUpdate),
    ) -> Result<(), CatalogueError> {
        let name = &line.line;
        let broken = |source| CatalogueError::Read { line: name.clone(), source };
        let path = self.file(&line.digest);
        let mut file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => CatalogueError::Missing(name.clone()),
            _ => broken(error),
        })?;
        let mut hasher = Sha256::new();
        io::copy(&mut file, &mut hasher).map_err(broken)?;
        if Digest::from_bytes(hasher.finalize().into()) != line.digest {
            // Rotten bytes: without them the next online scan fetches the file anew.
            remove(&path)?;
            return Err(CatalogueError::Missing(name.clone()));
        }
        io::Seek::rewind(&mut file).map_err(broken)?;
        let decoder =
            zstd::Decoder::with_buffer(BufReader::with_capacity(64 * 1024, file)).map_err(broken)?;
        let bounded = decoder.take(limits::CATALOGUE_EXPANDED_BYTES as u64);
        let head = stream::read(BufReader::with_capacity(64 * 1024, bounded), visit)
            .map_err(|source| CatalogueError::Form { line: name.clone(), source })?;
        if head.line != *name || head.version != line.catalogue_version {
            let found = format!("{} version {}", head.line, head.version);
            return Err(CatalogueError::Other { line: name.clone(), found });
        }
        Ok(())
    }

    /// Removes every catalogue but those of `lines`.
    pub fn keep(&self, lines: &[LinePolicy]) -> Result<(), StateError> {
        let wanted: BTreeSet<_> = lines.iter().map(|line| self.file(&line.digest)).collect();
        let entries = fs::read_dir(&self.folder)
            .map_err(|source| StateError::Read { path: self.folder.clone(), source })?;
        for entry in entries.flatten().map(|entry| entry.path()) {
            if !wanted.contains(&entry) {
                remove(&entry)?;
            }
        }
        Ok(())
    }

    /// Puts the bytes of a catalogue there, as a fetch would.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StateError> {
        let digest = Digest::of(bytes);
        write_file(&self.file(&digest), bytes, 0o600)?;
        Ok(digest)
    }
}

#[cfg(test)]
mod tests;
