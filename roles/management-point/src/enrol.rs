//! Enrolment and renewal: requests go into the site database, the controller decides and its signer issues.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, State},
};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use patchtide_endpoint::{AuthenticatedClient, Peer, Refusal, admission::network, body};
use patchtide_model::{ClientId, Digest, client::ClientState};
use patchtide_protocol::{
    OLDEST_VERSION, VERSION,
    certificate::{RequestError, read_request},
    check,
    enrolment::{EnrolmentAnswer, EnrolmentRequest, EnrolmentState, RenewalRequest, SiteGreeting},
    limits::ENROLMENT_BYTES,
};
use patchtide_store::{
    ObjectRow,
    clients::{self, EnrolmentRow},
};

use crate::{ManagementPoint, error::refusal, limits, parse_json};

/// Kind of the rows in which the controller finds requests for a new certificate: name is the client, UID the id of its
/// enrolment, content the signing request.
const RENEWAL: &str = "Renewal";

/// How long a request for a new certificate waits for it; after that the client asks as after an enrolment.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(100);

/// `GET /v1/site`.
pub(crate) async fn site(State(point): State<Arc<ManagementPoint>>) -> Json<SiteGreeting> {
    Json(SiteGreeting {
        site: point.store.name().clone(),
        oldest_version: OLDEST_VERSION,
        newest_version: VERSION,
        time: (point.clock)(),
    })
}

/// `POST /v1/enrolments`.
pub(crate) async fn request(
    State(point): State<Arc<ManagementPoint>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<EnrolmentAnswer>, Refusal> {
    let address = peer.address.ip().to_canonical();
    let limits = limits::of_site(&point).await?;
    let rate = limits.as_ref().as_ref().map(|limits| limits::per_minute(limits.enrolments_per_minute));
    let rate = rate.unwrap_or(point.config.enrolments);
    point.enrolments.take_at(rate, network(address), Instant::now()).map_err(|wait| {
        Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "RATE",
            "more enrolment requests come from this address than Site.spec.limits.enrolmentsPerMinute allows",
            "ask again later; the request is the same as long as the key is",
        )
        .retry_after(wait.as_secs() + 1)
    })?;
    let bytes = body::read(&headers, body, ENROLMENT_BYTES).await?;
    let request: EnrolmentRequest = parse_json(&bytes, "ENROL-SYNTAX")?;
    let value = |detail: String| {
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "ENROL-VALUE", detail, "correct it and ask again")
    };
    if request.name.is_empty() || request.name.len() > 253 || !check::is_plain(&request.name) {
        return Err(value("name is empty, longer than 253 bytes, or holds control characters".into()));
    }
    check::facts(&request.facts).map_err(|violation| value(violation.to_string()))?;
    let (_, id) = read_request(&request.csr_pem).map_err(|error| signing_request(&error))?;
    let row = EnrolmentRow {
        id,
        csr_pem: request.csr_pem,
        token_digest: request.token.map(|token| Digest::of(token.trim().as_bytes())),
        name: request.name,
        facts: request.facts,
        address: Some(address),
        requested_at: (point.clock)(),
    };
    let csr_pem = row.csr_pem.clone();
    let state =
        point.store.put_enrolment(row).await.map_err(|error| refusal("an enrolment request", &error))?;
    let state = match state {
        // It was off for longer than its certificate was good: possession of the key makes it the same client.
        clients::EnrolmentState::Approved { client, not_after, .. } if not_after <= (point.clock)() => {
            renewed(&point, client, id, csr_pem, not_after).await?
        }
        state => state,
    };
    tell(&point, id, state).await
}

/// `GET /v1/enrolments/{id}`.
pub(crate) async fn answer(
    State(point): State<Arc<ManagementPoint>>,
    Path(id): Path<String>,
) -> Result<Json<EnrolmentAnswer>, Refusal> {
    let unknown = || {
        Refusal::new(
            StatusCode::NOT_FOUND,
            "ENROL-UNKNOWN",
            "no machine asked to enrol with this key, or its request expired",
            "POST an enrolment request",
        )
    };
    let id: Digest = id.parse().map_err(|_| unknown())?;
    let enrolment = point.store.enrolment(id).await.map_err(|error| refusal("an enrolment", &error))?;
    tell(&point, id, enrolment.ok_or_else(unknown)?.state).await
}

async fn tell(
    point: &ManagementPoint,
    id: Digest,
    state: clients::EnrolmentState,
) -> Result<Json<EnrolmentAnswer>, Refusal> {
    let state = match state {
        clients::EnrolmentState::Pending => {
            EnrolmentState::Pending { reason: "the site has not decided yet".to_owned() }
        }
        clients::EnrolmentState::Refused { reason } => EnrolmentState::Refused { reason },
        clients::EnrolmentState::Approved { client, certificate_pem, .. } => {
            let known = point.store.client(client).await.map_err(|error| refusal("a client", &error))?;
            match known.map(|client| client.state) {
                Some(ClientState::Revoked) => EnrolmentState::Refused {
                    reason: "the client of this key was retired: make a new key to enrol as a new client"
                        .to_owned(),
                },
                _ => EnrolmentState::Approved { client, certificate_pem },
            }
        }
    };
    Ok(Json(EnrolmentAnswer { id, state }))
}

/// `POST /v1/renewals`.
pub(crate) async fn renew(
    State(point): State<Arc<ManagementPoint>>,
    client: AuthenticatedClient,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<EnrolmentAnswer>, Refusal> {
    point.standings.check(&client).await?;
    let bytes = body::read(&headers, body, ENROLMENT_BYTES).await?;
    let request: RenewalRequest = parse_json(&bytes, "ENROL-SYNTAX")?;
    let (_, id) = read_request(&request.csr_pem).map_err(|error| signing_request(&error))?;
    let known = point.store.enrolment(id).await.map_err(|error| refusal("an enrolment", &error))?;
    match known.map(|enrolment| enrolment.state) {
        Some(clients::EnrolmentState::Approved { client: known, not_after, .. }) if known == client.id => {
            let state = renewed(&point, known, id, request.csr_pem, not_after).await?;
            tell(&point, id, state).await
        }
        _ => Err(Refusal::new(
            StatusCode::CONFLICT,
            "ENROL-KEY",
            "the signing request is not for the key that this client enrolled with",
            "renew with the same key, or enrol as a new client",
        )),
    }
}

/// Asks the controller for a new certificate and waits a moment for it. The controller checks again whose key it is.
async fn renewed(
    point: &ManagementPoint,
    client: ClientId,
    id: Digest,
    csr_pem: String,
    not_after: Timestamp,
) -> Result<clients::EnrolmentState, Refusal> {
    let row = ObjectRow {
        kind: RENEWAL.to_owned(),
        name: client.to_string(),
        uid: id.to_string(),
        generation: 0,
        json: serde_json::Value::String(csr_pem).to_string(),
    };
    let deadline = Instant::now() + PATIENCE;
    point.store.put_object(row).await.map_err(|error| refusal("a renewal", &error))?;
    while Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
        let known = point.store.enrolment(id).await.map_err(|error| refusal("an enrolment", &error))?;
        match known.map(|enrolment| enrolment.state) {
            Some(state @ clients::EnrolmentState::Approved { not_after: now, .. }) if now > not_after => {
                return Ok(state);
            }
            Some(_) => {}
            None => break,
        }
    }
    Ok(clients::EnrolmentState::Pending)
}

fn signing_request(error: &RequestError) -> Refusal {
    Refusal::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "ENROL-CSR",
        error.to_string(),
        "make a new signing request",
    )
}
