//! The one place that reads the clock. Everything else is given an instant.

use jiff::{Timestamp, tz::TimeZone};

use crate::root::Root;

/// The present instant by the machine's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge of the binary; everything else takes the time as a value"
)]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The machine's time zone, from `/etc/localtime` below the root; UTC when there is none.
pub fn zone(root: &Root) -> TimeZone {
    std::fs::read(root.path("/etc/localtime"))
        .ok()
        .and_then(|bytes| TimeZone::tzif("local", &bytes).ok())
        .unwrap_or(TimeZone::UTC)
}
