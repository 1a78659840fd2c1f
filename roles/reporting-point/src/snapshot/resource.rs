//! Snapshots in the table of resources: one to a namespace, `current`.

use std::sync::Arc;

use axum::response::Response;
use futures::future::BoxFuture;
use http::header;
use patchtide_model::SiteName;
use serde_json::{Map, Value, json};

use super::{Asked as What, Reading, SnapshotError};
use crate::{
    ReportingPoint,
    answer::Answer,
    front_proxy::chain_of,
    resource::{About, Asked, Parameter, Resource},
    stream,
};

/// `snapshots/current`.
pub(crate) struct Snapshots;

const ABOUT: About = About {
    plural: "snapshots",
    singular: "snapshot",
    kind: "Snapshot",
    short: &[],
    categories: &[],
    verbs: &["get"],
    words: "A site at one moment: what policy is compiled from and what clients reported. It names every machine with its \
            facts and what it lacks. Read it with `kubectl patchtide snapshot`; its fields are those of the program's version.",
};

impl Resource for Snapshots {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn properties(&self) -> Map<String, Value> {
        [
            ("version", "integer", "Version of the fields below."),
            ("taken_at", "string", "When it was read, by the site's clock."),
            ("input", "object", "What policy is compiled from."),
            ("reports", "object", "What clients reported, by client."),
        ]
        .into_iter()
        .map(|(name, of, words)| (name.to_owned(), json!({"type": of, "description": words})))
        .collect()
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[
            Parameter {
                name: "client",
                of: "string",
                words: "Name or id of the one client that is told of; none: all.",
            },
            Parameter { name: "catalogue", of: "boolean", words: "With the whole catalogue." },
        ]
    }

    fn answer<'a>(
        &'static self,
        point: &'a Arc<ReportingPoint>,
        asked: Asked<'a>,
    ) -> BoxFuture<'a, Result<Response, Answer>> {
        Box::pin(snapshot(point, asked))
    }
}

async fn snapshot(point: &ReportingPoint, asked: Asked<'_>) -> Result<Response, Answer> {
    let wanted = asked.wanted;
    if asked.name != Some("current") {
        return Err(Answer::nothing(wanted, "the one there is is called \"current\""));
    }
    let accept = asked.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(refuses_json) {
        return Err(Answer::not_acceptable("snapshots are application/json"));
    }
    let what = What { client: asked.parameter("client"), catalogue: asked.flag("catalogue") };
    let site = asked.namespace.and_then(|namespace| SiteName::new(namespace).ok());
    let Some(site) = site else { return Err(Answer::not_found(wanted)) };
    let Ok(place) = Arc::clone(&point.snapshots).try_acquire_owned() else {
        return Err(Answer::busy("other snapshots are written at this moment"));
    };
    match Reading::start(&point.database.site(&site), &what, (point.clock)()).await {
        Ok(reading) => {
            let write = |compression, to| async move { reading.write(compression, &to).await };
            Ok(stream::answer(asked.headers, format!("the snapshot of {site}"), place, write))
        }
        Err(error @ (SnapshotError::NoSite | SnapshotError::NoClient(_))) => {
            Err(Answer::nothing(wanted, &error.to_string()))
        }
        Err(error @ SnapshotError::Ambiguous { .. }) => Err(Answer::bad(error.to_string())),
        Err(error) => {
            tracing::warn!(%site, error = %chain_of(&error), "no snapshot");
            Err(Answer::unavailable("the site database does not answer"))
        }
    }
}

/// Whether nothing that `accept` names can be JSON, or it wants it in another shape only.
fn refuses_json(accept: &str) -> bool {
    !accept.split(',').any(|form| {
        let mut parts = form.split(';').map(str::trim);
        matches!(parts.next(), Some("application/json" | "application/*" | "*/*"))
            && !parts.any(|part| part.starts_with("as="))
    })
}
