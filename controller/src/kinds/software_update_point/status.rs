//! What a software update point's status shows.

use jiff::Timestamp;
use patchtide_catalog::progress::Snapshot;
use patchtide_crds::{
    SoftwareUpdatePoint, SoftwareUpdatePointStatus,
    conditions::clip,
    software_update_point::{LineStatus, SourceStatus, SyncKind, SyncProgress, UpdateCounts},
};

use super::memory::Memory;
use crate::{
    context::Context,
    error::Failure,
    kinds::{database, search_folder::catalogue_version, time},
};

/// Fills what is remembered and counted.
pub async fn fill(
    ctx: &Context,
    status: &mut SoftwareUpdatePointStatus,
    object: &SoftwareUpdatePoint,
    memory: &Memory,
) -> Result<(), Failure> {
    let counts = ctx.store.catalogue_counts().await.map_err(|error| database(&error))?;
    status.last_success_time = memory.last_success.map(time);
    status.last_delta_sync_time = memory.last_delta.map(time);
    status.last_full_sync_time = memory.last_full.map(time);
    status.failures_in_a_row = memory.last_run.map(|_| memory.failures);
    status.last_error = memory.last_error.as_deref().map(|text| clip(text, 4096));
    let mine =
        |line: &str| object.spec.sources.iter().any(|source| line.split('/').next() == Some(&source.name));
    let mut total = UpdateCounts {
        new: memory.changes.new,
        revised: memory.changes.revised,
        superseded: memory.changes.superseded,
        expired: memory.changes.expired,
        malformed: memory.changes.malformed,
        ..UpdateCounts::default()
    };
    for (_, counts) in counts.iter().filter(|(line, _)| mine(line.as_str())) {
        total.current += counts.current;
        total.total += counts.current + counts.superseded + counts.expired;
    }
    status.updates = memory.last_run.map(|_| total);
    status.catalogue_version = Some(catalogue_version(ctx).await?);
    status.sources = object
        .spec
        .sources
        .iter()
        .map(|source| {
            let known = memory.sources.get(&source.name).cloned().unwrap_or_default();
            SourceStatus {
                name: source.name.clone(),
                ok: known.error.is_none() && known.last_success.is_some(),
                last_success_time: known.last_success.map(time),
                lines: known
                    .lines
                    .iter()
                    .map(|(line, known)| LineStatus {
                        line: line.clone(),
                        updates: counts
                            .iter()
                            .find(|(id, _)| id.as_str() == line)
                            .map_or(0, |(_, c)| c.current),
                        release_date: known.date.map(time),
                        valid_until: known.valid_until.map(time),
                        malformed: known.malformed,
                        first_malformed: known.first_malformed.clone(),
                    })
                    .collect(),
                error: known.error.as_deref().map(|text| clip(text, 2048)),
            }
        })
        .collect();
    Ok(())
}

/// How far a synchronisation is: the sum over its sources, and the source that has most left.
pub fn progress(kind: SyncKind, started: Timestamp, sources: &[(&str, Snapshot)]) -> SyncProgress {
    let sum = |of: fn(&Snapshot) -> u64| sources.iter().map(|(_, at)| of(at)).sum::<u64>();
    let (done, total, updates) = (sum(|at| at.bytes), sum(|at| at.bytes_total), sum(|at| at.updates));
    let left = |at: &Snapshot| at.bytes_total.saturating_sub(at.bytes);
    let slowest = sources.iter().max_by_key(|(_, at)| (left(at), at.bytes_total));
    let source = slowest.map(|(name, _)| clip(name, 63));
    let current = slowest.map(|(_, at)| at.current.clone()).filter(|current| !current.is_empty());
    let what = current.as_deref().or(source.as_deref()).unwrap_or_default();
    let summary = format!("{what}: {} of {} MiB, {updates} updates", done >> 20, total >> 20);
    SyncProgress {
        kind: Some(kind),
        started: Some(time(started)),
        summary: clip(&summary, 256),
        source,
        current: current.map(|current| clip(&current, 512)),
        files_done: sum(|at| at.files),
        files_total: sum(|at| at.files_total),
        bytes_done: done,
        bytes_total: total,
        updates,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_the_sum_and_names_the_source_with_most_left() {
        let at = |current: &str, bytes, bytes_total| Snapshot {
            current: current.to_owned(),
            bytes,
            bytes_total,
            updates: 5,
            ..Snapshot::default()
        };
        let sources =
            [("security", at("s/main", 3 << 20, 3 << 20)), ("debian", at("d/main", 1 << 20, 9 << 20))];
        let progress = progress(SyncKind::Full, Timestamp::UNIX_EPOCH, &sources);
        assert_eq!(progress.summary, "d/main: 4 of 12 MiB, 10 updates");
        assert_eq!(progress.source.as_deref(), Some("debian"));
    }
}
