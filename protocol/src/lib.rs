//! What travels between client and site: enrolment, signed policy, locations, state messages. Closed types with
//! limits; bytes are bounded before they are parsed. `docs/protocol.md` describes it for a stranger.
//!
//! The protocol is versioned as a whole: every request carries [`VERSION_HEADER`]; a site answers a version it does
//! not speak with status 426 and a [`Problem`] that says what to do.

pub mod binary;
mod body;
pub mod bundle;
#[cfg(feature = "certificates")]
pub mod certificate;
pub mod check;
pub mod encoding;
pub mod enrolment;
pub mod envelope;
pub mod identity;
pub mod limits;
pub mod location;
pub mod path;
pub mod policy;
pub mod problem;
pub mod state;
mod text;

pub use problem::Problem;

/// Version of the protocol that this build speaks.
pub const VERSION: u32 = 2;
/// The oldest version that this build still serves.
pub const OLDEST_VERSION: u32 = 1;
/// The oldest version whose policies this build serves, and the only one whose policies it takes.
pub const POLICY_SINCE_VERSION: u32 = 2;
/// Header of every request and answer: the sender's protocol version.
pub const VERSION_HEADER: &str = "patchtide-protocol";
/// Media type of JSON bodies.
pub const JSON: &str = "application/json";
/// Media type of compact binary state messages.
pub const STATE_BINARY: &str = "application/vnd.patchtide.state-messages.v1";
/// Content encoding of compressed bodies; the only one.
pub const ZSTD: &str = "zstd";
