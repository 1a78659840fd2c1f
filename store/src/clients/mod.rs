//! Clients: enrolment, standing, policy.

mod enrolment;
mod policy;
pub(crate) mod registry;
mod token;
mod wake;

pub use enrolment::{Enrolment, EnrolmentRow, EnrolmentState};
pub use policy::{PolicyParts, StoredPolicy};
pub use token::{StoredToken, TokenRow};
pub use wake::WakeCounts;
