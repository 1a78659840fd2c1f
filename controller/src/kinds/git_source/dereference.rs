//! Dereference: the Secret, the repository, the objects in the cluster. I/O, reads only.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use git2::Oid;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
};
use patchtide_crds::{
    GitSource, KINDS,
    conditions::reason,
    git_source::{GitLimits, GitVerification, VerificationMode},
};
use tokio::task::JoinHandle;

use super::{folders, seconds};
use crate::{
    context::Context,
    error::{Failure, chain},
    git::{
        document,
        fetch::{Cache, Credentials, FetchError, Fetched, Limits, Reference, Request},
        history::{self, History, Introduction, Known},
        object::{self, Revision},
        schema::Schemas,
        signature::{PathRule, Rules, SignatureError, Signers},
        tree, url,
        verdict::{Finding, Place},
    },
};

/// A revision as it was read.
pub(super) struct Reading {
    /// As Flux writes it.
    pub(super) revision: String,
    /// When the commit says it was made.
    pub(super) commit_time: Option<Timestamp>,
    /// Who signed it, when signatures are demanded.
    pub(super) signer: Option<String>,
    /// Since when its deployments stand in the repository.
    pub(super) introduced: Arc<Introduced>,
    /// Objects and findings.
    pub(super) content: Revision,
}

/// Since when the deployments of a revision stand in the repository; kept from run to run, because it takes a walk
/// through the history.
#[derive(Debug, Default)]
pub(super) struct Introduced {
    /// Revision and path that it is of.
    of: Option<(Oid, String)>,
    /// By kind and name.
    pub(super) objects: BTreeMap<(String, String), Introduction>,
}

/// The kind whose relative times count from its introduction.
const DEPLOYMENT: &str = "UpdateDeployment";

/// Objects of our kinds in the namespace, by kind and name.
pub(super) type Live = BTreeMap<(String, String), DynamicObject>;

struct Job {
    dir: PathBuf,
    request: Request,
    signers: Option<(Signers, VerificationMode, Rules)>,
    received: Option<(String, Timestamp)>,
    tree_limits: tree::Limits,
    object_limits: object::Limits,
    path: String,
    namespace: String,
    known: Arc<Introduced>,
}

/// Starts fetching and reading on the blocking pool.
pub(super) async fn start(
    ctx: &Context,
    source: &GitSource,
    schemas: Arc<Schemas>,
    known: Arc<Introduced>,
) -> Result<JoinHandle<Result<Reading, Unread>>, Failure> {
    let spec = &source.spec;
    let bad_url = |error: url::UrlError| Failure::stalled(reason::URL_INVALID, error.to_string());
    url::check(&spec.url, ctx.allow_local_git).map_err(bad_url)?;
    let reference = reference(source);
    if let Reference::Branch(name) | Reference::Tag(name) = &reference {
        url::check_reference(name).map_err(bad_url)?;
    }
    let credentials = match &spec.secret_ref {
        Some(secret) => credentials(&secret_data(ctx, &secret.name, "spec.secretRef").await?),
        None => Credentials::default(),
    };
    let signers = match &spec.verify {
        Some(verify) => {
            let data = secret_data(ctx, &verify.secret_ref.name, "spec.verify.secretRef").await?;
            let signers = Signers::parse(&data)
                .map_err(|error| Failure::stalled(reason::VERIFICATION_ERROR, chain(&error)))?;
            Some((signers, verify.mode, rules(verify)))
        }
        None => None,
    };
    let limits = &spec.limits;
    let job = Job {
        dir: folders::of(ctx, &source.uid().unwrap_or_else(|| source.name_any())),
        request: Request {
            url: spec.url.clone(),
            applied: applied_commit(source, &reference),
            reference,
            credentials,
            limits: Limits {
                bytes: bytes(limits.fetch_size.bytes().ok(), 500 << 20),
                time: seconds(&spec.timeout, 60),
                ..Limits::default()
            },
            allow_rewrite: spec.allow_history_rewrite,
            now: ctx.clock.now(),
        },
        signers,
        received: received(source),
        tree_limits: tree_limits(limits),
        object_limits: object_limits(limits),
        path: spec.path.clone().unwrap_or_default(),
        namespace: ctx.namespace.clone(),
        known,
    };
    let work = tokio::task::spawn_blocking(move || read(&job, &schemas));
    // The relay ends every connection at spec.timeout, so the thread comes back by itself.
    Ok(tokio::spawn(async move {
        work.await.unwrap_or_else(|error| {
            Err(Failure::retry(reason::GIT_OPERATION_FAILED, error.to_string()).into())
        })
    }))
}

fn read(job: &Job, schemas: &Schemas) -> Result<Reading, Unread> {
    let now = job.request.now;
    let (dir, _lock) = folders::take(&job.dir)
        .map_err(|error| Failure::of("cannot make the folder of the Git cache", &error))?;
    let cache = Cache::new(&dir);
    let fetched = cache.fetch(&job.request)?;
    let repository = cache.open()?;
    let unreadable = |error: tree::TreeError| {
        if matches!(error, tree::TreeError::Corrupt { .. }) {
            cache.discard();
        }
        unreadable(&error)
    };
    let commit = tree::commit(&repository, fetched.commit).map_err(unreadable)?;
    let signer = match &job.signers {
        None => None,
        Some((signers, mode, rules)) => Some(verify(&repository, &fetched, job, signers, *mode, rules)?),
    };
    let files = tree::read(&repository, fetched.commit, &job.path, job.tree_limits).map_err(unreadable)?;
    let mut content = object::collect(files, &job.namespace, schemas, job.object_limits);
    content.findings.extend(doubts(&commit, now));
    let introduced = introduced(&repository, fetched.commit, job, &content).map_err(unreadable)?;
    let commit_time = Timestamp::from_second(commit.time().seconds()).ok();
    Ok(Reading { revision: fetched.revision, commit_time, signer, introduced, content })
}

/// Whether the source is still as it was when it was read.
pub(super) fn is_present(source: &GitSource, live: &Live) -> bool {
    let found = live.get(&("GitSource".to_owned(), source.name_any()));
    found.is_some_and(|found| {
        found.metadata.uid == source.metadata.uid
            && found.metadata.generation == source.metadata.generation
            && found.metadata.deletion_timestamp.is_none()
    })
}

fn unreadable(error: &tree::TreeError) -> Failure {
    let reason = match error {
        tree::TreeError::Corrupt { .. } | tree::TreeError::Limit { .. } => reason::GIT_OPERATION_FAILED,
        _ => reason::INVALID_PATH,
    };
    Failure::retry(reason, chain(error))
}

/// Who signed the revision, by the source's mode and rules. Keys are judged by the time at which it was first seen, so
/// that a revision in force stays so when a key expires.
fn verify(
    repository: &git2::Repository,
    fetched: &Fetched,
    job: &Job,
    signers: &Signers,
    mode: VerificationMode,
    rules: &Rules,
) -> Result<String, Failure> {
    let now = job.request.now;
    let seen = job
        .received
        .as_ref()
        .filter(|(revision, _)| *revision == fetched.revision)
        .map_or(now, |(_, at)| *at);
    let failed = |error: SignatureError| Failure::retry(reason::VERIFICATION_ERROR, chain(&error));
    let mut by = BTreeSet::new();
    match (mode, &job.request.reference) {
        (VerificationMode::Head, _) => {}
        (VerificationMode::Tag | VerificationMode::TagAndHead, Reference::Tag(name)) => {
            by.extend(signers.verify_tag(repository, fetched.object, name, seen).map_err(failed)?);
        }
        (VerificationMode::Tag | VerificationMode::TagAndHead, _) => {
            return Err(Failure::stalled(
                reason::VERIFICATION_ERROR,
                "spec.verify.mode: Tag and TagAndHEAD need spec.ref.tag; set it, or use mode HEAD",
            ));
        }
    }
    if mode != VerificationMode::Tag {
        by.extend(signers.verify_commit(repository, fetched.commit, seen).map_err(failed)?);
    }
    rules.enough(format!("revision {}", fetched.revision), &by).map_err(failed)?;
    rules.check_paths(repository, signers, fetched.commit, job.request.applied, seen).map_err(failed)?;
    Ok(by.into_iter().collect::<Vec<_>>().join(", "))
}

fn rules(verify: &GitVerification) -> Rules {
    let paths = verify.paths.iter().map(|rule| PathRule { path: rule.path.clone(), keys: rule.keys.clone() });
    Rules { threshold: bytes(Some(u64::from(verify.threshold)), 1), paths: paths.collect() }
}

/// The revision that was read and found well signed before, and when it was first seen.
fn received(source: &GitSource) -> Option<(String, Timestamp)> {
    let status = source.status.as_ref().filter(|status| status.signer.is_some())?;
    Some((status.last_attempted_revision.clone()?, status.last_fetch_time.as_ref()?.0))
}

/// A commit whose dates cannot be: told, because nothing is decided by them (bad-input catalogue #42).
fn doubts(commit: &git2::Commit<'_>, now: Timestamp) -> Option<Finding> {
    let dates = [commit.author().when().seconds(), commit.time().seconds()];
    let wrong = dates.into_iter().find(|seconds| !history::plausible(*seconds, now))?;
    let said =
        Timestamp::from_second(wrong).map_or_else(|_| format!("second {wrong}"), |time| time.to_string());
    Some(Finding::warning(
        "GIT-DATE",
        Place::file(""),
        format!(
            "commit {} says that it was made at {said}, which cannot be; nothing is decided by that",
            commit.id()
        ),
    ))
}

fn introduced(
    repository: &git2::Repository,
    head: Oid,
    job: &Job,
    content: &Revision,
) -> Result<Arc<Introduced>, tree::TreeError> {
    let of = Some((head, job.path.clone()));
    if job.known.of == of {
        return Ok(Arc::clone(&job.known));
    }
    let wanted = content
        .objects
        .values()
        .filter(|object| object.kind == DEPLOYMENT)
        .map(|object| (object.name.clone(), object.place.path.clone()))
        .collect();
    let mut history =
        History::new(repository, &job.path, DEPLOYMENT, job.tree_limits, job.object_limits.document);
    let known = job.known.of.as_ref().filter(|(_, path)| *path == job.path);
    let known = known.map(|(head, _)| Known { head: *head, objects: &job.known.objects });
    let objects = history.introductions(head, &wanted, known, job.request.now)?;
    Ok(Arc::new(Introduced { of, objects }))
}

/// Why there is no reading.
#[derive(Debug)]
pub(super) struct Unread {
    /// What the status says.
    pub(super) failure: Failure,
    /// Whether it is of the connection: then the server is left alone longer from try to try.
    pub(super) of_connection: bool,
}

impl From<Failure> for Unread {
    fn from(failure: Failure) -> Self {
        Self { failure, of_connection: false }
    }
}

impl From<FetchError> for Unread {
    fn from(error: FetchError) -> Self {
        let reason = match &error {
            FetchError::Authentication(_) => reason::AUTHENTICATION_FAILED,
            _ => reason::GIT_OPERATION_FAILED,
        };
        Self { failure: Failure::retry(reason, chain(&error)), of_connection: error.is_of_connection() }
    }
}

fn reference(source: &GitSource) -> Reference {
    let given = source.spec.reference.as_ref();
    if let Some(commit) = given.and_then(|given| given.commit.clone()) {
        Reference::Commit(commit)
    } else if let Some(tag) = given.and_then(|given| given.tag.clone()) {
        Reference::Tag(tag)
    } else {
        Reference::Branch(given.and_then(|given| given.branch.clone()).unwrap_or_else(|| "main".to_owned()))
    }
}

/// The commit that the next one must descend from: the last applied one of the same branch. After a change of `ref` by
/// a person any revision is taken.
fn applied_commit(source: &GitSource, reference: &Reference) -> Option<Oid> {
    let Reference::Branch(branch) = reference else { return None };
    let applied = source.status.as_ref()?.last_applied_revision.as_deref()?;
    let (name, commit) = applied.split_once("@sha1:")?;
    if name == branch { Oid::from_str(commit).ok() } else { None }
}

async fn secret_data(ctx: &Context, name: &str, field: &str) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &ctx.namespace);
    match api.get_opt(name).await {
        Ok(Some(secret)) => {
            Ok(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect())
        }
        Ok(None) => Err(Failure::wait(
            reason::REFERENCE_NOT_FOUND,
            format!("{field}: there is no Secret {name} in this namespace; create it"),
        )),
        Err(error) => Err(Failure::of(&format!("{field}: cannot read Secret {name}"), &error)),
    }
}

fn credentials(data: &BTreeMap<String, Vec<u8>>) -> Credentials {
    let text = |key: &str| data.get(key).and_then(|value| String::from_utf8(value.clone()).ok());
    // `echo` and YAML blocks leave a line end, which no password has.
    let word = |key: &str| text(key).map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
    Credentials {
        username: word("username"),
        password: word("password").or_else(|| word("bearerToken")),
        identity: text("identity"),
        known_hosts: text("known_hosts"),
        authorities: text("ca.crt"),
    }
}

fn tree_limits(limits: &GitLimits) -> tree::Limits {
    tree::Limits {
        files: bytes(Some(u64::from(limits.files)), 5_000),
        file_bytes: bytes(limits.file_size.bytes().ok(), 1 << 20),
        total_bytes: bytes(limits.total_size.bytes().ok(), 64 << 20),
        ..tree::Limits::default()
    }
}

fn object_limits(limits: &GitLimits) -> object::Limits {
    object::Limits {
        objects: bytes(Some(u64::from(limits.objects)), 5_000),
        document: document::Limits {
            depth: bytes(Some(u64::from(limits.depth)), 32),
            documents: bytes(Some(u64::from(limits.documents_per_file)), 200),
            aliases: bytes(Some(u64::from(limits.aliases)), 0),
        },
    }
}

fn bytes(value: Option<u64>, default: usize) -> usize {
    value.and_then(|value| usize::try_from(value).ok()).unwrap_or(default)
}

/// Every object of our kinds in the namespace, read by the controller's own account.
pub(super) async fn live(ctx: &Context) -> Result<Live, Failure> {
    let mut live = Live::new();
    for kind in KINDS {
        let api: Api<DynamicObject> =
            Api::namespaced_with(ctx.client.clone(), &ctx.namespace, &resource(kind.kind, kind.plural));
        let list = api
            .list(&ListParams::default())
            .await
            .map_err(|error| Failure::of(&format!("cannot list {}", kind.plural), &error))?;
        live.extend(list.into_iter().map(|object| ((kind.kind.to_owned(), object.name_any()), object)));
    }
    Ok(live)
}

/// How the API server calls a kind of ours.
pub(super) fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk(patchtide_crds::GROUP, patchtide_crds::VERSION, kind),
        plural,
    )
}
