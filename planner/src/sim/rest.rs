//! A client at rest: it asks for policy now and then, and nothing comes of it. Most events of a large fleet are of this kind,
//! so they are carried out without looking at the client itself.

use jiff::{SignedDuration, Timestamp};

use super::node::Node;

/// What the world remembers of a client beside the client.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Beside {
    /// The earliest entry in the queue.
    pub queued: Option<Timestamp>,
    /// None: whatever is due there, the client is looked at.
    pub rest: Option<Rest>,
}

impl Beside {
    /// When the client has to be looked at next.
    pub(super) fn due(&self, node: &Node) -> Option<Timestamp> {
        self.rest.map_or_else(|| node.due(), |rest| Some(rest.due()))
    }
}

/// Until something else is due, a client does nothing but ask, and hears that it has the newest policy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    /// When it asks next: this is what counts, and no longer what the client itself remembers.
    pub poll: Timestamp,
    pub cycle: SignedDuration,
    /// When something else is due.
    pub until: Option<Timestamp>,
}

impl Rest {
    /// Whether nothing else is due.
    pub(super) fn lasts(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }

    /// Asks, when it is time to. Whether it did.
    pub(super) fn ask(&mut self, now: Timestamp) -> bool {
        let due = self.poll <= now;
        if due {
            self.poll = next_poll(now, self.cycle);
        }
        due
    }

    /// When the client has to be looked at next.
    pub(super) fn due(&self) -> Timestamp {
        self.until.map_or(self.poll, |until| until.min(self.poll))
    }
}

/// When a client that asks now asks again.
pub(super) fn next_poll(now: Timestamp, cycle: SignedDuration) -> Timestamp {
    now.checked_add(cycle.max(SignedDuration::from_mins(1))).unwrap_or(Timestamp::MAX)
}
