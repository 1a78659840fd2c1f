//! What became of a transaction: measured by dpkg's own state, not by what the programs said.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{
    UpdateId,
    catalogue::LeafRef,
    state::{Failure, StateError},
};
use patchtide_packaging::Version;

use super::{InstallError, LeavesOf, error::reported, operation::Ended};
use crate::{scan::Machine, transport::error::chain};

/// Bytes of output that are kept with a failure.
const TAIL: usize = 4096;
/// Whether the machine has at least this leaf, completely installed, wherever it has the package.
pub fn has(machine: &Machine, leaf: &LeafRef) -> bool {
    let Ok(wanted) = Version::parse(&leaf.version) else { return false };
    let mut entries = machine.matching(&leaf.package, &leaf.architecture).peekable();
    entries.peek().is_some()
        && entries.all(|entry| {
            entry.is_installed()
                && !entry.is_broken()
                && entry.version.as_ref().is_some_and(|have| *have >= wanted)
        })
}

/// The last 4 KiB, from the beginning of a line.
pub fn tail(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(&output[output.len().saturating_sub(TAIL)..]).into_owned();
    if output.len() <= TAIL {
        return text;
    }
    text.split_once('\n').map_or(text.clone(), |(_, rest)| rest.to_owned())
}

/// What an ended transaction means.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Each update of the batch is installed or has its error.
    Done(BTreeMap<UpdateId, StateError>),
    /// apt found the lock taken: nothing happened.
    Locked,
    /// It was too late to start: nothing happened.
    Withdrawn,
}

/// Judges an ended transaction.
pub fn judge(machine: &Machine, leaves_of: &LeavesOf, ended: &Ended, output: &[u8]) -> Verdict {
    if ended.withdrawn {
        return Verdict::Withdrawn;
    }
    let lacking: BTreeMap<&UpdateId, Vec<&LeafRef>> = leaves_of
        .iter()
        .map(|(id, leaves)| (id, leaves.iter().filter(|leaf| !has(machine, leaf)).collect::<Vec<_>>()))
        .filter(|(_, lacking)| !lacking.is_empty())
        .collect();
    let text = String::from_utf8_lossy(output);
    if !ended.success && lacking.len() == leaves_of.len() && text.contains("Could not get lock") {
        return Verdict::Locked;
    }
    let (failure, what) = classify(&text, ended);
    Verdict::Done(
        lacking
            .into_iter()
            .map(|(id, leaves)| {
                let names: BTreeSet<&str> = leaves.iter().map(|leaf| leaf.package.as_str()).collect();
                let names = names.into_iter().collect::<Vec<_>>().join(", ");
                let head = format!("not installed: {names}. {what} Output:\n");
                let room = patchtide_protocol::limits::STRING_BYTES.saturating_sub(head.len() + 8);
                let message = format!("{head}{}", last(&text, room));
                (id.clone(), reported(failure, &message))
            })
            .collect(),
    )
}

fn classify(text: &str, ended: &Ended) -> (Failure, String) {
    let scripts: Vec<&str> = text
        .lines()
        .filter(|line| {
            line.contains("script subprocess")
                && (line.contains("error exit status") || line.contains("killed by signal"))
        })
        .map(str::trim)
        .collect();
    if ended.success {
        return (
            Failure::StillRequired,
            "apt ended well and the packages are still older: see /var/log/apt/term.log.".to_owned(),
        );
    }
    if text.contains("No space left on device") {
        return (Failure::DiskFull, "The disk is full: make room.".to_owned());
    }
    if !ended.overran.is_empty() {
        let names = ended.overran.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        return (
            Failure::ScriptHangs,
            format!(
                "What a package or a hook runs hung and was ended ({names}); fix its cause, or give the update a longer maximum run time; it is tried again."
            ),
        );
    }
    if !scripts.is_empty() {
        let scripts = scripts.iter().take(3).copied().collect::<Vec<_>>().join("; ");
        return (
            Failure::Script,
            format!("A maintainer script failed ({scripts}); fix its cause, it is tried again."),
        );
    }
    (Failure::Apt, format!("apt failed ({}).", ended.status))
}

/// The last `room` bytes of a text, from a character boundary.
fn last(text: &str, room: usize) -> &str {
    let start = text.len().saturating_sub(room);
    let start = (start..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    &text[start..]
}

/// The error of a transaction that did not start, for each update that it is about: those that have a leaf of a
/// package it names, or all.
pub fn refused(error: &InstallError, leaves_of: &LeavesOf) -> BTreeMap<UpdateId, StateError> {
    let words = reported(error.failure(), &chain(error));
    let packages = error.packages();
    let about =
        |leaves: &BTreeSet<LeafRef>| leaves.iter().any(|leaf| packages.contains(&leaf.package.as_str()));
    let named: BTreeMap<_, _> = leaves_of
        .iter()
        .filter(|(_, leaves)| about(leaves))
        .map(|(id, _)| (id.clone(), words.clone()))
        .collect();
    if named.is_empty() { leaves_of.keys().map(|id| (id.clone(), words.clone())).collect() } else { named }
}
