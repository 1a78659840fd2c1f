//! Files of the pool: the packages themselves.

use std::io::Write;

use patchtide_model::catalogue::ContentFile;
use url::Url;

use crate::http::{Expected, FetchError, Fetcher, Transfer, join};

/// A package file of an archive, as a verified index names it.
#[derive(Debug, Clone, Copy)]
pub struct PoolFile<'a> {
    /// Address of the archive.
    pub archive: &'a Url,
    /// Path, size and hash.
    pub file: &'a ContentFile,
}

impl PoolFile<'_> {
    fn expected(&self) -> Expected {
        Expected { size: self.file.size, sha256: self.file.sha256 }
    }

    /// Where it is fetched from.
    pub fn url(&self) -> Result<Url, FetchError> {
        join(self.archive, &self.file.path)
    }
}

/// Fetches a file, verified while it streams to `out`; an interrupted transfer is resumed where it ended.
///
/// What has been written counts only when this succeeds. `received` is told the bytes of every piece.
pub async fn fetch(
    fetcher: &Fetcher,
    file: PoolFile<'_>,
    out: &mut (dyn Write + Send),
    received: &(dyn Fn(u64) + Sync),
) -> Result<(), FetchError> {
    fetcher.expected(&file.url()?, file.expected(), out, received).await
}

/// Goes on with a file of which an earlier attempt, perhaps of an earlier process, left `transfer` behind
/// ([`Transfer::already_have`] takes in the bytes it wrote).
pub async fn resume(
    fetcher: &Fetcher,
    file: PoolFile<'_>,
    transfer: &mut Transfer,
    out: &mut (dyn Write + Send),
    received: &(dyn Fn(u64) + Sync),
) -> Result<(), FetchError> {
    fetcher.resume(&file.url()?, transfer, out, received).await
}
