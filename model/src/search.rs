//! Criteria of a search folder and their evaluation (R-SRCH).

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalogue::{Classification, Severity, Update};

/// Typed criteria; each that is set must hold, a set holds when one of its members does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Criteria {
    /// Words that all stand in the title, case ignored.
    pub title: Option<String>,
    /// Bulletin or advisory ids; `*` at the end is a prefix match.
    pub bulletins: BTreeSet<String>,
    /// CVE ids.
    pub cves: BTreeSet<String>,
    /// Classifications.
    pub classifications: BTreeSet<Classification>,
    /// Products.
    pub products: BTreeSet<String>,
    /// Lines; `*` at the end is a prefix match.
    pub lines: BTreeSet<String>,
    /// Severities.
    pub severities: BTreeSet<Severity>,
    /// Posted at or after.
    pub posted_after: Option<Timestamp>,
    /// Posted before.
    pub posted_before: Option<Timestamp>,
    /// Superseded or not.
    pub superseded: Option<bool>,
    /// Expired or not.
    pub expired: Option<bool>,
    /// At least so many clients require it.
    pub required_by_at_least: Option<u64>,
}

impl Criteria {
    /// Whether `update`, required by `required` clients, meets every criterion.
    pub fn matches(&self, update: &Update, required: u64) -> bool {
        let any = |set: &BTreeSet<String>, value: &str| set.is_empty() || set.iter().any(|p| glob(p, value));
        let title = update.title.to_lowercase();
        self.title
            .as_ref()
            .is_none_or(|words| words.to_lowercase().split_whitespace().all(|word| title.contains(word)))
            && (self.bulletins.is_empty() || update.bulletins.iter().any(|b| any(&self.bulletins, b)))
            && (self.cves.is_empty() || !self.cves.is_disjoint(&update.cves))
            && (self.classifications.is_empty() || self.classifications.contains(&update.classification))
            && any(&self.products, &update.product)
            && any(&self.lines, update.id.line.as_str())
            && (self.severities.is_empty() || self.severities.contains(&update.severity))
            && self.posted_after.is_none_or(|t| update.posted >= t)
            && self.posted_before.is_none_or(|t| update.posted < t)
            && self.superseded.is_none_or(|want| want == update.superseded_by.is_some())
            && self.expired.is_none_or(|want| want == update.expired)
            && self.required_by_at_least.is_none_or(|n| required >= n)
    }
}

/// Active clients by detection state of one update; the four add up to the active clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetectionCounts {
    /// Introduced or changed after the client's last complete scan, or never scanned.
    pub unknown: u64,
    /// Not required.
    pub not_required: u64,
    /// Required.
    pub required: u64,
    /// Installed.
    pub installed: u64,
}

/// A pattern with at most one `*`, at its end.
fn glob(pattern: &str, value: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == value, |prefix| value.starts_with(prefix))
}
