//! The scan: this machine's dpkg against the lines' catalogues (design section 5).
//!
//! *Required*: an installed binary package of the same name and architecture is older than the leaf. *Installed*: those
//! of the source that are installed are at least that, whichever line they came from. Otherwise *not required*.

mod machine;
mod needs;

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{
    Digest, LineId, UpdateId,
    catalogue::{LeafRef, ScanLeaf, ScanUpdate},
    policy::{LinePolicy, PolicyBody},
    state::Detection,
};
use patchtide_packaging::Version;
use patchtide_planner::client::Detected;
use patchtide_protocol::state::NumberedUpdate;

pub(crate) use machine::STATUS;
pub use machine::{Machine, MachineError, interrupted};

use crate::catalogue::{CatalogueError, Catalogues};

/// Why a scan failed.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The machine's packages cannot be read.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A catalogue.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

/// What a scan found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Every update that is required or installed; also updates of the policy that no catalogue holds any more.
    pub detected: BTreeMap<UpdateId, Detected>,
    /// Catalogue version of each line that was scanned.
    pub covered: BTreeMap<LineId, u64>,
    /// Digest of each of these catalogues.
    pub catalogues: BTreeMap<LineId, Digest>,
    /// Of `detected` what its catalogue numbers, by that number.
    pub numbered: BTreeMap<UpdateId, NumberedUpdate>,
    /// Stanzas of the status file that could not be read; the scan is complete but for them.
    pub errors: Vec<String>,
    /// Packages that their owner holds, `name:architecture`.
    pub held: Vec<String>,
}

/// A required update, as the search for what it newly needs sees it.
struct Required {
    id: UpdateId,
    /// Its leaves that this machine needs.
    leaves: Vec<ScanLeaf>,
}

/// Scans the machine against `lines`, whose catalogues are here, and against the updates of the policy. Takes seconds of
/// processor time: not for an async thread.
pub fn scan(
    machine: &Machine,
    catalogues: &Catalogues,
    lines: &[LinePolicy],
    body: &PolicyBody,
) -> Result<Found, ScanError> {
    let mut found = Found {
        errors: machine.errors().map(ToString::to_string).collect(),
        held: machine.held().map(|entry| format!("{}:{}", entry.package, entry.architecture)).collect(),
        ..Found::default()
    };
    let mut required = Vec::new();
    for line in lines {
        catalogues.for_each(line, &mut |update| {
            if let Some((detection, places)) = detect(machine, &update) {
                let leaves = chosen(&update, &places);
                let ScanUpdate { number, source, version, .. } = update;
                let id = UpdateId { line: line.line.clone(), source, version };
                if number > 0 {
                    let numbered = NumberedUpdate { number, state: detection, leaves: places };
                    found.numbered.insert(id.clone(), numbered);
                }
                note(&mut found, &mut required, id, detection, leaves);
            }
        })?;
        found.covered.insert(line.line.clone(), line.catalogue_version);
        found.catalogues.insert(line.line.clone(), line.digest);
    }
    for (id, update) in &body.updates {
        if found.detected.contains_key(id) {
            continue;
        }
        let leaves = update
            .leaves
            .iter()
            .map(|leaf| ScanLeaf {
                package: leaf.package.clone(),
                version: leaf.version.clone(),
                architecture: leaf.architecture.clone(),
                depends: needs::depends_of(&leaf.stanza),
                provides: needs::provides_of(&leaf.stanza),
            })
            .collect();
        let update = ScanUpdate { number: 0, source: id.source.clone(), version: id.version.clone(), leaves };
        if let Some((detection, places)) = detect(machine, &update) {
            note(&mut found, &mut required, id.clone(), detection, chosen(&update, &places));
        }
    }
    let needed = needs::resolve(machine, &required, |visit| {
        for line in lines {
            catalogues.for_each(line, visit)?;
        }
        for leaf in &body.dependencies {
            visit(ScanUpdate {
                number: 0,
                source: String::new(),
                version: String::new(),
                leaves: vec![ScanLeaf {
                    package: leaf.package.clone(),
                    version: leaf.version.clone(),
                    architecture: leaf.architecture.clone(),
                    depends: needs::depends_of(&leaf.stanza),
                    provides: needs::provides_of(&leaf.stanza),
                }],
            });
        }
        Ok::<(), CatalogueError>(())
    })?;
    for (id, needs) in needed {
        if let Some(detected) = found.detected.get_mut(&id) {
            detected.needs = needs;
        }
    }
    Ok(found)
}

fn note(
    found: &mut Found,
    required: &mut Vec<Required>,
    id: UpdateId,
    state: Detection,
    leaves: Vec<ScanLeaf>,
) {
    let refs = leaves.iter().map(leaf_ref).collect();
    found.detected.insert(id.clone(), Detected { state, leaves: refs, needs: BTreeSet::new() });
    if state == Detection::Required {
        required.push(Required { id, leaves });
    }
}

fn chosen(update: &ScanUpdate, places: &[u16]) -> Vec<ScanLeaf> {
    places.iter().filter_map(|place| update.leaves.get(usize::from(*place)).cloned()).collect()
}

/// State of one update on this machine with the places of the leaves it needs; none when it is not required.
fn detect(machine: &Machine, update: &ScanUpdate) -> Option<(Detection, Vec<u16>)> {
    let mut any = false;
    let mut needed = Vec::new();
    for (leaf, place) in update.leaves.iter().zip(0..=u16::MAX) {
        let mut entries = machine.matching(&leaf.package, &leaf.architecture).peekable();
        if entries.peek().is_none() {
            continue;
        }
        // A leaf whose version cannot be ordered says nothing about this machine.
        let Ok(version) = Version::parse(&leaf.version) else { continue };
        any = true;
        // Half installed at this very version is not installed: the transaction completes it.
        let lacks = |entry: &patchtide_packaging::status::StatusEntry| {
            entry
                .version
                .as_ref()
                .is_some_and(|have| *have < version || (entry.is_broken() && *have == version))
        };
        if entries.any(lacks) {
            needed.push(place);
        }
    }
    if !any {
        return None;
    }
    Some(if needed.is_empty() { (Detection::Installed, needed) } else { (Detection::Required, needed) })
}

fn leaf_ref(leaf: &ScanLeaf) -> LeafRef {
    LeafRef {
        package: leaf.package.clone(),
        architecture: leaf.architecture.clone(),
        version: leaf.version.clone(),
    }
}

#[cfg(test)]
mod tests;
