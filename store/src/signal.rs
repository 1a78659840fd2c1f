//! Who waits for changes is woken by them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use crate::{
    Result, SiteStore, StoreError,
    core::{Core, Signal},
    sql::sql,
};

/// SQL for the number that [`Signal::Site`] rises to with the transaction that asks, if it raises it; `$site` is SQL for
/// the site.
macro_rules! next_change {
    ($site:literal) => {
        concat!(
            "(SELECT COALESCE(MAX(change.number), 0) + 1 FROM change WHERE change.site = ",
            $site,
            " AND change.kind = 'site')"
        )
    };
}
pub(crate) use next_change;

impl SiteStore {
    /// Rises after each committed write of this process (and of others, see [`Self::spawn_change_poller`]) that can change
    /// a decision: objects, catalogue, clients and their facts, states, content.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.core().signal(&self.site, Signal::Site).subscribe()
    }

    /// Rises after each committed write of policies.
    pub fn policy_changes(&self) -> watch::Receiver<u64> {
        self.core().signal(&self.site, Signal::Policy).subscribe()
    }

    /// Looks every `period` for writes of other processes and raises the signals for them. Ends when the handle is aborted
    /// or the store closed.
    pub fn spawn_change_poller(&self, period: Duration) -> JoinHandle<()> {
        let site = self.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                match site.poll_changes(site.core()).await {
                    Ok(()) => {}
                    Err(StoreError::Closed) => return,
                    Err(error) => tracing::warn!(%error, "cannot look for changes of other processes"),
                }
            }
        })
    }

    async fn poll_changes(&self, core: &Arc<Core>) -> Result<()> {
        let query = sql("SELECT kind, number FROM change WHERE site = $1").bind(self.site.as_str());
        let mut numbers = BTreeMap::new();
        for row in core.rows("change numbers", query).await? {
            let signal = if row.text(0)? == Signal::Policy.kind() { Signal::Policy } else { Signal::Site };
            numbers.insert((self.site.clone(), signal), row.unsigned(1)?);
        }
        core.raise(&numbers);
        Ok(())
    }

    /// Number of the last write that can change a decision, over all processes.
    pub async fn change_number(&self) -> Result<u64> {
        let query = sql("SELECT number FROM change WHERE site = $1 AND kind = $2");
        let row =
            self.row("the change number", query.bind(self.site.as_str()).bind(Signal::Site.kind())).await?;
        row.map_or(Ok(0), |row| row.unsigned(0))
    }
}
