//! Waiting for something real, with a deadline and a message that says what was missing at the end.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

/// What one look found: the value waited for, or why it is not there yet.
pub type Look<T> = std::result::Result<T, String>;

/// Looks every 100 ms until `look` returns `Ok`, at most for `limit`; the error names `what` and the last reason.
pub fn until<T>(what: &str, limit: Duration, look: impl FnMut() -> Look<T>) -> Result<T> {
    every(what, limit, Duration::from_millis(100), look)
}

/// As [`until`], looking once per `pause`.
pub fn every<T>(
    what: &str,
    limit: Duration,
    pause: Duration,
    mut look: impl FnMut() -> Look<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let reason = match look() {
            Ok(value) => return Ok(value),
            Err(reason) => reason,
        };
        if start.elapsed() >= limit {
            bail!("waited {:.1} s for {what}; last seen: {reason}", start.elapsed().as_secs_f64());
        }
        sleep(pause);
    }
}

/// Fails as soon as `look` returns an error during `time`: for what must *not* happen.
pub fn stays<T>(what: &str, time: Duration, mut look: impl FnMut() -> Look<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        let value = look().map_err(|reason| {
            anyhow!("{what} ended after {:.1} s: {reason}", start.elapsed().as_secs_f64())
        })?;
        if start.elapsed() >= time {
            return Ok(value);
        }
        sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_what_and_the_last_reason() {
        let mut looks = 0;
        let error = until("a sign", Duration::from_millis(250), || -> Look<()> {
            looks += 1;
            Err(format!("look {looks}"))
        })
        .unwrap_err()
        .to_string();
        assert!(error.contains("a sign") && error.ends_with(&format!("look {looks}")), "{error}");
        assert!(looks >= 2);
    }

    #[test]
    fn stays_fails_at_the_first_break() {
        let mut looks = 0;
        let result = stays("peace", Duration::from_mins(1), || {
            looks += 1;
            if looks < 3 { Ok(()) } else { Err("broken".to_owned()) }
        });
        assert!(result.is_err());
        assert_eq!(looks, 3);
    }
}
