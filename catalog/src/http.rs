//! Fetching from upstreams that may be slow, broken or hostile.
//!
//! Everything is bounded: redirects (same scheme or better, same host unless allowed), size (known from a signed
//! index, or a limit), time without a byte, and the rate below which a connection is given up. An interrupted
//! transfer is resumed where it ended; the hash over the whole decides.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use patchtide_model::Digest;
use reqwest::header::{
    CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED,
    RANGE,
};
use reqwest::{Client, Response, StatusCode, redirect};
use sha2::{Digest as _, Sha256};
use url::Url;

/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// How to reach upstreams.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Proxy for all requests; none = the environment is not looked at either.
    pub proxy: Option<Url>,
    /// Hosts to which a redirect may lead besides the one that was asked.
    pub redirect_hosts: BTreeSet<String>,
    /// Time for a connection to be made.
    pub connect_timeout: Duration,
    /// Longest time without a byte.
    pub read_timeout: Duration,
    /// Bytes per second below which a transfer is given up, measured over [`HttpOptions::rate_window`].
    pub minimum_rate: u64,
    /// Window over which the rate is measured.
    pub rate_window: Duration,
    /// How often an interrupted transfer is resumed.
    pub retries: u32,
    /// Pause before the first retry; doubles with each.
    pub retry_pause: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            proxy: None,
            redirect_hosts: BTreeSet::new(),
            connect_timeout: Duration::from_secs(15),
            read_timeout: Duration::from_secs(30),
            minimum_rate: 1024,
            rate_window: Duration::from_secs(30),
            retries: 3,
            retry_pause: Duration::from_millis(500),
        }
    }
}

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The client could not be made.
    #[error("the HTTP client could not be set up: check the proxy address")]
    Setup(#[source] reqwest::Error),
    /// Connecting, sending or receiving failed, after all retries.
    #[error("{url} could not be fetched: check the address, the network and the proxy")]
    Network {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// A redirect that is not followed (reliability.md 4 #55).
    #[error("{url} redirects to where it may not: {reason}")]
    Redirect {
        /// What was asked for.
        url: String,
        /// Why it is not followed.
        reason: String,
    },
    /// Not there.
    #[error("{url} does not exist (404)")]
    NotFound {
        /// What was asked for.
        url: String,
    },
    /// Another answer than success.
    #[error("{url} answered {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// Slower than [`HttpOptions::minimum_rate`], after all retries.
    #[error("{url} sends less than {rate} bytes a second: given up")]
    Slow {
        /// What was asked for.
        url: String,
        /// The rate that was asked for.
        rate: u64,
    },
    /// More bytes than announced or allowed, or fewer.
    #[error("{url} has {got} bytes where {expected} were expected{}", if *html { "; it is an HTML page, perhaps of a login portal" } else { "" })]
    Size {
        /// What was asked for.
        url: String,
        /// Bytes that came; for a file that is too large those seen until it was given up.
        got: u64,
        /// Bytes in the signed index, or the limit.
        expected: u64,
        /// It looks like an HTML page.
        html: bool,
    },
    /// Other bytes than the signed index says.
    #[error("{url} has the hash {got} where {expected} was expected{}", if *html { "; it is an HTML page, perhaps of a login portal" } else { "" })]
    Hash {
        /// What was asked for.
        url: String,
        /// The hash of what came.
        got: Digest,
        /// The hash in the signed index.
        expected: Digest,
        /// It looks like an HTML page.
        html: bool,
    },
    /// The bytes could not be written.
    #[error("what came from {url} could not be written: check the disk")]
    Write {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A path that cannot be joined to the archive's address.
    #[error("{0:?} cannot be joined to the archive's address")]
    Path(String),
}

impl FetchError {
    /// Whether trying again later, or elsewhere, may help without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Network { .. } | Self::Slow { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429 || *status == 408,
            _ => false,
        }
    }
}

/// A client for upstreams. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Client,
    options: HttpOptions,
}

/// What a server said about a version of a file; sent back to ask whether it changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Validators {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

/// Answer to a conditional request for a small file.
#[derive(Debug)]
pub enum Small {
    /// It has not changed.
    NotModified,
    /// Its bytes.
    Body {
        /// The whole file.
        bytes: Vec<u8>,
        /// What to ask with next time.
        validators: Validators,
    },
}

/// A file that a signed index describes.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Size in bytes.
    pub size: u64,
    /// Hash of the whole.
    pub sha256: Digest,
}

fn redirect_policy(allowed: BTreeSet<String>) -> redirect::Policy {
    redirect::Policy::custom(move |attempt| {
        let Some(first) = attempt.previous().first() else { return attempt.follow() };
        let last = attempt.previous().last().unwrap_or(first);
        let to = attempt.url();
        let better = to.scheme() == last.scheme() || (last.scheme() == "http" && to.scheme() == "https");
        let host = to.host_str().unwrap_or_default();
        let same_host = to.host_str() == first.host_str()
            && (to.port_or_known_default() == first.port_or_known_default() || to.scheme() != first.scheme());
        let reason = if attempt.previous().len() > MAX_REDIRECTS {
            format!("more than {MAX_REDIRECTS} redirects")
        } else if !better {
            format!("from {} to {}", last.scheme(), to.scheme())
        } else if !same_host && !allowed.contains(host) {
            format!("to the host {host}, which is not among the allowed ones")
        } else {
            return attempt.follow();
        };
        attempt.error(reason)
    })
}

impl Fetcher {
    /// A client with these options.
    pub fn new(options: HttpOptions) -> Result<Self, FetchError> {
        let builder = Client::builder()
            .no_proxy()
            .user_agent(concat!("patchtide/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect_policy(options.redirect_hosts.clone()))
            .referer(false)
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.read_timeout);
        let builder = match &options.proxy {
            None => builder,
            Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy.clone()).map_err(FetchError::Setup)?),
        };
        Ok(Self { client: builder.build().map_err(FetchError::Setup)?, options })
    }

    /// Fetches a file of unknown size whole, at most `limit` bytes, unless it is still what `known` describes.
    pub async fn small(&self, url: &Url, known: &Validators, limit: u64) -> Result<Small, FetchError> {
        let mut headers = HeaderMap::new();
        for (name, value) in [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)] {
            if let Some(Ok(value)) = value.as_deref().map(HeaderValue::from_str) {
                headers.insert(name, value);
            }
        }
        let mut attempt = 0;
        loop {
            match self.small_once(url, headers.clone(), limit).await {
                Err(error) if error.is_transient() && attempt < self.options.retries => {
                    self.pause(&mut attempt, &error).await;
                }
                result => return result,
            }
        }
    }

    async fn small_once(&self, url: &Url, headers: HeaderMap, limit: u64) -> Result<Small, FetchError> {
        let conditional = !headers.is_empty();
        let response =
            self.client.get(url.clone()).headers(headers).send().await.map_err(|e| network(url, e))?;
        if conditional && response.status() == StatusCode::NOT_MODIFIED {
            return Ok(Small::NotModified);
        }
        let mut response = check_status(url, response)?;
        let text = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let validators = Validators { etag: text(ETAG), last_modified: text(LAST_MODIFIED) };
        let mut bytes = Vec::new();
        let mut rate = Rate::new(&self.options);
        while let Some(chunk) = response.chunk().await.map_err(|e| network(url, e))? {
            if (bytes.len() + chunk.len()) as u64 > limit {
                let got = (bytes.len() + chunk.len()) as u64;
                return Err(FetchError::Size {
                    url: url.to_string(),
                    got,
                    expected: limit,
                    html: looks_html(&bytes),
                });
            }
            bytes.extend_from_slice(&chunk);
            rate.check(url, chunk.len())?;
        }
        Ok(Small::Body { bytes, validators })
    }

    /// Fetches a file that a signed index describes, hashing while it is written to `out`; resumes when interrupted.
    ///
    /// `received` is told the bytes of every piece. `out` has had nothing written to it that counts when this fails.
    pub async fn expected(
        &self,
        url: &Url,
        expected: Expected,
        out: &mut (dyn Write + Send),
        received: &(dyn Fn(u64) + Sync),
    ) -> Result<(), FetchError> {
        let mut transfer = Transfer::new(expected);
        self.resume(url, &mut transfer, out, received).await
    }

    /// Goes on with a transfer of which a part has already been taken in.
    pub async fn resume(
        &self,
        url: &Url,
        transfer: &mut Transfer,
        out: &mut (dyn Write + Send),
        received: &(dyn Fn(u64) + Sync),
    ) -> Result<(), FetchError> {
        let mut attempt = 0;
        loop {
            let before = transfer.have;
            match self.transfer_once(url, transfer, out, received).await {
                Err(error) if error.is_transient() && attempt < self.options.retries => {
                    // What made progress may go on for as long as it makes progress.
                    attempt = if transfer.have > before { 0 } else { attempt };
                    self.pause(&mut attempt, &error).await;
                }
                Err(error) => return Err(error),
                Ok(()) => return transfer.check(url),
            }
        }
    }

    async fn transfer_once(
        &self,
        url: &Url,
        transfer: &mut Transfer,
        out: &mut (dyn Write + Send),
        received: &(dyn Fn(u64) + Sync),
    ) -> Result<(), FetchError> {
        if transfer.have == transfer.expected.size && transfer.have > 0 {
            return Ok(());
        }
        let mut request = self.client.get(url.clone());
        if transfer.have > 0 {
            request = request.header(RANGE, format!("bytes={}-", transfer.have));
            if let Some(etag) = transfer.etag.as_deref().filter(|etag| !etag.starts_with("W/")) {
                request = request.header(IF_RANGE, etag);
            }
        }
        let response = request.send().await.map_err(|e| network(url, e))?;
        let mut response = check_status(url, response)?;
        // A server that ignores the range sends everything again: what we have is skipped, the hash decides.
        let mut skip = if starts_at(&response) == Some(transfer.have) { 0 } else { transfer.have };
        if response.status() == StatusCode::PARTIAL_CONTENT && skip != 0 {
            return Err(FetchError::Status { url: url.to_string(), status: 206 });
        }
        transfer.etag = response.headers().get(ETAG).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let mut rate = Rate::new(&self.options);
        while let Some(chunk) = response.chunk().await.map_err(|e| network(url, e))? {
            rate.check(url, chunk.len())?;
            let jump = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= jump as u64;
            let fresh = &chunk[jump..];
            transfer.take(url, fresh)?;
            out.write_all(fresh).map_err(|source| FetchError::Write { url: url.to_string(), source })?;
            received(fresh.len() as u64);
        }
        Ok(())
    }

    async fn pause(&self, attempt: &mut u32, error: &FetchError) {
        let pause = self.options.retry_pause * 2_u32.saturating_pow(*attempt);
        *attempt += 1;
        tracing::debug!(%error, attempt, ?pause, "fetching again");
        tokio::time::sleep(pause).await;
    }
}

/// A file on its way: what has come so far, and its hash.
#[derive(Debug, Clone)]
pub struct Transfer {
    expected: Expected,
    hasher: Sha256,
    have: u64,
    etag: Option<String>,
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

    fn take(&mut self, url: &Url, bytes: &[u8]) -> Result<(), FetchError> {
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

    fn check(&self, url: &Url) -> Result<(), FetchError> {
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

/// Joins a path from a signed index to the archive's address; everything that has a meaning in an address is escaped,
/// and `+`, `~` and `:` too, which some servers and caches read differently.
pub fn join(base: &Url, path: &str) -> Result<Url, FetchError> {
    if !patchtide_packaging::release::path_is_safe(path) || base.cannot_be_a_base() {
        return Err(FetchError::Path(path.chars().take(120).collect()));
    }
    let mut text =
        base.as_str().split(['?', '#']).next().unwrap_or_default().trim_end_matches('/').to_owned();
    text.push('/');
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'/' => {
                text.push(char::from(byte))
            }
            other => {
                use std::fmt::Write as _;
                let _ = write!(text, "%{other:02X}");
            }
        }
    }
    Url::parse(&text).map_err(|_| FetchError::Path(path.chars().take(120).collect()))
}

fn starts_at(response: &Response) -> Option<u64> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Some(0);
    }
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn network(url: &Url, error: reqwest::Error) -> FetchError {
    if error.is_redirect() {
        let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        return FetchError::Redirect { url: url.to_string(), reason };
    }
    FetchError::Network { url: url.to_string(), source: error.without_url() }
}

fn check_status(url: &Url, response: Response) -> Result<Response, FetchError> {
    let status = response.status();
    match status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(FetchError::NotFound { url: url.to_string() }),
        // reqwest hands on a redirect whose Location it cannot read or whose scheme it does not speak.
        _ if status.is_redirection() => Err(FetchError::Redirect {
            url: url.to_string(),
            reason: format!("status {status} with a Location that cannot be followed"),
        }),
        _ => Err(FetchError::Status { url: url.to_string(), status: status.as_u16() }),
    }
}

/// Whether bytes begin like a page for people, such as a login portal sends in place of every file.
pub(crate) fn looks_html(bytes: &[u8]) -> bool {
    let head: Vec<u8> =
        bytes.iter().take(256).skip_while(|b| b.is_ascii_whitespace()).map(u8::to_ascii_lowercase).collect();
    head.starts_with(b"<!doctype") || head.starts_with(b"<html") || head.starts_with(b"<?xml")
}

/// Gives up what only dribbles: a server that sends a byte before each read times out would hold us for ever.
struct Rate<'a> {
    options: &'a HttpOptions,
    since: tokio::time::Instant,
    bytes: u64,
}

impl<'a> Rate<'a> {
    fn new(options: &'a HttpOptions) -> Self {
        Self { options, since: tokio::time::Instant::now(), bytes: 0 }
    }

    fn check(&mut self, url: &Url, bytes: usize) -> Result<(), FetchError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_and_stay_below_the_archive() {
        let base = Url::parse("http://archive.example/debian/").unwrap();
        let joined = join(&base, "pool/main/g/g++/g++_1:2.0~rc1+b1_amd64.deb").unwrap();
        let text = "http://archive.example/debian/pool/main/g/g%2B%2B/g%2B%2B_1%3A2.0%7Erc1%2Bb1_amd64.deb";
        assert_eq!(joined.as_str(), text);
        let bare = Url::parse("http://archive.example").unwrap();
        assert_eq!(join(&bare, "dists/a").unwrap().as_str(), "http://archive.example/dists/a");
        for path in ["../x", "/x", "a/../b", "a//b", "%2e%2e/x", "http://other.example/x", "a?b", "a#b", ""] {
            assert!(join(&base, path).is_err(), "{path}");
        }
    }

    #[test]
    fn pages_for_people_are_recognised() {
        assert!(looks_html(b"\n <!DOCTYPE html>") && looks_html(b"<HTML>"));
        assert!(!looks_html(b"Package: a") && !looks_html(b"\xfd7zXZ"));
    }
}
