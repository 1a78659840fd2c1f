//! Apply: carries the plan out. I/O; makes no choice. One object's failure does not keep the others.

use std::collections::BTreeSet;

use kube::{
    Api, Client,
    api::{
        DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy,
        ValidationDirective,
    },
};
use patchtide_crds::{
    GitSource, KINDS,
    annotations::MANAGER_GIT,
    conditions::{clip, reason},
};
use serde_json::Value;

use super::{
    dereference::{Live, Reading, resource},
    plan::{self, Blocked, Plan},
    settle::{SHOWN, list},
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
    pub(super) written: usize,
    /// What was done to which object, for people: `Collection/web created`.
    pub(super) changes: Vec<String>,
    /// Objects left as they were.
    pub(super) unchanged: usize,
    /// Objects deleted, as `Kind/name`.
    pub(super) pruned: Vec<String>,
    /// A prune that waits.
    pub(super) blocked: Option<Blocked>,
    /// Objects that the source owns now.
    pub(super) owned: BTreeSet<(String, String)>,
    /// Findings of planning and applying.
    pub(super) findings: Vec<Finding>,
}

impl Applied {
    /// The failure that the whole run ends with, if it does.
    pub(super) fn failure(&self, reading: &Reading) -> Option<Failure> {
        let failures: Vec<&Finding> = self.findings.iter().filter(|finding| finding.is_failure()).collect();
        if let Some(first) = failures.first() {
            let more: Vec<String> = failures.iter().skip(SHOWN).map(|finding| finding.subject()).collect();
            let more = if more.is_empty() {
                String::new()
            } else {
                format!("; status.failures tells the first {SHOWN}, beyond them: {}", list(&more, SHOWN))
            };
            return Some(Failure::retry(
                reason::PARTIALLY_APPLIED,
                format!(
                    "revision {}: {} failed, the rest is in force and nothing is pruned; first: {first}{more}",
                    reading.revision,
                    failures.len()
                ),
            ));
        }
        // What Git says is not in force as long as what it no longer says is.
        let blocked = self.blocked.as_ref()?;
        Some(Failure::retry(
            reason::TOO_MANY_DELETIONS,
            format!("revision {}: {}", reading.revision, blocked.why),
        ))
    }

    /// Objects whose last good version stays because the one in Git failed.
    pub(super) fn kept(&self) -> usize {
        let failed = self.findings.iter().any(Finding::is_failure);
        if failed { self.owned.len().saturating_sub(self.written + self.unchanged) } else { 0 }
    }
}

/// Carries the plan out. The findings of the reading come first in what is told.
pub(super) async fn apply(
    ctx: &Context,
    source: &GitSource,
    reading: &Reading,
    live: &Live,
    plan: Plan,
) -> Applied {
    let Plan { apply, unchanged, prune, blocked, owned, last_good, findings } = plan;
    let findings = reading.content.findings.iter().cloned().chain(findings).collect();
    let mut done = Applied { unchanged, blocked, owned, findings, ..Applied::default() };
    let client = client(ctx, source);
    let name = source.metadata.name.as_deref().unwrap_or_default();
    let manager = format!("{MANAGER_GIT}:{name}");
    let manager: String = manager.chars().take(128).collect();
    for (object, body) in apply {
        let Some(api) = api(&client, &ctx.namespace, &object.kind) else { continue };
        let params = PatchParams {
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply(&manager).force()
        };
        let key = (object.kind.clone(), object.name.clone());
        match api.patch(&object.name, &params, &Patch::Apply(&body)).await {
            Ok(_) => {
                done.written += 1;
                let what = if live.contains_key(&key) { "configured" } else { "created" };
                done.changes.push(format!("{}/{} {what}", object.kind, object.name));
                done.owned.insert(key);
            }
            Err(error) => done.findings.push(
                refusal(&error, source, object.place.clone(), live.get(&key), &body)
                    .of(&object.kind, &object.name),
            ),
        }
    }
    // Something that could not be applied may be what replaces what would go.
    if !done.findings.iter().any(Finding::is_failure) {
        for (kind, name) in prune {
            let Some(api) = api(&client, &ctx.namespace, &kind) else { continue };
            let Some(seen) = live.get(&(kind.clone(), name.clone())) else { continue };
            match delete(&api, source, seen).await {
                // What took its name meanwhile, or was kept by a person, is not what was decided about.
                Ok(false) => {}
                Ok(true) => {
                    done.pruned.push(format!("{kind}/{name}"));
                    done.changes.push(format!("{kind}/{name} deleted"));
                    done.owned.remove(&(kind, name));
                }
                Err(error) => {
                    let finding = refusal(&error, source, Place::file(""), None, &Value::Null);
                    done.findings.push(Finding { code: "PRUNE-FAILED", ..finding }.of(&kind, &name));
                }
            }
        }
    }
    done.findings =
        done.findings.into_iter().map(|finding| Plan::with_last_good(&last_good, finding)).collect();
    done
}

/// Deletes the very object that was looked at, as long as it is the source's to prune: not one that took its name
/// meanwhile, nor one that somebody has taken over or wants kept. Returns whether it is gone.
async fn delete(
    api: &Api<DynamicObject>,
    source: &GitSource,
    seen: &DynamicObject,
) -> Result<bool, kube::Error> {
    let name = seen.metadata.name.as_deref().unwrap_or_default();
    let Some(object) = api.get_opt(name).await? else { return Ok(true) };
    if object.metadata.uid != seen.metadata.uid || !plan::may_prune(source, &object) {
        return Ok(false);
    }
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions {
            uid: object.metadata.uid.clone(),
            resource_version: object.metadata.resource_version.clone(),
        }),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(true),
        Err(error) => Err(error),
    }
}

fn api(client: &Client, namespace: &str, kind: &str) -> Option<Api<DynamicObject>> {
    let known = KINDS.iter().find(|known| known.kind == kind)?;
    Some(Api::namespaced_with(client.clone(), namespace, &resource(known.kind, known.plural)))
}

/// The API server's refusal in our words.
fn refusal(
    error: &kube::Error,
    source: &GitSource,
    place: Place,
    live: Option<&DynamicObject>,
    body: &Value,
) -> Finding {
    let kube::Error::Api(status) = error else {
        return Finding::failure(
            "API-UNREACHABLE",
            place,
            format!("{}; it is tried again", crate::error::chain(error)),
        );
    };
    let message = &status.message;
    let immutable = immutable(status, live, body);
    if let Some(fields) = immutable {
        return Finding::failure(
            "FIELD-IMMUTABLE",
            place,
            format!(
                "{fields}: {message}; put the old value back, or delete the object and let it be made anew"
            ),
        );
    }
    let again = || "; it is tried again".to_owned();
    let (code, remedy) = if status.is_forbidden() {
        ("ACCESS-DENIED", denied(message, source))
    } else if status.is_conflict() {
        ("CONFLICT", again())
    } else if status.code >= 500 || status.code == 429 {
        ("API-UNREACHABLE", again())
    } else {
        ("OBJ-INVALID", String::new())
    };
    Finding::failure(code, place, format!("{message}{remedy}"))
}

/// Who lacks which right, and how it is given. The server's message names the verb and the kind.
fn denied(message: &str, source: &GitSource) -> String {
    let Some(account) = &source.spec.service_account_name else {
        return "; give the controller's account that right in this namespace (manifests/rbac), or remove the object".into();
    };
    if message.contains("cannot impersonate") {
        return format!(
            "; the controller may not act as service account {account} of spec.serviceAccountName: give its account the verb impersonate on serviceaccounts, resourceNames [{account}], by a Role and RoleBinding"
        );
    }
    format!(
        "; give service account {account} of spec.serviceAccountName that verb by a Role and RoleBinding in this namespace, or remove the object"
    )
}

/// The immutable fields that a refusal is about, each with its old and new value (bad-input catalogue #26).
fn immutable(status: &kube::core::Status, live: Option<&DynamicObject>, body: &Value) -> Option<String> {
    let old = live.and_then(|live| serde_json::to_value(live).ok()).unwrap_or_default();
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    let fields: Vec<String> = causes
        .iter()
        .filter(|cause| cause.message.contains("immutable"))
        .map(|cause| {
            let pointer = format!("/{}", cause.field.replace(['.', '['], "/").replace(']', ""));
            let show = |value: Option<&Value>| clip(&value.unwrap_or(&Value::Null).to_string(), 120);
            format!(
                "{} is {} and cannot become {}",
                cause.field,
                show(old.pointer(&pointer)),
                show(body.pointer(&pointer))
            )
        })
        .collect();
    (!fields.is_empty()).then(|| fields.join("; "))
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
