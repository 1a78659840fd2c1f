//! How often everything is looked at when its inputs change all the time.

use std::time::Duration;

use tokio::time::Instant;

/// Changes that come within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(150);
/// Longest time between a change and the look at what depends on it.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// How long to rest after work that took `took`. State messages of a large fleet change everything all the time:
/// looking takes at most a sixth of it.
pub fn rest(took: Duration) -> Duration {
    (took * 5).min(LONGEST_REST)
}

/// When all objects of a kind are looked at because something they depend on changed.
#[derive(Debug)]
pub struct Pace {
    due: Option<Instant>,
    begun: Option<Instant>,
    not_before: Instant,
}

impl Pace {
    /// Nothing is due.
    pub const fn new(now: Instant) -> Self {
        Self { due: None, begun: None, not_before: now }
    }

    /// When all are to be looked at; none: nothing changed.
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Something changed.
    pub fn wake(&mut self, now: Instant) {
        self.due = Some((now + DEBOUNCE).max(self.not_before));
    }

    /// Whether it is time to look at all.
    pub fn begins(&mut self, now: Instant) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        self.due = None;
        self.begun = Some(now);
        true
    }

    /// What was begun has ended.
    pub fn ends(&mut self, now: Instant) {
        if let Some(begun) = self.begun.take() {
            self.not_before = now + rest(now.duration_since(begun));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_takes_long_comes_seldom() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!(!pace.begins(start));
        pace.wake(start);
        assert!(!pace.begins(start), "changes that come together are one");
        assert!(pace.begins(start + DEBOUNCE));
        let end = start + DEBOUNCE + Duration::from_secs(2);
        pace.ends(end);
        pace.wake(end);
        assert!(!pace.begins(end + Duration::from_secs(9)));
        assert!(pace.begins(end + Duration::from_secs(10)));
    }
}
