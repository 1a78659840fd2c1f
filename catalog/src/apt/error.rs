//! What can go wrong with an archive, with the codes under which it is reported (reliability.md section 4).

use jiff::Timestamp;
use patchtide_packaging::release::ReleaseError;

use super::bundle::BadStanza;
use crate::http::FetchError;
use crate::openpgp::SignatureError;

/// Why a line was not synchronised. What was accepted before stays.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The source itself cannot be used.
    #[error("the source is not usable: {0}")]
    Source(String),
    /// A file could not be fetched.
    #[error("{what} could not be fetched")]
    Fetch {
        /// Which file, in words.
        what: String,
        /// Why.
        #[source]
        source: FetchError,
    },
    /// Something else than a file of an archive was sent, such as the page of a login portal (#56).
    #[error(
        "{url} is not a file of an archive but a page for people: check for a proxy or login portal in between"
    )]
    NotIndex {
        /// What was asked for.
        url: String,
    },
    /// Not signed, or not by a trusted key (#45, #58).
    #[error("the signature of {url} is not good: check the keyring of the source")]
    Signature {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: SignatureError,
    },
    /// Signed, but not a usable release (#47 when only weak hashes are there).
    #[error("{url} is signed but not usable")]
    Release {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: ReleaseError,
    },
    /// Past its `Valid-Until`, or older than the greatest age (#46).
    #[error(
        "the release of {suite} is not valid any more since {until}: the mirror is stale or somebody keeps updates back"
    )]
    Expired {
        /// The suite.
        suite: String,
        /// Since when.
        until: Timestamp,
    },
    /// No `Valid-Until` where the source demands one.
    #[error(
        "the release of {suite} does not say until when it is valid, which requireValidUntil demands: leave that out for this source if its archive never does"
    )]
    NoEnd {
        /// The suite.
        suite: String,
    },
    /// Dated ahead of our clock (#46).
    #[error("the release of {suite} is dated {date}, in the future: check this machine's clock")]
    Future {
        /// The suite.
        suite: String,
        /// Its date.
        date: Timestamp,
    },
    /// Older than the last one that was accepted.
    #[error(
        "the release of {suite} is dated {date}, but the one of {accepted} was already accepted: an older one is being replayed"
    )]
    Rollback {
        /// The suite.
        suite: String,
        /// Its date.
        date: Timestamp,
        /// Date of the last accepted one.
        accepted: Timestamp,
    },
    /// The archive says it is another one than before (#49).
    #[error("{field} of {suite} changed from {before:?} to {after:?}: approve the change if it is right")]
    InfoChanged {
        /// The suite.
        suite: String,
        /// The field.
        field: &'static str,
        /// What it said when it was last accepted, or what was asked for.
        before: String,
        /// What it says now.
        after: String,
    },
    /// A component or architecture that was asked for is not there (#56).
    #[error("{what} is not there in {suite}: remove it from the source or choose an archive that has it")]
    Partial {
        /// The suite.
        suite: String,
        /// What is missing.
        what: String,
    },
    /// An index larger than its release says or a limit allows; compressed to explode perhaps.
    #[error("{path} grows beyond {limit} bytes when decompressed")]
    Bomb {
        /// Path below the suite.
        path: String,
        /// The bound.
        limit: u64,
    },
    /// An index that cannot be decompressed or ends early.
    #[error("{path} cannot be decompressed")]
    Decompress {
        /// Path below the suite.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Too many malformed stanzas (#50).
    #[error("{bad} of {total} stanzas are malformed, more than 0.1 %; the first: {first}")]
    Malformed {
        /// How many.
        bad: u64,
        /// Of how many.
        total: u64,
        /// The first of them.
        first: Box<BadStanza>,
    },
    /// Far fewer updates than before (#57).
    #[error(
        "the line shrank from {before} to {after} updates at once: approve it if the archive really did that"
    )]
    Shrink {
        /// Updates when it was last accepted.
        before: u64,
        /// Updates now.
        after: u64,
    },
    /// No room for indices.
    #[error("the scratch directory cannot be used: check its permissions and free space")]
    Scratch(#[source] std::io::Error),
    /// A part of the run ended by itself.
    #[error("reading the index was interrupted")]
    Interrupted,
}

impl SyncError {
    /// The code of reliability.md section 4.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Source(_) => "APT-SOURCE",
            Self::Fetch { source, .. } => match source {
                FetchError::Redirect { .. } => "APT-REDIRECT",
                FetchError::Hash { html: true, .. } | FetchError::Size { html: true, .. } => "APT-NOTINDEX",
                FetchError::Hash { .. } | FetchError::Size { .. } => "APT-HASH",
                FetchError::NotFound { .. } => "APT-PARTIAL",
                FetchError::Path(_) => "APT-PATH",
                _ => "APT-FETCH",
            },
            Self::NotIndex { .. } => "APT-NOTINDEX",
            Self::Signature { source, .. } if source.is_about_keys() => "APT-KEY",
            Self::Signature { .. } => "APT-SIG",
            Self::Release { source: ReleaseError::WeakHashes(_), .. } => "APT-WEAKHASH",
            Self::Release { source: ReleaseError::Entry { reason, .. }, .. }
                if reason.contains("path leaves") =>
            {
                "APT-PATH"
            }
            Self::Release { .. } => "APT-RELEASE",
            Self::Expired { .. } => "APT-EXPIRED",
            Self::NoEnd { .. } => "APT-NO-END",
            Self::Future { .. } => "APT-FUTURE",
            Self::Rollback { .. } => "APT-ROLLBACK",
            Self::InfoChanged { .. } => "APT-INFO-CHANGED",
            Self::Partial { .. } => "APT-PARTIAL",
            Self::Bomb { .. } => "APT-LIMIT",
            Self::Decompress { .. } => "APT-COMPRESSION",
            Self::Malformed { .. } => "APT-STANZA",
            Self::Shrink { .. } => "CAT-SHRINK",
            Self::Scratch(_) | Self::Interrupted => "APT-LOCAL",
        }
    }

    /// The error with all its causes, for a status or a log line.
    pub fn chain(&self) -> String {
        let mut text = format!("{}: {self}", self.code());
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// Whether what was fetched disagrees with the release, as it does while a mirror is being updated (#48).
    pub(crate) fn may_be_mid_sync(&self) -> bool {
        matches!(
            self,
            Self::Fetch {
                source: FetchError::Hash { html: false, .. }
                    | FetchError::Size { html: false, .. }
                    | FetchError::NotFound { .. },
                ..
            }
        )
    }
}
