//! The control socket: what a person at the machine can ask the running agent. One JSON line there, one back.

pub mod server;
pub mod words;

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use patchtide_model::UpdateId;
use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// How things stand.
    Status,
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
    /// Install before the deadline.
    Install {
        /// Updates; none: everything that is deployed.
        #[serde(default)]
        updates: Vec<UpdateId>,
    },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it could be done.
    pub ok: bool,
    /// In words.
    pub text: String,
    /// As data, for programs.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub data: serde_json::Value,
}

impl Answer {
    /// Done.
    pub fn said(text: impl Into<String>) -> Self {
        Self { ok: true, text: text.into(), data: serde_json::Value::Null }
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
    #[error("no agent answers at {path}: check `systemctl status patchtide-agent`, and that you are root")]
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
