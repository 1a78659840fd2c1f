//! A file on its way: what has come, whether it is what was announced, and whether it comes fast enough.

use patchtide_model::Digest;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{FetchError, HttpOptions};

/// A file that a signed index describes.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Size in bytes.
    pub size: u64,
    /// Hash of the whole.
    pub sha256: Digest,
}

/// A file on its way: what has come so far, and its hash.
#[derive(Debug, Clone)]
pub struct Transfer {
    pub(super) expected: Expected,
    hasher: Sha256,
    pub(super) have: u64,
    pub(super) etag: Option<String>,
    html: bool,
}

impl Transfer {
    /// Nothing has come yet.
    pub fn new(expected: Expected) -> Self {
        Self { expected, hasher: Sha256::new(), have: 0, etag: None, html: false }
    }

    /// Takes in what an earlier, interrupted transfer left behind, before it goes on.
    pub fn already_have(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.have += bytes.len() as u64;
    }

    /// Bytes so far.
    pub fn have(&self) -> u64 {
        self.have
    }

    pub(super) fn take(&mut self, url: &Url, bytes: &[u8]) -> Result<(), FetchError> {
        if self.have == 0 {
            self.html = looks_html(bytes);
        }
        let got = self.have + bytes.len() as u64;
        if got > self.expected.size {
            return Err(FetchError::Size {
                url: url.to_string(),
                got,
                expected: self.expected.size,
                html: self.html,
            });
        }
        self.hasher.update(bytes);
        self.have = got;
        Ok(())
    }

    pub(super) fn check(&self, url: &Url) -> Result<(), FetchError> {
        let Expected { size, sha256 } = self.expected;
        if self.have != size {
            return Err(FetchError::Size {
                url: url.to_string(),
                got: self.have,
                expected: size,
                html: self.html,
            });
        }
        let got = Digest::from_bytes(self.hasher.clone().finalize().into());
        if got == sha256 {
            Ok(())
        } else {
            Err(FetchError::Hash { url: url.to_string(), got, expected: sha256, html: self.html })
        }
    }
}

/// Whether bytes begin like a page for people, such as a login portal sends in place of every file.
pub(crate) fn looks_html(bytes: &[u8]) -> bool {
    let head: Vec<u8> =
        bytes.iter().take(256).skip_while(|b| b.is_ascii_whitespace()).map(u8::to_ascii_lowercase).collect();
    head.starts_with(b"<!doctype") || head.starts_with(b"<html") || head.starts_with(b"<?xml")
}

/// Gives up what only dribbles: a server that sends a byte before each read times out would hold us for ever.
pub(super) struct Rate<'a> {
    options: &'a HttpOptions,
    since: tokio::time::Instant,
    bytes: u64,
}

impl<'a> Rate<'a> {
    pub(super) fn new(options: &'a HttpOptions) -> Self {
        Self { options, since: tokio::time::Instant::now(), bytes: 0 }
    }

    pub(super) fn check(&mut self, url: &Url, bytes: usize) -> Result<(), FetchError> {
        self.bytes += bytes as u64;
        let elapsed = self.since.elapsed();
        if elapsed < self.options.rate_window {
            return Ok(());
        }
        if self.bytes < self.options.minimum_rate.saturating_mul(elapsed.as_secs().max(1)) {
            return Err(FetchError::Slow { url: url.to_string(), rate: self.options.minimum_rate });
        }
        self.since = tokio::time::Instant::now();
        self.bytes = 0;
        Ok(())
    }
}
