//! Dereference: the Secret, the repository, the objects in the cluster. I/O, reads only.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

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
    git_source::{GitLimits, VerificationMode},
};
use tokio::task::JoinHandle;

use super::seconds;
use crate::{
    context::Context,
    error::{Failure, chain},
    git::{
        document,
        fetch::{Cache, Credentials, FetchError, Limits, Reference},
        object::{self, Revision},
        schema::Schemas,
        signature::{SignatureError, Signers},
        tree, url,
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
    /// Objects and findings.
    pub(super) content: Revision,
}

/// Objects of our kinds in the namespace, by kind and name.
pub(super) type Live = BTreeMap<(String, String), DynamicObject>;

struct Job {
    dir: PathBuf,
    url: String,
    reference: Reference,
    credentials: Credentials,
    signers: Option<(Signers, VerificationMode)>,
    fetch_limits: Limits,
    tree_limits: tree::Limits,
    object_limits: object::Limits,
    applied: Option<Oid>,
    allow_rewrite: bool,
    path: String,
    namespace: String,
    now: Timestamp,
}

/// Starts fetching and reading on the blocking pool.
pub(super) async fn start(
    ctx: &Context,
    source: &GitSource,
    schemas: Arc<Schemas>,
) -> Result<JoinHandle<Result<Reading, Failure>>, Failure> {
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
            Some((signers, verify.mode))
        }
        None => None,
    };
    let limits = &spec.limits;
    let job = Job {
        dir: ctx.cache_dir.join("git").join(source.uid().unwrap_or_else(|| source.name_any())),
        url: spec.url.clone(),
        applied: applied_commit(source, &reference),
        reference,
        credentials,
        signers,
        fetch_limits: Limits {
            bytes: bytes(limits.fetch_size.bytes().ok(), 500 << 20),
            time: seconds(&spec.timeout, 60),
            ..Limits::default()
        },
        tree_limits: tree_limits(limits),
        object_limits: object_limits(limits),
        allow_rewrite: spec.allow_history_rewrite,
        path: spec.path.clone().unwrap_or_default(),
        namespace: ctx.namespace.clone(),
        now: ctx.clock.now(),
    };
    let limit = job.fetch_limits.time + Duration::from_secs(5);
    let work = tokio::task::spawn_blocking(move || read(&job, &schemas));
    // libgit2 cannot be told to give up on a silent server; the thread is left behind and the run goes on.
    Ok(tokio::spawn(async move {
        match tokio::time::timeout(limit, work).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(Failure::retry(reason::GIT_OPERATION_FAILED, error.to_string())),
            Err(_) => Err(FetchError::Timeout(limit).into()),
        }
    }))
}

fn read(job: &Job, schemas: &Schemas) -> Result<Reading, Failure> {
    let cache = Cache::new(&job.dir);
    std::fs::create_dir_all(&job.dir)
        .map_err(|error| Failure::of("cannot make the folder of the Git cache", &error))?;
    let fetched = cache.fetch(
        &job.url,
        &job.reference,
        &job.credentials,
        job.fetch_limits,
        job.applied,
        job.allow_rewrite,
    )?;
    let repository = cache.open()?;
    let signer = match &job.signers {
        None => None,
        Some((signers, mode)) => {
            let failed = |error: SignatureError| Failure::retry(reason::VERIFICATION_ERROR, chain(&error));
            let mut by = Vec::new();
            if let (VerificationMode::Tag | VerificationMode::TagAndHead, Reference::Tag(name)) = (mode, &job.reference) {
                by.push(signers.verify_tag(&repository, fetched.object, name, job.now).map_err(failed)?);
            } else if *mode == VerificationMode::Tag {
                return Err(Failure::stalled(
                    reason::VERIFICATION_ERROR,
                    "spec.verify.mode: Tag needs spec.ref.tag; set it, or use mode HEAD",
                ));
            }
            if *mode != VerificationMode::Tag {
                by.push(signers.verify_commit(&repository, fetched.commit, job.now).map_err(failed)?);
            }
            Some(by.join(", "))
        }
    };
    let files = tree::read(&repository, fetched.commit, &job.path, job.tree_limits).map_err(|error| match error {
        tree::TreeError::NoPath(_) | tree::TreeError::BadPath(_) => Failure::retry(reason::INVALID_PATH, chain(&error)),
        tree::TreeError::Corrupt { .. } => {
            cache.discard();
            Failure::retry(reason::GIT_OPERATION_FAILED, chain(&error))
        }
        tree::TreeError::Limit { .. } => Failure::retry(reason::GIT_OPERATION_FAILED, chain(&error)),
    })?;
    let commit_time = repository
        .find_commit(fetched.commit)
        .ok()
        .and_then(|commit| Timestamp::from_second(commit.time().seconds()).ok());
    let content = object::collect(files, &job.namespace, schemas, job.object_limits);
    Ok(Reading { revision: fetched.revision, commit_time, signer, content })
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        let reason = match &error {
            FetchError::Authentication(_) => reason::AUTHENTICATION_FAILED,
            FetchError::Peer(_) => reason::VERIFICATION_ERROR,
            _ => reason::GIT_OPERATION_FAILED,
        };
        Self::retry(reason, chain(&error))
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
    Credentials {
        username: text("username"),
        password: text("password").or_else(|| text("bearerToken")),
        identity: text("identity"),
        known_hosts: text("known_hosts"),
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
        let api: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), &ctx.namespace, &resource(kind.kind, kind.plural));
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
