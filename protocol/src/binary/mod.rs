//! State reports in compact binary: variable-length integers and strings that are written once. `docs/protocol.md`
//! gives the grammar.

mod reader;
mod writer;

pub use reader::{decode, decode_borrowed};
pub use writer::encode;

/// First byte of a report: the form.
const FORM: u8 = 1;

/// Tags of message bodies.
mod tag {
    pub(super) const FACTS: u8 = 0;
    pub(super) const SCAN: u8 = 1;
    pub(super) const DETECTION: u8 = 2;
    pub(super) const UPDATE: u8 = 3;
    pub(super) const ENFORCEMENT: u8 = 4;
    pub(super) const EVALUATION: u8 = 5;
    pub(super) const COMPLIANCE: u8 = 6;
    pub(super) const HEARTBEAT: u8 = 7;
    pub(super) const NUMBERED: u8 = 8;
}

/// Why bytes are not a report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct BinaryError {
    /// What is wrong.
    pub what: &'static str,
    /// Where.
    pub offset: usize,
}

#[cfg(test)]
mod tests;
