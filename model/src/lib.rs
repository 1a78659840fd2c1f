//! Patchtide's domain types: what an update, a client, a state, a policy is. Pure: no I/O, no clock, no
//! randomness; instants and identities come in as values.
//!
//! The types carry serde because three places keep them as documents: the signed policy, the site database's
//! object table and the offline snapshot. Their JSON is therefore a contract and has golden tests.

pub mod catalogue;
pub mod client;
pub mod deployment;
pub mod digest;
pub mod glob;
pub mod id;
pub mod object;
pub mod origin;
pub mod people;
pub mod policy;
pub mod search;
pub mod shared;
pub mod site;
pub mod state;
pub mod wake;
pub mod window;

pub use digest::Digest;
pub use id::{ClientId, LineId, ObjectName, SiteName, UpdateId};
