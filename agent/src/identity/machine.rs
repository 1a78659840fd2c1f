//! Whose state this is. A disk that was cloned carries the state of another machine; when the clone was given a machine-id
//! of its own, as images are, that is noticed before anything is said in the other's name.

use std::{fs, path::PathBuf};

use patchtide_model::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    root::Root,
    state::{StateError, StateFolder},
};

const FILE: &str = "machine.json";
const MACHINE_ID: &str = "/etc/machine-id";
/// What belongs to the machine whatever its identity: verified bytes, and the lock of the agent that runs.
const STAYS: [&str; 2] = ["cache", "agent.lock"];

#[derive(Debug, Default, Serialize, Deserialize)]
struct Owner {
    /// Digest of the machine-id: the id itself is to stay on the machine.
    machine: Option<Digest>,
}

/// Finds out whether the state is this machine's. The state of another machine is set aside, whole, and this one begins
/// anew: it makes a key of its own and enrols. Where to it was set aside; none: it is this machine's. A machine without a
/// machine-id cannot tell.
pub fn check(state: &StateFolder, root: &Root) -> Result<Option<PathBuf>, StateError> {
    let Some(machine) = of(root) else { return Ok(None) };
    let owner: Owner = state.load_or_default(FILE)?;
    let aside = match owner.machine {
        Some(known) if known == machine => return Ok(None),
        None => None,
        Some(known) => Some(set_aside(state, known)?),
    };
    state.save(FILE, &Owner { machine: Some(machine) })?;
    Ok(aside)
}

fn of(root: &Root) -> Option<Digest> {
    let text = fs::read_to_string(root.path(MACHINE_ID)).ok()?;
    let id = text.trim();
    // `uninitialized` before the first boot of an image.
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| Digest::of(format!("patchtide {id}").as_bytes()))
}

/// The mark of the owner goes last: after a kill on the way the rest is moved at the next start.
fn set_aside(state: &StateFolder, known: Digest) -> Result<PathBuf, StateError> {
    let name = format!("of-machine-{}", known.to_string().chars().take(8).collect::<String>());
    let folder = state.folder(&name)?;
    let read = |source| StateError::Read { path: state.path(""), source };
    let mut entries: Vec<String> = Vec::new();
    for entry in fs::read_dir(state.path("")).map_err(read)? {
        entries.extend(entry.map_err(read)?.file_name().into_string());
    }
    entries.retain(|entry| {
        *entry != FILE && !STAYS.contains(&entry.as_str()) && !entry.starts_with("of-machine-")
    });
    for entry in entries.into_iter().chain([FILE.to_owned()]) {
        let (from, to) = (state.path(&entry), folder.join(&entry));
        fs::rename(&from, &to).map_err(|source| StateError::Write { path: from, source })?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloned_disk_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let state = StateFolder::open(folder.path().join("state")).unwrap();
        let id = |text: &str| {
            fs::create_dir_all(root.path("/etc")).unwrap();
            fs::write(root.path(MACHINE_ID), text).unwrap();
        };
        assert_eq!(check(&state, &root).unwrap(), None, "no machine-id");
        id("uninitialized\n");
        assert_eq!(check(&state, &root).unwrap(), None);
        id("0123456789abcdef0123456789abcdef\n");
        assert_eq!(check(&state, &root).unwrap(), None, "the first look");
        state.save("report.json", &1).unwrap();
        fs::create_dir_all(state.path("cache/sha256")).unwrap();
        assert_eq!(check(&state, &root).unwrap(), None, "the same machine");
        assert_eq!(state.load::<u8>("report.json").unwrap(), Some(1));

        id("fedcba9876543210fedcba9876543210\n");
        let aside = check(&state, &root).unwrap().unwrap();
        assert_eq!(state.load::<u8>("report.json").unwrap(), None);
        assert!(aside.join("report.json").exists() && state.path("cache/sha256").exists());
        assert_eq!(check(&state, &root).unwrap(), None, "noticed once");
        // The state of the first comes back: that is noticed too.
        id("0123456789abcdef0123456789abcdef\n");
        state.save("report.json", &2).unwrap();
        assert!(check(&state, &root).unwrap().is_some_and(|other| other != aside));
    }
}
