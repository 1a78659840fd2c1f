//! Content that arrives: as fast as it likes, but not as slowly as it likes.

use std::time::Duration;

use reqwest::{Response, StatusCode, header};
use tokio::time::Instant;

use super::{Patience, TransportError};

/// A file on its way.
pub struct Content {
    response: Response,
    url: String,
    pace: Pace,
    /// Bytes that are still to come, when their number was announced.
    left: Option<u64>,
    /// The rate, once it was too low.
    slow: Option<u64>,
}

impl Content {
    pub(super) fn new(response: Response, url: &str, patience: Patience) -> Self {
        let left = response.content_length();
        Self { response, url: url.to_owned(), pace: Pace::new(patience), left, slow: None }
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// How many bytes are announced.
    pub fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// Which bytes they are, in the words of the answer.
    pub fn range(&self) -> Option<&str> {
        self.response.headers().get(header::CONTENT_RANGE)?.to_str().ok()
    }

    /// The next bytes; none: that was all. That they come too slowly is said after the bytes by which it was seen, so that
    /// each try gets on.
    pub async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, TransportError> {
        if let Some(rate) = self.slow
            && self.left != Some(0)
        {
            let what = format!("{rate} bytes a second for {:?}", self.pace.patience.slow_for);
            return Err(TransportError::Slow { url: self.url.clone(), what });
        }
        let asked = Instant::now();
        let chunk = self.response.chunk().await.map_err(|source| TransportError::send(&self.url, source))?;
        if let Some(chunk) = &chunk {
            let bytes = chunk.len() as u64;
            self.left = self.left.map(|left| left.saturating_sub(bytes));
            self.slow = self.pace.counted(bytes, asked.elapsed());
        }
        Ok(chunk)
    }

    /// All bytes, at most `limit`; not one more is kept.
    pub async fn read(mut self, limit: usize) -> Result<Vec<u8>, TransportError> {
        let too_large = |url: &str| TransportError::TooLarge { url: url.to_owned(), limit };
        if self.length().is_some_and(|length| length > limit as u64) {
            return Err(too_large(&self.url));
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() + chunk.as_ref().len() > limit {
                return Err(too_large(&self.url));
            }
            body.extend_from_slice(chunk.as_ref());
        }
        Ok(body)
    }
}

/// Watches the rate. Only the time counts in which the other side was waited for: what this machine takes for its disk,
/// or to spare its line, is not the other side's slowness.
struct Pace {
    patience: Patience,
    bytes: u64,
    waited: Duration,
}

impl Pace {
    fn new(patience: Patience) -> Self {
        Self { patience, bytes: 0, waited: Duration::ZERO }
    }

    /// So many bytes came after so long a wait; the rate in bytes a second, when it is too low.
    fn counted(&mut self, bytes: u64, waited: Duration) -> Option<u64> {
        self.bytes += bytes;
        self.waited += waited;
        if self.waited < self.patience.slow_for {
            return None;
        }
        let rate = u128::from(self.bytes) * 1000 / self.waited.as_millis().max(1);
        (self.bytes, self.waited) = (0, Duration::ZERO);
        u64::try_from(rate).ok().filter(|rate| *rate < self.patience.least_rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_waiting_for_the_other_side_counts() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(Patience::default());
        // Two kilobytes a second, and a kilobyte that was there at once after any pause of our own.
        assert!((0..100).all(|_| pace.counted(2048, second).is_none()));
        assert!((0..100_000).all(|_| pace.counted(1024, Duration::ZERO).is_none()));
        let mut pace = Pace::new(Patience::default());
        // A byte a second: after half a minute it is over, not before.
        assert!((0..29).all(|_| pace.counted(1, second).is_none()));
        assert_eq!(pace.counted(1, second), Some(1));
        // A good start does not pay for a drip for ever.
        assert!(pace.counted(1 << 30, 30 * second).is_none());
        assert!((0..29).all(|_| pace.counted(1, second).is_none()));
        assert_eq!(pace.counted(1, second), Some(1));
    }
}
