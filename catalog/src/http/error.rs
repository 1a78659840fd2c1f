//! Why something could not be fetched.

use patchtide_model::Digest;

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
