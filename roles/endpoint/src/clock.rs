//! The edge at which time comes in. Everything behind it takes instants as values.

use std::sync::Arc;

use jiff::Timestamp;

/// Where a role gets the time from; tests give their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The system's clock.
pub fn system() -> Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the edge that the rule leaves to the clock")]
    fn now() -> Timestamp {
        Timestamp::now()
    }
    Arc::new(now)
}
