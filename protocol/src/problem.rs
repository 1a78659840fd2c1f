//! Errors on the wire, after RFC 9457.

use serde::{Deserialize, Serialize};

/// What went wrong and what to do; media type `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable symbol, for example `MSG-IDENTITY`.
    pub code: String,
    /// HTTP status.
    pub status: u16,
    /// What happened, with the place and the limit.
    pub detail: String,
    /// What the user or operator can do.
    pub remedy: String,
}
