//! Clients: enrolment, standing, policy.

mod enrolment;
mod policy;
mod registry;
mod renewal;
mod token;

pub use enrolment::{Enrolment, EnrolmentRow, EnrolmentState};
pub use policy::StoredPolicy;
pub use renewal::Renewal;
pub use token::{StoredToken, TokenRow};
