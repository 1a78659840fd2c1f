//! Faults (reliability.md part 4, "State messages"; E6): a management point with its database is killed, loses its power,
//! has no room, a slow disk, no PostgreSQL, or hangs, all under load. What it acknowledged is written down outside of it
//! ([`ledger`]); after each fault nothing of that is lost, nothing is there twice, the counts equal a recount, the chain of
//! the history is whole, and it goes on.
//!
//! `PATCHTIDE_TEST_POWER_CUTS` (100 when it is not set) and `PATCHTIDE_TEST_KILLS` (200) say how often.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

#[path = "../../../testing/bed.rs"]
mod bed;
#[path = "../../../testing/site.rs"]
mod site;

mod broken;
mod child;
mod disk;
mod ground;
mod hang;
mod kill;
mod ledger;
mod load;
mod postgres;
mod power;
mod room;
mod slow;

/// How often, unless the environment says otherwise.
fn times(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}
