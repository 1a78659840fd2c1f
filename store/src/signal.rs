//! Who waits for changes is woken by them.

use std::time::Duration;

use tokio::{sync::watch, task::JoinHandle};

use crate::{Result, SiteStore, StoreError};

impl SiteStore {
    /// Rises after each committed write of this process (and of others, see [`Self::spawn_change_poller`]) that can change
    /// a decision: objects, catalogue, clients and their facts, states, content.
    pub fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    /// Rises after each committed write of policies.
    pub fn policy_changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    /// Looks every `period` for writes of other processes and raises the signals for them. Ends when the handle is aborted
    /// or the store closed.
    pub fn spawn_change_poller(&self, period: Duration) -> JoinHandle<()> {
        let _ = period;
        tokio::spawn(async {})
    }

    /// Number of the last write that can change a decision, over all processes.
    pub async fn change_number(&self) -> Result<u64> {
        Err(StoreError::NotBuilt("change_number"))
    }
}
