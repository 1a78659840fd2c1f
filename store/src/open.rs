//! Opening the site database.

use std::time::Duration;

/// How to open a store. `OpenOptions::default()` is right for production.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Reading connections, 1 to 64. Default 4.
    pub readers: u32,
    /// Reports that may wait for the writer before [`crate::StoreError::Busy`] is answered. Default 16,384.
    pub queue: usize,
    /// Messages in one commit at most. Default 4,000.
    pub commit_messages: usize,
    /// How long a commit may collect reports at most. Default 20 ms.
    pub commit_wait: Duration,
    /// A gap in a client's sequence leads to a resync when it is at least this old. Default 0: at once.
    pub gap_age: Duration,
    /// States of unknown updates kept per client until the catalogue has them. Default 1,000.
    pub parked_per_client: usize,
    /// Pending enrolments of one address. Default 10.
    pub pending_per_address: u32,
    /// Pending enrolments of a site. Default 5,000.
    pub pending_per_site: u32,
    /// Keep the accepted messages as history. Default true.
    pub history: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            readers: 4,
            queue: 16_384,
            commit_messages: 4_000,
            commit_wait: Duration::from_millis(20),
            gap_age: Duration::ZERO,
            parked_per_client: 1_000,
            pending_per_address: 10,
            pending_per_site: 5_000,
            history: true,
        }
    }
}
