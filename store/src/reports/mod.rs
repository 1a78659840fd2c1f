//! What reports ask: who is meant, how many are in which state, who they are. Ask it of one moment
//! ([`SiteStore::at_this_moment`](crate::SiteStore::at_this_moment)), so that all that one report says belongs together.
//!
//! States of many clients and many updates are counted from the segments themselves: each is read once, whatever is asked.

mod clients;
mod deployments;
mod states;
mod tally;

pub use clients::{Absence, ReportClient};
pub use deployments::{DeploymentReport, ReportCollection, ReportDeployment, ReportList};
pub use states::ClientState;
pub use tally::{ClientTally, Tally, UpdateTally};

/// Which active clients are meant, by the number that rows name a collection or a deployment by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All.
    Site,
    /// The members of a collection.
    Collection(i64),
    /// Those that a deployment reaches.
    Deployment(i64),
}
