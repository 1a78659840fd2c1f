//! Policy: conditional, with a long poll that a new one ends at once; and the parts that it names.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::{Path, Query, State},
    response::Response,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use patchtide_endpoint::{AuthenticatedClient, Draining, Refusal, metrics::Held};
use patchtide_model::ClientId;
use patchtide_protocol::{JSON, POLICY_SINCE_VERSION, VERSION_HEADER, ZSTD, limits::LONGEST_POLL};
use patchtide_store::SiteStore;
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use crate::{ManagementPoint, error::refusal};

/// Epoch and number; ordered as agents order them.
type Number = (u64, u64);
type Numbers = Arc<BTreeMap<ClientId, Number>>;

/// Which policy each client has, in memory: ten thousand waiting clients cost one query per change, not ten thousand.
pub(crate) struct Index(watch::Receiver<Option<Numbers>>);

/// Wait after a failed read.
const RETRY: Duration = Duration::from_secs(1);

impl Index {
    pub(crate) fn start(store: SiteStore) -> (Self, JoinHandle<()>) {
        let (publish, receive) = watch::channel(None);
        let task = tokio::spawn(async move {
            let mut changes = store.policy_changes();
            loop {
                changes.mark_unchanged();
                match store.policy_numbers().await {
                    Ok(numbers) => {
                        publish.send_replace(Some(Arc::new(numbers)));
                    }
                    Err(error) => {
                        let error = crate::error::chain(&error);
                        tracing::warn!(error, "the numbers of policies cannot be read; trying again");
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        });
        (Self(receive), task)
    }
}

#[derive(serde::Deserialize)]
pub(crate) struct Wait {
    /// Seconds.
    #[serde(default)]
    wait: u64,
}

/// `GET /v1/policy`.
pub(crate) async fn policy(
    State(point): State<Arc<ManagementPoint>>,
    client: AuthenticatedClient,
    Extension(Draining(draining)): Extension<Draining>,
    query: Result<Query<Wait>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    check_version(&headers)?;
    point.standings.check(&client).await?;
    point.touch(&client).await;
    let Ok(Query(Wait { wait })) = query else {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "QUERY",
            "wait is not a number of seconds",
            "ask with ?wait=60, or without it",
        ));
    };
    let held = held(&headers);
    let deadline = Instant::now() + Duration::from_secs(wait).min(LONGEST_POLL);
    let mut numbers = point.policies.0.clone();
    let waiting = Held::new(point.metrics.long_polls.clone());
    let found = loop {
        let current = numbers.borrow_and_update().clone();
        match current.as_ref().map(|numbers| numbers.get(&client.id).copied()) {
            // What is not newer than the client's is a replica that lags: wait for it as for a change.
            Some(Some(number)) if held.is_none_or(|held| number > held) => break Some(number),
            Some(found) if Instant::now() >= deadline => break found,
            None if Instant::now() >= deadline => {
                return Err(Refusal::unavailable("the site's policies are not read yet"));
            }
            _ => {}
        }
        tokio::select! {
            changed = numbers.changed() => if changed.is_err() {
                return Err(Refusal::unavailable("the management point is stopping"));
            },
            () = tokio::time::sleep_until(deadline) => {}
            () = draining.cancelled() => break held,
        }
    };
    drop(waiting);
    match (found, held) {
        (None, _) => Ok(empty(StatusCode::NO_CONTENT)),
        (Some(number), Some(held)) if number <= held => {
            let mut response = empty(StatusCode::NOT_MODIFIED);
            response.headers_mut().insert(header::ETAG, tag(held));
            Ok(response)
        }
        (Some(_), _) => send(&point, &client).await,
    }
}

async fn send(point: &ManagementPoint, client: &AuthenticatedClient) -> Result<Response, Refusal> {
    let stored = point.store.policy(client.id).await.map_err(|error| refusal("a policy", &error))?;
    let Some(stored) = stored else { return Ok(empty(StatusCode::NO_CONTENT)) };
    let mut response = json(stored.statement);
    response.headers_mut().insert(header::ETAG, tag((stored.epoch, stored.number)));
    Ok(response)
}

/// `GET /v1/policy/parts/{sha256}`: only what the caller's own policy names, for it tells what is installed where.
pub(crate) async fn part(
    State(point): State<Arc<ManagementPoint>>,
    client: AuthenticatedClient,
    Path(digest): Path<String>,
) -> Result<Response, Refusal> {
    point.standings.check(&client).await?;
    let absent = || {
        Refusal::new(
            StatusCode::NOT_FOUND,
            "POLICY-PART",
            "the policy of this client names no such part",
            "ask for the policy again: it is another one by now",
        )
    };
    let digest = digest.parse().map_err(|_| absent())?;
    let part = point.store.policy_part(client.id, digest).await;
    let bytes = part.map_err(|error| refusal("a part of a policy", &error))?.ok_or_else(absent)?;
    let mut response = json(bytes);
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(ZSTD));
    Ok(response)
}

/// What an older agent takes for a policy is not made any more; everything else it does goes on.
fn check_version(headers: &HeaderMap) -> Result<(), Refusal> {
    let version = headers.get(VERSION_HEADER).and_then(|version| version.to_str().ok()?.parse::<u32>().ok());
    match version {
        Some(version) if version < POLICY_SINCE_VERSION => Err(Refusal::new(
            StatusCode::UPGRADE_REQUIRED,
            "PROTOCOL-VERSION",
            format!(
                "policies are those of protocol version {POLICY_SINCE_VERSION}, the client speaks {version}"
            ),
            "upgrade the agent to the site's release; until then it goes on by the policy it has",
        )),
        _ => Ok(()),
    }
}

fn json(bytes: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn tag((epoch, number): Number) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{epoch}.{number}\"")).unwrap_or(HeaderValue::from_static("\"0.0\""))
}

/// What the client has. Anything but our own form counts as nothing.
fn held(headers: &HeaderMap) -> Option<Number> {
    let text = headers.get(header::IF_NONE_MATCH)?.to_str().ok()?;
    let (epoch, number) = text.trim().strip_prefix('"')?.strip_suffix('"')?.split_once('.')?;
    Some((epoch.parse().ok()?, number.parse().ok()?))
}
