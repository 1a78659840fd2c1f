//! What is remembered of a software update point between synchronisations, in the site database.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_catalog::apt::{AptState, SuiteInfo};
use patchtide_model::{Digest, policy::LineRelease};
use serde::{Deserialize, Serialize};

use crate::{context::Context, error::Failure, kinds::database};

/// What is remembered of the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Generation of the last run that ended, well or not.
    pub generation: Option<i64>,
    /// End of the last run in which every source succeeded.
    pub last_success: Option<Timestamp>,
    /// End of the last successful delta.
    pub last_delta: Option<Timestamp>,
    /// End of the last successful full run.
    pub last_full: Option<Timestamp>,
    /// End of the last run of any kind.
    pub last_run: Option<Timestamp>,
    /// Runs with a failure in a row.
    pub failures: u32,
    /// Why, until the next success.
    pub last_error: Option<String>,
    /// Request that the last run answered.
    pub request: Option<String>,
    /// What the last run changed.
    pub changes: Changes,
    /// Each source.
    pub sources: BTreeMap<String, SourceMemory>,
}

/// Counts of the last run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// New updates.
    pub new: u64,
    /// Revised ones.
    pub revised: u64,
    /// Newly superseded ones.
    pub superseded: u64,
    /// Newly expired ones.
    pub expired: u64,
    /// Entries that were left out.
    pub malformed: u64,
}

impl Changes {
    /// Adds another's counts.
    pub const fn add(&mut self, other: Self) {
        self.new += other.new;
        self.revised += other.revised;
        self.superseded += other.superseded;
        self.expired += other.expired;
        self.malformed += other.malformed;
    }
}

/// What is remembered of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceMemory {
    /// Last success.
    pub last_success: Option<Timestamp>,
    /// Error of the last run.
    pub error: Option<String>,
    /// Its lines.
    pub lines: BTreeMap<String, LineMemory>,
    /// Approvals by hand that were used; each counts once.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub approved: BTreeSet<String>,
}

/// What is remembered of a line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineMemory {
    /// Date of the accepted release.
    pub date: Option<Timestamp>,
    /// Its end.
    pub valid_until: Option<Timestamp>,
    /// Entries that were left out.
    pub malformed: u64,
    /// The first of them.
    pub first_malformed: Option<String>,
}

impl Memory {
    /// What is remembered of the object with this UID.
    pub async fn load(ctx: &Context, uid: &str) -> Result<Self, Failure> {
        let text = ctx.store.get_value(&key(uid)).await.map_err(|error| database(&error))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    /// Keeps it.
    pub async fn save(&self, ctx: &Context, uid: &str) -> Result<(), Failure> {
        let text = serde_json::to_string(self).map_err(|error| {
            Failure::of("the state of the synchronisation cannot be written as JSON", &error)
        })?;
        ctx.store.set_value(&key(uid), &text).await.map_err(|error| database(&error))
    }
}

fn key(uid: &str) -> String {
    format!("sup/{uid}")
}

/// What the reader of an archive wants to know next time, with the rules that were applied to what it read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Reader {
    /// The reader's own state: what a replay is recognised by, too.
    pub state: AptState,
    /// Fingerprint of the rules on updates.
    pub rules: Option<Digest>,
}

impl Reader {
    /// What is known of source `name`. With other rules every line is read again, but nothing older is accepted.
    pub async fn load(ctx: &Context, name: &str, rules: Digest) -> Result<Self, Failure> {
        let text = ctx.store.get_value(&reader_key(name)).await.map_err(|error| database(&error))?;
        let mut reader: Self = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        if reader.rules != Some(rules) {
            reader.state.lines.clear();
            reader.rules = Some(rules);
        }
        Ok(reader)
    }

    /// Keeps it.
    pub async fn save(&self, ctx: &Context, name: &str) -> Result<(), Failure> {
        let text = serde_json::to_string(self)
            .map_err(|error| Failure::of("the state of the source cannot be written as JSON", &error))?;
        ctx.store.set_value(&reader_key(name), &text).await.map_err(|error| database(&error))
    }
}

/// Who the releases of source `name` said they are when they were last accepted, by suite.
pub async fn releases(
    ctx: &Context,
    name: &str,
) -> Result<BTreeMap<String, LineRelease>, patchtide_store::StoreError> {
    let text = ctx.store.get_value(&reader_key(name)).await?;
    let reader: Reader = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let named = reader.state.suites.into_iter().map(|(suite, known)| {
        let SuiteInfo { origin, label, suite: own, codename } = known.info;
        (suite, LineRelease { origin, label, suite: own, codename })
    });
    Ok(named.collect())
}

/// By name, not by UID: a re-created object must not accept an older release (rollback).
fn reader_key(name: &str) -> String {
    format!("source/{name}")
}
