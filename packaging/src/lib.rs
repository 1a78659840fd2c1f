//! Formats of package systems: bytes in, values out.
//!
//! Nothing here opens a file, talks to a network or reads a clock, and no sibling crate is imported, so the
//! catalogue (server) and the agent (client) judge the same bytes by the same code.
//!
//! Everything that is read here may have been written by an enemy: every length is bounded before memory is
//! given to it, and what is wrong with one stanza is a value that names the stanza, not the end of the file.
//!
//! Why own parsers and no crate: `deb822-fast` has no bounds on the size of fields and stanzas, gives up at the
//! first malformed stanza and does not keep the raw text; `debversion` brings a regular expression engine, big
//! integers and a second calendar for an order that is sixty lines, proved here against `dpkg` itself.

pub mod deb;
pub mod deb822;
pub mod hash;
pub mod packages;
pub mod relation;
pub mod release;
pub mod status;
pub mod version;

pub use deb822::{Limits, ReadError, Stanza, StanzaError, StanzaReader};
pub use hash::Sha256;
pub use packages::BinaryPackage;
pub use relation::Relations;
pub use release::Release;
pub use version::Version;
