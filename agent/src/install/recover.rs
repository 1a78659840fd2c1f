//! Putting an interrupted dpkg right, before anything else is done.
//!
//! `dpkg --configure -a` alone does not help packages that must be unpacked anew (`reinstreq`): those come first, from
//! the files of the operation that was cut off, else from an approved file in the cache, else from apt's own cache, when
//! it was not this agent that was cut off (reliability.md 2.F F1, 4 #70).

use std::{fs, path::Path};

use jiff::Timestamp;
use patchtide_model::{catalogue::Leaf, policy::PolicyBody};
use patchtide_packaging::{
    Version,
    status::{State, StatusEntry},
};
use patchtide_planner::client::LockFact;

use super::{
    InstallError, Prepared, Site, lock,
    operation::{self, Plan, Record, Step},
    repository, succeeded,
};
use crate::scan::Machine;

const OPTIONS: [&str; 2] = ["--force-confdef", "--force-confold"];
/// What apt downloaded and verified.
const ARCHIVES: &str = "/var/cache/apt/archives";

/// Starts a recovery; it ends like any other operation. `body`: the policy in force.
pub fn start(site: &Site, body: Option<&PolicyBody>, now: Timestamp) -> Result<Prepared, InstallError> {
    if let Some(holder) = lock::holder(&site.root)? {
        return Ok(Prepared::Locked(LockFact { at: now, holder }));
    }
    // Opening its database for writing makes dpkg take its journal in: only then the status tells what must be unpacked.
    let taken = site
        .root
        .command(&["dpkg", "--set-selections"])
        .output()
        .map_err(|source| InstallError::Start { program: "dpkg".to_owned(), source })?;
    succeeded("dpkg", taken)?;
    let machine = Machine::read(&site.root)?;
    let folder = operation::folder(site);
    let mut files = Vec::new();
    for entry in lacking(&machine) {
        let own = repository::files_of(&folder, &entry.package);
        for file in &own {
            files.push(repository::inside(site, file)?);
        }
        if own.is_empty() {
            let approved = body.and_then(|body| cached(site, body, &machine, entry));
            files.extend(match approved {
                Some(leaf) => Some(repository::place_alone(site, leaf)?),
                None => archived(site, entry),
            });
        }
    }
    let mut steps = Vec::new();
    if !files.is_empty() {
        let mut arguments: Vec<String> = OPTIONS.map(str::to_owned).to_vec();
        arguments.push("--unpack".to_owned());
        arguments.extend(files);
        steps.push(Step { arguments: site.root_arguments("dpkg", &arguments), required: false });
    }
    let mut arguments: Vec<String> = OPTIONS.map(str::to_owned).to_vec();
    arguments.extend(["--configure".to_owned(), "-a".to_owned()]);
    steps.push(Step { arguments: site.root_arguments("dpkg", &arguments), required: true });
    operation::start(
        site,
        &Record::recovery(now),
        &Plan { steps, script_limit: site.script_limit, not_after: None },
    )?;
    Ok(Prepared::Started)
}

/// Packages that must be unpacked anew.
pub fn lacking(machine: &Machine) -> Vec<&StatusEntry> {
    machine
        .status()
        .broken()
        .filter(|entry| entry.reinstall_required || entry.state == State::HalfInstalled)
        .collect()
}

/// The newest approved file of the package that is in the cache; never an older one than was there.
fn cached<'p>(site: &Site, body: &'p PolicyBody, machine: &Machine, entry: &StatusEntry) -> Option<&'p Leaf> {
    let same = |leaf: &&Leaf| machine.matching(&leaf.package, &leaf.architecture).any(|e| e == entry);
    body.updates
        .values()
        .flat_map(|update| &update.leaves)
        .chain(&body.dependencies)
        .filter(|leaf| leaf.package == entry.package && site.cache.contains(&leaf.file))
        .filter(same)
        .filter_map(|leaf| Some((Version::parse(&leaf.version).ok()?, leaf)))
        .filter(|(version, _)| entry.version.as_ref().is_none_or(|had| version >= had))
        .max_by(|a, b| a.0.cmp(&b.0))
        .map(|(_, leaf)| leaf)
}

/// The same in apt's own cache: `name_1%3a2-3_amd64.deb`.
fn archived(site: &Site, entry: &StatusEntry) -> Option<String> {
    fs::read_dir(site.root.path(ARCHIVES))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let rest = name.strip_suffix(".deb")?.strip_prefix(&entry.package)?.strip_prefix('_')?;
            let (version, architecture) = rest.rsplit_once('_')?;
            let version = Version::parse(&version.replace("%3a", ":")).ok()?;
            let fits = [entry.architecture.as_str(), "all"].contains(&architecture)
                && entry.version.as_ref().is_none_or(|had| version >= *had);
            fits.then(|| (version, Path::new(ARCHIVES).join(name).display().to_string()))
        })
        .max_by(|a, b| a.0.cmp(&b.0))
        .map(|(_, path)| path)
}
