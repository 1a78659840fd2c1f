//! When reports are sent, and what their answers mean.

use std::time::Duration;

use jiff::Timestamp;
use patchtide_planner::client::StaleReason;
use patchtide_protocol::state::Acknowledgement;
use tokio::time::Instant;

use super::{RunError, engine::Engine, events::Event};
use crate::{
    report::{self, ReportError},
    transport::{
        error::chain,
        retry::{Backoff, dice},
    },
};

/// Where reports stand.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) running: bool,
    pub(super) urgent: bool,
    pub(super) last: Instant,
    pub(super) last_at: Timestamp,
    pub(super) not_before: Instant,
    pub(super) backoff: Backoff,
    /// Messages in the next report, at most: halved when the site refuses one.
    pub(super) limit: usize,
    pub(super) sent: usize,
    /// Why the last one was not taken.
    pub(super) refused: Option<String>,
}

impl Sending {
    /// Something is to be sent at once: a client that starts says where it stands.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            running: false,
            urgent: true,
            last: Instant::now(),
            last_at: now,
            not_before: Instant::now(),
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_mins(5)),
            limit: patchtide_protocol::limits::STATE_ITEMS,
            sent: 0,
            refused: None,
        }
    }
}

impl Engine {
    pub(super) fn send_report(&mut self, now: Timestamp) {
        let sending = &mut self.sending;
        let cycle = self.policy.as_ref().map_or(Duration::from_mins(15), |policy| {
            policy.body.settings.state_message_cycle.try_into().unwrap_or(Duration::from_mins(15))
        });
        let due = sending.urgent || sending.last.elapsed() >= cycle;
        if sending.running || !due || Instant::now() < sending.not_before {
            return;
        }
        let number = self.policy.as_ref().map(|policy| (policy.epoch, policy.number));
        let Some(mut report) = self.outbox.next_report(self.view.boot, number, now) else {
            sending.urgent = false;
            return;
        };
        report.messages.truncate(sending.limit.max(1));
        sending.running = true;
        sending.sent = report.messages.len();
        let (transport, events) = (self.transport.clone(), self.events.clone());
        tokio::spawn(async move {
            let result = report::send(&transport, report).await;
            let _ = events.send(Event::Reported(result)).await;
        });
    }

    pub(super) fn reported(
        &mut self,
        result: Result<Acknowledgement, ReportError>,
        now: Timestamp,
    ) -> Result<(), RunError> {
        let sending = &mut self.sending;
        sending.running = false;
        match result {
            Ok(answer) => {
                sending.backoff.reset();
                sending.refused = None;
                sending.limit = patchtide_protocol::limits::STATE_ITEMS;
                sending.last_at = now;
                self.contact.last = Some(now);
                if self.outbox.waiting() <= sending.sent {
                    sending.last = Instant::now();
                }
                if self.outbox.acknowledge(&answer, now)? && self.view.scan.last.is_some() {
                    self.view.scan.stale.get_or_insert(StaleReason::TimeMoved);
                }
                self.sending.urgent = self.outbox.waiting() > 0;
            }
            Err(error) => {
                let (status, retry_after) = match &error {
                    ReportError::Transport(error) => (error.status(), error.retry_after()),
                    ReportError::Encoding(_) => (None, None),
                };
                let mut wait = sending.backoff.next(retry_after, dice());
                let words = chain(&error);
                tracing::warn!(error = %words, ?wait, "report not taken");
                sending.refused = Some(format!("reports are not taken: {words}"));
                if matches!(status, Some(400 | 413 | 422)) {
                    // One bad message must not keep back all others: it is narrowed down, and dropped at last.
                    if sending.sent == 1 {
                        tracing::error!("the site refuses one message for good: it is dropped");
                        self.outbox.drop_first()?;
                    }
                    self.sending.limit = (self.sending.sent / 2).max(1);
                    wait = wait.min(Duration::from_secs(5));
                }
                self.sending.not_before = Instant::now() + wait;
            }
        }
        Ok(())
    }
}
