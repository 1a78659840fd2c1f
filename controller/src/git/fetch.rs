//! Fetching a revision into a bare object database with libgit2. Blocking.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use git2::{
    AutotagOption, CertificateCheckStatus, Cred, CredentialType, Direction, ErrorClass, ErrorCode, FetchOptions, Oid,
    RemoteCallbacks, RemoteRedirect, Repository, cert::Cert,
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
    /// Password or token for https.
    pub password: Option<String>,
    /// Private key, PEM, for ssh.
    pub identity: Option<String>,
    /// `known_hosts` lines for ssh; without them no ssh host is trusted.
    pub known_hosts: Option<String>,
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
    /// Wall clock.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 500 << 20, objects: 200_000, references: 100_000, time: Duration::from_secs(120) }
    }
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
    /// The server cannot be reached or does not answer as Git does.
    #[error("GIT-OPERATION: spec.url: the repository cannot be read")]
    Operation(#[source] git2::Error),
    /// Credentials are missing or refused.
    #[error("GIT-AUTH: spec.secretRef: the server wants other credentials (https: username, password; ssh: identity, known_hosts)")]
    Authentication(#[source] git2::Error),
    /// The server's key or certificate is not the expected one.
    #[error("GIT-PEER: the server's certificate or host key is not trusted; nothing was fetched")]
    Peer(#[source] git2::Error),
    /// The reference does not exist.
    #[error("GIT-REF-NOTFOUND: spec.ref: {0} does not exist in the repository; the last good revision stays in force")]
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

/// The object database of one source.
pub struct Cache {
    dir: PathBuf,
}

const FETCHED: &str = "refs/patchtide/fetched";

impl Cache {
    /// The cache in `dir`, made when absent.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The bare repository.
    pub fn open(&self) -> Result<Repository, FetchError> {
        if self.dir.join("HEAD").is_file() {
            Repository::open_bare(&self.dir).map_err(FetchError::Cache)
        } else {
            Repository::init_bare(&self.dir).map_err(FetchError::Cache)
        }
    }

    /// Forgets everything.
    pub fn discard(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(%error, dir = %self.dir.display(), "the damaged Git cache cannot be removed");
        }
    }

    /// Fetches `reference`. With `applied`, a branch must descend from it unless `allow_rewrite`.
    pub fn fetch(
        &self,
        url: &str,
        reference: &Reference,
        credentials: &Credentials,
        limits: Limits,
        applied: Option<Oid>,
        allow_rewrite: bool,
    ) -> Result<Fetched, FetchError> {
        let repository = self.open()?;
        let started = Instant::now();
        let refused = RefCell::new(None);
        let result = fetch_into(&repository, url, reference, credentials, limits, started, &refused);
        let fetched = match result {
            Ok(fetched) => fetched,
            Err(error) => {
                let error = refused.into_inner().unwrap_or(error);
                if matches!(error, FetchError::Corrupt(_)) {
                    self.discard();
                }
                return Err(error);
            }
        };
        if let (Reference::Branch(_), Some(applied)) = (reference, applied) {
            let known = repository.find_commit(applied).is_ok();
            let descends = fetched.commit == applied
                || (known && repository.graph_descendant_of(fetched.commit, applied).map_err(corrupt)?);
            if !descends && !allow_rewrite {
                return Err(FetchError::NotDescendant { new: fetched.commit, applied });
            }
        }
        Ok(fetched)
    }
}

fn fetch_into(
    repository: &Repository,
    url: &str,
    reference: &Reference,
    credentials: &Credentials,
    limits: Limits,
    started: Instant,
    refused: &RefCell<Option<FetchError>>,
) -> Result<Fetched, FetchError> {
    let mut remote = repository.remote_anonymous(url).map_err(FetchError::Operation)?;
    let callbacks = || callbacks(credentials, limits, started, refused);
    let wanted = {
        let connection =
            remote.connect_auth(Direction::Fetch, Some(callbacks()), None).map_err(|e| classify(e, limits))?;
        let offered = connection.list().map_err(|e| classify(e, limits))?;
        if offered.len() > limits.references {
            return Err(FetchError::Limit("references offered by the server"));
        }
        let find = |name: &str| offered.iter().find(|head| head.name() == name).map(git2::RemoteHead::oid);
        match reference {
            Reference::Branch(name) => find(&format!("refs/heads/{name}"))
                .ok_or_else(|| FetchError::NotFound(format!("branch {name}")))
                .map(Some)?,
            Reference::Tag(name) => find(&format!("refs/tags/{name}"))
                .ok_or_else(|| FetchError::NotFound(format!("tag {name}")))
                .map(Some)?,
            Reference::Commit(_) => None,
        }
    };
    let oid = match reference {
        Reference::Commit(hex) => {
            Oid::from_str(hex).map_err(|_| FetchError::NotFound(format!("commit {hex}")))?
        }
        Reference::Branch(_) | Reference::Tag(_) => {
            wanted.ok_or_else(|| FetchError::NotFound("the reference".to_owned()))?
        }
    };
    if repository.find_object(oid, None).is_err() {
        let specs = match reference {
            Reference::Branch(name) => vec![format!("+refs/heads/{name}:{FETCHED}")],
            Reference::Tag(name) => vec![format!("+refs/tags/{name}:{FETCHED}")],
            Reference::Commit(_) => {
                vec!["+refs/heads/*:refs/patchtide/heads/*".to_owned(), "+refs/tags/*:refs/patchtide/tags/*".to_owned()]
            }
        };
        let mut options = FetchOptions::new();
        options
            .remote_callbacks(callbacks())
            .download_tags(AutotagOption::None)
            .follow_redirects(RemoteRedirect::Initial);
        let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
        remote.fetch(&specs, Some(&mut options), None).map_err(|e| classify(e, limits))?;
    }
    let object = repository.find_object(oid, None).map_err(|error| match reference {
        Reference::Commit(hex) => FetchError::NotFound(format!("commit {hex}")),
        Reference::Branch(_) | Reference::Tag(_) => corrupt(error),
    })?;
    let commit = object.peel_to_commit().map_err(corrupt)?.id();
    let revision = match reference {
        Reference::Branch(name) | Reference::Tag(name) => format!("{name}@sha1:{commit}"),
        Reference::Commit(_) => format!("sha1:{commit}"),
    };
    Ok(Fetched { commit, object: oid, revision })
}

fn callbacks<'a>(
    credentials: &'a Credentials,
    limits: Limits,
    started: Instant,
    refused: &'a RefCell<Option<FetchError>>,
) -> RemoteCallbacks<'a> {
    let mut callbacks = RemoteCallbacks::new();
    let mut asked = 0;
    callbacks.credentials(move |_url, user, allowed| {
        // libgit2 asks again and again while the server refuses; two answers are all we have.
        asked += 1;
        if asked > 2 {
            return Err(git2::Error::new(ErrorCode::Auth, ErrorClass::Callback, "the server refused the credentials"));
        }
        if allowed.contains(CredentialType::SSH_KEY)
            && let Some(key) = &credentials.identity
        {
            return Cred::ssh_key_from_memory(user.unwrap_or("git"), None, key, None);
        }
        if allowed.contains(CredentialType::USERNAME) {
            return Cred::username(user.unwrap_or("git"));
        }
        if allowed.contains(CredentialType::USER_PASS_PLAINTEXT)
            && let Some(password) = &credentials.password
        {
            return Cred::userpass_plaintext(credentials.username.as_deref().unwrap_or("git"), password);
        }
        Err(git2::Error::new(ErrorCode::Auth, ErrorClass::Callback, "no fitting credentials were given"))
    });
    callbacks.certificate_check(move |cert, host| check_host(cert, host, credentials));
    callbacks.transfer_progress(move |progress| {
        let verdict = if progress.received_bytes() > limits.bytes {
            Some(FetchError::Limit("bytes received"))
        } else if progress.total_objects() > limits.objects {
            Some(FetchError::Limit("objects"))
        } else if started.elapsed() > limits.time {
            Some(FetchError::Timeout(limits.time))
        } else {
            None
        };
        let go_on = verdict.is_none();
        if let Some(verdict) = verdict {
            refused.replace(Some(verdict));
        }
        go_on
    });
    callbacks
}

/// TLS is left to the TLS library; an ssh host must stand in `known_hosts` with the very key it shows.
fn check_host(cert: &Cert<'_>, host: &str, credentials: &Credentials) -> Result<CertificateCheckStatus, git2::Error> {
    let Some(shown) = cert.as_hostkey().and_then(git2::cert::CertHostkey::hostkey) else {
        return Ok(CertificateCheckStatus::CertificatePassthrough);
    };
    let known = credentials.known_hosts.as_deref().unwrap_or_default();
    let trusted = known.lines().filter(|line| !line.starts_with(['#', '@'])).any(|line| {
        let mut words = line.split_whitespace();
        let names = words.next().unwrap_or_default();
        let key = words.nth(1).unwrap_or_default();
        let named = names.split(',').any(|name| {
            name == host || name.strip_prefix('[').and_then(|n| n.split_once(']')).is_some_and(|(n, _)| n == host)
        });
        named && decode_base64(key).is_some_and(|key| key == shown)
    });
    if trusted {
        Ok(CertificateCheckStatus::CertificateOk)
    } else {
        Err(git2::Error::new(
            ErrorCode::Certificate,
            ErrorClass::Ssh,
            format!("the host key of {host} is not in known_hosts of the Secret"),
        ))
    }
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.decode(text).ok()
}

fn corrupt(error: git2::Error) -> FetchError {
    FetchError::Corrupt(error)
}

fn classify(error: git2::Error, limits: Limits) -> FetchError {
    match (error.code(), error.class()) {
        (ErrorCode::Auth, _) => FetchError::Authentication(error),
        (ErrorCode::Certificate, _) | (_, ErrorClass::Ssl) => FetchError::Peer(error),
        (ErrorCode::Timeout, _) => FetchError::Timeout(limits.time),
        (_, ErrorClass::Odb | ErrorClass::Zlib | ErrorClass::Indexer | ErrorClass::Object) => {
            FetchError::Corrupt(error)
        }
        _ => FetchError::Operation(error),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    struct Bed {
        dir: tempfile::TempDir,
    }

    impl Bed {
        fn new() -> Self {
            let bed = Self { dir: tempfile::tempdir().unwrap() };
            bed.git(&["init", "-q", "-b", "main", "."]);
            bed.commit("one");
            bed
        }

        fn git(&self, args: &[&str]) -> String {
            let path = self.dir.path().join("origin");
            std::fs::create_dir_all(&path).unwrap();
            let output = Command::new("git")
                .args(["-c", "user.name=a", "-c", "user.email=a@b.c"])
                .args(args)
                .current_dir(path)
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .output()
                .unwrap();
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        }

        fn commit(&self, message: &str) -> Oid {
            self.git(&["commit", "-q", "--allow-empty", "-m", message]);
            Oid::from_str(&self.git(&["rev-parse", "HEAD"])).unwrap()
        }

        fn fetch(&self, reference: &Reference, applied: Option<Oid>) -> Result<Fetched, FetchError> {
            let url = format!("file://{}", self.dir.path().join("origin").display());
            let cache = Cache::new(&self.dir.path().join("cache"));
            cache.fetch(&url, reference, &Credentials::default(), Limits::default(), applied, false)
        }
    }

    #[test]
    fn branches_tags_and_commits_are_fetched() {
        let bed = Bed::new();
        let one = bed.commit("two");
        bed.git(&["tag", "-a", "-m", "v1", "v1"]);
        let two = bed.commit("three");
        let main = bed.fetch(&Reference::Branch("main".into()), Some(one)).unwrap();
        assert_eq!((main.commit, main.revision), (two, format!("main@sha1:{two}")));
        let tag = bed.fetch(&Reference::Tag("v1".into()), None).unwrap();
        assert_eq!(tag.commit, one);
        assert_ne!(tag.object, one);
        let commit = bed.fetch(&Reference::Commit(one.to_string()), None).unwrap();
        assert_eq!(commit.revision, format!("sha1:{one}"));
    }

    #[test]
    fn bad_input_28_missing_branch() {
        let error = Bed::new().fetch(&Reference::Branch("absent".into()), None).unwrap_err();
        assert!(error.to_string().starts_with("GIT-REF-NOTFOUND: spec.ref: branch absent"), "{error}");
    }

    #[test]
    fn bad_input_28_empty_repository() {
        let bed = Bed { dir: tempfile::tempdir().unwrap() };
        bed.git(&["init", "-q", "-b", "main", "."]);
        let error = bed.fetch(&Reference::Branch("main".into()), None).unwrap_err();
        assert!(matches!(error, FetchError::NotFound(_)), "{error}");
    }

    #[test]
    fn bad_input_29_rewritten_history() {
        let bed = Bed::new();
        let applied = bed.commit("two");
        bed.git(&["reset", "-q", "--hard", "HEAD~1"]);
        bed.commit("other");
        let error = bed.fetch(&Reference::Branch("main".into()), Some(applied)).unwrap_err();
        assert!(matches!(error, FetchError::NotDescendant { .. }), "{error}");
    }

    #[test]
    fn bad_input_31_a_damaged_cache_is_discarded_and_fetched_anew() {
        let bed = Bed::new();
        let head = bed.commit("two");
        bed.fetch(&Reference::Branch("main".into()), None).unwrap();
        let cache = bed.dir.path().join("cache");
        // Damage every stored object of the cache, whether packed or loose.
        let mut folders = vec![cache.join("objects")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    let length = entry.metadata().unwrap().len();
                    std::fs::remove_file(entry.path()).unwrap();
                    std::fs::write(entry.path(), vec![0; usize::try_from(length).unwrap()]).unwrap();
                }
            }
        }
        let first = bed.fetch(&Reference::Branch("main".into()), None);
        let again = if first.is_ok() { first } else { bed.fetch(&Reference::Branch("main".into()), None) };
        assert_eq!(again.unwrap().commit, head);
    }

    #[test]
    fn bad_input_37_limits_are_named() {
        let bed = Bed::new();
        let url = format!("file://{}", bed.dir.path().join("origin").display());
        let cache = Cache::new(&bed.dir.path().join("cache"));
        let limits = Limits { references: 0, ..Limits::default() };
        let error = cache
            .fetch(&url, &Reference::Branch("main".into()), &Credentials::default(), limits, None, false)
            .unwrap_err();
        assert!(error.to_string().contains("references"), "{error}");
    }
}
