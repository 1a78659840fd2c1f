//! `softwareupdates`: the catalogue of a site, with who has what.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use patchtide_model::{
    UpdateId,
    catalogue::{Classification, Severity, Update},
};
use patchtide_store::{
    SiteStore,
    answers::select::{Condition, Part, UpdateIs, UpdateRow},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    Column, Depth, Kind, Object, Read, column,
    columns::{age, time},
    failed,
    selector::{self, Selection, unusable},
    wide,
};
use crate::{
    answer::Answer,
    openapi::{body, properties},
    resource::About,
};

/// The kind.
pub(crate) struct SoftwareUpdates;

const ABOUT: About = About {
    plural: "softwareupdates",
    singular: "softwareupdate",
    kind: "SoftwareUpdate",
    short: &["su"],
    categories: &["patchtide-reports"],
    verbs: &["get", "list", "watch"],
    words: "An update in the catalogue of the site (for apt: a source package at a version in a line), and how many active \
            clients require it. Its name is source and version with eight digits of a digest over its identity.",
};

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Body {
    /// What the update is.
    spec: Spec,
    /// What became of it.
    status: Status,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Spec {
    /// Identity, `<line>:<source>@<version>`: what deployments and lists call it by.
    id: String,
    /// Product line.
    line: String,
    /// Source.
    source: String,
    /// Version of the source.
    version: String,
    /// For people.
    title: String,
    /// Classification.
    classification: String,
    /// Product.
    product: String,
    /// Severity: `None`, `Low`, `Moderate`, `Important` or `Critical`.
    severity: String,
    /// When it was posted, or first seen.
    posted: String,
    /// CVE ids of its advisories.
    cves: Vec<String>,
    /// Advisories.
    bulletins: Vec<String>,
    /// Packages, as `<name>:<architecture>=<version>`.
    packages: Vec<String>,
    /// Longest time that its installation may take, seconds, when a rule says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    maximum_run_time_seconds: Option<i64>,
    /// It is installed apart from all others.
    exclusive: bool,
    /// Whether it asks for a restart: `Always`, `Never`, or `Auto` when the system says so.
    restart: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// A newer one of the same source is in the line.
    superseded: bool,
    /// Identity of the newer one.
    #[serde(skip_serializing_if = "Option::is_none")]
    superseded_by: Option<String>,
    /// Withdrawn, or superseded for long: not for new deployments.
    expired: bool,
    /// Active clients by what they reported; the four add up to all of them.
    clients: Counts,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Counts {
    /// They require it.
    required: u64,
    /// They have it.
    installed: u64,
    /// They do not need it.
    not_required: u64,
    /// They have not scanned since it came, or never did.
    unknown: u64,
}

const COLUMNS: &[Column] = &[
    column("Name", "string", "Source and version with a short digest."),
    column("Class", "string", "Classification."),
    column("Severity", "string", "Severity."),
    column("State", "string", "Current, Superseded or Expired."),
    column("Required", "integer", "Active clients that require it."),
    column("Installed", "integer", "Active clients that have it."),
    column("Posted", "string", "Time since it was posted, or first seen."),
    wide("Line", "string", "Product line."),
    wide("Not required", "integer", "Active clients that do not need it."),
    wide("Unknown", "integer", "Active clients that have not scanned since it came."),
    wide("Title", "string", "For people."),
];

const FIELDS: &[(&str, &str)] = &[
    ("spec.id", "an identity, <line>:<source>@<version>"),
    ("spec.line", "a product line"),
    ("spec.source", "a source"),
    ("spec.version", "a version"),
    ("spec.product", "a product"),
    (
        "spec.classification",
        "CriticalUpdates, DefinitionUpdates, FeaturePacks, SecurityUpdates, ServicePacks, Tools, UpdateRollups or Updates",
    ),
    ("spec.severity", "None, Low, Moderate, Important or Critical"),
    ("status.superseded", "true or false"),
    ("status.expired", "true or false"),
    ("status.required", "true or false: whether any active client requires it"),
];

const CLASSIFICATIONS: [Classification; 8] = [
    Classification::CriticalUpdates,
    Classification::DefinitionUpdates,
    Classification::FeaturePacks,
    Classification::SecurityUpdates,
    Classification::ServicePacks,
    Classification::Tools,
    Classification::UpdateRollups,
    Classification::Updates,
];
const SEVERITIES: [Severity; 5] =
    [Severity::None, Severity::Low, Severity::Moderate, Severity::Important, Severity::Critical];

fn called<T: std::fmt::Debug + Copy>(all: &[T], name: &str) -> Option<T> {
    all.iter().copied().find(|one| format!("{one:?}") == name)
}

fn conditions(selection: &Selection) -> Result<Vec<Condition<UpdateIs>>, Answer> {
    let one = |term: &selector::Term| {
        let value = || term.value.clone();
        let wrong = || unusable(&SoftwareUpdates, term);
        let flag = |what| {
            let yes: bool = term.value.parse().map_err(|_| wrong())?;
            Ok::<_, Answer>(Condition { what, holds: yes == term.equal })
        };
        let what = match term.field {
            "status.superseded" => return flag(UpdateIs::Superseded),
            "status.expired" => return flag(UpdateIs::Expired),
            "status.required" => return flag(UpdateIs::Required),
            selector::NAME => UpdateIs::Named(value()),
            "spec.id" => UpdateIs::Id(term.value.parse().map_err(|_| wrong())?),
            "spec.line" => UpdateIs::Line(value()),
            "spec.source" => UpdateIs::Source(value()),
            "spec.version" => UpdateIs::Version(value()),
            "spec.product" => UpdateIs::Product(value()),
            "spec.classification" => {
                UpdateIs::Classified(called(&CLASSIFICATIONS, &term.value).ok_or_else(wrong)?)
            }
            _ => UpdateIs::Severity(called(&SEVERITIES, &term.value).ok_or_else(wrong)?),
        };
        Ok(Condition { what, holds: term.equal })
    };
    selection.within().map(one).collect()
}

/// An identity that is always the same for the same text.
pub(super) fn uid(text: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, text.as_bytes()).to_string()
}

impl Kind for SoftwareUpdates {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn fields(&self) -> &'static [(&'static str, &'static str)] {
        FIELDS
    }

    fn properties(&self) -> Map<String, Value> {
        properties::<Body>()
    }

    fn check(&self, selection: &Selection) -> Result<(), Answer> {
        conditions(selection).map(drop)
    }

    fn name_of(&self, key: &str) -> String {
        let mut parts = key.split('\n');
        let mut next = || parts.next().unwrap_or_default().to_owned();
        let (source, version, _, line) = (next(), next(), next(), next());
        line.parse()
            .map_or_else(|_| source.clone(), |line| UpdateId { line, source: source.clone(), version }.slug())
    }

    fn read<'a>(
        &'a self,
        site: &'a SiteStore,
        read: Read<'a>,
    ) -> BoxFuture<'a, Result<Vec<Box<dyn Object>>, Answer>> {
        Box::pin(async move {
            let part = Part {
                conditions: conditions(read.selection)?,
                facts: Vec::new(),
                after: read.after.map(str::to_owned),
                keys: read.keys.map(<[String]>::to_vec),
                limit: read.limit,
            };
            let rows = site.select_updates(&part).await.map_err(|error| failed(&error))?;
            let mut documents = BTreeMap::new();
            if read.depth == Depth::Whole {
                let ids: Vec<UpdateId> = rows.iter().map(|row| row.id.clone()).collect();
                documents = site.updates(&ids).await.map_err(|error| failed(&error))?;
            }
            let object = |row: UpdateRow| {
                let document = documents.remove(&row.id);
                Box::new(SoftwareUpdate { row, document }) as Box<dyn Object>
            };
            Ok(rows.into_iter().map(object).collect())
        })
    }
}

struct SoftwareUpdate {
    row: UpdateRow,
    document: Option<Update>,
}

impl Object for SoftwareUpdate {
    fn key(&self) -> String {
        self.row.key()
    }

    fn name(&self) -> String {
        self.row.id.slug()
    }

    fn uid(&self) -> String {
        uid(&self.row.id.to_string())
    }

    fn created(&self) -> Option<Timestamp> {
        Some(self.row.posted)
    }

    fn digest(&self) -> u64 {
        let row = &self.row;
        let mut hasher = DefaultHasher::new();
        (&row.title, row.classification, &row.product, row.severity, row.posted).hash(&mut hasher);
        (&row.superseded_by, row.expired).hash(&mut hasher);
        let counts = row.counts;
        (counts.required, counts.installed, counts.not_required, counts.unknown).hash(&mut hasher);
        hasher.finish()
    }

    fn body(&self) -> Value {
        let row = &self.row;
        let document = self.document.as_ref();
        let leaves = document.map(|update| update.leaves.as_slice()).unwrap_or_default();
        let packages =
            leaves.iter().map(|leaf| format!("{}:{}={}", leaf.package, leaf.architecture, leaf.version));
        let texts = |set: Option<&std::collections::BTreeSet<String>>| {
            set.into_iter().flatten().cloned().collect::<Vec<_>>()
        };
        body(&Body {
            spec: Spec {
                id: row.id.to_string(),
                line: row.id.line.to_string(),
                source: row.id.source.clone(),
                version: row.id.version.clone(),
                title: row.title.clone(),
                classification: format!("{:?}", row.classification),
                product: row.product.clone(),
                severity: format!("{:?}", row.severity),
                posted: time(row.posted),
                cves: texts(document.map(|update| &update.cves)),
                bulletins: texts(document.map(|update| &update.bulletins)),
                packages: packages.collect(),
                maximum_run_time_seconds: document
                    .and_then(|update| update.maximum_run_time)
                    .map(|span| span.as_secs()),
                exclusive: document.is_some_and(|update| update.exclusive),
                restart: format!("{:?}", document.map(|update| update.restart).unwrap_or_default()),
            },
            status: Status {
                superseded: row.superseded_by.is_some(),
                superseded_by: row.superseded_by.as_ref().map(ToString::to_string),
                expired: row.expired,
                clients: Counts {
                    required: row.counts.required,
                    installed: row.counts.installed,
                    not_required: row.counts.not_required,
                    unknown: row.counts.unknown,
                },
            },
        })
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let row = &self.row;
        let state = match (row.expired, &row.superseded_by) {
            (true, _) => "Expired",
            (false, Some(_)) => "Superseded",
            (false, None) => "Current",
        };
        vec![
            self.name().into(),
            format!("{:?}", row.classification).into(),
            format!("{:?}", row.severity).into(),
            state.into(),
            row.counts.required.into(),
            row.counts.installed.into(),
            age(Some(row.posted), now),
            row.id.line.as_str().into(),
            row.counts.not_required.into(),
            row.counts.unknown.into(),
            row.title.as_str().into(),
        ]
    }
}
