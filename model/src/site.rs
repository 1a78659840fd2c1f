//! What a site allows, as its roles keep it.

use serde::{Deserialize, Serialize};

/// What one client or one site may use (`Site.spec.limits`), every default filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteLimits {
    /// Clients of the site, pending machines included; revoked ones do not count.
    pub clients: u32,
    /// Pending machines.
    pub pending_clients: u32,
    /// Enrolment requests a minute from one address.
    pub enrolments_per_minute: u32,
    /// Requests a minute of one client.
    pub requests_per_minute: u32,
    /// Bytes of a report of several state messages after decompression.
    pub report_size: u64,
    /// State messages in one report.
    pub messages_per_report: u32,
    /// Bytes of the content store; none: what the disk holds.
    pub content_store: Option<u64>,
}
