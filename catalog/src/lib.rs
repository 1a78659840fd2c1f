//! Sources of software updates: what an upstream offers, verified end to end, as updates of the domain.
//!
//! Now: apt archives ([`apt`]). Each kind of source is a module that yields [`patchtide_model::catalogue::Update`]s;
//! keeping them is the site database's matter, deciding about them the planner's.

pub mod apt;
pub mod http;
pub mod openpgp;
pub mod progress;
