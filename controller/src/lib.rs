//! The controller: custom resources into validated objects of the site database, those into signed policy, and the
//! truth back into status.
//!
//! One loop per kind ([`driver`]) over one watch per kind ([`cache`]). A reconcile goes in five steps, a file each
//! where there is something to do: *dereference* (reads), *validate* (pure), *plan* (pure), *apply* (writes the site
//! database), *status* (writes the API server, [`status`]). The policy compiler ([`compile`]) wakes on any change of
//! the site database. Only the leader runs any of this.

pub mod alerts;
pub mod apply;
pub mod cache;
pub mod clock;
pub mod compile;
pub mod content;
pub mod context;
pub mod dependencies;
pub mod driver;
pub mod error;
pub mod events;
pub mod git;
pub mod integrity;
pub mod keys;
pub mod kinds;
pub mod lease;
pub mod metrics;
pub mod pace;
mod reach;
mod register;
mod reported;
pub mod run;
pub mod status;
pub mod wake;
// The fixture of the room that the kinds were moved to.
#[cfg(test)]
#[path = "../../intent/src/testing.rs"]
mod testing;

pub use context::{Advertise, Context};
pub use run::{ControllerConfig, RunError, run};
