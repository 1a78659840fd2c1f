//! One suite on both databases: SQLite in a file, and a real PostgreSQL server of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::assigning_clones,
    reason = "a test that cannot go on fails"
)]

mod catalogue;
mod clients;
mod common;
mod content;
mod deployments;
mod documented;
mod durability;
mod intake;
mod leaf_sets;
mod moment;
mod numbered;
mod order;
mod property;
mod reader;
pub(crate) mod register;
mod reports;
mod schema;
mod select;
mod small;
mod views;
