//! Why a transaction does not start, or failed.

use std::{io, path::PathBuf};

use patchtide_model::state::{Failure, StateError as ReportedError};
use patchtide_packaging::deb::DebError;

use crate::{scan::MachineError, state::StateError};

/// Why a transaction does not start.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The packages of the machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// dpkg's lock cannot be looked at.
    #[error("cannot look at the lock {path}")]
    Lock {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The batch names a file that the policy does not.
    #[error("the file {0} is not of this policy: evaluate again")]
    NotApproved(String),
    /// A stanza or a package that is not what the policy says it is.
    #[error("{package} is not the package that the policy approves ({what}): redistribute it")]
    Identity {
        /// Package.
        package: String,
        /// What differs.
        what: String,
    },
    /// A cached file is not what it was when it came.
    #[error(
        "the downloaded file of {package} changed on this machine's disk: it is fetched anew; check the disk"
    )]
    Changed {
        /// Package.
        package: String,
        /// Its digest.
        digest: patchtide_model::Digest,
    },
    /// A file that is no package, or one that must not come near dpkg.
    #[error(
        "the file of {package} is refused ({error}): dpkg was not started; take the update out, or redistribute it"
    )]
    Package {
        /// Package.
        package: String,
        /// What is wrong.
        error: DebError,
    },
    /// Held by the owner.
    #[error("held on this machine: {}; release with `apt-mark unhold`, or take them out of the deployment", .0.join(", "))]
    Held(Vec<String>),
    /// Kept back by the owner's preferences.
    #[error("kept back by this machine's apt preferences: {}; see `apt-cache policy` and /etc/apt/preferences.d", .0.join(", "))]
    Pinned(Vec<String>),
    /// A package is needed that is not approved, or not here.
    #[error("{}; approve it (deploy the update it belongs to, or synchronise) and evaluate again", .0.iter().map(|m| format!("{} needs {}", m.package, m.needs)).collect::<Vec<_>>().join("; "))]
    Missing(Vec<Missing>),
    /// apt would install something that is not approved.
    #[error("apt would also install what is not approved: {}", .0.join(", "))]
    Unapproved(Vec<String>),
    /// apt would leave something out.
    #[error("apt would not install {}: evaluate again after the package changes on this machine", .0.join(", "))]
    LeftOut(Vec<String>),
    /// Packages would have to go.
    #[error("the transaction would remove {}; allow it with the deployment's allowRemove, or keep those updates out", .0.join(", "))]
    Removal(Vec<String>),
    /// Packages would go that must never.
    #[error("the transaction would remove {}, without which the machine cannot be looked after: keep those updates out", .0.join(", "))]
    Dangerous(Vec<String>),
    /// A package would become older.
    #[error("the transaction would downgrade {}: keep those updates out", .0.join(", "))]
    Downgrade(Vec<String>),
    /// Not enough room.
    #[error("{needed} bytes are needed below {folder}, {free} are free: make room")]
    NoSpace {
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// Folder.
        folder: PathBuf,
    },
    /// Not enough inodes.
    #[error("only {free} inodes are free below {folder}: remove small files")]
    NoInodes {
        /// Free inodes.
        free: u64,
        /// Folder.
        folder: PathBuf,
    },
    /// Read-only.
    #[error("the file system of {0} is read-only: remount it writable")]
    ReadOnly(PathBuf),
    /// The disk cannot be looked at.
    #[error("the file system of {folder} cannot be looked at")]
    Disk {
        /// Folder.
        folder: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A program cannot be started.
    #[error("{program} cannot be started: check that it is installed")]
    Start {
        /// Program.
        program: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A program failed before anything was touched.
    #[error("{program} failed before anything was touched ({status}): {output}")]
    Program {
        /// Program.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        output: String,
    },
    /// The state folder has a name that apt's files cannot hold.
    #[error(
        "{0} cannot be named in apt's configuration: use a state folder of letters, digits and / . - _ +"
    )]
    FolderName(PathBuf),
}

/// A relation that nothing approved satisfies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Who needs it.
    pub package: String,
    /// What, in the words of the relation.
    pub needs: String,
}

impl InstallError {
    /// As it is reported.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Identity { .. } => Failure::Identity,
            Self::Changed { .. } => Failure::Hash,
            Self::Package { error, .. } => match error {
                DebError::Format(_) | DebError::Read(_) => Failure::Format,
                DebError::Tar { .. } => Failure::Tar,
                DebError::Limit { .. } => Failure::Limit,
            },
            Self::Held(_) => Failure::Held,
            Self::Pinned(_) => Failure::Pinned,
            Self::Missing(_) => Failure::Unsatisfied,
            Self::Unapproved(_) => Failure::Foreign,
            Self::NotApproved(_) => Failure::Unapproved,
            Self::LeftOut(_) => Failure::Incomplete,
            Self::Removal(_) => Failure::Removes,
            Self::Dangerous(_) => Failure::Dangerous,
            Self::Downgrade(_) => Failure::Downgrades,
            Self::NoSpace { .. } => Failure::DiskFull,
            Self::State(error) if error.is_disk_full() => Failure::DiskFull,
            Self::NoInodes { .. } => Failure::NoInodes,
            Self::ReadOnly(_) => Failure::ReadOnly,
            Self::Machine(_) => Failure::DpkgUnreadable,
            Self::State(_)
            | Self::Lock { .. }
            | Self::Disk { .. }
            | Self::Start { .. }
            | Self::Program { .. }
            | Self::FolderName(_) => Failure::NotStarted,
        }
    }

    /// The packages it is about; empty: about the batch as a whole.
    pub fn packages(&self) -> Vec<&str> {
        match self {
            Self::Identity { package, .. }
            | Self::Changed { package, .. }
            | Self::Package { package, .. } => {
                vec![package]
            }
            Self::Held(names) | Self::Pinned(names) | Self::LeftOut(names) | Self::Downgrade(names) => {
                names.iter().map(String::as_str).collect()
            }
            Self::Missing(missing) => missing.iter().map(|m| m.package.as_str()).collect(),
            _ => Vec::new(),
        }
    }
}

/// An error as it is reported to the site: at most 1 KiB of words.
pub fn reported(failure: Failure, message: &str) -> ReportedError {
    let mut message: String =
        message.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    let limit = patchtide_protocol::limits::STRING_BYTES;
    if message.len() > limit {
        let end = (0..=limit - 4).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
        message.push_str(" ...");
    }
    failure.error(message)
}
