//! When to try again: exponential with full jitter, so that a fleet does not come back as one.

use std::time::Duration;

/// Waits between attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// The first wait is at most `base`, no wait is longer than `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, failures: 0 }
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait now, with `random` in `0..=u32::MAX` as the throw of the dice. What the site asks for is kept,
    /// with up to a quarter more.
    pub fn next(&mut self, retry_after: Option<Duration>, random: u32) -> Duration {
        let share = f64::from(random) / f64::from(u32::MAX);
        let ceiling = self.base.saturating_mul(1 << self.failures.min(16)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        match retry_after {
            Some(asked) => {
                let asked = asked.min(Duration::from_hours(1));
                asked + asked.mul_f64(share / 4.0)
            }
            // Never quite zero: a broken answer must not become a busy loop.
            None => self.base.min(ceiling).mul_f64(0.5).max(ceiling.mul_f64(share)),
        }
    }
}

/// Randomness for jitter.
pub fn dice() -> u32 {
    // The low half of a version 4 UUID is random but for its two top bits.
    let (_, low) = uuid::Uuid::new_v4().as_u64_pair();
    u32::try_from(low & u64::from(u32::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_the_sites_word_counts() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(5));
        let waits: Vec<_> = (0..12).map(|_| backoff.next(None, u32::MAX).as_secs()).collect();
        assert_eq!(waits[..5], [1, 2, 4, 8, 16]);
        assert_eq!(waits[11], 300);
        assert!(backoff.next(None, 0) >= Duration::from_millis(500));
        let asked = backoff.next(Some(Duration::from_secs(20)), u32::MAX / 2);
        assert!((20..=25).contains(&asked.as_secs()));
        backoff.reset();
        assert_eq!(backoff.next(None, u32::MAX), Duration::from_secs(1));
    }
}
