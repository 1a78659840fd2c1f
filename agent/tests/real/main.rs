//! The agent on real ground: a Debian root made from `bookworm main` alone, the archive's own security updates, real
//! apt and dpkg, real TLS. Needs root, mmdebstrap and the archive of this machine's apt configuration.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests and their helpers")]

mod asleep;
mod commands;
mod download;
mod fixture;
mod ground;
mod heal;
mod install;
mod killed;
mod life;
mod network;
mod packages;
mod people;
mod pins;
mod poll;
mod recovery;
mod scan;
mod scripts;
mod semantics;
mod server;
mod site;
mod stage;
mod two;
mod updaters;
mod woken;
