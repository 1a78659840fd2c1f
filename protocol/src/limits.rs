//! Limits of everything that is received (reliability.md 3.9). Each is checked before parsing.

use std::time::Duration;

/// Bytes of a state report on the wire.
pub const STATE_WIRE_BYTES: usize = 64 * 1024;
/// Bytes of a state report after decompression.
pub const STATE_BYTES: usize = 512 * 1024;
/// Messages in a report, and states in a detection message.
pub const STATE_ITEMS: usize = 1_000;
/// Bytes of any one string.
pub const STRING_BYTES: usize = 1024;
/// Nesting of JSON.
pub const DEPTH: usize = 8;
/// Bytes of an enrolment request.
pub const ENROLMENT_BYTES: usize = 16 * 1024;
/// Bytes of the signed statement of a policy that an agent accepts.
pub const POLICY_STATEMENT_BYTES: usize = 16 * 1024;
/// Bytes of a part of a policy, as it travels, that an agent accepts.
pub const POLICY_PART_BYTES: usize = 10 * 1024 * 1024;
/// Bytes of a part of a policy after expansion that an agent accepts.
pub const POLICY_PART_EXPANDED_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of a compressed line catalogue that an agent accepts.
pub const CATALOGUE_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of a decompressed line catalogue that an agent accepts.
pub const CATALOGUE_EXPANDED_BYTES: usize = 512 * 1024 * 1024;
/// Longest wait of a long poll.
pub const LONGEST_POLL: Duration = Duration::from_mins(5);
/// A sequence number that jumps further than this is a fault, not a gap.
pub const SEQUENCE_JUMP: u64 = 1_000_000;
/// Sustained reports per client: one per this time.
pub const REPORT_PERIOD: Duration = Duration::from_secs(10);
/// Reports a client may send at once before the sustained rate holds.
pub const REPORT_BURST: u32 = 20;
/// Pending enrolments of one address.
pub const PENDING_PER_ADDRESS: u32 = 10;
/// Facts of a client. Of a report that brings more, the first are kept, by key.
pub const FACTS: usize = 200;
/// Characters of a fact's key.
pub const FACT_KEY_CHARACTERS: usize = 63;
/// Characters of a fact's value.
pub const FACT_VALUE_CHARACTERS: usize = 256;
/// Bytes of all strings of a binary report together, repetitions counted: a reference is short, what it names is not.
pub const STATE_STRING_BYTES: usize = 4 * STATE_BYTES;
