//! Client machines to be patched: a Debian root in namespaces of its own, with its own process 1, its own address and
//! real restarts.
//!
//! A [`Network`] is a bridge on this machine; a [`Host`] is attached to it with one address and reaches nothing but the
//! bridge. `shutdown -r now` on the host ends its PID namespace and the host is started again, with a fresh `/run`.

mod machine;
mod network;
mod root;

pub use machine::{Host, HostOptions};
pub use network::{Network, sweep};
pub use root::ClientRoot;
