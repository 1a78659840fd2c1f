//! Fetching a revision into a bare object database with libgit2. Blocking.

#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use git2::{
    AutotagOption, CertificateCheckStatus, Cred, CredentialType, Direction, ErrorClass, ErrorCode,
    FetchOptions, Oid, RemoteCallbacks, RemoteRedirect, Repository,
};
use jiff::Timestamp;
use url::Url;

use super::{
    peer::{self, Expected},
    relay::{Relay, Target, Verdict},
};

/// What to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A branch by its short name.
    Branch(String),
    /// A tag by its short name.
    Tag(String),
    /// A commit that some branch or tag reaches.
    Commit(String),
}

/// Credentials of a source, from its Secret. Never shown.
#[derive(Clone, Default)]
pub struct Credentials {
    /// User for https.
    pub username: Option<String>,
    /// Password or token for https; the passphrase of the key for ssh.
    pub password: Option<String>,
    /// Private key, PEM, for ssh.
    pub identity: Option<String>,
    /// `known_hosts` lines for ssh; without them no ssh host is trusted.
    pub known_hosts: Option<String>,
    /// Certificate authorities for https, PEM; with them those of the system do not count.
    pub authorities: Option<String>,
}

/// Limits of one fetch (reliability.md 3.9).
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes received.
    pub bytes: usize,
    /// Objects received.
    pub objects: usize,
    /// References that the server may offer.
    pub references: usize,
    /// Bytes of the commit or tag that is named, with its message.
    pub commit_bytes: usize,
    /// Wall clock.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 500 << 20,
            objects: 200_000,
            references: 100_000,
            commit_bytes: 1 << 20,
            time: Duration::from_mins(2),
        }
    }
}

/// What is fetched, and by which rules.
#[derive(Clone)]
pub struct Request {
    /// Repository.
    pub url: String,
    /// What of it.
    pub reference: Reference,
    /// Credentials.
    pub credentials: Credentials,
    /// Limits.
    pub limits: Limits,
    /// The commit in force, from which a branch must descend.
    pub applied: Option<Oid>,
    /// Whether it need not.
    pub allow_rewrite: bool,
    /// The time, for certificates.
    pub now: Timestamp,
}

/// A revision in the object database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The commit.
    pub commit: Oid,
    /// What the reference names: the commit, or the annotated tag that leads to it.
    pub object: Oid,
    /// As Flux writes it (RFC-0005): `main@sha1:<hex>`.
    pub revision: String,
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
    /// More than is accepted.
    #[error("GIT-LIMIT: the repository exceeds the limit of {0}")]
    Limit(&'static str),
    /// Took too long.
    #[error("GIT-TIMEOUT: fetching took longer than {} s (spec.timeout); the last good revision stays in force", .0.as_secs())]
    Timeout(Duration),
    /// The objects are damaged; the cache was discarded so that the next attempt fetches all anew.
    #[error("GIT-CORRUPT: the repository's objects are damaged; the cache was discarded and is fetched anew")]
    Corrupt(#[source] git2::Error),
}

impl FetchError {
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

/// The object database of one source.
pub struct Cache {
    dir: PathBuf,
}

const FETCHED: &str = "refs/patchtide/fetched";
/// Told by the relay, and by libgit2 where there is none.
const BYTES: &str = "bytes received (spec.limits.fetchSize)";

impl Cache {
    /// The cache in `dir`, made when absent.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The bare repository. What is there and is none (the making was broken off) is made anew.
    pub fn open(&self) -> Result<Repository, FetchError> {
        if self.dir.join("HEAD").is_file() {
            if let Ok(repository) = Repository::open_bare(&self.dir) {
                return Ok(repository);
            }
            self.discard();
        }
        Repository::init_bare(&self.dir).map_err(FetchError::Cache)
    }

    /// Forgets everything.
    pub fn discard(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(%error, dir = %self.dir.display(), "the damaged Git cache cannot be removed");
        }
    }

    /// Fetches what is asked for.
    pub fn fetch(&self, request: &Request) -> Result<Fetched, FetchError> {
        let result = self.open().and_then(|repository| {
            let fetched = connect(&repository, request)?;
            descends(&repository, request, fetched)
        });
        if matches!(result, Err(FetchError::Corrupt(_))) {
            self.discard();
        }
        result
    }
}

/// A branch must go on from what is in force.
fn descends(repository: &Repository, request: &Request, fetched: Fetched) -> Result<Fetched, FetchError> {
    let (Reference::Branch(_), Some(applied), false) =
        (&request.reference, request.applied, request.allow_rewrite)
    else {
        return Ok(fetched);
    };
    let goes_on = fetched.commit == applied
        || (repository.find_commit(applied).is_ok()
            && repository.graph_descendant_of(fetched.commit, applied).map_err(FetchError::Corrupt)?);
    if goes_on { Ok(fetched) } else { Err(FetchError::NotDescendant { new: fetched.commit, applied }) }
}

/// Fetches through a relay where there is a network; what the relay or a callback found says more than libgit2 does.
fn connect(repository: &Repository, request: &Request) -> Result<Fetched, FetchError> {
    let limits = request.limits;
    let deadline = Instant::now() + limits.time;
    let unusable = |why: &str| FetchError::Operation(git2::Error::from_str(why));
    let url = Url::parse(&request.url).map_err(|error| unusable(&error.to_string()))?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port().unwrap_or(if url.scheme() == "ssh" { 22 } else { 443 });
    let (way, relay) = match url.scheme() {
        scheme @ ("https" | "ssh") => {
            let tls = match scheme {
                "https" => {
                    let authorities = request.credentials.authorities.as_deref();
                    Some(peer::tls(authorities, request.now).map_err(FetchError::Peer)?)
                }
                _ => None,
            };
            let relay = Relay::start(Target { host: host.clone(), port, tls }, limits.bytes, deadline)
                .map_err(FetchError::Relay)?;
            let user = if url.username().is_empty() { String::new() } else { format!("{}@", url.username()) };
            let outer = if scheme == "https" { "http" } else { "ssh" };
            (format!("{outer}://{user}127.0.0.1:{}{}", relay.port(), url.path()), Some(relay))
        }
        _ => (request.url.clone(), None),
    };
    let credentials = &request.credentials;
    let session = Session {
        credentials,
        limits,
        deadline,
        peer: Expected { host: &host, port, known_hosts: credentials.known_hosts.as_deref() },
        refused: RefCell::new(None),
    };
    let result = fetch(repository, &way, &request.reference, &session);
    let verdict = relay.and_then(Relay::end);
    result.map_err(|error| {
        let found = verdict.map(|verdict| match verdict {
            Verdict::Bytes => FetchError::Limit(BYTES),
            Verdict::Time => FetchError::Timeout(limits.time),
            Verdict::Unreachable(why) => FetchError::Unreachable(why),
            Verdict::Peer(why) => FetchError::Peer(why),
            Verdict::Redirect(to) => FetchError::Redirect(to),
        });
        session.refused.into_inner().or(found).unwrap_or(error)
    })
}

struct Session<'a> {
    credentials: &'a Credentials,
    limits: Limits,
    deadline: Instant,
    peer: Expected<'a>,
    refused: RefCell<Option<FetchError>>,
}

fn fetch(
    repository: &Repository,
    way: &str,
    reference: &Reference,
    session: &Session<'_>,
) -> Result<Fetched, FetchError> {
    let limits = session.limits;
    let mut remote = repository.remote_anonymous(way).map_err(FetchError::Operation)?;
    let oid = {
        let connection = remote
            .connect_auth(Direction::Fetch, Some(callbacks(session)), None)
            .map_err(|error| classify(error, limits))?;
        let offered = connection.list().map_err(|error| classify(error, limits))?;
        if offered.len() > limits.references {
            return Err(FetchError::Limit("references offered by the server"));
        }
        let find = |full: &str, what: String| {
            offered
                .iter()
                .find(|head| head.name() == full)
                .map(git2::RemoteHead::oid)
                .ok_or(FetchError::NotFound(what))
        };
        match reference {
            Reference::Branch(name) => find(&format!("refs/heads/{name}"), format!("branch {name}"))?,
            Reference::Tag(name) => find(&format!("refs/tags/{name}"), format!("tag {name}"))?,
            Reference::Commit(hex) => {
                Oid::from_str(hex).map_err(|_| FetchError::NotFound(format!("commit {hex}")))?
            }
        }
    };
    if repository.find_object(oid, None).is_err() {
        let specs = match reference {
            Reference::Branch(name) => vec![format!("+refs/heads/{name}:{FETCHED}")],
            Reference::Tag(name) => vec![format!("+refs/tags/{name}:{FETCHED}")],
            Reference::Commit(_) => {
                vec![
                    "+refs/heads/*:refs/patchtide/heads/*".to_owned(),
                    "+refs/tags/*:refs/patchtide/tags/*".to_owned(),
                ]
            }
        };
        let mut options = FetchOptions::new();
        options
            .remote_callbacks(callbacks(session))
            .download_tags(AutotagOption::None)
            .follow_redirects(RemoteRedirect::None);
        let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
        remote.fetch(&specs, Some(&mut options), None).map_err(|error| classify(error, limits))?;
    }
    let absent = |error| match reference {
        Reference::Commit(hex) => FetchError::NotFound(format!("commit {hex}")),
        Reference::Branch(_) | Reference::Tag(_) => FetchError::Corrupt(error),
    };
    // Before it is read: the message belongs to it.
    let (size, _) = repository.odb().and_then(|odb| odb.read_header(oid)).map_err(absent)?;
    if size > limits.commit_bytes {
        return Err(FetchError::Limit("bytes of a commit or tag with its message"));
    }
    let object = repository.find_object(oid, None).map_err(absent)?;
    let commit = object.peel_to_commit().map_err(FetchError::Corrupt)?.id();
    let revision = match reference {
        Reference::Branch(name) | Reference::Tag(name) => format!("{name}@sha1:{commit}"),
        Reference::Commit(_) => format!("sha1:{commit}"),
    };
    Ok(Fetched { commit, object: oid, revision })
}

fn callbacks<'a>(session: &'a Session<'a>) -> RemoteCallbacks<'a> {
    let mut callbacks = RemoteCallbacks::new();
    let mut asked = 0;
    callbacks.credentials(move |_url, user, allowed| {
        // libgit2 asks again and again while the server refuses; two answers are all we have.
        asked += 1;
        answer(session.credentials, user, allowed, asked)
    });
    callbacks.certificate_check(move |cert, _| match peer::judge(cert, session.peer) {
        Ok(()) => Ok(CertificateCheckStatus::CertificateOk),
        Err(why) => {
            let error = git2::Error::new(ErrorCode::Certificate, ErrorClass::Callback, &why);
            session.refused.replace(Some(FetchError::Peer(why)));
            Err(error)
        }
    });
    callbacks.transfer_progress(move |progress| {
        let verdict = if progress.received_bytes() > session.limits.bytes {
            Some(FetchError::Limit(BYTES))
        } else if progress.total_objects() > session.limits.objects {
            Some(FetchError::Limit("objects"))
        } else if Instant::now() > session.deadline {
            Some(FetchError::Timeout(session.limits.time))
        } else {
            None
        };
        let go_on = verdict.is_none();
        if let Some(verdict) = verdict {
            session.refused.replace(Some(verdict));
        }
        go_on
    });
    callbacks
}

fn answer(
    credentials: &Credentials,
    user: Option<&str>,
    allowed: CredentialType,
    asked: u32,
) -> Result<Cred, git2::Error> {
    let refuse = |why: &str| Err(git2::Error::new(ErrorCode::Auth, ErrorClass::Callback, why));
    if asked > 2 {
        return refuse("the server refused the credentials");
    }
    if allowed.contains(CredentialType::SSH_KEY)
        && let Some(key) = &credentials.identity
    {
        return Cred::ssh_key_from_memory(user.unwrap_or("git"), None, key, credentials.password.as_deref());
    }
    if allowed.contains(CredentialType::USERNAME) {
        return Cred::username(user.unwrap_or("git"));
    }
    if allowed.contains(CredentialType::USER_PASS_PLAINTEXT)
        && let Some(password) = &credentials.password
        // The passphrase of a key is not the server's to see.
        && credentials.identity.is_none()
    {
        return Cred::userpass_plaintext(credentials.username.as_deref().unwrap_or("git"), password);
    }
    refuse("no fitting credentials were given")
}

fn classify(error: git2::Error, limits: Limits) -> FetchError {
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
