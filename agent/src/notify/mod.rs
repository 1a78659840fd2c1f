//! Telling the people who are logged in: on their terminals, and on their desktops where there is a session bus.
//!
//! Nobody who does not read, and no desktop that hangs, may hold up the agent: everything is bounded in bytes and time and
//! runs beside it. What was said is logged.

mod desktop;
mod sessions;
mod terminal;
pub(crate) mod words;

use std::{
    io,
    sync::mpsc::{SyncSender, sync_channel},
};

use jiff::tz::TimeZone;
use patchtide_model::people::Display;
use patchtide_planner::client::{Notice, NoticeKind, Stage};

pub(crate) use self::sessions::terminals;
use self::words::Message;
use crate::root::Root;

/// How a message comes across.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// For later.
    Low,
    /// Ordinary.
    Normal,
    /// It stays on the screen.
    Critical,
}

/// Tells people, beside the agent: terminals read one notice after the other, in the order in which they were given.
#[derive(Debug)]
pub struct Teller {
    queue: SyncSender<Told>,
}

/// A notice on its way.
#[derive(Debug)]
struct Told {
    message: Message,
    terminals: bool,
    urgency: Urgency,
}

/// Notices that may wait for their turn; more are only logged.
const WAITING: usize = 64;

impl Teller {
    /// For the people of this machine.
    pub fn new(root: &Root) -> Self {
        let (queue, waiting) = sync_channel(WAITING);
        let root = root.clone();
        // When it cannot be started nobody reads the queue, and each notice says so in the log.
        let _ = in_background(move || waiting.iter().for_each(|told| tell(&root, told)));
        Self { queue }
    }

    /// Gives these notices to everybody who is logged in; returns at once.
    pub fn give(&self, zone: &TimeZone, notices: &[Notice]) {
        for notice in notices {
            let message = words::message(notice, zone);
            tracing::info!(notice = notice.id, summary = message.summary, "people are told");
            let restart =
                matches!(notice.kind, NoticeKind::Restart { .. } | NoticeKind::RestartCalledOff { .. });
            let terminals = notice.display == Display::Full || restart;
            let urgency = match &notice.kind {
                NoticeKind::Restart { stage: Stage::Final, .. } => Urgency::Critical,
                _ if notice.display == Display::Balloon => Urgency::Low,
                _ => Urgency::Normal,
            };
            if let Err(error) = self.queue.try_send(Told { message, terminals, urgency }) {
                tracing::error!(%error, "people cannot be told");
            }
        }
    }
}

fn tell(root: &Root, told: Told) {
    if told.terminals {
        terminal::write(root, &told.message);
    }
    let root = root.clone();
    // A desktop may take its ten seconds, and other notices do not wait for it.
    if let Err(error) = in_background(move || desktop::show(&root, &told.message, told.urgency)) {
        tracing::error!(%error, "desktops cannot be told");
    }
}

fn in_background(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name("notice".to_owned()).spawn(work).map(drop)
}
