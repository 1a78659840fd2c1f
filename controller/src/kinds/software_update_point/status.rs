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

/// How far a synchronisation is.
pub fn progress(kind: SyncKind, started: Timestamp, source: &str, at: &Snapshot) -> SyncProgress {
    let mebibytes = |bytes: u64| bytes >> 20;
    let summary = format!(
        "{}: {} of {} MiB, {} updates",
        if at.current.is_empty() { source } else { &at.current },
        mebibytes(at.bytes),
        mebibytes(at.bytes_total),
        at.updates
    );
    SyncProgress {
        kind: Some(kind),
        started: Some(time(started)),
        summary: clip(&summary, 256),
        source: (!source.is_empty()).then(|| clip(source, 63)),
        current: (!at.current.is_empty()).then(|| clip(&at.current, 512)),
        files_done: at.files,
        files_total: at.files_total,
        bytes_done: at.bytes,
        bytes_total: at.bytes_total,
        updates: at.updates,
    }
}
