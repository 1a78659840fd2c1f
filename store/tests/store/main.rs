//! One suite on both databases: SQLite in a file, and a real PostgreSQL server of its own.

mod catalogue;
mod clients;
mod common;
mod content;
mod durability;
mod intake;
mod property;
mod schema;
mod small;
