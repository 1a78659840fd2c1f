//! Fetching a revision into a bare object database with libgit2. Blocking.

mod error;
mod request;
mod session;
#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    path::{Path, PathBuf},
    time::Instant,
};

use git2::{AutotagOption, Direction, ErrorCode, FetchOptions, Oid, RemoteHead, RemoteRedirect, Repository};
use url::Url;

use self::{
    error::classify,
    session::{Session, callbacks},
};
pub use self::{
    error::{Bound, FetchError},
    request::{Credentials, Fetched, Limits, Reference, Request},
};
use super::{
    peer::{self, Expected},
    relay::{Relay, Target, Verdict},
};

/// The object database of one source.
pub struct Cache {
    dir: PathBuf,
}

/// Files of packs beyond which all is fetched anew as one; each fetch that brings something leaves two.
const SCATTERED: usize = 1_000;
const FETCHED: &str = "refs/patchtide/fetched";

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

    /// Whether so many fetches have left their packs (or a broken off one its half) that it is better made anew.
    fn is_scattered(&self) -> bool {
        std::fs::read_dir(self.dir.join("objects/pack")).is_ok_and(|files| files.count() > SCATTERED)
    }

    /// Fetches what is asked for.
    pub fn fetch(&self, request: &Request) -> Result<Fetched, FetchError> {
        if self.is_scattered() {
            tracing::info!(dir = %self.dir.display(), "many small packs: the Git cache is fetched anew");
            self.discard();
        }
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
            let target = Target { host: host.clone(), port, tls };
            // First come the references, which are held in memory.
            let relay = Relay::start(target, limits.advertised.min(limits.bytes), deadline)
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
        relay: relay.as_ref(),
        listed: Cell::new(false),
        refused: RefCell::new(None),
    };
    let result = fetch(repository, &way, &request.reference, &session);
    let (listed, refused) = (session.listed.get(), session.refused.into_inner());
    let verdict = relay.and_then(Relay::end);
    result.map_err(|error| {
        let found = verdict.map(|verdict| match verdict {
            Verdict::Bytes if !listed && limits.advertised < limits.bytes => {
                FetchError::Limit { bound: Bound::Advertised, limit: limits.advertised }
            }
            Verdict::Bytes => FetchError::Limit { bound: Bound::Bytes, limit: limits.bytes },
            Verdict::Time => FetchError::Timeout(limits.time),
            Verdict::Unreachable(why) => FetchError::Unreachable(why),
            Verdict::Peer(why) => FetchError::Peer(why),
            Verdict::Redirect(to) => FetchError::Redirect(to),
        });
        refused.or(found).unwrap_or(error).safe(credentials.password.as_deref())
    })
}

fn fetch(
    repository: &Repository,
    way: &str,
    reference: &Reference,
    session: &Session<'_>,
) -> Result<Fetched, FetchError> {
    let limits = session.limits;
    let mut remote = repository.remote_anonymous(way).map_err(FetchError::Operation)?;
    let mut connection = remote
        .connect_auth(Direction::Fetch, Some(callbacks(session)), None)
        .map_err(|error| classify(error, limits))?;
    let oid = named(connection.list().map_err(|error| classify(error, limits))?, reference, limits)?;
    session.listed.set(true);
    if let Some(relay) = session.relay {
        relay.allow(limits.bytes);
    }
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
        // The same connection: what was offered is what is fetched, and it is not offered twice.
        let fetched = connection.remote().fetch(&specs, Some(&mut options), None);
        fetched.map_err(|error| classify(error, limits))?;
    }
    let absent = |error| match reference {
        Reference::Commit(hex) => FetchError::NotFound(format!("commit {hex}")),
        Reference::Branch(_) | Reference::Tag(_) => FetchError::Corrupt(error),
    };
    // Before it is read: the message belongs to it.
    let (size, _) = repository.odb().and_then(|odb| odb.read_header(oid)).map_err(absent)?;
    if size > limits.commit_bytes {
        return Err(FetchError::Limit { bound: Bound::Commit, limit: limits.commit_bytes });
    }
    let object = repository.find_object(oid, None).map_err(absent)?;
    let commit = object.peel_to_commit().map_err(|error| match (error.code(), reference) {
        (ErrorCode::InvalidSpec | ErrorCode::Peel, Reference::Tag(name)) => {
            FetchError::NoCommit(format!("tag {name}"))
        }
        (ErrorCode::InvalidSpec | ErrorCode::Peel, Reference::Commit(hex)) => {
            FetchError::NoCommit(format!("object {hex}"))
        }
        _ => FetchError::Corrupt(error),
    })?;
    let commit = commit.id();
    let revision = match reference {
        Reference::Branch(name) | Reference::Tag(name) => format!("{name}@sha1:{commit}"),
        Reference::Commit(_) => format!("sha1:{commit}"),
    };
    Ok(Fetched { commit, object: oid, revision })
}

/// What the reference names among what the server offers.
fn named(offered: &[RemoteHead<'_>], reference: &Reference, limits: Limits) -> Result<Oid, FetchError> {
    if offered.len() > limits.references {
        return Err(FetchError::Limit { bound: Bound::References, limit: limits.references });
    }
    let find = |full: &str, what: String| {
        offered.iter().find(|head| head.name() == full).map(RemoteHead::oid).ok_or(FetchError::NotFound(what))
    };
    match reference {
        Reference::Branch(name) => find(&format!("refs/heads/{name}"), format!("branch {name}")),
        Reference::Tag(name) => find(&format!("refs/tags/{name}"), format!("tag {name}")),
        Reference::Commit(hex) => {
            Oid::from_str(hex).map_err(|_| FetchError::NotFound(format!("commit {hex}")))
        }
    }
}
