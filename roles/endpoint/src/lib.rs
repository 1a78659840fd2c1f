//! The TLS 1.3 server that the site roles share: limits before trust, identity from the certificate alone, errors as
//! [`Problem`](patchtide_protocol::Problem), metrics without per-client labels, a shutdown that finishes what was accepted.
//!
//! Architecture Invariant: a role learns who is calling from [`Peer`] and from nothing else; no header and no body
//! field is ever an identity.

pub mod admission;
pub mod body;
pub mod clock;
mod framing;
pub mod health;
pub mod immutable;
mod listener;
pub mod metrics;
mod paced;
mod peer;
mod refusal;
mod service;
pub mod standing;
pub mod tls;

pub use clock::Clock;
pub use listener::{Limits, Listener, ListenerConfig, ListenerError};
pub use metrics::Metrics;
pub use peer::{AuthenticatedClient, Draining, Peer, Unidentified};
pub use refusal::Refusal;
pub use service::{VersionRule, unknown_path, wrong_method};
pub use tokio_util::sync::CancellationToken;
