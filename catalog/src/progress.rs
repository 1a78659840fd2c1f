//! How far a synchronisation is (R-SYNC-23: the update being read, and the whole).

use std::sync::{Arc, Mutex, PoisonError};

/// A moment of a synchronisation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What is being read: a suite or a line.
    pub current: String,
    /// Files fetched.
    pub files: u64,
    /// Files that are known to be needed so far.
    pub files_total: u64,
    /// Bytes fetched.
    pub bytes: u64,
    /// Bytes that are known to be needed so far.
    pub bytes_total: u64,
    /// Updates read.
    pub updates: u64,
    /// Binary packages read.
    pub packages: u64,
}

/// Shared progress of one synchronisation: cheap to clone, written by the synchronisation, read by whoever shows it.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Snapshot>>);

impl Progress {
    /// Where it is now.
    pub fn snapshot(&self) -> Snapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
