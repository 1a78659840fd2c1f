//! The reports A to F of the field (domain.md section 3) and a few of our own: what may be asked, and the answers. They read
//! one moment of the site and write nothing.

mod clients;
mod compliance;
mod definitions;
mod distribution;
mod errors;
mod ground;
mod management;
mod resource;
mod scan;
mod states;
mod table;
mod updates;

use std::collections::BTreeMap;

use jiff::Timestamp;
use patchtide_store::{SiteStore, StoreError};
use serde::Serialize;

pub use definitions::{Column, DEFINITIONS, Definition, Group, Kind, Parameter, find};
pub(crate) use resource::Reports;
pub use table::{Cell, Line, Table};

use ground::Ground;

/// Values of parameters by their names.
pub type Values = BTreeMap<String, String>;

/// Rows of a report at most, unless it is asked for more or fewer.
pub const ROWS: usize = 10_000;

/// A report as it was at one moment.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its name, `compliance-1`.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// What it was asked with.
    pub parameters: Values,
    /// When it was read, by the site's clock.
    pub taken_at: Timestamp,
    /// What concerns the whole of it: name and value.
    pub header: Vec<(&'static str, Cell)>,
    /// Its columns.
    pub columns: &'static [Column],
    /// Its rows.
    pub rows: Vec<Line>,
    /// Rows that there are; more than are shown when it was cut.
    pub total_rows: usize,
    /// The report that a row with `drillDown` leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill_down: Option<&'static str>,
}

/// Why there is no report. Each says what was asked for and what can be.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// There is no report of this name.
    #[error("there is no report {0:?}; there are {list}", list = names())]
    NoReport(String),
    /// A parameter is missing.
    #[error("report {report} needs the parameter {name}: {description}")]
    Missing {
        /// The report.
        report: &'static str,
        /// The parameter.
        name: &'static str,
        /// What it is.
        description: &'static str,
    },
    /// It has no such parameter.
    #[error("report {report} has no parameter {name:?}; it has {known}")]
    NoParameter {
        /// The report.
        report: &'static str,
        /// What was asked with.
        name: String,
        /// Those it has.
        known: String,
    },
    /// What a parameter names is not there.
    #[error("parameter {parameter}: there is no {kind} {name:?}; there is {known}")]
    Nothing {
        /// The parameter.
        parameter: &'static str,
        /// What it names.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// Some of those that are there.
        known: String,
    },
    /// A parameter's value says nothing.
    #[error("parameter {parameter}: {value:?} is not {expected}")]
    Value {
        /// The parameter.
        parameter: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// No controller keeps such a site in this database.
    #[error(
        "no site of this name is in the site database: create a Site object in the namespace, and let a controller run there"
    )]
    NoSite,
    /// The site database failed.
    #[error("the site database does not answer")]
    Store(#[from] StoreError),
}

fn names() -> String {
    DEFINITIONS.iter().map(|definition| definition.name).collect::<Vec<_>>().join(", ")
}

/// Writes the report called `name` of `site` as it is now.
///
/// # Errors
/// A name, a parameter or a value that says nothing; a site that does not exist; a database that does not answer.
pub async fn run(
    site: &SiteStore,
    name: &str,
    values: Values,
    now: Timestamp,
) -> Result<Report, ReportError> {
    let definition = find(name).ok_or_else(|| ReportError::NoReport(name.to_owned()))?;
    definition.check(&values)?;
    let limit = match values.get("limit") {
        None => ROWS,
        Some(text) => text.parse().map_err(|_| ReportError::Value {
            parameter: "limit",
            value: text.clone(),
            expected: "a number of rows".to_owned(),
        })?,
    };
    let moment = site.at_this_moment().await?;
    if !moment.exists().await? {
        return Err(ReportError::NoSite);
    }
    let ground = Ground::new(&moment, definition, &values, now);
    let Table { header, mut rows } = ground.run().await?;
    let total_rows = rows.len();
    rows.truncate(limit);
    Ok(Report {
        name: definition.name,
        title: definition.title,
        parameters: values,
        taken_at: now,
        header,
        columns: definition.columns,
        rows,
        total_rows,
        drill_down: definition.drill_down,
    })
}
