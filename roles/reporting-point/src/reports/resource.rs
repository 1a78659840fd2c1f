//! `reports`: each report as an object. What a person sees of the clients follows what they may see of the collections: a
//! report about a collection or a deployment needs the right to get that one, and one about all clients the right to list
//! collections.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use futures::future::BoxFuture;
use http::{HeaderValue, header};
use patchtide_model::SiteName;
use patchtide_store::SiteStore;
use serde_json::{Map, Value, json};

use super::{Cell, Column, DEFINITIONS, Definition, Kind, Report, ReportError, Values, find, run};
use crate::{
    ReportingPoint,
    answer::Answer,
    discovery::API_VERSION,
    front_proxy::chain_of,
    resource::{About, Asked, Parameter, Resource},
};

/// The resource.
pub(crate) struct Reports;

static ABOUT: About = About {
    plural: "reports",
    singular: "report",
    kind: "Report",
    short: &["prpt"],
    categories: &["patchtide"],
    verbs: &["get", "list"],
    words: "A report: what it is asked with is in the query, `kubectl patchtide report` puts it there. A list tells which \
            reports there are, without rows.",
};

static PARAMETERS: &[Parameter] = &[
    of("list", "Name of an update list."),
    of("deployment", "Name of a deployment."),
    of("collection", "Name of a collection."),
    of("client", "Host name or id of a client."),
    of("update", "Identity of an update."),
    of("state", "Name or number of a state."),
    of("filter", "Words of a title, or a bulletin."),
    of("vendor", "First part of a line."),
    of("classification", "A classification."),
    of("product", "A product."),
    of("year", "A year."),
    of("month", "A month, 1 to 12."),
    of("days", "A number of days."),
    of("missing", "A number of missing updates."),
    of("code", "An error code."),
    of("symbol", "A symbol of an error."),
    of("version", "A version of the agent."),
    of("system", "An operating system."),
    of("all", "Superseded and expired updates too."),
    of("limit", "Rows at most; default 10000."),
];

const fn of(name: &'static str, words: &'static str) -> Parameter {
    Parameter { name, of: "string", words }
}

/// Parameters of every request of kubectl.
const OTHERS: &[&str] = &["timeout", "pretty", "resourceVersion", "includeObject", "limit", "continue"];

impl Resource for Reports {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn properties(&self) -> Map<String, Value> {
        [
            ("title", "string", "For people."),
            ("group", "string", "Where it belongs."),
            ("description", "string", "What it answers."),
            ("parameters", "object", "What it was asked with; in a list, what it can be asked with."),
            ("takenAt", "string", "When it was read, by the site's clock."),
            ("header", "array", "What concerns the whole of it: name and value."),
            ("columns", "array", "Its columns: name, title, type."),
            ("rows", "array", "Its rows: `cells`, a value for each column, and `drillDown`, the parameters for the report that tells more."),
            ("totalRows", "integer", "Rows that there are; more than are told when the limit cut them."),
            ("drillDown", "string", "The report that tells more of a row."),
        ]
        .into_iter()
        .map(|(name, of, words)| {
            let mut schema = json!({"type": of, "description": words});
            if of == "array" {
                schema["items"] = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            }
            if of == "object" {
                schema["x-kubernetes-preserve-unknown-fields"] = true.into();
            }
            (name.to_owned(), schema)
        })
        .collect()
    }

    fn parameters(&self) -> &'static [Parameter] {
        PARAMETERS
    }

    fn answer<'a>(
        &'a self,
        point: &'a Arc<ReportingPoint>,
        asked: Asked<'a>,
    ) -> BoxFuture<'a, Result<Response, Answer>> {
        Box::pin(async move {
            let as_table = wants_table(&asked);
            let Some(name) = asked.name.filter(|_| asked.verb == "get") else {
                return Ok(document(&if as_table { index() } else { list() }));
            };
            let report = report(point, &asked, name).await?;
            let namespace = asked.namespace.unwrap_or_default();
            Ok(document(&if as_table { table(&report) } else { object(&report, namespace) }))
        })
    }
}

/// The report that is asked for, of what the user may see.
async fn report(point: &ReportingPoint, asked: &Asked<'_>, name: &str) -> Result<Report, Answer> {
    let site = asked.namespace.and_then(|namespace| SiteName::new(namespace).ok());
    let Some(site) = site else { return Err(Answer::not_found(asked.wanted)) };
    let store = point.database.site(&site);
    let Some(definition) = find(name) else {
        return Err(Answer::nothing(asked.wanted, &ReportError::NoReport(name.to_owned()).to_string()));
    };
    let values = values(asked);
    may(point, asked, &store, definition, &values).await?;
    run(&store, name, values, (point.clock)()).await.map_err(|error| match error {
        ReportError::NoReport(_) | ReportError::NoSite => Answer::nothing(asked.wanted, &error.to_string()),
        ReportError::Store(_) => {
            tracing::warn!(%site, report = name, error = %chain_of(&error), "no report");
            Answer::unavailable("the site database does not answer")
        }
        _ => Answer::bad(error.to_string()),
    })
}

/// The parameters of the query.
fn values(asked: &Asked<'_>) -> Values {
    let query = asked.uri.query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes())
        .filter(|(name, value)| !value.is_empty() && (name == "limit" || !OTHERS.contains(&name.as_ref())))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

/// Whether the user may see the objects that the report is about, and the clients that it tells of.
async fn may(
    point: &ReportingPoint,
    asked: &Asked<'_>,
    site: &SiteStore,
    definition: &Definition,
    values: &Values,
) -> Result<(), Answer> {
    let namespace = asked.namespace.unwrap_or_default();
    let sees = |plural, name| point.access.sees(asked.user, namespace, plural, name);
    let hidden = |plural: &str, name, remedy: &str| {
        Err(Answer::hidden(asked.user, asked.wanted, plural, name, remedy))
    };
    let value = |name: &str| values.get(name).map(String::as_str);
    for (parameter, plural) in
        [("collection", "collections"), ("deployment", "updatedeployments"), ("list", "updatelists")]
    {
        if let Some(name) = value(parameter)
            && !sees(plural, Some(name)).await?
        {
            return hidden(plural, Some(name), "ask for a role that may, or name one that you may see");
        }
    }
    if value("collection").is_some() || value("deployment").is_some() {
        return Ok(());
    }
    let plural = match definition.name {
        "management-1" | "management-6" => "updatedeployments",
        "distribution-1" => "distributionpoints",
        _ => "collections",
    };
    if sees(plural, None).await? {
        return Ok(());
    }
    if let Some(client) = value("client") {
        // Whoever may see one of its collections may see a client.
        let unreadable = |error: patchtide_store::StoreError| {
            tracing::warn!(error = %chain_of(&error), "no collections");
            Answer::unavailable("the site database does not answer")
        };
        let ids = site.clients_called(client).await.map_err(unreadable)?;
        if let [id] = ids.as_slice()
            && let Some(number) = site.client_number(*id).await.map_err(unreadable)?
        {
            for collection in site.collections_with(number).await.map_err(unreadable)? {
                let one = point.access.sees(asked.user, namespace, "collections", Some(&collection));
                if one.await? {
                    return Ok(());
                }
            }
        }
    }
    hidden(
        plural,
        None,
        "name a collection that you may see, with collection=NAME, or ask for a role that may list them",
    )
}

fn wants_table(asked: &Asked<'_>) -> bool {
    let accept = asked.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let first = accept.and_then(|accept| accept.split(',').next()).unwrap_or_default();
    first.split(';').any(|part| part.trim() == "as=Table")
}

fn document(value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn object(report: &Report, namespace: &str) -> Value {
    let mut object = json!({
        "apiVersion": API_VERSION,
        "kind": ABOUT.kind,
        "metadata": {"name": report.name, "namespace": namespace},
    });
    if let (Value::Object(object), Ok(Value::Object(fields))) = (&mut object, serde_json::to_value(report)) {
        object.extend(fields.into_iter().filter(|(name, _)| name != "name"));
    }
    object
}

/// Which reports there are.
fn list() -> Value {
    let item = |definition: &Definition| {
        json!({
            "apiVersion": API_VERSION,
            "kind": ABOUT.kind,
            "metadata": {"name": definition.name},
            "title": definition.title,
            "group": definition.group,
            "description": definition.description,
            "parameters": definition.parameters,
            "columns": definition.columns,
            "drillDown": definition.drill_down,
        })
    };
    json!({
        "apiVersion": API_VERSION,
        "kind": "ReportList",
        "metadata": {},
        "items": DEFINITIONS.iter().map(item).collect::<Vec<_>>(),
    })
}

/// The same as a table.
fn index() -> Value {
    let rows = DEFINITIONS.iter().map(|definition| {
        let parameters: Vec<String> =
            definition
                .parameters
                .iter()
                .map(|parameter| {
                    if parameter.required {
                        parameter.name.to_owned()
                    } else {
                        format!("[{}]", parameter.name)
                    }
                })
                .collect();
        (definition.name, vec![json!(definition.name), json!(definition.title), json!(parameters.join(" "))])
    });
    let columns = [("Name", "string"), ("Title", "string"), ("Parameters", "string")];
    let columns = columns.map(|(name, of)| json!({"name": name, "type": of, "format": if name == "Name" { "name" } else { "" }, "description": name, "priority": 0}));
    of_rows(&columns, rows)
}

/// A report's rows as a table.
fn table(report: &Report) -> Value {
    let columns = report.columns.iter().map(|Column { title, kind, wide, .. }| {
        let of = match kind {
            Kind::Count => "integer",
            Kind::Percent => "number",
            Kind::Flag => "boolean",
            Kind::Text | Kind::Instant => "string",
        };
        json!({"name": title, "type": of, "format": "", "description": title, "priority": i32::from(*wide)})
    });
    let cell = |cell: &Cell| match cell {
        Cell::None => json!(""),
        cell => json!(cell),
    };
    let rows = report.rows.iter().map(|row| (report.name, row.cells.iter().map(cell).collect()));
    of_rows(&columns.collect::<Vec<_>>(), rows)
}

fn of_rows(columns: &[Value], rows: impl Iterator<Item = (&'static str, Vec<Value>)>) -> Value {
    let rows = rows.map(|(name, cells)| {
        json!({
            "cells": cells,
            "object": {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": {"name": name, "creationTimestamp": null},
            },
        })
    });
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": columns,
        "rows": rows.collect::<Vec<_>>(),
    })
}
