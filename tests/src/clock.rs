//! The wall clock, for what a person would read off it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970, UTC.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge of the test bed: windows of the demo open at a time of day"
)]
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// The time of day as `HH:MM` in UTC.
pub fn time_of_day(unix: u64) -> String {
    let minutes = unix / 60 % (24 * 60);
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// The first whole minute that is not before `unix`.
pub fn next_minute(unix: u64) -> u64 {
    unix.div_ceil(60) * 60
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes() {
        let noon = 1_800_000_000 / 86_400 * 86_400 + 12 * 3600;
        assert_eq!(time_of_day(noon), "12:00");
        assert_eq!(time_of_day(noon + 12 * 3600 - 1), "23:59");
        assert_eq!((next_minute(noon), next_minute(noon + 1)), (noon, noon + 60));
    }
}
