//! In which form objects are told: as they are, as a table that kubectl prints, or as their metadata alone.

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Depth, Kind, Object, Shown};
use crate::{answer::Answer, discovery::API_VERSION, resource::Asked};

/// A form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Objects.
    Objects,
    /// A `Table` of this version, with so much of each object.
    Table(&'static str, Include),
    /// `PartialObjectMetadata` of this version.
    Metadata(&'static str),
}

/// How much of its object a row of a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Include {
    None,
    Metadata,
    Object,
}

impl Form {
    /// The first form of those that a request accepts that there is.
    pub(super) fn accepted(asked: &Asked<'_>) -> Result<Self, Answer> {
        let include = match asked.parameter("includeObject").as_deref() {
            None | Some("Metadata") => Include::Metadata,
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            Some(other) => {
                return Err(Answer::bad(format!(
                    "includeObject {other:?} is not known: give None, Metadata or Object"
                )));
            }
        };
        let headers = asked.headers.get_all(header::ACCEPT).iter();
        let values: Vec<&str> = headers.filter_map(|value| value.to_str().ok()).collect();
        if values.is_empty() {
            return Ok(Self::Objects);
        }
        let mut forms = values.iter().flat_map(|value| value.split(','));
        forms.find_map(|form| Self::one(form, include)).ok_or_else(|| {
            Answer::not_acceptable(
                "this is told as application/json, or that with as=Table or as=PartialObjectMetadata, \
                 g=meta.k8s.io and v=v1",
            )
        })
    }

    fn one(text: &str, include: Include) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        if !matches!(parts.next(), Some("application/json" | "application/*" | "*/*")) {
            return None;
        }
        let (mut shape, mut group, mut version) = (None, None, None);
        for part in parts {
            match part.split_once('=') {
                Some(("as", value)) => shape = Some(value),
                Some(("g", value)) => group = Some(value),
                Some(("v", value)) => version = Some(value),
                _ => {}
            }
        }
        let Some(shape) = shape else { return Some(Self::Objects) };
        let version = match (group, version) {
            (Some("meta.k8s.io"), Some("v1")) => "meta.k8s.io/v1",
            (Some("meta.k8s.io"), Some("v1beta1")) => "meta.k8s.io/v1beta1",
            _ => return None,
        };
        match shape {
            "Table" => Some(Self::Table(version, include)),
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Self::Metadata(version)),
            _ => None,
        }
    }

    /// How much has to be read for it.
    pub(super) const fn depth(self) -> Depth {
        match self {
            Self::Objects | Self::Table(_, Include::Object) => Depth::Whole,
            Self::Table(..) => Depth::Table,
            Self::Metadata(_) => Depth::Digest,
        }
    }

    /// What stands before the objects of a list, and what after them.
    pub(super) fn list(self, kind: &dyn Kind, metadata: &Value) -> (String, &'static str) {
        let head = |version: &str, kind: &str| {
            format!("{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata}", json!(kind), json!(version))
        };
        let head = match self {
            Self::Objects => {
                format!("{},\"items\":[", head(API_VERSION, &format!("{}List", kind.about().kind)))
            }
            Self::Table(version, _) => {
                format!("{},\"columnDefinitions\":{},\"rows\":[", head(version, "Table"), columns(kind))
            }
            Self::Metadata(version) => {
                format!("{},\"items\":[", head(version, "PartialObjectMetadataList"))
            }
        };
        (head, "]}\n")
    }

    /// One object of a list.
    pub(super) fn item(self, shown: &Shown<'_>, object: &dyn Object, now: Timestamp) -> Value {
        match self {
            Self::Objects => shown.whole(object),
            Self::Metadata(version) => metadata(version, shown, object),
            Self::Table(version, include) => {
                let mut row = json!({"cells": object.cells(now)});
                let inner = match include {
                    Include::None => None,
                    Include::Metadata => Some(metadata(version, shown, object)),
                    Include::Object => Some(shown.whole(object)),
                };
                if let (Value::Object(row), Some(inner)) = (&mut row, inner) {
                    row.insert("object".to_owned(), inner);
                }
                row
            }
        }
    }

    /// One object alone; of a table with its columns if `columns`.
    pub(super) fn alone(
        self,
        shown: &Shown<'_>,
        object: &dyn Object,
        now: Timestamp,
        with_columns: bool,
    ) -> Value {
        let item = self.item(shown, object, now);
        let Self::Table(version, _) = self else { return item };
        let mut table = json!({
            "kind": "Table", "apiVersion": version,
            "metadata": {"resourceVersion": shown.number.to_string()}, "rows": [item],
        });
        if let (Value::Object(table), true) = (&mut table, with_columns) {
            table.insert("columnDefinitions".to_owned(), columns(shown.kind));
        }
        table
    }

    /// An answer with one object.
    pub(super) fn single(self, shown: &Shown<'_>, object: &dyn Object, now: Timestamp) -> Response {
        let text = self.alone(shown, object, now, true).to_string();
        let mut response = Body::from(text).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        response
    }

    /// An object that says of when what came before is, and nothing else.
    pub(super) fn bookmark(self, kind: &dyn Kind, number: u64, initial_events_end: bool) -> Value {
        let mut metadata = json!({"resourceVersion": number.to_string(), "creationTimestamp": null});
        if let (Value::Object(metadata), true) = (&mut metadata, initial_events_end) {
            metadata.insert("annotations".to_owned(), json!({"k8s.io/initial-events-end": "true"}));
        }
        let object = match self {
            Self::Objects => {
                return json!({"kind": kind.about().kind, "apiVersion": API_VERSION, "metadata": metadata});
            }
            Self::Metadata(version) | Self::Table(version, _) => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": metadata})
            }
        };
        match self {
            Self::Table(version, _) => json!({
                "kind": "Table", "apiVersion": version, "metadata": {"resourceVersion": number.to_string()},
                "rows": [{"cells": [], "object": object}],
            }),
            _ => object,
        }
    }
}

fn metadata(version: &str, shown: &Shown<'_>, object: &dyn Object) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": shown.metadata(object)})
}

fn columns(kind: &dyn Kind) -> Value {
    let columns = kind.columns().iter().enumerate().map(|(n, column)| {
        json!({
            "name": column.name, "type": column.of, "format": if n == 0 { "name" } else { "" },
            "description": column.words, "priority": i32::from(column.wide),
        })
    });
    columns.collect()
}
