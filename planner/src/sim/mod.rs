//! A simulator of both halves: the site compiles policies, machines with pretended installers carry out what
//! [`crate::client::decide`] says, time is a value. It answers "what would happen" and holds the planner to its promises.
//!
//! Only what is due is looked at: a heap holds (time, client, sequence), a client that nothing happened to is not asked, and
//! the site compiles only when something changed. Everything that happens by chance follows from a seed.
//!
//! Real here: policies and their numbers, decisions, states, the rules of reports and their acknowledgement, what an agent
//! remembers over a kill, what a power cut does to dpkg. Pretended: packages (a version each), the network (a delay, a
//! chance of loss), how long things take.

mod behaviour;
mod chance;
mod doing;
mod fate;
mod log;
mod machine;
mod node;
mod post;
mod queue;
mod rest;
#[cfg(test)]
mod tests;
mod travel;
mod wishes;
mod world;
#[cfg(test)]
mod worlds;

pub use behaviour::{Behaviour, Happening, Network, Wish};
pub use chance::Chance;
pub use log::{Entry, Outage, What};
pub use machine::{Compare, Machine, compare_numbers};
pub use world::{Restless, Tally, World};
