//! Indices: which ones a line needs, fetching them against their hashes, reading them as a stream.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use patchtide_model::Digest;
use patchtide_packaging::release::FileEntry;
use patchtide_packaging::{BinaryPackage, ReadError, Release, StanzaReader};
use url::Url;

use super::RunOptions;
use super::bundle::LineBuilder;
use super::error::SyncError;
use crate::http::{Expected, FetchError, Fetcher, join};

/// Memory that decompressing one xz stream may take; `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;

/// Largest window of a zstd stream: 2^27 = 128 MiB.
const ZSTD_WINDOW: u32 = 27;

/// How an index is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compression {
    /// `.zst`
    Zstd,
    /// `.xz`
    Xz,
    /// `.gz`
    Gzip,
    /// Not at all.
    None,
}

impl Compression {
    fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::Xz => ".xz",
            Self::Gzip => ".gz",
            Self::None => "",
        }
    }
}

/// One index that a line needs.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Path below the suite, uncompressed.
    pub(super) path: String,
    /// Ways in which it is published, the preferred one first.
    forms: Vec<(Compression, String, FileEntry)>,
    /// Its size when decompressed, when the release says it.
    plain_size: Option<u64>,
}

impl Wanted {
    /// The index of a component for an architecture.
    pub(super) fn find(
        release: &Release,
        component: &str,
        architecture: &str,
        options: &RunOptions,
    ) -> Option<Self> {
        let path = format!("{component}/binary-{architecture}/Packages");
        let forms: Vec<_> = options
            .compressions
            .iter()
            .filter_map(|compression| {
                let name = format!("{path}{}", compression.suffix());
                let entry = *release.files.get(&name)?;
                Some((*compression, name, entry))
            })
            .collect();
        let plain_size = release.files.get(&path).map(|entry| entry.size);
        (!forms.is_empty()).then_some(Self { path, forms, plain_size })
    }

    /// What identifies its content: the hash of the preferred form.
    pub(super) fn digest(&self) -> Digest {
        self.forms.first().map_or_else(|| Digest::from_bytes([0; 32]), |(_, _, entry)| digest_of(entry))
    }

    /// Size of what is fetched.
    pub(super) fn size(&self) -> u64 {
        self.forms.first().map_or(0, |(_, _, entry)| entry.size)
    }
}

/// A fetched and verified index.
#[derive(Debug)]
pub(super) struct Fetched {
    path: String,
    compression: Compression,
    file: File,
    plain_size: Option<u64>,
}

fn digest_of(entry: &FileEntry) -> Digest {
    Digest::from_bytes(entry.sha256.0)
}

/// Fetches an index: by its hash where the archive offers that (it cannot be of another moment than the release),
/// else by its name; the next compression when one is listed but not there.
pub(super) async fn fetch(
    fetcher: &Fetcher,
    archive: &Url,
    suite: &str,
    by_hash: bool,
    wanted: &Wanted,
    options: &RunOptions,
) -> Result<Fetched, SyncError> {
    let mut last = None;
    for (compression, name, entry) in &wanted.forms {
        let what = format!("{name} of {suite}");
        let fetch_error = |source| SyncError::Fetch { what: what.clone(), source };
        if entry.size > options.compressed_limit {
            return Err(SyncError::Bomb { path: name.clone(), limit: options.compressed_limit });
        }
        let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
        let hashed = format!("dists/{suite}/{directory}/by-hash/SHA256/{}", entry.sha256);
        let named = format!("dists/{suite}/{name}");
        for path in by_hash.then_some(hashed).into_iter().chain([named]) {
            let url = join(archive, &path).map_err(fetch_error)?;
            let mut file = tempfile::tempfile_in(&options.scratch).map_err(SyncError::Scratch)?;
            let expected = Expected { size: entry.size, sha256: digest_of(entry) };
            let progress = |bytes| options.progress.change(|p| p.bytes += bytes);
            match fetcher.expected(&url, expected, &mut file, &progress).await {
                Ok(()) => {
                    file.seek(SeekFrom::Start(0)).map_err(SyncError::Scratch)?;
                    options.progress.change(|p| p.files += 1);
                    let (path, compression, plain_size) =
                        (wanted.path.clone(), *compression, wanted.plain_size);
                    return Ok(Fetched { path, compression, file, plain_size });
                }
                Err(FetchError::NotFound { url }) => last = Some(FetchError::NotFound { url }),
                // Archives in an object store forbid what they do not have; asked for by its name it may be there.
                Err(FetchError::Status { url, status: 403 }) => {
                    last = Some(FetchError::Status { url, status: 403 });
                }
                Err(error) => return Err(fetch_error(error)),
            }
        }
    }
    let source = last.unwrap_or_else(|| FetchError::Path(wanted.path.clone()));
    Err(SyncError::Fetch { what: format!("{} of {suite}", wanted.path), source })
}

/// Reads a fetched index into a line. Blocking; decompression runs beside the reading.
pub(super) fn read(
    fetched: Fetched,
    options: &RunOptions,
    builder: &mut LineBuilder,
) -> Result<(), SyncError> {
    let Fetched { path, compression, file, plain_size } = fetched;
    let limit = plain_size.unwrap_or(u64::MAX).min(options.uncompressed_limit);
    let decompress = |source| SyncError::Decompress { path: path.clone(), source };
    let mut input = decoder(compression, file).map_err(decompress)?;
    builder.begin_index(&path);
    let (send, receive) = sync_channel(4);
    let result = std::thread::scope(|scope| {
        scope.spawn(move || pump(&mut input, limit, &send));
        read_stanzas(Pieces { receive, piece: Vec::new(), at: 0, total: 0 }, options, builder)
    });
    let total = match result {
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            return Err(SyncError::Bomb { path, limit });
        }
        Err(error) => return Err(decompress(error)),
        Ok(total) => total,
    };
    match plain_size {
        Some(size) if size != total => {
            let source = io::Error::other(format!("{total} bytes came out where {size} are listed"));
            Err(decompress(source))
        }
        _ => Ok(()),
    }
}

fn decoder(compression: Compression, file: File) -> io::Result<Box<dyn Read + Send>> {
    let file = BufReader::with_capacity(256 << 10, file);
    Ok(match compression {
        Compression::None => Box::new(file),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Compression::Xz => {
            let stream = xz2::stream::Stream::new_stream_decoder(XZ_MEMORY, xz2::stream::CONCATENATED)?;
            Box::new(xz2::bufread::XzDecoder::new_stream(file, stream))
        }
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(file)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
    })
}

/// Decompresses piece by piece; an empty piece is the end.
fn pump(input: &mut dyn Read, limit: u64, send: &SyncSender<io::Result<Vec<u8>>>) {
    let mut total = 0;
    loop {
        let mut piece = Vec::with_capacity(256 << 10);
        let result = Read::take(&mut *input, 256 << 10).read_to_end(&mut piece);
        total += piece.len() as u64;
        let message = match result {
            Err(error) => Err(error),
            Ok(_) if total > limit => Err(io::ErrorKind::FileTooLarge.into()),
            Ok(_) => Ok(piece),
        };
        let done = !matches!(&message, Ok(piece) if !piece.is_empty());
        if send.send(message).is_err() || done {
            return;
        }
    }
}

/// The pieces as one stream.
struct Pieces {
    receive: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
    total: u64,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(out)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.piece.len() {
            // The sender is gone without an end only when its thread died.
            let next = self.receive.recv().unwrap_or_else(|_| Err(io::ErrorKind::UnexpectedEof.into()));
            self.piece = next?;
            self.at = 0;
            self.total += self.piece.len() as u64;
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, length: usize) {
        self.at += length;
    }
}

fn read_stanzas(input: Pieces, options: &RunOptions, builder: &mut LineBuilder) -> io::Result<u64> {
    let mut input = input;
    let mut reader = StanzaReader::new(&mut input);
    let mut packages = 0;
    while let Some(next) = reader.next_stanza() {
        builder.stanzas += 1;
        match next {
            Ok(stanza) => match BinaryPackage::parse(&stanza) {
                Ok(package) => builder.add(stanza.number(), package),
                Err(error) => {
                    let name = stanza.get("Package").map(|name| name.chars().take(120).collect());
                    builder.leave_out(stanza.number(), name, error.code(), chain(&error));
                }
            },
            Err(ReadError::Stanza(error)) => {
                builder.leave_out(error.number, error.name.clone(), "APT-STANZA", error.reason.to_string());
            }
            Err(ReadError::Input(error)) => return Err(error),
        }
        packages += 1;
        if packages % 4096 == 0 {
            let updates = builder.updates();
            options.progress.change(|p| {
                p.packages += 4096;
                p.updates = updates;
            });
        }
    }
    options.progress.change(|p| p.packages += packages % 4096);
    Ok(input.total)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
