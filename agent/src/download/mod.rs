//! Content: from the best distribution point that gives the right bytes, resumed where it was cut off, verified while
//! it streams, kept until the policy no longer speaks of it.

pub mod cache;
mod sources;

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::Path,
};

use patchtide_model::{Digest, catalogue::ContentFile, state::Failure};
use patchtide_protocol::path;
use reqwest::StatusCode;
use sha2::{Digest as _, Sha256};

pub use cache::Cache;
pub use sources::{Sources, locality};

use crate::{
    state::{StateError, remove},
    transport::{Content, Transport, TransportError, error::chain},
};

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// No distribution point may be used, or none is known.
    #[error(
        "no distribution point that this client may use is known: check boundaries and the fallback setting of the deployment"
    )]
    NoSource,
    /// No distribution point has the file yet.
    #[error("no distribution point has {0} yet: the package is still on its way")]
    NotOffered(String),
    /// More or fewer bytes than the index says.
    #[error(
        "{url} serves {path} with another length than the index says (PKG-LEN): redistribute the package"
    )]
    Length {
        /// Address.
        url: String,
        /// File.
        path: String,
    },
    /// Other bytes than the index says.
    #[error("{url} serves {path} with other bytes than the index says (PKG-HASH): redistribute the package")]
    Hash {
        /// Address.
        url: String,
        /// File.
        path: String,
    },
    /// The connection.
    #[error("{path} could not be fetched")]
    Transport {
        /// File.
        path: String,
        /// Cause.
        #[source]
        source: TransportError,
    },
    /// Not enough room.
    #[error("{needed} bytes are needed for downloads, {free} are free below {folder} (PRE-DISK): make room")]
    Disk {
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// Folder.
        folder: String,
    },
    /// The disk failed while writing.
    #[error("{path} could not be written")]
    Write {
        /// File.
        path: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
}

impl DownloadError {
    /// As it is reported.
    pub fn failure(&self) -> Failure {
        match self {
            Self::NoSource => Failure::NoPoint,
            Self::NotOffered(_) => Failure::NotOffered,
            Self::Length { .. } => Failure::Length,
            Self::Hash { .. } => Failure::Hash,
            Self::Transport { source: TransportError::NotTheSite { .. }, .. } => Failure::Captive,
            Self::Transport { .. } => Failure::Download,
            Self::Disk { .. } => Failure::DiskFull,
            Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => Failure::DiskFull,
            Self::Write { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                Failure::ReadOnlyCache
            }
            Self::Write { .. } | Self::State(_) => Failure::CacheDisk,
        }
    }

    /// Whether another distribution point may do better.
    fn is_of_the_source(&self) -> bool {
        matches!(self, Self::NotOffered(_) | Self::Length { .. } | Self::Hash { .. } | Self::Transport { .. })
    }
}

/// Fetches one file into the cache, trying the distribution points `bases` in order. What a broken connection left is
/// used by the next try, also by the next one after a restart of the agent.
pub async fn fetch(
    transport: &Transport,
    cache: &Cache,
    sources: &Sources,
    file: &ContentFile,
    bases: &[String],
) -> Result<(), DownloadError> {
    if cache.contains(file) {
        return Ok(());
    }
    cache.check_room(file)?;
    let mut last = None;
    for base in sources.order(bases) {
        let url = format!("{}{}/{}", base.trim_end_matches('/'), path::BLOBS, file.sha256);
        // A connection that breaks after it brought something is worth another try at the same place.
        for _ in 0..3 {
            let before = cache.partial_len(&file.sha256);
            match fetch_from(transport, cache, file, &url).await {
                Ok(()) => {
                    sources.good(&base);
                    return Ok(());
                }
                Err(error) if error.is_of_the_source() => {
                    let words = chain(&error);
                    // Not offered yet is the ordinary state of a package that is being distributed.
                    if matches!(error, DownloadError::NotOffered(_)) {
                        tracing::debug!(dp = %base, "{words}");
                    } else {
                        tracing::warn!(error = %words, dp = %base, "download");
                    }
                    // One that drips brings something too: it is not asked again, the next one goes on there.
                    let drips =
                        matches!(error, DownloadError::Transport { source: TransportError::Slow { .. }, .. });
                    let broke = matches!(error, DownloadError::Transport { .. }) && !drips;
                    let moved = cache.partial_len(&file.sha256) > before;
                    sources.bad(&base, &error);
                    last = Some(prefer(last, error));
                    if !(broke && moved) {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
    Err(last.unwrap_or(DownloadError::NoSource))
}

/// Of two errors the one that says more: a wrong file before a broken connection before one that is not there yet.
fn prefer(held: Option<DownloadError>, new: DownloadError) -> DownloadError {
    let weight = |error: &DownloadError| match error {
        DownloadError::NotOffered(_) => 0,
        DownloadError::Transport { .. } => 1,
        _ => 2,
    };
    match held {
        Some(held) if weight(&held) > weight(&new) => held,
        _ => new,
    }
}

async fn fetch_from(
    transport: &Transport,
    cache: &Cache,
    file: &ContentFile,
    url: &str,
) -> Result<(), DownloadError> {
    let partial = cache.partial(&file.sha256);
    let write_error = |source| DownloadError::Write { path: file.path.clone(), source };
    let length_error = || DownloadError::Length { url: url.to_owned(), path: file.path.clone() };
    let (mut hasher, mut have) = resume(&partial, file.size).map_err(write_error)?;

    if have < file.size {
        let mut content = match transport.fetch(url, have).await {
            Err(error) if matches!(error.status(), Some(404 | 410)) => {
                return Err(DownloadError::NotOffered(file.path.clone()));
            }
            Err(source) => return Err(DownloadError::Transport { path: file.path.clone(), source }),
            Ok(content) => content,
        };
        if !continues(&content, have, file.size) {
            // It starts anew, or its file has another length.
            hasher = Sha256::new();
            have = 0;
            remove(&partial)?;
            if content.status() != StatusCode::OK {
                return Err(length_error());
            }
        }
        if content.length().is_some_and(|rest| rest != file.size - have) {
            remove(&partial)?;
            return Err(length_error());
        }
        let mut out = OpenOptions::new().create(true).append(true).open(&partial).map_err(write_error)?;
        loop {
            let chunk = match content.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(source) => return Err(DownloadError::Transport { path: file.path.clone(), source }),
            };
            let chunk = chunk.as_ref();
            have += chunk.len() as u64;
            if have > file.size {
                drop(out);
                remove(&partial)?;
                return Err(length_error());
            }
            hasher.update(chunk);
            out.write_all(chunk).map_err(write_error)?;
        }
        out.sync_all().map_err(write_error)?;
        if have < file.size {
            // The other side ended early and said so properly: its file is shorter.
            remove(&partial)?;
            return Err(length_error());
        }
    }
    if Digest::from_bytes(hasher.finalize().into()) != file.sha256 {
        remove(&partial)?;
        return Err(DownloadError::Hash { url: url.to_owned(), path: file.path.clone() });
    }
    cache.take(&file.sha256)?;
    Ok(())
}

/// What is there of a file already: its running hash and length. More than there can be is thrown away.
fn resume(partial: &Path, size: u64) -> io::Result<(Sha256, u64)> {
    let mut hasher = Sha256::new();
    let mut file = match File::open(partial) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((hasher, 0)),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    if length > size {
        std::fs::remove_file(partial)?;
        return Ok((hasher, 0));
    }
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hasher, length));
        }
        hasher.update(&buffer[..read]);
    }
}

/// Whether the answer goes on at byte `have` of a file of `size` bytes.
fn continues(content: &Content, have: u64, size: u64) -> bool {
    if have == 0 {
        return content.status() == StatusCode::OK;
    }
    content.status() == StatusCode::PARTIAL_CONTENT
        && content.range().is_some_and(|range| range == format!("bytes {have}-{}/{size}", size - 1))
}
