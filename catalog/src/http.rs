//! Fetching from upstreams that may be slow, broken or hostile.
//!
//! Everything is bounded: redirects (same scheme or better, same host unless allowed), size (known from a signed
//! index, or a limit), time without a byte, and the rate below which a connection is given up. An interrupted
//! transfer is resumed where it ended; the hash over the whole decides.

mod error;
mod transfer;

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use reqwest::header::{
    CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED,
    RANGE,
};
use reqwest::{Client, Response, StatusCode, redirect};
use url::Url;

use transfer::Rate;
pub(crate) use transfer::looks_html;
pub use transfer::{Expected, Transfer};

pub use error::FetchError;

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

fn redirect_policy(allowed: BTreeSet<String>) -> redirect::Policy {
    redirect::Policy::custom(move |attempt| {
        let Some(first) = attempt.previous().first() else { return attempt.follow() };
        let last = attempt.previous().last().unwrap_or(first);
        let to = attempt.url();
        let better = to.scheme() == last.scheme() || (last.scheme() == "http" && to.scheme() == "https");
        let host = to.host_str().unwrap_or_default();
        let at_home = to.host_str() == first.host_str()
            && (to.port_or_known_default() == first.port_or_known_default() || to.scheme() != first.scheme());
        let reason = if attempt.previous().len() > MAX_REDIRECTS {
            format!("more than {MAX_REDIRECTS} redirects")
        } else if !better {
            format!("from {} to {}", last.scheme(), to.scheme())
        } else if !at_home && !allowed.contains(host) {
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
                    // What made progress may go on for as long as it does, at the least rate that any transfer has: a
                    // server that sends a byte and hangs up would hold us for ever.
                    let least = self.options.minimum_rate * self.options.rate_window.as_secs().max(1);
                    attempt = if transfer.have - before >= least { 0 } else { attempt };
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
                text.push(char::from(byte));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_and_stay_below_the_archive() {
        let base = Url::parse("http://archive.example/debian/").unwrap();
        let address = join(&base, "pool/main/g/g++/g++_1:2.0~rc1+b1_amd64.deb").unwrap();
        let text = "http://archive.example/debian/pool/main/g/g%2B%2B/g%2B%2B_1%3A2.0%7Erc1%2Bb1_amd64.deb";
        assert_eq!(address.as_str(), text);
        let no_path = Url::parse("http://archive.example").unwrap();
        assert_eq!(join(&no_path, "dists/a").unwrap().as_str(), "http://archive.example/dists/a");
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
