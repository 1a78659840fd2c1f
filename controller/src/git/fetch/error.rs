//! Why a revision could not be fetched, and what libgit2's errors mean for that.

use std::time::Duration;

use git2::{ErrorClass, ErrorCode, Oid};

use super::{super::verdict::clean, Limits};

/// Shorter passwords stand in every text by chance.
const SECRET: usize = 4;

/// What a fetch may not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Bytes received.
    Bytes,
    /// Objects received.
    Objects,
    /// References offered.
    References,
    /// Bytes of the references offered.
    Advertised,
    /// Bytes of the commit or tag that is named.
    Commit,
}

impl Bound {
    /// The field of the source that decides it.
    const fn field(self) -> &'static str {
        match self {
            Self::Bytes => "spec.limits.fetchSize",
            Self::Commit => "spec.ref",
            Self::Objects | Self::References | Self::Advertised => "spec.url",
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Bytes => "bytes received",
            Self::Objects => "objects in the repository",
            Self::References => "references offered by the server",
            Self::Advertised => "bytes of references offered by the server",
            Self::Commit => "bytes of a commit or tag with its message",
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Bytes => "raise it, or give the fleet a repository of its own",
            Self::Objects => "give the fleet a repository of its own, with a history of its own",
            Self::References | Self::Advertised => {
                "delete branches and tags that nobody needs, or give the fleet a repository of its own"
            }
            Self::Commit => "make the commit anew with a shorter message",
        }
    }
}

/// Why a revision could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The cache cannot be opened or made.
    #[error("GIT-CACHE: the local object database cannot be opened; check the disk of the controller")]
    Cache(#[source] git2::Error),
    /// The relay through which the server is reached cannot be started.
    #[error("GIT-CACHE: no connection can be relayed on this machine; check its sockets and threads")]
    Relay(#[source] std::io::Error),
    /// The server does not answer as Git does.
    #[error("GIT-OPERATION: spec.url: the repository cannot be read; the last good revision stays in force")]
    Operation(#[source] git2::Error),
    /// There is no connection.
    #[error(
        "GIT-OPERATION: spec.url: the server cannot be reached: {0}; the last good revision stays in force"
    )]
    Unreachable(String),
    /// The server names another host.
    #[error(
        "GIT-OPERATION: spec.url: the server redirects to {0}, which is not followed; if that is right, write it into spec.url"
    )]
    Redirect(String),
    /// Credentials are missing or refused.
    #[error(
        "GIT-AUTH: spec.secretRef: the server wants other credentials (https: username, password; ssh: identity, known_hosts)"
    )]
    Authentication(#[source] git2::Error),
    /// The server's key or certificate is not the expected one.
    #[error("GIT-PEER: the server is not the one that is expected: {0}; nothing was fetched")]
    Peer(String),
    /// The reference does not exist.
    #[error(
        "GIT-REF-NOTFOUND: spec.ref: {0} does not exist in the repository; the last good revision stays in force"
    )]
    NotFound(String),
    /// The branch was rewound or replaced.
    #[error(
        "GIT-NOT-DESCENDANT: the new commit {new} does not descend from the applied {applied}: history was rewritten; restore the branch, or accept it with spec.allowHistoryRewrite: true"
    )]
    NotDescendant {
        /// Offered.
        new: Oid,
        /// In force.
        applied: Oid,
    },
    /// A tag that leads to no commit.
    #[error(
        "GIT-REF-NOTFOUND: spec.ref: {0} does not lead to a commit; name a branch, or a tag of a commit; the last good revision stays in force"
    )]
    NoCommit(String),
    /// More than is accepted.
    #[error("GIT-LIMIT: {}: more than {limit} {}; {}; the last good revision stays in force", .bound.field(), .bound.what(), .bound.remedy())]
    Limit {
        /// Of what.
        bound: Bound,
        /// How much.
        limit: usize,
    },
    /// Took too long.
    #[error("GIT-TIMEOUT: fetching took longer than {} s (spec.timeout); the last good revision stays in force", .0.as_secs())]
    Timeout(Duration),
    /// The objects are damaged; the cache was discarded so that the next attempt fetches all anew.
    #[error("GIT-CORRUPT: the repository's objects are damaged; the cache was discarded and is fetched anew")]
    Corrupt(#[source] git2::Error),
}

impl FetchError {
    /// The same, with what a server made libgit2 say made safe to show: control characters escaped, the length bounded,
    /// and the password taken out, should the server have repeated it.
    pub(super) fn safe(self, password: Option<&str>) -> Self {
        let shown = |text: &str| {
            let text = clean(text);
            match password {
                Some(password) if password.len() >= SECRET => text.replace(password, "***"),
                _ => text,
            }
        };
        let error =
            |error: git2::Error| git2::Error::new(error.code(), error.class(), shown(error.message()));
        match self {
            Self::Operation(source) => Self::Operation(error(source)),
            Self::Authentication(source) => Self::Authentication(error(source)),
            Self::Corrupt(source) => Self::Corrupt(error(source)),
            Self::Unreachable(why) => Self::Unreachable(shown(&why)),
            Self::Peer(why) => Self::Peer(shown(&why)),
            Self::Redirect(to) => Self::Redirect(shown(&to)),
            other => other,
        }
    }

    /// Whether it is of the connection, which heals by itself, and not of what the repository holds.
    pub const fn is_of_connection(&self) -> bool {
        matches!(
            self,
            Self::Cache(_)
                | Self::Relay(_)
                | Self::Operation(_)
                | Self::Unreachable(_)
                | Self::Redirect(_)
                | Self::Authentication(_)
                | Self::Peer(_)
                | Self::Timeout(_)
                | Self::Corrupt(_)
        )
    }
}

/// What an error of libgit2 is in our words.
pub(super) fn classify(error: git2::Error, limits: Limits) -> FetchError {
    match (error.code(), error.class()) {
        (ErrorCode::Auth, _) => FetchError::Authentication(error),
        (ErrorCode::Certificate, _) | (_, ErrorClass::Ssl) => FetchError::Peer(error.message().to_owned()),
        (ErrorCode::Timeout, _) => FetchError::Timeout(limits.time),
        (_, ErrorClass::Odb | ErrorClass::Zlib | ErrorClass::Indexer | ErrorClass::Object) => {
            FetchError::Corrupt(error)
        }
        _ => FetchError::Operation(error),
    }
}
