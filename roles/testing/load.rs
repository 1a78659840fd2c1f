//! A load client: keep-alive connections that send prepared HTTP/1.1 requests one after the other and time the answers.
//! Included by path by the benchmarks.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    missing_docs,
    unreachable_pub,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// What a run saw.
#[derive(Debug, Clone)]
pub struct Measured {
    pub answers: u64,
    pub failures: u64,
    pub bytes: u64,
    pub seconds: f64,
    /// Microseconds, sorted.
    pub latencies: Vec<u32>,
}

impl Measured {
    pub fn rate(&self) -> f64 {
        self.answers as f64 / self.seconds
    }

    pub fn percentile(&self, share: f64) -> f64 {
        let index = ((self.latencies.len() as f64 - 1.0) * share).max(0.0) as usize;
        f64::from(self.latencies.get(index).copied().unwrap_or_default()) / 1000.0
    }

    pub fn line(&self) -> String {
        format!(
            "{:>9.0}/s  {:>8.1} MB/s  p50 {:>7.2} ms  p99 {:>7.2} ms{}",
            self.rate(),
            self.bytes as f64 / self.seconds / 1e6,
            self.percentile(0.5),
            self.percentile(0.99),
            if self.failures > 0 { format!("  {} FAILED", self.failures) } else { String::new() }
        )
    }
}

/// When a run ends.
#[derive(Clone, Copy)]
pub enum Until {
    /// After a time.
    Elapsed(Duration),
    /// When each request index below this was sent once.
    Count(u64),
}

/// Sends over `connections`, each request made by `request(index)` with a rising index that all share; an answer other
/// than 2xx is a failure.
pub async fn run<S, R, B>(connections: Vec<S>, until: Until, request: R) -> Measured
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    R: Fn(u64) -> B + Send + Sync + 'static,
    B: AsRef<[u8]> + Send + 'static,
{
    let request = Arc::new(request);
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut tasks = Vec::new();
    for mut stream in connections {
        let (request, next) = (Arc::clone(&request), Arc::clone(&next));
        tasks.push(tokio::spawn(async move {
            let mut seen = (0u64, 0u64, 0u64, Vec::with_capacity(1 << 16));
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                match until {
                    Until::Elapsed(time) if started.elapsed() >= time => break,
                    Until::Count(count) if index >= count => break,
                    _ => {}
                }
                let bytes = request(index);
                let sent = Instant::now();
                if stream.write_all(bytes.as_ref()).await.is_err() || stream.flush().await.is_err() {
                    seen.1 += 1;
                    break;
                }
                let Some((good, bytes)) = answer(&mut stream, &mut buffer).await else {
                    seen.1 += 1;
                    break;
                };
                if good {
                    seen.0 += 1;
                } else {
                    seen.1 += 1;
                }
                seen.2 += bytes as u64;
                seen.3.push(sent.elapsed().as_micros() as u32);
            }
            seen
        }));
    }
    let mut all = Measured { answers: 0, failures: 0, bytes: 0, seconds: 0.0, latencies: Vec::new() };
    for task in tasks {
        let (answers, failures, bytes, latencies) = task.await.unwrap();
        all.answers += answers;
        all.failures += failures;
        all.bytes += bytes;
        all.latencies.extend(latencies);
    }
    all.seconds = started.elapsed().as_secs_f64();
    all.latencies.sort_unstable();
    all
}

/// Reads one answer: whether it is 2xx, and the length of its body.
async fn answer<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut [u8]) -> Option<(bool, usize)> {
    let mut filled = 0;
    let head = loop {
        let read = stream.read(&mut buffer[filled..]).await.ok().filter(|read| *read > 0)?;
        filled += read;
        if let Some(end) = buffer[..filled].windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = std::str::from_utf8(&buffer[..head]).ok()?;
    let good = text.starts_with("HTTP/1.1 2");
    let length: usize = text
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        })
        .unwrap_or(0);
    let mut rest = length.checked_sub(filled - head)?;
    while rest > 0 {
        let limit = rest.min(buffer.len());
        let read = stream.read(&mut buffer[..limit]).await.ok().filter(|read| *read > 0)?;
        rest -= read;
    }
    Some((good, length))
}

/// Seconds of processor time that a process and its children by `parent` have used.
pub fn processor_seconds(pids: &[u32]) -> f64 {
    pids.iter()
        .filter_map(|pid| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let after = text.rsplit_once(") ")?.1;
            let fields: Vec<&str> = after.split(' ').collect();
            let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
            Some(ticks / 100.0)
        })
        .sum()
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
