//! Services that ran before a transaction and do not run after it (reliability.md 4 #65). For dpkg an upgrade is good when
//! its scripts end well, whether or not what they started lives.
//!
//! Only what is there for good counts: a unit that is enabled and was running. What an upgrade disables, removes or renames
//! is its own business.

mod init;

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use patchtide_model::{
    UpdateId,
    state::{Failure, StateError},
};
use serde::{Deserialize, Serialize};

pub use init::running;

use crate::{
    install::{LeavesOf, error::reported},
    root::Root,
};

/// How long services get after a transaction.
#[derive(Debug, Clone, Copy)]
pub struct Settling {
    /// One that dies at once is not to be taken for one that lives; 5 s.
    pub first: Duration,
    /// One that takes long to start; 30 s.
    pub longest: Duration,
}

impl Default for Settling {
    fn default() -> Self {
        Self { first: Duration::from_secs(5), longest: Duration::from_secs(30) }
    }
}

/// What is to run again after transactions; kept until it was seen to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Services.
    pub services: BTreeSet<String>,
    /// What was installed.
    pub updates: LeavesOf,
}

/// How a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Runs,
    Dead(String),
}

/// Those of `before` that do not run, with how they are. Blocks until all run or the time is over.
pub fn dead(root: &Root, before: &BTreeSet<String>, settling: Settling) -> BTreeMap<String, String> {
    if before.is_empty() {
        return BTreeMap::new();
    }
    let start = Instant::now();
    thread::sleep(settling.first);
    loop {
        let dead: BTreeMap<String, String> = init::now(root, before)
            .into_iter()
            .filter(|(name, _)| before.contains(name))
            .filter_map(|(name, standing)| match standing {
                Standing::Runs => None,
                Standing::Dead(how) => Some((name, how)),
            })
            .collect();
        if dead.is_empty() || start.elapsed() >= settling.longest {
            return dead;
        }
        thread::sleep(Duration::from_secs(1).min(settling.longest));
    }
}

/// The error of each update whose service is dead: that of whose package the service is, else all that were installed.
pub fn errors(
    root: &Root,
    watched: &Watched,
    dead: &BTreeMap<String, String>,
) -> BTreeMap<UpdateId, StateError> {
    let mut about: BTreeMap<&UpdateId, Vec<String>> = BTreeMap::new();
    for (service, how) in dead {
        let owners = owners(root, service);
        let own: Vec<&UpdateId> = watched
            .updates
            .iter()
            .filter(|(_, leaves)| leaves.iter().any(|leaf| owners.contains(&leaf.package)))
            .map(|(id, _)| id)
            .collect();
        for id in if own.is_empty() { watched.updates.keys().collect() } else { own } {
            about.entry(id).or_default().push(format!("{service} ({how})"));
        }
    }
    about
        .into_iter()
        .map(|(id, services)| {
            let words = format!(
                "installed, but what ran before does not run now: {}; look at its log and start it, or restart the machine",
                services.join(", ")
            );
            (id.clone(), reported(Failure::Service, &words))
        })
        .collect()
}

/// The packages that ship the service.
fn owners(root: &Root, service: &str) -> BTreeSet<String> {
    let plain = service.trim_end_matches(".service");
    let paths = [
        format!("/lib/systemd/system/{plain}.service"),
        format!("/usr/lib/systemd/system/{plain}.service"),
        format!("/etc/init.d/{plain}"),
    ];
    let arguments = ["dpkg-query", "-S", &paths[0], &paths[1], &paths[2]];
    // It fails when one of the paths is nobody's.
    let text = root.command(&arguments).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| line.split_once(": "))
        .flat_map(|(names, _)| names.split(", "))
        .map(|name| name.split(':').next().unwrap_or(name).to_owned())
        .collect()
}
