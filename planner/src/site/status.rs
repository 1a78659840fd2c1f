//! Reported states -> the numbers of a deployment's status. The counts always add up to the clients targeted.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, civil};
use patchtide_model::{
    ClientId,
    deployment::Deployment,
    state::{Compliance, DeploymentEnforcement, StateError},
    window::Window,
};

/// What a client last reported about a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedState {
    /// Client.
    pub client: ClientId,
    /// Topic 301.
    pub enforcement: Option<DeploymentEnforcement>,
    /// Topic 300.
    pub compliance: Option<Compliance>,
    /// For a waiting state: until when.
    pub until: Option<Timestamp>,
    /// Error of a failed state.
    pub error: Option<StateError>,
    /// When the state was entered.
    pub changed_at: Timestamp,
}

/// What a status is computed from.
#[derive(Debug, Clone, Copy)]
pub struct StatusInput<'a> {
    /// The deployment.
    pub deployment: &'a Deployment,
    /// Clients it reaches now.
    pub targeted: &'a BTreeSet<ClientId>,
    /// Reports; those of clients that are no longer targeted are ignored.
    pub states: &'a [ReportedState],
    /// Windows of the targeted clients, per distinct set of windows; a set may repeat.
    pub windows: &'a [&'a [Window]],
    /// Now.
    pub now: Timestamp,
}

/// The numbers of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentNumbers {
    /// Clients targeted.
    pub targeted: u64,
    /// Of them compliant.
    pub compliant: u64,
    /// Of them never heard of in this deployment.
    pub never_reported: u64,
    /// All others by enforcement state; every state is a key, so that a table has all eleven.
    pub states: BTreeMap<DeploymentEnforcement, u64>,
    /// Compliant of targeted in percent, rounded down so that 100 means all; none when nobody is targeted.
    pub compliant_percent: Option<u8>,
    /// Errors, most frequent first.
    pub errors: Vec<ErrorCount>,
    /// Waiting states whose *until* passed long ago.
    pub overdue: u64,
    /// Available time.
    pub available: Moment,
    /// Deadline.
    pub deadline: Moment,
    /// The next time a targeted client's window opens.
    pub next_window: NextWindow,
}

/// An error and how often it is met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorCount {
    /// Symbol and code of the error.
    pub symbol: String,
    /// Published code.
    pub code: u32,
    /// Message of one of them.
    pub message: String,
    /// Clients.
    pub count: u64,
    /// The first of them, at most 5.
    pub examples: Vec<ClientId>,
}

/// A time of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// There is none (optional deployment), or it lies beyond the end of time.
    Never,
    /// One instant for everyone.
    At(Timestamp),
    /// Each client's own wall clock.
    ClientLocal(civil::DateTime),
}

/// The next window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextWindow {
    /// At least one targeted client is not bound to windows.
    Unrestricted,
    /// One is open, until then.
    OpenUntil(Timestamp),
    /// The next one opens then.
    At(Timestamp),
    /// None of them ever opens again.
    Never,
    /// Nobody is targeted.
    Nobody,
}

/// Counts and times of a deployment.
pub fn deployment_status(input: &StatusInput<'_>) -> DeploymentNumbers {
    let targeted = u64::try_from(input.targeted.len()).unwrap_or(u64::MAX);
    DeploymentNumbers {
        targeted,
        compliant: 0,
        never_reported: targeted,
        states: BTreeMap::new(),
        compliant_percent: None,
        errors: Vec::new(),
        overdue: 0,
        available: Moment::Never,
        deadline: Moment::Never,
        next_window: NextWindow::Nobody,
    }
}
