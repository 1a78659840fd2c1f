//! The planner: desired + observed + now -> what to do next, with every reason as data. Pure: no I/O, no clock, no
//! randomness; equal inputs give equal answers.
//!
//! [`site`] turns the objects of a site into one policy per client and counts back into status. [`client`] turns a
//! policy and a machine's facts into the next actions; the agent and the simulator run the same function.
//! [`check`] proves of every plan, before it goes out, that it keeps what its objects demand.
//! `docs/semantics.md` says what was chosen where the sources disagree.

pub mod check;
pub mod client;
pub mod sim;
pub mod site;
pub mod snapshot;
pub mod times;
pub mod why;

#[cfg(test)]
mod fixtures;
