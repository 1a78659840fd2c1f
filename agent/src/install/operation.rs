//! The one operation on packages that may run: written down before it starts, carried out by a supervisor process in a
//! session of its own, found again by whatever agent comes next.
//!
//! The supervisor holds a lock on a file of the operation for as long as it lives. Held: it runs. Free and a result:
//! it ended. Free and no result: it was killed, or the power failed; dpkg is recovered then.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    path::PathBuf,
    process::{Command, Stdio},
};

use jiff::{SignedDuration, Timestamp};
use patchtide_planner::client::InstallBatch;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{InstallError, LeavesOf, Site};
use crate::state::{StateError, read_json, remove, write_json};

const RECORD: &str = "record.json";
pub(super) const PLAN: &str = "plan.json";
pub(super) const RESULT: &str = "result.json";
const LOCK: &str = "lock";
pub(super) const OUTPUT: &str = "output.log";

/// What an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A batch of updates.
    Install,
    /// `dpkg --configure -a` after an interruption.
    Recover,
}

/// What is written down before an operation starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What it is for.
    pub kind: Kind,
    /// The batch it installs.
    pub batch: Option<InstallBatch>,
    /// What success of each update is measured by.
    #[serde(default)]
    pub leaves_of: LeavesOf,
    /// Services that ran before it: those that its updates bring are to run after it.
    #[serde(default)]
    pub services: BTreeSet<String>,
    /// When it was started.
    pub started: Timestamp,
}

impl Record {
    /// Of a recovery.
    pub fn recovery(started: Timestamp) -> Self {
        Self {
            kind: Kind::Recover,
            batch: None,
            leaves_of: LeavesOf::new(),
            services: BTreeSet::new(),
            started,
        }
    }
}

/// What the supervisor does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
    /// A maintainer script or hook that alone runs longer is ended.
    pub script_limit: SignedDuration,
    /// By the clock that counts since the boot: from then on nothing of it is started any more. The machine may have slept
    /// between the decision and this.
    #[serde(default)]
    pub not_after: Option<SignedDuration>,
}

/// One program run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its whole argument vector.
    pub arguments: Vec<String>,
    /// When it fails, what follows is not done and the operation has failed.
    pub required: bool,
}

/// How the operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Whether every required step ended with status 0.
    pub success: bool,
    /// How the failed step ended, in words.
    pub status: String,
    /// Maintainer scripts and hooks that ran too long and were ended.
    #[serde(default)]
    pub overran: Vec<String>,
    /// It was too late to start: nothing was done.
    #[serde(default)]
    pub withdrawn: bool,
}

/// Where an operation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It runs, whoever started it.
    Running(Box<Record>),
    /// It ended, and nobody has looked at it yet.
    Ended(Box<Record>, Ended),
    /// Its supervisor died before the end.
    Lost(Box<Record>),
}

/// The operation's folder.
pub fn folder(site: &Site) -> PathBuf {
    site.state.path("operation")
}

/// What apt and dpkg said so far.
pub fn output(site: &Site) -> Vec<u8> {
    std::fs::read(folder(site).join(OUTPUT)).unwrap_or_default()
}

/// Writes the operation down and starts its supervisor. Returns at once.
pub fn start(site: &Site, record: &Record, plan: &Plan) -> Result<(), InstallError> {
    let folder = folder(site);
    std::fs::create_dir_all(&folder).map_err(|source| StateError::Write { path: folder.clone(), source })?;
    for old in [RESULT, OUTPUT, RECORD] {
        remove(&folder.join(old))?;
    }
    write_json(&folder.join(PLAN), plan)?;
    let lock = open_lock(&folder.join(LOCK))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|source| InstallError::Lock { path: folder.join(LOCK), source: source.into() })?;
    write_json(&folder.join(RECORD), record)?;
    // The lock goes to the supervisor as its standard input: it is held without a gap, and by nobody else.
    let spawned = Command::new(&site.program)
        .arg("supervise")
        .arg(&folder)
        .stdin(Stdio::from(lock))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(source) => {
            // Nothing was started: nobody is to look for its end.
            remove(&folder.join(RECORD))?;
            return Err(InstallError::Start { program: site.program.display().to_string(), source });
        }
    };
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// Where the operation stands; none: there is none.
pub fn look(site: &Site) -> Result<Option<Standing>, InstallError> {
    let folder = folder(site);
    let record = match read_json::<Record>(&folder.join(RECORD)) {
        Ok(Some(record)) => Box::new(record),
        Ok(None) => return Ok(None),
        // Of another version of the agent, or rotten: what it did a scan tells, and dpkg is put right where it must be.
        Err(error @ StateError::Damaged { .. }) => {
            tracing::error!(error = &error as &dyn std::error::Error, "an operation that nobody can read");
            Box::new(Record::recovery(Timestamp::UNIX_EPOCH))
        }
        Err(error) => return Err(error.into()),
    };
    let lock = open_lock(&folder.join(LOCK))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Some(Standing::Running(record))),
        Err(source) => return Err(InstallError::Lock { path: folder.join(LOCK), source: source.into() }),
        Ok(()) => {}
    }
    match read_json::<Ended>(&folder.join(RESULT)) {
        Ok(Some(ended)) => Ok(Some(Standing::Ended(record, ended))),
        Ok(None) | Err(StateError::Damaged { .. }) => Ok(Some(Standing::Lost(record))),
        Err(error) => Err(error.into()),
    }
}

/// The end was looked at: what it did is in the agent's own books now. The files stay until the next operation.
pub fn close(site: &Site) -> Result<(), InstallError> {
    let folder = folder(site);
    remove(&folder.join(RECORD))?;
    remove(&folder.join(PLAN))?;
    Ok(())
}

fn open_lock(path: &std::path::Path) -> Result<File, InstallError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|source| InstallError::Lock { path: path.to_owned(), source })
}
