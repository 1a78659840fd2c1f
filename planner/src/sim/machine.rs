//! A machine with a pretended package system. What it does is in [`super::doing`], what happens to it in [`super::fate`].

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use patchtide_model::{
    Digest, LineId, UpdateId,
    catalogue::{Leaf, Update},
    client::Facts,
    policy::{Policy, PolicyBody},
    state::{Detection, StateError},
};
use uuid::Uuid;

use super::{behaviour::Behaviour, behaviour::Happening, chance::Chance};
use crate::client::{ClientView, Detected, InstallBatch, ScanRequest, prepared::Prepared};

/// Which of two versions of a package is newer.
pub type Compare = fn(&str, &str) -> Ordering;

/// Whole numbers by their value; everything else as text.
pub fn compare_numbers(one: &str, other: &str) -> Ordering {
    match (one.parse::<u64>(), other.parse::<u64>()) {
        (Ok(one), Ok(other)) => one.cmp(&other),
        _ => one.cmp(other),
    }
}

/// The updates that clients scan against, at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Catalogue {
    /// Versions of its lines.
    pub versions: BTreeMap<LineId, u64>,
    /// Current updates: not superseded, not withdrawn.
    pub updates: BTreeMap<UpdateId, Update>,
}

/// A policy as a client holds it.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub policy: Policy,
    /// The policy as it is decided from.
    pub prepared: Prepared,
    pub digest: Digest,
    /// What the catalogues that it names hold.
    pub catalogue: Arc<Catalogue>,
}

/// A machine.
#[derive(Debug, Clone)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own: power, agent, network, an interrupted dpkg"
)]
pub struct Machine {
    /// Host name.
    pub name: String,
    /// What it knows.
    pub view: ClientView,
    /// What collections select it by.
    pub facts: Facts,
    /// Its address, for boundaries.
    pub address: Option<IpAddr>,
    /// Its own zone.
    pub zone: TimeZone,
    /// Architecture of its packages.
    pub architecture: String,
    /// Installed packages with their versions.
    pub packages: BTreeMap<String, String>,
    /// How it behaves.
    pub behaviour: Behaviour,
    /// How far its clock is ahead.
    pub skew: SignedDuration,
    /// Whether it has a network.
    pub online: bool,
    /// Restarts that the agent made, by the clock that is right.
    pub restarts: Vec<Timestamp>,
    /// Transactions: begin and end by the clock that is right; no end while it runs.
    pub transactions: Vec<(Timestamp, Option<Timestamp>)>,
    pub(super) ops: Vec<Op>,
    pub(super) sequence: u64,
    pub(super) power: bool,
    pub(super) agent: bool,
    pub(super) suspended: Option<Timestamp>,
    /// The next thing that the agent does is cut off in the middle.
    pub(super) cut: Option<SignedDuration>,
    pub(super) cache: Option<Arc<Catalogue>>,
    /// The transaction that runs, also while no agent is there.
    pub(super) transaction: Option<Transaction>,
    /// The one whose end the agent took up last: on disk, until the agent has written down what it found.
    pub(super) taken_up: Option<Transaction>,
    /// One that was cut off, until a scan tells what it did.
    pub(super) lost: Option<InstallBatch>,
    pub(super) interrupted: bool,
    pub(super) chance: Chance,
}

/// A transaction of the package system.
#[derive(Debug, Clone)]
pub(super) struct Transaction {
    pub batch: InstallBatch,
    /// By the machine's clock.
    pub since: Timestamp,
    /// Set once it ended, until an agent looks.
    pub ended: Option<BTreeMap<UpdateId, StateError>>,
}

/// Something that ends, or happens, at a time.
#[derive(Debug, Clone)]
pub(super) struct Op {
    pub at: Timestamp,
    pub sequence: u64,
    pub what: Doing,
}

#[derive(Debug, Clone)]
pub(super) enum Doing {
    /// A scan ends.
    Scan { request: ScanRequest, given: Arc<Given> },
    /// A download ends.
    Download(Digest),
    /// The transaction ends.
    Transaction,
    /// The recovery of dpkg ends.
    Recovery,
    /// The machine is there again.
    Up,
    /// The agent is started again.
    Agent,
    /// Something happens from outside.
    Happens(Happening),
}

impl Doing {
    /// Whether it stands still while the machine is suspended.
    pub(super) const fn is_work(&self) -> bool {
        matches!(self, Self::Scan { .. } | Self::Download(_) | Self::Transaction | Self::Recovery)
    }
}

impl Machine {
    /// A machine that was just enrolled.
    pub fn new(name: &str, workstation: bool, zone: TimeZone, packages: BTreeMap<String, String>) -> Self {
        Self {
            name: name.to_owned(),
            view: ClientView::new(Uuid::from_u128(1), workstation),
            facts: Facts::from([("hostname".to_owned(), name.to_owned())]),
            address: None,
            zone,
            architecture: "amd64".to_owned(),
            packages,
            behaviour: Behaviour::default(),
            skew: SignedDuration::ZERO,
            online: true,
            restarts: Vec::new(),
            transactions: Vec::new(),
            ops: Vec::new(),
            sequence: 0,
            power: true,
            agent: true,
            suspended: None,
            cut: None,
            cache: None,
            transaction: None,
            taken_up: None,
            lost: None,
            interrupted: false,
            chance: Chance::new(0, 0),
        }
    }

    /// What its clock says.
    pub fn clock(&self, now: Timestamp) -> Timestamp {
        now.checked_add(self.skew).unwrap_or(now)
    }

    /// When the clock that is right says what this one says.
    pub(super) fn right(&self, clock: Timestamp) -> Timestamp {
        clock.checked_sub(self.skew).unwrap_or(clock)
    }

    /// Whether its agent runs and can do something.
    pub fn is_awake(&self) -> bool {
        self.power && self.agent && self.suspended.is_none()
    }

    /// Whether a transaction of the package system runs.
    pub fn is_installing(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.ended.is_none())
    }

    /// Lets something happen to it at a time.
    pub(super) fn expect(&mut self, at: Timestamp, what: Doing) {
        self.sequence += 1;
        self.ops.push(Op { at, sequence: self.sequence, what });
    }

    /// When the next thing here ends or happens. While it is suspended only what comes from outside does.
    pub(super) fn next_op(&self) -> Option<Timestamp> {
        let asleep = self.suspended.is_some();
        self.ops.iter().filter(|op| !asleep || !op.what.is_work()).map(|op| op.at).min()
    }

    /// Takes the next one that is due.
    pub(super) fn take_op(&mut self, now: Timestamp) -> Option<Doing> {
        let asleep = self.suspended.is_some();
        let due =
            self.ops.iter().enumerate().filter(|(_, op)| op.at <= now && !(asleep && op.what.is_work()));
        let (index, _) = due.min_by_key(|(_, op)| (op.at, op.sequence))?;
        Some(self.ops.remove(index).what)
    }

    /// What a scan finds: the updates of the catalogue, and those of the policy that it no longer holds, by the leaves
    /// that the policy names.
    pub(super) fn scan(
        &self,
        catalogue: &Catalogue,
        body: &PolicyBody,
        compare: Compare,
    ) -> BTreeMap<UpdateId, Detected> {
        let mut found: BTreeMap<UpdateId, Detected> = BTreeMap::new();
        for (id, update) in &catalogue.updates {
            found.insert(id.clone(), self.detect(&update.leaves, compare));
        }
        for (id, update) in &body.updates {
            if !catalogue.updates.contains_key(id) {
                found.insert(id.clone(), self.detect(&update.leaves, compare));
            }
        }
        found
    }

    fn detect(&self, offered: &[Leaf], compare: Compare) -> Detected {
        let mut leaves = BTreeSet::new();
        let mut any = false;
        for leaf in offered {
            if leaf.architecture != "all" && leaf.architecture != self.architecture {
                continue;
            }
            let Some(installed) = self.packages.get(&leaf.package) else { continue };
            any = true;
            if compare(installed, &leaf.version).is_lt() {
                leaves.insert(leaf.reference());
            }
        }
        let state = if !any {
            Detection::NotRequired
        } else if leaves.is_empty() {
            Detection::Installed
        } else {
            Detection::Required
        };
        Detected { state, leaves, needs: BTreeSet::new() }
    }
}

pub(super) fn failure(code: u32, symbol: &str, words: &str) -> StateError {
    StateError::told(code, symbol.to_owned(), words.to_owned())
}
