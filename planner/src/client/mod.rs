//! The client's half: a signed policy and the machine's facts -> the next actions, and why the others wait.
//!
//! The agent's loop is: fill [`ClientView`] with facts, call [`decide`], carry out [`Decision::actions`] in order,
//! send the states that changed, and decide again when something happened or at [`Decision::next_wake`]. Facts change
//! through the methods of [`ClientView`] (`scan_completed`, `install_finished`, `booted`, ...), so that the agent and
//! the simulator keep the same books.

pub(crate) mod allowance;
mod asked;
mod batch;
mod books;
mod content;
mod context;
mod decide;
mod decision;
mod due;
mod earliest;
mod events;
mod gate;
mod gates;
mod largest;
mod lease;
pub mod limits;
pub(crate) mod merged;
pub mod merging;
mod notices;
pub(crate) mod outcome;
mod people;
pub(crate) mod prepared;
pub(crate) mod rebuilt;
mod restart_notices;
mod restarts;
mod scans;
mod sequence;
#[cfg(test)]
mod tests;
mod verdict;
mod view;
mod woken;
mod words;

pub use asked::{Postponed, Refusal, ask_install, ask_restart, postpone, set_schedule};
pub use books::{Books, DeploymentEntry, Entry, Said};
pub use decide::decide;
pub(crate) use decide::outcome;
pub use decision::{
    Action, Decision, DeploymentVerdict, Fetch, InstallBatch, Lease, ScanKind, ScanPurpose, ScanRequest,
    UpdateVerdict,
};
pub use gate::{Event, Gate, GateKind, GateStatus, Holder, Opens};
pub use notices::{Notice, NoticeKind, Offer, Scheduled, Stage};
pub use people::{BatchTold, OwnSchedule, People, RestartTold, Told};
pub use view::{
    Attempt, ClientView, ContentProblem, Detected, InstalledRecord, Locality, LockFact, Recovery,
    RestartReason, Running, RunningInstall, ScanFacts, ScanFailure, StaleReason,
};
pub(crate) use words::Words;
