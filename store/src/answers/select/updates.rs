//! Software updates.

use jiff::Timestamp;
use patchtide_model::{
    LineId, UpdateId,
    catalogue::{Classification, Severity},
};

use super::{Part, among};
use crate::{
    Result, SiteStore, StoreError,
    answers::{DetectionCounts, counts},
    catalogue::{self, find::Place},
    sql::{Build, Row, len, parse},
};

/// What can be asked of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpdateIs {
    /// Its name in the API ([`UpdateId::slug`]).
    Named(String),
    /// It is this one.
    Id(UpdateId),
    /// It is in this line.
    Line(String),
    /// Its source.
    Source(String),
    /// Its version.
    Version(String),
    /// Its product.
    Product(String),
    /// Its classification.
    Classified(Classification),
    /// Its severity.
    Severity(Severity),
    /// A newer one supersedes it.
    Superseded,
    /// It is withdrawn or expired.
    Expired,
    /// Some active client requires it.
    Required,
}

/// An update in short, with who has it. Its key is source, version, a number and the line, in lines of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateRow {
    /// Identity.
    pub id: UpdateId,
    /// For people.
    pub title: String,
    /// Classification.
    pub classification: Classification,
    /// Product.
    pub product: String,
    /// Severity.
    pub severity: Severity,
    /// When it was posted.
    pub posted: Timestamp,
    /// The newer one.
    pub superseded_by: Option<UpdateId>,
    /// Not for new deployments.
    pub expired: bool,
    /// Active clients.
    pub counts: DetectionCounts,
    number: i64,
}

impl UpdateRow {
    /// Its key in lists.
    pub fn key(&self) -> String {
        format!("{}\n{}\n{}\n{}", self.id.source, self.id.version, self.number, self.id.line)
    }
}

const HEAD: &str = "SELECT u.id, l.name, u.source, u.version, u.title, u.classification, u.product, u.severity, u.posted, \
                    u.superseded_by, u.expired, u.since_version, u.line, s.slot FROM software_update u \
                    JOIN line l ON l.id = u.line LEFT JOIN slot s ON s.update_id = u.id WHERE l.site = ";
/// [`UpdateId::slug`] without the digest: both databases fold ASCII alike.
const SLUG: &str = "substr(replace(replace(replace(replace(lower(u.source || '-' || u.version), '+', '-'), '_', '-'), \
                    '~', '-'), ':', '-'), 1, 200)";

impl SiteStore {
    /// Updates by source and version.
    pub async fn select_updates(&self, part: &Part<UpdateIs>) -> Result<Vec<UpdateRow>> {
        let mut part = part.clone();
        let wanted = part.limit;
        let mut found = Vec::new();
        loop {
            let (mut rows, last) = self.some_updates(&part).await?;
            rows.retain(|row| part.conditions.iter().all(|one| is_kept(row, &one.what) == one.holds));
            found.extend(rows);
            match last {
                // What the database cannot tell has left some out: more of them.
                Some(last) if found.len() < wanted => part.after = Some(last),
                _ => break,
            }
        }
        found.truncate(wanted);
        Ok(found)
    }

    /// The next ones, and the key of the last of them when there may be more.
    async fn some_updates(&self, part: &Part<UpdateIs>) -> Result<(Vec<UpdateRow>, Option<String>)> {
        let mut build = Build::new(HEAD);
        build.bind(self.site.as_str());
        for condition in &part.conditions {
            // These are narrowed here and decided by `is_kept`.
            match (&condition.what, condition.holds) {
                (UpdateIs::Named(slug), true) => {
                    let stem = slug.len().checked_sub(9).and_then(|end| slug.get(..end)).unwrap_or_default();
                    build.push(" AND ").push(SLUG).push(" = ").bind(stem);
                }
                (UpdateIs::Required, true) => drop(build.push(" AND s.slot IS NOT NULL")),
                (UpdateIs::Named(_) | UpdateIs::Required, false) => {}
                (what, holds) => drop(build.and(holds, |build| is(build, what))),
            }
        }
        if let Some(after) = &part.after {
            let (source, version, number) = key(after)?;
            build.push(" AND (u.source, u.version, u.id) > (").bind(source).push(", ").bind(version);
            build.push(", ").bind(number).push(")");
        }
        if let Some(keys) = &part.keys {
            let numbers: Vec<String> =
                keys.iter().map(|text| Ok(key(text)?.2.to_string())).collect::<Result<_>>()?;
            among(&mut build, &self.core().pool, "CAST(u.id AS TEXT)", &numbers)?;
        }
        build.push(" ORDER BY u.source, u.version, u.id LIMIT ").bind(len(part.limit));
        let rows = self.rows("the catalogue", build.sql()).await?;
        let active = i64::try_from(self.active_clients().await?).unwrap_or(i64::MAX);
        let updates: Vec<(UpdateRow, Place)> = rows.iter().map(read).collect::<Result<_>>()?;
        let last = (updates.len() >= part.limit).then(|| updates.last().map(|(row, _)| row.key())).flatten();
        let updates = self
            .with_counts(|kept| {
                let counted = |(row, place): (UpdateRow, Place)| UpdateRow {
                    counts: counts::detection(kept, place, active),
                    ..row
                };
                updates.into_iter().map(counted).collect()
            })
            .await?;
        Ok((updates, last))
    }
}

/// What is not asked of the database, or not of it alone.
fn is_kept(row: &UpdateRow, what: &UpdateIs) -> bool {
    match what {
        UpdateIs::Named(slug) => row.id.slug() == *slug,
        UpdateIs::Required => row.counts.required > 0,
        UpdateIs::Id(id) => row.id == *id,
        UpdateIs::Line(line) => row.id.line.as_str() == line,
        UpdateIs::Source(source) => row.id.source == *source,
        UpdateIs::Version(version) => row.id.version == *version,
        UpdateIs::Product(product) => row.product == *product,
        UpdateIs::Classified(classification) => row.classification == *classification,
        UpdateIs::Severity(severity) => row.severity == *severity,
        UpdateIs::Superseded => row.superseded_by.is_some(),
        UpdateIs::Expired => row.expired,
    }
}

fn is(build: &mut Build, what: &UpdateIs) {
    match what {
        UpdateIs::Id(id) => {
            build.push("l.name = ").bind(id.line.as_str()).push(" AND u.source = ").bind(id.source.as_str());
            build.push(" AND u.version = ").bind(id.version.as_str())
        }
        UpdateIs::Line(line) => build.push("l.name = ").bind(line.as_str()),
        UpdateIs::Source(source) => build.push("u.source = ").bind(source.as_str()),
        UpdateIs::Version(version) => build.push("u.version = ").bind(version.as_str()),
        UpdateIs::Product(product) => build.push("u.product = ").bind(product.as_str()),
        UpdateIs::Classified(one) => build.push("u.classification = ").bind(catalogue::classification(*one)),
        UpdateIs::Severity(severity) => build.push("u.severity = ").bind(severity.code()),
        UpdateIs::Superseded => build.push("u.superseded_by IS NOT NULL"),
        UpdateIs::Expired => build.push("u.expired <> 0"),
        UpdateIs::Named(_) | UpdateIs::Required => build.push("1 = 1"),
    };
}

fn key(text: &str) -> Result<(&str, &str, i64)> {
    let mut parts = text.split('\n');
    match (parts.next(), parts.next(), parts.next().map(str::parse)) {
        (Some(source), Some(version), Some(Ok(number))) => Ok((source, version, number)),
        _ => Err(StoreError::Damaged { what: "key of an update", detail: text.escape_debug().to_string() }),
    }
}

fn read(row: &Row) -> Result<(UpdateRow, Place)> {
    let line: LineId = row.parse(1, "line")?;
    // Source, version, title, classification, product, severity.
    let narrow = catalogue::narrow(row, &line)?;
    let by = row.text_option(9)?.map(|text| parse::<UpdateId>(&text, "update id")).transpose()?;
    let update = UpdateRow {
        id: narrow.id,
        title: narrow.title,
        classification: narrow.classification,
        product: narrow.product,
        severity: narrow.severity,
        posted: row.time(8)?,
        superseded_by: by,
        expired: row.flag(10)?,
        counts: DetectionCounts::default(),
        number: row.int(0)?,
    };
    let place = Place { since: row.unsigned(11)?, line: row.int(12)?, slot: row.int_option(13)? };
    Ok((update, place))
}
