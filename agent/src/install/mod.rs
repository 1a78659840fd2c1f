//! Installation: one apt transaction, offline, from exactly the approved content (design section 5).
//!
//! Everything that can be known before is checked before: [`prepare`] builds a private package source from the batch's
//! files, simulates, and refuses with the name of what is wrong. Then [`operation::start`] hands the transaction to a
//! supervisor process of its own, so that neither a stopped nor a killed agent stops dpkg.

pub mod error;
mod inspect;
pub mod lock;
pub mod operation;
pub mod outcome;
pub mod recover;
mod repository;
pub mod simulate;
mod stuck;
pub mod supervisor;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Output,
};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    UpdateId,
    catalogue::{Leaf, LeafRef},
    policy::PolicyBody,
};
use patchtide_packaging::status::StatusEntry;
use patchtide_planner::client::{ClientView, InstallBatch, LockFact, limits};
use serde::{Deserialize, Serialize};

pub use error::InstallError;
use operation::{Kind, Plan, Record, Step};
use repository::Repository;

use crate::{download::Cache, root::Root, scan::Machine, services, state::StateFolder};

/// Where a batch's operation lives, and what it works on.
#[derive(Debug, Clone)]
pub struct Site {
    /// The machine.
    pub root: Root,
    /// The agent's folder, below the root.
    pub state: StateFolder,
    /// The content cache, below the root.
    pub cache: Cache,
    /// The agent's own binary: it runs as supervisor too.
    pub program: PathBuf,
    /// A maintainer script or hook that hangs is not ended sooner; [`limits::LEAST_PATIENCE`]. A batch that is expected to
    /// take longer gives each of its scripts more.
    pub script_limit: SignedDuration,
}

/// What became of the wish to install.
#[derive(Debug)]
pub enum Prepared {
    /// The transaction runs.
    Started,
    /// Another process holds dpkg's lock: wait.
    Locked(LockFact),
    /// While it was being checked it became forbidden: the policy changed, or the window is too short now.
    Withdrawn,
}

/// Each update of a batch with the leaves that this machine needs of it: what success is measured by.
pub type LeavesOf = BTreeMap<UpdateId, BTreeSet<LeafRef>>;

/// The leaves of each update of `batch` as the last scan found them.
pub fn leaves_of(batch: &InstallBatch, view: &ClientView) -> LeavesOf {
    batch
        .updates
        .keys()
        .map(|id| (id.clone(), view.detected.get(id).map(|found| found.leaves.clone()).unwrap_or_default()))
        .collect()
}

/// Checks a batch to the last detail and starts it, if `allowed` still says yes at the last moment, and `not_after` is not past
/// by the clock that counts since the boot. Blocks for seconds.
pub fn prepare(
    site: &Site,
    body: &PolicyBody,
    batch: &InstallBatch,
    leaves_of: LeavesOf,
    now: Timestamp,
    allowed: &dyn Fn() -> bool,
    not_after: Option<SignedDuration>,
) -> Result<Prepared, InstallError> {
    if let Some(holder) = lock::holder(&site.root)? {
        return Ok(Prepared::Locked(LockFact { at: now, holder }));
    }
    let machine = Machine::read(&site.root)?;
    let approved = approved(body, batch)?;
    let wanted = still_wanted(&machine, batch);
    check_holds(&machine, &wanted)?;
    check_disk(site, &machine, &approved)?;
    let repository = Repository::build(site, body, &approved)?;

    run(site, "apt-get", &repository.update_arguments())?;
    let requests: Vec<String> = wanted.iter().map(|leaf| request_of(leaf, &machine)).collect();
    check_pins(site, &repository, &wanted, &machine)?;
    let simulated = output(site, "apt-get", &repository.simulate_arguments(&requests))?;
    let transaction = simulate::parse(&simulated, &wanted)?;
    simulate::judge(&transaction, &machine, &approved, &wanted, batch.allow_remove)?;

    let automatic = automatic(site, &transaction);
    let mut steps = vec![Step {
        arguments: site
            .root_arguments("apt-get", &repository.install_arguments(&requests, batch.allow_remove)),
        required: true,
    }];
    if !automatic.is_empty() {
        let arguments: Vec<String> =
            ["-qq".to_owned(), "auto".to_owned()].into_iter().chain(automatic).collect();
        steps.push(Step { arguments: site.root_arguments("apt-mark", &arguments), required: false });
    }
    let services = services::running(&site.root);
    let record =
        Record { kind: Kind::Install, batch: Some(batch.clone()), leaves_of, services, started: now };
    let script_limit = limits::patience(batch.expected, site.script_limit);
    if !allowed() {
        return Ok(Prepared::Withdrawn);
    }
    operation::start(site, &record, &Plan { steps, script_limit, not_after })?;
    Ok(Prepared::Started)
}

/// The approved leaves whose files the batch may use.
fn approved<'p>(body: &'p PolicyBody, batch: &InstallBatch) -> Result<Vec<&'p Leaf>, InstallError> {
    let mut seen = BTreeSet::new();
    let leaves: Vec<&Leaf> = body
        .updates
        .values()
        .flat_map(|update| &update.leaves)
        .chain(&body.dependencies)
        .filter(|leaf| batch.files.contains(&leaf.file.sha256) && seen.insert(leaf.file.sha256))
        .collect();
    match batch.files.iter().find(|digest| !seen.contains(*digest)) {
        Some(digest) => Err(InstallError::NotApproved(digest.to_string())),
        None => Ok(leaves),
    }
}

/// The leaves of the batch that the machine still needs: what happened since the scan is not undone.
fn still_wanted(machine: &Machine, batch: &InstallBatch) -> BTreeSet<LeafRef> {
    batch.leaves.iter().filter(|leaf| !outcome::has(machine, leaf)).cloned().collect()
}

/// `package:architecture=version` as apt takes it.
fn request_of(leaf: &LeafRef, machine: &Machine) -> String {
    let architecture = if leaf.architecture == "all" { machine.native() } else { &leaf.architecture };
    format!("{}:{architecture}={}", leaf.package, leaf.version)
}

fn check_holds(machine: &Machine, wanted: &BTreeSet<LeafRef>) -> Result<(), InstallError> {
    let held: Vec<String> = wanted
        .iter()
        .filter(|leaf| machine.matching(&leaf.package, &leaf.architecture).any(StatusEntry::is_held))
        .map(|leaf| leaf.package.clone())
        .collect();
    if held.is_empty() { Ok(()) } else { Err(InstallError::Held(held)) }
}

/// The machine's own preferences count: what they keep back is not installed.
fn check_pins(
    site: &Site,
    repository: &Repository,
    wanted: &BTreeSet<LeafRef>,
    machine: &Machine,
) -> Result<(), InstallError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = wanted
        .iter()
        .map(|leaf| request_of(leaf, machine).split('=').next().unwrap_or_default().to_owned())
        .collect();
    let text = output(site, "apt-cache", &repository.policy_arguments(&names))?;
    let candidates = simulate::candidates(&String::from_utf8_lossy(&text.stdout));
    let pinned: Vec<String> = wanted
        .iter()
        .filter(|leaf| candidates.get(&leaf.package).is_some_and(|found| !found.contains(&leaf.version)))
        .map(|leaf| leaf.package.clone())
        .collect();
    if pinned.is_empty() { Ok(()) } else { Err(InstallError::Pinned(pinned)) }
}

/// Packages that were automatically installed, or are new: they are marked so again after the transaction, which names
/// them and would make them count as asked for.
fn automatic(site: &Site, transaction: &simulate::Transaction) -> Vec<String> {
    let names: Vec<String> = transaction.installs.iter().map(simulate::Install::qualified).collect();
    let arguments: Vec<String> = ["showauto".to_owned()].into_iter().chain(names).collect();
    let before = output(site, "apt-mark", &arguments)
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let before: BTreeSet<&str> = before.lines().map(str::trim).collect();
    transaction
        .installs
        .iter()
        .filter(|install| {
            install.old.is_none()
                || before.contains(install.package.as_str())
                || before.contains(install.qualified().as_str())
        })
        .map(simulate::Install::qualified)
        .collect()
}

const MARGIN: u64 = 64 * 1024 * 1024;
const INODES: u64 = 2_000;

fn check_disk(site: &Site, machine: &Machine, approved: &[&Leaf]) -> Result<(), InstallError> {
    // dpkg unpacks a package beside the old one and then replaces it: the largest counts once, new ones fully.
    let mut largest = 0;
    let mut added = 0;
    for leaf in approved {
        let bytes = repository::installed_bytes(&leaf.stanza);
        if machine.matching(&leaf.package, &leaf.architecture).next().is_none() {
            added += bytes;
        }
        largest = largest.max(bytes);
    }
    has_room(site.root.path("/usr"), largest + added + MARGIN)?;
    // dpkg's database, whose journal it must be able to write to the end.
    has_room(site.root.path("/var/lib/dpkg"), MARGIN)
}

fn has_room(folder: PathBuf, needed: u64) -> Result<(), InstallError> {
    let found = rustix::fs::statvfs(&folder)
        .map_err(|source| InstallError::Disk { folder: folder.clone(), source: source.into() })?;
    if found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Err(InstallError::ReadOnly(folder));
    }
    let free = found.f_bfree.saturating_mul(found.f_frsize);
    if needed > free {
        return Err(InstallError::NoSpace { needed, free, folder });
    }
    // File systems that make inodes as they go say that they have none at all.
    if found.f_files > 0 && found.f_ffree < INODES {
        return Err(InstallError::NoInodes { free: found.f_ffree, folder });
    }
    Ok(())
}

impl Site {
    fn root_arguments(&self, program: &str, arguments: &[String]) -> Vec<String> {
        let all: Vec<&str> = std::iter::once(program).chain(arguments.iter().map(String::as_str)).collect();
        self.root.arguments(&all).into_iter().map(|a| a.to_string_lossy().into_owned()).collect()
    }
}

/// The share of the time for a script that a question to apt gets, which is all offline: ten minutes. A hook of the machine's
/// must not hold everything for ever; what is ended then is no dpkg.
const QUESTION: i32 = 6;
/// What `timeout` ends with when it was too long.
const TOO_LONG: i32 = 124;

fn output(site: &Site, program: &'static str, arguments: &[String]) -> Result<Output, InstallError> {
    let own = site.root_arguments(program, arguments);
    let seconds = (site.script_limit / QUESTION).as_secs().to_string();
    let bounded = ["timeout", "-k", "10", &seconds].map(str::to_owned).into_iter().chain(own);
    crate::root::clean_command(&bounded.collect::<Vec<_>>())
        .output()
        .map_err(|source| InstallError::Start { program: program.to_owned(), source })
}

/// Asks a program to its end; anything but success is an error with the end of what it said.
fn run(site: &Site, program: &'static str, arguments: &[String]) -> Result<Output, InstallError> {
    succeeded(program, output(site, program, arguments)?)
}

fn succeeded(program: &'static str, output: Output) -> Result<Output, InstallError> {
    if output.status.success() {
        return Ok(output);
    }
    let status = match output.status.code() {
        Some(TOO_LONG) => "it took too long and was ended; perhaps a hook of apt's hangs".to_owned(),
        _ => output.status.to_string(),
    };
    Err(InstallError::Program {
        program: program.to_owned(),
        status,
        output: outcome::tail(&[&output.stdout[..], &output.stderr[..]].concat()),
    })
}

/// What the operation folder says of itself; kept beside the record.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LastFailure {
    /// When.
    pub at: Option<Timestamp>,
    /// The last 4 KiB of what apt and dpkg said.
    pub output: String,
}
