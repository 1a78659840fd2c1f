//! Token buckets in memory: how often one client or address may do something.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A rate: `burst` at once, then one per `period`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At once; 0 turns the limit off (benchmarks).
    pub burst: u32,
    /// Sustained: one per this time.
    pub period: Duration,
}

/// Keys remembered at once; full buckets are forgotten first.
const MOST: usize = 100_000;

#[derive(Debug)]
pub(crate) struct Limiter<K> {
    rate: Rate,
    /// For each key the instant at which its bucket is full again.
    full_at: Mutex<HashMap<K, Instant>>,
}

impl<K: Eq + Hash> Limiter<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, full_at: Mutex::default() }
    }

    /// Takes one, or says how long to wait for it.
    pub(crate) fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        self.take_at(self.rate, key, now)
    }

    /// The same at a rate that may change from one call to the next.
    pub(crate) fn take_at(&self, rate: Rate, key: K, now: Instant) -> Result<(), Duration> {
        let Rate { burst, period } = rate;
        if burst == 0 {
            return Ok(());
        }
        let mut map = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= MOST && !map.contains_key(&key) {
            map.retain(|_, full_at| *full_at > now);
            if map.len() >= MOST {
                return Err(period);
            }
        }
        let full_at = map.entry(key).or_insert(now);
        let next = (*full_at).max(now) + period;
        let most = now + period * burst;
        if next > most {
            return Err(next - most);
        }
        *full_at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_per_period_each_key_alone() {
        let limiter = Limiter::new(Rate { burst: 3, period: Duration::from_secs(10) });
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..3 {
            assert_eq!(limiter.take("a", start), Ok(()));
        }
        assert_eq!(limiter.take("a", start), Err(Duration::from_secs(10)));
        assert_eq!(limiter.take("b", start), Ok(()));
        assert_eq!(limiter.take("a", at(4)), Err(Duration::from_secs(6)));
        assert_eq!(limiter.take("a", at(10)), Ok(()));
        assert!(limiter.take("a", at(10)).is_err());
        for _ in 0..3 {
            assert_eq!(limiter.take("a", at(1000)), Ok(()));
        }
        assert!(limiter.take("a", at(1000)).is_err());
    }
}
