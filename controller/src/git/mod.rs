//! A Git repository as a source of desired state: fetched into a bare object database, verified, and read
//! without ever making a working tree. Everything that comes out is data with a position and a verdict.
//!
//! Fetching and reading block (libgit2) and run on the blocking pool; the rest is pure.

pub mod fetch;
pub mod history;
pub mod peer;
pub mod relay;
pub mod signature;
pub mod url;

pub use patchtide_intent::yaml::{document, object, schema, tree, verdict};
