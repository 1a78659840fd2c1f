//! Putting an interrupted dpkg right, before anything else is done.
//!
//! `dpkg --configure -a` alone does not help packages that must be unpacked anew (`reinstreq`): those come first, from
//! the files of the operation that was cut off (reliability.md 2.F F1).

use jiff::Timestamp;
use patchtide_packaging::status::State;
use patchtide_planner::client::LockFact;

use super::{
    InstallError, Prepared, Site, lock,
    operation::{self, Kind, Plan, Record, Step},
    repository, run,
};
use crate::scan::Machine;

const OPTIONS: [&str; 2] = ["--force-confdef", "--force-confold"];

/// Starts a recovery; it ends like any other operation.
pub fn start(site: &Site, now: Timestamp) -> Result<Prepared, InstallError> {
    if let Some(holder) = lock::holder(&site.root)? {
        return Ok(Prepared::Locked(LockFact { at: now, holder }));
    }
    // Opening its database for writing makes dpkg take its journal in: only then the status tells what must be unpacked.
    run(site, "dpkg", &["--set-selections".to_owned()])?;
    let machine = Machine::read(&site.root)?;
    let folder = operation::folder(site);
    let mut files = Vec::new();
    for package in lacking(&machine) {
        for file in repository::files_of(&folder, &package) {
            files.push(repository::inside(site, &file)?);
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
    let record = Record {
        kind: Kind::Recover,
        batch: None,
        leaves_of: std::collections::BTreeMap::new(),
        started: now,
    };
    operation::start(site, &record, &Plan { steps })?;
    Ok(Prepared::Started)
}

/// Packages that must be unpacked anew.
pub fn lacking(machine: &Machine) -> Vec<String> {
    machine
        .status()
        .broken()
        .filter(|entry| entry.reinstall_required || entry.state == State::HalfInstalled)
        .map(|entry| entry.package.clone())
        .collect()
}
