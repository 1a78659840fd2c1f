//! Apply: carries the plan out. I/O; makes no choice. One object's failure does not keep the others.

use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy, ValidationDirective},
};
use patchtide_crds::{GitSource, KINDS, annotations::MANAGER_GIT, conditions::reason};

use super::{
    dereference::{Reading, resource},
    plan::{Blocked, Plan},
};
use crate::{
    context::Context,
    error::Failure,
    git::verdict::{Finding, Place},
};

/// What became of the plan.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Objects written.
    pub(super) applied: usize,
    /// Objects left as they were.
    pub(super) unchanged: usize,
    /// Objects deleted, as `Kind/name`.
    pub(super) pruned: Vec<String>,
    /// A prune that waits.
    pub(super) blocked: Option<Blocked>,
    /// Objects kept.
    pub(super) kept: usize,
    /// Findings of planning and applying.
    pub(super) findings: Vec<Finding>,
}

impl Applied {
    /// The failure that the whole run ends with, if it does.
    pub(super) fn failure(&self, reading: &Reading) -> Option<Failure> {
        let failures: Vec<&Finding> =
            reading.content.findings.iter().chain(&self.findings).filter(|finding| finding.is_failure()).collect();
        let first = failures.first()?;
        Some(Failure::retry(
            reason::PARTIALLY_APPLIED,
            format!(
                "revision {}: {} failed, the rest is in force and nothing is pruned; first: {first}",
                reading.revision,
                failures.len()
            ),
        ))
    }
}

/// Carries the plan out.
pub(super) async fn apply(ctx: &Context, source: &GitSource, plan: Plan) -> Applied {
    let Plan { apply, unchanged, prune, blocked, kept, findings } = plan;
    let mut done = Applied { unchanged, blocked, kept, findings, ..Applied::default() };
    let client = client(ctx, source);
    let name = source.metadata.name.as_deref().unwrap_or_default();
    let manager = format!("{MANAGER_GIT}:{name}");
    let manager: String = manager.chars().take(128).collect();
    for (object, body) in apply {
        let Some(api) = api(&client, &ctx.namespace, &object.kind) else { continue };
        let params = PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply(&manager).force() };
        match api.patch(&object.name, &params, &Patch::Apply(&body)).await {
            Ok(_) => done.applied += 1,
            Err(error) => done
                .findings
                .push(refusal(&error, object.place.clone()).of(&object.kind, &object.name)),
        }
    }
    // Something that could not be applied may be what replaces what would go.
    if done.findings.iter().any(Finding::is_failure) {
        done.kept += prune.len();
        return done;
    }
    for (kind, name) in prune {
        let Some(api) = api(&client, &ctx.namespace, &kind) else { continue };
        match delete(&api, &name).await {
            Ok(()) => done.pruned.push(format!("{kind}/{name}")),
            Err(error) => {
                let finding = refusal(&error, Place::file(""));
                done.findings.push(Finding { code: "PRUNE-FAILED", ..finding }.of(&kind, &name));
            }
        }
    }
    done
}

/// Deletes the very object that was looked at, not one that took its name meanwhile.
async fn delete(api: &Api<DynamicObject>, name: &str) -> Result<(), kube::Error> {
    let Some(object) = api.get_opt(name).await? else { return Ok(()) };
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions {
            uid: object.metadata.uid.clone(),
            resource_version: object.metadata.resource_version.clone(),
        }),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

fn api(client: &Client, namespace: &str, kind: &str) -> Option<Api<DynamicObject>> {
    let known = KINDS.iter().find(|known| known.kind == kind)?;
    Some(Api::namespaced_with(client.clone(), namespace, &resource(known.kind, known.plural)))
}

/// The API server's refusal in our words.
fn refusal(error: &kube::Error, place: Place) -> Finding {
    let kube::Error::Api(status) = error else {
        return Finding::failure("API-UNREACHABLE", place, crate::error::chain(error));
    };
    let (code, remedy) = if status.is_forbidden() {
        ("ACCESS-DENIED", "; give the account of spec.serviceAccountName the right, or remove the object")
    } else if status.is_conflict() {
        ("CONFLICT", "; it is tried again")
    } else {
        ("OBJ-INVALID", "")
    };
    Finding::failure(code, place, format!("{}{remedy}", status.message))
}

/// A client that acts as the source's service account, when one is named.
fn client(ctx: &Context, source: &GitSource) -> Client {
    let Some(account) = &source.spec.service_account_name else { return ctx.client.clone() };
    let user = format!("system:serviceaccount:{}:{account}", ctx.namespace);
    let inner = ctx.client.clone();
    let service = tower::service_fn(move |mut request: http::Request<kube::client::Body>| {
        let inner = inner.clone();
        let user = http::HeaderValue::from_str(&user);
        async move {
            if let Ok(user) = user {
                request.headers_mut().insert("impersonate-user", user);
                inner.send(request).await.map_err(tower::BoxError::from)
            } else {
                Err(tower::BoxError::from("the service account's name is not a header value"))
            }
        }
    });
    Client::new(service, ctx.namespace.clone())
}
