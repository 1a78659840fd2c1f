//! Figures of the site database: what waits, how long it takes, what fails. Nothing in them names a client.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::{
    Store,
    core::{Core, lock},
};

/// What failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

/// Figures of one open database. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    commit_reports: Histogram,
    commit_messages: Histogram,
    commit_seconds: Histogram,
    sync_seconds: Histogram,
    visible_seconds: Histogram,
    durable_seconds: Histogram,
    resyncs: Counter,
    quarantined: Counter,
    flush_seconds: Histogram,
    errors: Family<Operation, Counter>,
    at_work: Arc<AtWork>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            commit_reports: sizes(),
            commit_messages: sizes(),
            commit_seconds: times(),
            sync_seconds: times(),
            visible_seconds: times(),
            durable_seconds: times(),
            resyncs: Counter::default(),
            quarantined: Counter::default(),
            flush_seconds: times(),
            errors: Family::default(),
            at_work: Arc::default(),
        };
        // A rate needs a first value, and the first error would have none before it.
        for operation in ["read", "write", "sync"] {
            let _ = metrics.errors.get_or_create(&Operation { operation });
        }
        metrics
    }
}

/// Half a millisecond to 16 s.
fn times() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 16))
}

/// 1 to 65,536.
fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 4.0, 9))
}

impl Metrics {
    /// A commit begins, of reports of which the first came in at `first`. It is at work until the value is dropped.
    pub(crate) fn begins(&self, first: Instant) -> Held {
        let number = self.at_work.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.at_work.first).insert(number, first);
        Held { at_work: Arc::clone(&self.at_work), number }
    }

    /// A commit of these reports, by when they came in, is made: from now on others see it.
    pub(crate) fn committed(&self, began: Instant, received: &[Instant], messages: usize) {
        self.commit_seconds.observe(began.elapsed().as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a commit has a few thousand messages")]
        {
            self.commit_reports.observe(received.len() as f64);
            self.commit_messages.observe(messages as f64);
        }
        observe(&self.visible_seconds, received);
    }

    /// These reports may be acknowledged.
    pub(crate) fn durable(&self, received: &[Instant]) {
        observe(&self.durable_seconds, received);
    }

    /// The disk took everything that was committed before `began`.
    pub(crate) fn synced(&self, began: Instant) {
        self.sync_seconds.observe(began.elapsed().as_secs_f64());
    }

    /// What a report was answered.
    pub(crate) fn answered(&self, resync: bool, quarantined: bool) {
        self.resyncs.inc_by(u64::from(resync));
        self.quarantined.inc_by(u64::from(quarantined));
    }

    /// The counts were written.
    pub(crate) fn flushed(&self, began: Instant) {
        self.flush_seconds.observe(began.elapsed().as_secs_f64());
    }

    /// A `read`, `write` or `sync` failed.
    pub(crate) fn failed(&self, operation: &'static str) {
        self.errors.get_or_create(&Operation { operation }).inc();
    }

    fn register(&self, registry: &mut Registry) {
        let intake = registry.sub_registry_with_prefix("intake");
        intake.register("commit_reports", "Reports in one commit", self.commit_reports.clone());
        intake.register(
            "commit_messages",
            "State messages in one commit, repetitions included; the sum is what was taken in",
            self.commit_messages.clone(),
        );
        let seconds = [
            ("commit", "Time of one commit of reports, without the disk", &self.commit_seconds),
            ("sync", "Time the disk takes for what was committed", &self.sync_seconds),
            ("visible", "Time from a report's receipt until the counts show it", &self.visible_seconds),
            ("durable", "Time from a report's receipt until it may be acknowledged", &self.durable_seconds),
        ];
        for (name, help, histogram) in seconds {
            intake.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        intake.register(
            "resyncs",
            "Reports after which messages were missing, so that the client sends everything again",
            self.resyncs.clone(),
        );
        intake.register(
            "quarantined",
            "Reports of clients that share their identity with another machine: nothing of these is kept",
            self.quarantined.clone(),
        );
        let database = registry.sub_registry_with_prefix("database");
        database.register_with_unit(
            "counts_flush",
            "Time to write the counts that changed",
            Unit::Seconds,
            self.flush_seconds.clone(),
        );
        database.register(
            "errors",
            "Operations of the site database that failed: read, write, or sync (the disk)",
            self.errors.clone(),
        );
    }
}

fn observe(histogram: &Histogram, received: &[Instant]) {
    for at in received {
        histogram.observe(at.elapsed().as_secs_f64());
    }
}

/// Commits that are not durable yet, by when their first report came in.
#[derive(Debug, Default)]
struct AtWork {
    next: AtomicU64,
    first: Mutex<BTreeMap<u64, Instant>>,
}

/// A commit at work.
#[derive(Debug)]
pub(crate) struct Held {
    at_work: Arc<AtWork>,
    number: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.at_work.first).remove(&self.number);
    }
}

/// What is looked at when it is asked for.
struct Now(Weak<Core>);

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Now").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Part {
    file: &'static str,
}

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(core) = self.0.upgrade() else { return Ok(()) };
        let oldest = lock(&core.metrics.at_work.first).values().min().map(Instant::elapsed);
        let unflushed = lock(&core.counts).unflushed_totals() as u64;
        let gauges = [
            (
                "intake_queued_reports",
                "Reports in the queue of the writer, which the next commits take: a backlog when it stays high",
                None,
                core.queued() as f64,
            ),
            (
                "intake_oldest",
                "Age of the oldest report whose commit is under way; 0 when none is",
                Some(&Unit::Seconds),
                oldest.unwrap_or_default().as_secs_f64(),
            ),
            (
                "database_counts_unflushed",
                "Counts that are exact in memory and in the log of changes, and not yet written as totals",
                None,
                unflushed as f64,
            ),
        ];
        for (name, help, unit, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)?;
        }
        let Some(file) = core.target.file() else { return Ok(()) };
        let mut log = file.as_os_str().to_owned();
        log.push("-wal");
        let first = ConstGauge::new(0_u64);
        let mut family = encoder.encode_descriptor(
            "database_file",
            "Size of the files of an SQLite database: the database itself, and the log of writes that it has yet to take over",
            Some(&Unit::Bytes),
            first.metric_type(),
        )?;
        for (part, path) in [("database", file.to_owned()), ("log", PathBuf::from(log))] {
            let size = std::fs::metadata(path).map_or(0, |data| data.len());
            ConstGauge::new(size).encode(family.encode_family(&Part { file: part })?)?;
        }
        Ok(())
    }
}

impl Store {
    /// Registers the figures of this database; the registry gives the prefix `patchtide`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.core.metrics.register(registry);
        registry.register_collector(Box::new(Now(Arc::downgrade(&self.core))));
    }
}
