//! The one place of this binary that reads the time.

/// The present instant.
#[expect(clippy::disallowed_methods, reason = "the edge at which time becomes a value")]
pub(crate) fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
