//! Telling the people who are logged in: on their terminals, and on their desktops where there is a session bus.
//!
//! Nobody who does not read, and no desktop that hangs, may hold up the agent: everything is bounded in bytes and time and
//! runs beside it. What was said is logged.

mod desktop;
mod sessions;
mod terminal;
pub(crate) mod words;

use jiff::tz::TimeZone;
use patchtide_model::people::Display;
use patchtide_planner::client::{Notice, NoticeKind, Stage};

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

/// Gives these notices to everybody who is logged in; returns at once.
pub fn give(root: &Root, zone: &TimeZone, notices: &[Notice]) {
    for notice in notices {
        let message = words::message(notice, zone);
        tracing::info!(notice = notice.id, summary = message.summary, "people are told");
        let restart = matches!(notice.kind, NoticeKind::Restart { .. } | NoticeKind::RestartCalledOff { .. });
        let terminals = notice.display == Display::Full || restart;
        let urgency = match &notice.kind {
            NoticeKind::Restart { stage: Stage::Final, .. } => Urgency::Critical,
            _ if notice.display == Display::Balloon => Urgency::Low,
            _ => Urgency::Normal,
        };
        let root = root.clone();
        // A thread of its own: a desktop may take its ten seconds, and other notices do not wait for it.
        let spawned = std::thread::Builder::new().name("notice".to_owned()).spawn(move || {
            if terminals {
                terminal::write(&root, &message);
            }
            desktop::show(&root, &message, urgency);
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "people cannot be told");
        }
    }
}
