//! Clients that report as fast as they are answered, by real HTTPS; they keep the ledger.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use patchtide_protocol::state::Acknowledgement;
use tokio::task::JoinSet;

use crate::{
    ground::Ground,
    ledger::{Ledger, says},
    site::report,
};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What became of the reports.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Answered with 429 or 503, each with Retry-After.
    pub(crate) put_off: AtomicU64,
    /// No answer, or none in time.
    pub(crate) unheard: AtomicU64,
    /// Acknowledged.
    pub(crate) taken: AtomicU64,
}

/// Load that runs until it is stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    pub(crate) seen: Arc<Seen>,
    tasks: JoinSet<()>,
}

/// Reads the moment of the disk, where there is one that has moments.
pub(crate) type Moment = Arc<dyn Fn() -> usize + Send + Sync>;

impl Load {
    /// Every client of the ground, each at the first address that answers, beginning with its own.
    pub(crate) fn start(
        ground: &Ground,
        addresses: &[String],
        ledger: &Arc<Ledger>,
        moment: &Moment,
    ) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
        let mut tasks = JoinSet::new();
        for (client, device) in (1..).zip(&ground.devices) {
            let (http, now) = (ground.bed.client(Some(device)), ground.bed.now());
            let urls: Vec<String> =
                addresses.iter().map(|address| format!("https://{address}/v1/state-messages")).collect();
            let (stop, seen, ledger, moment) =
                (Arc::clone(&stop), Arc::clone(&seen), Arc::clone(ledger), Arc::clone(moment));
            tasks.spawn(async move {
                let mut url = usize::try_from(client).unwrap() % urls.len();
                while !stop.load(Ordering::Relaxed) {
                    let from = ledger.floor(client, usize::MAX) + 1;
                    let to = from + from % 3;
                    ledger.sends(client, to);
                    let messages = (from..=to).map(|seq| (seq, says(client, seq))).collect();
                    let sent = http.post(&urls[url]).timeout(PATIENCE).json(&report(client, now, messages));
                    match sent.send().await {
                        Ok(answer) if answer.status() == 200 => {
                            let Ok(ack) = answer.json::<Acknowledgement>().await else { continue };
                            let moment = moment();
                            // It may know more than this report has: one of before that was not answered.
                            assert!(ack.acknowledged >= to, "client {client}: {ack:?} for {from} to {to}");
                            assert!(!ack.superseded && !ack.resync, "client {client}: {ack:?}");
                            ledger.is_told(client, ack.acknowledged, moment);
                            seen.taken.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(answer) => {
                            let status = answer.status();
                            assert!(matches!(status.as_u16(), 429 | 503 | 507), "client {client}: {status}");
                            assert!(
                                answer.headers().contains_key("retry-after"),
                                "{status} without Retry-After"
                            );
                            seen.put_off.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        Err(_) => {
                            seen.unheard.fetch_add(1, Ordering::Relaxed);
                            url = (url + 1) % urls.len();
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                }
            });
        }
        Self { stop, seen, tasks }
    }

    /// Ends it; what is under way is waited for.
    pub(crate) async fn end(mut self) -> Arc<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.seen
    }
}

/// No disk with moments.
pub(crate) fn no_moment() -> Moment {
    Arc::new(|| 0)
}
