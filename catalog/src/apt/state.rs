//! What is remembered of an archive between two runs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use patchtide_model::{Digest, LineId};
use serde::{Deserialize, Serialize};

use super::rules::SuiteInfo;
use crate::http::Validators;

/// What is remembered of one source. Kept by the caller; losing it costs one full read and the protection against an
/// older release until the next one is accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AptState {
    /// By suite.
    pub suites: BTreeMap<String, SuiteState>,
    /// By line.
    pub lines: BTreeMap<LineId, LineState>,
}

/// The last release of a suite whose signature and dates were good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuiteState {
    /// Its date; nothing older is accepted from now on.
    pub date: Timestamp,
    /// Until when it may be believed.
    pub valid_until: Option<Timestamp>,
    /// Who it says it is.
    pub info: SuiteInfo,
    /// Hash of its text.
    pub release: Digest,
    /// The archive it came from; its validators mean nothing to another one.
    #[serde(default)]
    pub archive: String,
    /// To ask whether it changed.
    pub validators: Validators,
    /// Whose signature was good: a fingerprint.
    pub signer: String,
}

/// What was last accepted of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineState {
    /// Hash of the text of the release it was read from.
    pub release: Digest,
    /// Hashes of its indices by path.
    pub indices: BTreeMap<String, Digest>,
    /// Hash of the settings of the source that have an effect on it.
    pub settings: Digest,
    /// Whether it was accepted by a full run.
    pub full: bool,
    /// Updates in it.
    pub updates: u64,
    /// Date of the release.
    pub date: Timestamp,
}
