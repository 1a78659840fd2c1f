//! What is installed, as dpkg itself says.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader},
    path::PathBuf,
};

use patchtide_packaging::status::{State, Status, StatusEntry, StatusError, Want};

use crate::root::Root;

/// dpkg's state file.
pub(crate) const STATUS: &str = "/var/lib/dpkg/status";
/// dpkg's journal: not empty when it was interrupted.
const UPDATES: &str = "/var/lib/dpkg/updates";

/// Why the machine's packages cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The status file.
    #[error("cannot read {path}: this agent looks after machines with dpkg, and must run as root")]
    Status {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Without it no architecture is known.
    #[error(
        "{0} does not list the package dpkg: the package database is damaged, restore it from /var/backups"
    )]
    NoDpkg(PathBuf),
}

/// The packages of a machine.
#[derive(Debug)]
pub struct Machine {
    status: Status,
    by_name: BTreeMap<String, Vec<usize>>,
    native: String,
}

impl Machine {
    /// Reads the state of the machine below `root`.
    pub fn read(root: &Root) -> Result<Self, MachineError> {
        let path = root.path(STATUS);
        let status = File::open(&path)
            .and_then(|file| Status::read(BufReader::new(file)))
            .map_err(|source| MachineError::Status { path: path.clone(), source })?;
        Self::new(status).ok_or(MachineError::NoDpkg(path))
    }

    /// The machine with this state; none when dpkg itself is not in it.
    pub fn new(status: Status) -> Option<Self> {
        let native = status.entries.iter().find(|entry| entry.package == "dpkg")?.architecture.clone();
        let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, entry) in status.entries.iter().enumerate() {
            let wanted = matches!(entry.want, Want::Install | Want::Hold | Want::Unknown);
            if entry.version.is_some() && (entry.is_installed() || (entry.is_broken() && wanted)) {
                by_name.entry(entry.package.clone()).or_default().push(index);
            }
        }
        Some(Self { status, by_name, native })
    }

    /// The machine's own architecture.
    pub fn native(&self) -> &str {
        &self.native
    }

    /// Everything dpkg knows.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Packages of this name that are installed, or were being installed when dpkg was interrupted.
    pub fn named(&self, package: &str) -> impl Iterator<Item = &StatusEntry> {
        self.by_name.get(package).into_iter().flatten().filter_map(|index| self.status.entries.get(*index))
    }

    /// Those of this name that a leaf of this architecture is a version of. `all` stands for the machine's own
    /// architecture: a package may turn from one to the other.
    pub fn matching<'m>(
        &'m self,
        package: &str,
        architecture: &'m str,
    ) -> impl Iterator<Item = &'m StatusEntry> {
        let own = move |name: &'m str| if name == "all" { self.native.as_str() } else { name };
        self.named(package).filter(move |entry| own(&entry.architecture) == own(architecture))
    }

    /// Installed packages.
    pub fn installed(&self) -> impl Iterator<Item = &StatusEntry> {
        self.status.installed()
    }

    /// Packages that their owner holds.
    pub fn held(&self) -> impl Iterator<Item = &StatusEntry> {
        self.status.entries.iter().filter(|entry| entry.is_held() && entry.version.is_some())
    }

    /// Stanzas that could not be read.
    pub fn errors(&self) -> impl Iterator<Item = &StatusError> {
        self.status.errors.iter()
    }
}

/// Whether dpkg was interrupted and must be put right first, and what it left. A package whose maintainer script failed
/// (half configured) is no interruption: apt goes on from there, unless the operation itself was `lost`.
pub fn interrupted(root: &Root, machine: &Machine, lost: bool) -> Option<String> {
    let journal = std::fs::read_dir(root.path(UPDATES))
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()));
    if journal {
        return Some("dpkg left its journal".to_owned());
    }
    let left: Vec<_> = machine
        .status()
        .broken()
        .filter(|entry| lost || entry.reinstall_required || entry.state == State::HalfInstalled)
        .map(|entry| entry.package.as_str())
        .take(5)
        .collect();
    (!left.is_empty()).then(|| format!("not completely installed: {}", left.join(", ")))
}
