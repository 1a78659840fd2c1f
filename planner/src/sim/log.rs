//! What happened, in order.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    ClientId, UpdateId,
    state::{Compliance, DeploymentEnforcement, StateError, UpdateEnforcement},
};

use crate::client::Action;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, by the clock that is right.
    pub at: Timestamp,
    /// On which client; none: at the site.
    pub client: Option<ClientId>,
    /// What.
    pub what: What,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A client has a new policy.
    Policy {
        /// Its number.
        number: u64,
    },
    /// An action began; a restart is announced.
    Started(Action),
    /// A scan ended.
    Scanned {
        /// Updates required; the error when it failed.
        result: Result<usize, StateError>,
    },
    /// A download failed.
    DownloadFailed(StateError),
    /// A transaction ended.
    Installed {
        /// Updates whose installation failed.
        failed: BTreeSet<UpdateId>,
    },
    /// An interrupted dpkg was put right, or not.
    Recovered {
        /// Whether it was.
        ok: bool,
    },
    /// An announced restart is called off.
    CalledOff,
    /// The machine went down.
    Down {
        /// Why.
        why: Outage,
    },
    /// It is there again.
    Up,
    /// The agent was killed.
    AgentKilled,
    /// It was started again.
    AgentStarted,
    /// A laptop was closed.
    Suspended,
    /// It was opened.
    Resumed,
    /// The clock jumped.
    ClockJumped {
        /// By so much.
        by: SignedDuration,
    },
    /// The network came or went.
    Online(bool),
    /// A person or an owner did something.
    Person(String),
    /// The enforcement state of an update changed.
    Update {
        /// The update.
        update: UpdateId,
        /// Its state.
        state: UpdateEnforcement,
        /// What it waits for, in words.
        waits_for: Option<String>,
        /// Error of a failed state.
        error: Option<StateError>,
    },
    /// The enforcement state of a deployment changed.
    Enforcement {
        /// Uid.
        deployment: String,
        /// Its state.
        state: DeploymentEnforcement,
        /// For a waiting state: until when.
        until: Option<Timestamp>,
    },
    /// The compliance of a deployment changed.
    Compliance {
        /// Uid.
        deployment: String,
        /// Its state.
        state: Compliance,
    },
    /// The site compiled policies.
    Published {
        /// Clients whose policy is another one than before.
        changed: usize,
    },
    /// Something was done at the site, in words.
    Site(String),
}

/// Why a machine is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// The agent restarted it.
    Restart,
    /// Its owner did.
    Owner,
    /// The power failed.
    Power,
}
