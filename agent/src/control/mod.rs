//! The control socket: what a person at the machine can ask the running agent. One JSON line there, one back.

pub(crate) mod list;
pub(crate) mod local;
pub(crate) mod rights;
pub mod server;
pub(crate) mod times;
pub mod words;

pub use rights::Peer;

use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// How things stand.
    Status,
    /// Ask the site for policy now.
    Policy,
    /// Scan now.
    Scan,
    /// Evaluate all deployments now.
    Evaluate,
    /// Why is an update, or everything, where it is?
    Why {
        /// Update, or a part of its name; none: all.
        #[serde(default)]
        update: Option<String>,
    },
    /// What can be installed, and what waits: for everybody.
    List,
    /// Install before the deadline.
    Install {
        /// Updates, or the names of their source or binary packages; none: everything that is listed.
        #[serde(default)]
        updates: Vec<String>,
        /// Not before people have gone home.
        #[serde(default)]
        after_hours: bool,
    },
    /// Set when to install before the deadline.
    Schedule {
        /// What.
        wish: ScheduleWish,
    },
    /// Put off what was asked for, up to the deadline.
    Postpone {
        /// A time as people write it; none: as long as may be.
        #[serde(default)]
        until: Option<String>,
    },
    /// Restart now, where a restart is pending.
    Restart,
}

/// What is to become of the schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleWish {
    /// This time.
    At {
        /// `03:00`, by the machine's clock.
        time: jiff::civil::Time,
        /// ISO numbers 1 (Monday) to 7 (Sunday); empty: every day.
        #[serde(default)]
        weekdays: BTreeSet<u8>,
    },
    /// None at all.
    Off,
    /// That of the client settings again.
    Reset,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it could be done.
    pub ok: bool,
    /// In words.
    pub text: String,
    /// The one who asked may not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub denied: bool,
    /// As data, for programs.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub data: serde_json::Value,
}

impl Answer {
    /// Done.
    pub fn said(text: impl Into<String>) -> Self {
        Self { ok: true, text: text.into(), denied: false, data: serde_json::Value::Null }
    }

    /// In words and as data.
    pub(crate) fn told(text: String, data: serde_json::Value) -> Self {
        Self { data, ..Self::said(text) }
    }

    /// Not permitted.
    pub fn denied(text: impl Into<String>) -> Self {
        Self { denied: true, ..Self::refused(text) }
    }

    /// Not done.
    pub fn refused(text: impl Into<String>) -> Self {
        Self { ok: false, ..Self::said(text) }
    }
}

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No agent.
    #[error("no agent answers at {path}: check `systemctl status patchtide-agent`")]
    Connect {
        /// Socket.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// No answer.
    #[error("the agent did not answer: see its log")]
    Answer(#[source] io::Error),
}

/// Asks the agent that runs on this machine.
pub fn ask(socket: &Path, question: &Question) -> Result<Answer, AskError> {
    let connect = |source| AskError::Connect { path: socket.to_owned(), source };
    let mut stream = UnixStream::connect(socket).map_err(connect)?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(connect)?;
    let mut line = serde_json::to_string(question).map_err(|error| AskError::Answer(error.into()))?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(AskError::Answer)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(AskError::Answer)?;
    serde_json::from_str(&answer).map_err(|error| AskError::Answer(error.into()))
}
