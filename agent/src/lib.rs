//! The Patchtide agent: looks after one machine. It enrols, polls signed policy, scans, downloads, installs, restarts
//! and reports; `planner::client` decides what is done when, this crate carries it out.
//!
//! Whatever the agent does can be cut off at any moment: what must be known afterwards is on disk before it starts.

pub mod awake;
pub mod catalogue;
pub mod clock;
pub mod control;
pub mod download;
pub mod facts;
pub mod identity;
pub mod install;
pub mod notify;
pub mod policy;
pub mod report;
pub mod restart;
pub mod root;
pub mod run;
pub mod scan;
pub mod services;
pub mod state;
pub mod transport;
pub mod updaters;
