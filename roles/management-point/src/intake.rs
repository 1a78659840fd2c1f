//! State messages: bounded, attributed to the certificate, acknowledged when durable.

use std::{borrow::Cow, sync::Arc, time::Instant};

use axum::{Json, body::Body, extract::State};
use http::{HeaderMap, StatusCode, header};
use patchtide_endpoint::{AuthenticatedClient, Refusal, body, metrics::Held, standing::Standing};
use patchtide_protocol::{
    JSON, STATE_BINARY, ZSTD, binary, check, encoding,
    encoding::EncodingError,
    limits::STATE_WIRE_BYTES,
    state::{Acknowledgement, StateReport, Text},
};
use patchtide_store::intake::Sender;

use crate::{ManagementPoint, convert, error::refusal, limits, metrics::Outcome, parse_json};

/// `POST /v1/state-messages`.
pub(crate) async fn report(
    State(point): State<Arc<ManagementPoint>>,
    client: AuthenticatedClient,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Acknowledgement>, Refusal> {
    let answer = take(&point, &client, &headers, body).await;
    let outcome = match &answer {
        Ok(_) => "durable",
        Err(refusal) => match refusal.problem().status {
            403 => "not-entitled",
            429 => "rate",
            503 => "unavailable",
            _ => "malformed",
        },
    };
    point.metrics.reports.get_or_create(&Outcome { outcome }).inc();
    answer.map(Json)
}

async fn take(
    point: &ManagementPoint,
    client: &AuthenticatedClient,
    headers: &HeaderMap,
    body: Body,
) -> Result<Acknowledgement, Refusal> {
    point.reports.take(client.id, Instant::now()).map_err(|wait| {
        Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "RATE",
            "this client sends reports faster than the site takes them",
            "put more messages into one report and wait",
        )
        .retry_after(wait.as_secs() + 1)
    })?;
    let form = Form::of(headers)?;
    let bytes = body::read(headers, body, STATE_WIRE_BYTES).await?;
    let bytes = if form.compressed { Cow::Owned(expand(&bytes)?) } else { Cow::Borrowed(&bytes[..]) };
    if form.binary {
        keep(point, client, read_binary(&bytes)?, bytes.len()).await
    } else {
        keep(point, client, read_json(&bytes)?, bytes.len()).await
    }
}

/// Checks the values of a report and has it kept; its names are still those of the body.
async fn keep<S: AsRef<str> + Ord>(
    point: &ManagementPoint,
    client: &AuthenticatedClient,
    report: StateReport<S>,
    bytes: usize,
) -> Result<Acknowledgement, Refusal> {
    report.check().map_err(|violation| value(&violation))?;
    let messages = report.messages.len();
    if let Some(limits) = limits::of_site(point).await?.as_ref() {
        limits::report(limits, messages, bytes)?;
    }
    let report = convert::report(client.id, (point.clock)(), report);
    let waiting = [
        Held::new(point.metrics.waiting.clone()),
        Held::many(point.metrics.waiting_messages.clone(), messages),
        Held::many(point.metrics.waiting_bytes.clone(), bytes),
    ];
    let kept = point.store.intake(report).await;
    drop(waiting);
    let acknowledged = kept.map_err(|error| refusal("state messages", &error))?;
    if acknowledged.sender == Sender::Quarantined {
        Standing::Quarantined.check()?;
    }
    point.metrics.messages.inc_by(messages as u64);
    point.metrics.dropped_facts.inc_by(acknowledged.dropped_facts);
    Ok(Acknowledgement {
        acknowledged: acknowledged.acknowledged,
        resync: acknowledged.resync,
        by_name: acknowledged.by_name,
        superseded: acknowledged.sender == Sender::Superseded,
    })
}

#[derive(Debug, Clone, Copy)]
struct Form {
    binary: bool,
    compressed: bool,
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let unsupported = |detail: &str| {
            Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "MEDIA-TYPE",
                detail,
                format!("send {JSON} or {STATE_BINARY}, plain or with Content-Encoding {ZSTD}"),
            )
        };
        let media = text(header::CONTENT_TYPE).unwrap_or_default();
        let binary = match media.split(';').next().unwrap_or_default().trim() {
            JSON => false,
            STATE_BINARY => true,
            _ => return Err(unsupported("state messages do not come in this media type")),
        };
        let compressed = match text(header::CONTENT_ENCODING) {
            None | Some("identity") => false,
            Some(ZSTD) => true,
            Some(_) => return Err(unsupported("state messages do not come in this content encoding")),
        };
        Ok(Self { binary, compressed })
    }
}

fn value(violation: &check::Violation) -> Refusal {
    Refusal::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "MSG-VALUE",
        violation.to_string(),
        "drop or clean that message; the others can be sent without it",
    )
}

fn read_binary(bytes: &[u8]) -> Result<StateReport<&str>, Refusal> {
    binary::decode_borrowed(bytes).map_err(|error| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "MSG-SYNTAX",
            format!("the binary report cannot be read: {error}"),
            "encode it as docs/protocol.md says; check the agent's version",
        )
    })
}

fn read_json(bytes: &[u8]) -> Result<StateReport<Text<'_>>, Refusal> {
    check::json_shape(bytes).map_err(|violation| value(&violation))?;
    parse_json(bytes, "MSG-SYNTAX")
}

fn expand(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    encoding::expand(bytes).map_err(|error| {
        let (status, code) = match &error {
            EncodingError::Size => (StatusCode::PAYLOAD_TOO_LARGE, "BODY-SIZE"),
            _ => (StatusCode::BAD_REQUEST, "MSG-SYNTAX"),
        };
        Refusal::new(status, code, error.to_string(), "send less at once, in one zstd frame")
    })
}
