//! How far a package is.

use std::{collections::BTreeSet, sync::PoisonError};

use patchtide_crds::{
    DeploymentPackageStatus,
    conditions::reason,
    deployment_package::{MissingFile, PackagePoint, PackagePointState},
};
use patchtide_model::{Digest, ObjectName};
use patchtide_store::content::ContentState;

use super::{dereference::Inputs, plan::Next};
use crate::{
    context::Context,
    error::{Failure, Outcome},
    kinds::{bytes, database, time},
};

/// Files named in a status.
const SHOWN: usize = 20;

/// Fills the status and says how far the package is. `Ready` means that it is on its distribution points.
pub async fn fill(
    ctx: &Context,
    status: &mut DeploymentPackageStatus,
    inputs: &Inputs,
    next: &Next,
) -> Result<Outcome, Failure> {
    let digests: Vec<Digest> = next.files.keys().copied().collect();
    let content = ctx.store.content_states(&digests).await.map_err(|error| database(&error))?;
    let total: u64 = next.files.values().map(|file| file.size).sum();
    let present = |digest: &Digest| content.get(digest) == Some(&ContentState::Present);
    let fetched: u64 =
        next.files.iter().filter(|(digest, _)| present(digest)).map(|(_, file)| file.size).sum();
    let here = next.files.keys().filter(|digest| present(digest)).count();
    let missing: Vec<MissingFile> = next
        .files
        .iter()
        .filter_map(|(digest, file)| match content.get(digest) {
            Some(ContentState::Failed(error)) => Some(MissingFile {
                update: file.update.to_string(),
                file: file.path.clone(),
                error: patchtide_crds::conditions::clip(error, 1024),
            }),
            _ => None,
        })
        .collect();
    status.version = Some(next.content.version);
    status.updates = Some(next.updates.len() as u64);
    status.files = Some(next.files.len() as u64);
    status.bytes = Some(total);
    status.size = Some(bytes(total));
    status.bytes_fetched = Some(fetched);
    status.missing_files = Some(missing.len() as u64);
    status.missing = missing.iter().take(SHOWN).cloned().collect();
    let complete = points(ctx, status, &inputs.points, next).await?;
    let points = inputs.points.len();
    let held = match inputs.held_points {
        0 => String::new(),
        held => format!(", {held} more out of service"),
    };
    status.distributed = Some(format!("{complete}/{points}"));
    let version = next.content.version;
    if let Some(first) = missing.first() {
        return Err(Failure::retry(
            reason::CONTENT_FAILED,
            format!("{} files could not be fetched, first {}: {}", missing.len(), first.file, first.error),
        ));
    }
    if here < next.files.len() {
        let message =
            format!("fetching: {here} of {} files, {} of {}", next.files.len(), bytes(fetched), bytes(total));
        return Ok(Outcome::Progressing { message, again: None });
    }
    if let Some(full) = status.distribution_points.iter().find(|point| point.error.is_some()) {
        let error = full.error.clone().unwrap_or_default();
        return Err(Failure::retry(reason::CONTENT_FAILED, format!("{}: {error}", full.name)));
    }
    if complete < points {
        let message = format!("version {version} is on {complete} of {points} distribution points");
        return Ok(Outcome::Progressing { message, again: None });
    }
    Ok(Outcome::ready(format!(
        "version {version}: {} updates, {} files, {} on {points} distribution points{held}",
        next.updates.len(),
        next.files.len(),
        bytes(total)
    )))
}

/// Says that the point has no room for files of the package.
fn too_small(ctx: &Context, point: &ObjectName, next: &Next) -> Option<String> {
    let all = ctx.capacity_left_out.lock().unwrap_or_else(PoisonError::into_inner);
    let left_out = all.get(point.as_str())?;
    let mine: Vec<u64> = next
        .files
        .iter()
        .filter(|(digest, _)| left_out.contains(*digest))
        .map(|(_, file)| file.size)
        .collect();
    (!mine.is_empty()).then(|| {
        format!(
            "{} files ({}) do not fit into its spec.capacity: raise that, or take packages off the point",
            mine.len(),
            bytes(mine.iter().sum())
        )
    })
}

/// Fills the state on each distribution point; returns how many hold all of it.
async fn points(
    ctx: &Context,
    status: &mut DeploymentPackageStatus,
    points: &BTreeSet<ObjectName>,
    next: &Next,
) -> Result<usize, Failure> {
    let digests: Vec<Digest> = next.files.keys().copied().collect();
    let holders = ctx.store.dps_with(&digests).await.map_err(|error| database(&error))?;
    let mut complete = 0;
    let mut now_there = Vec::new();
    for point in points {
        let files = ctx.store.dp_states(point).await.map_err(|error| database(&error))?;
        let held = |digest: &Digest| holders.get(digest).is_some_and(|holders| holders.contains(point));
        let sent: u64 = next.files.iter().filter(|(digest, _)| held(digest)).map(|(_, file)| file.size).sum();
        let all = next.files.keys().all(held);
        let error = next.files.keys().find_map(|digest| files.errors.get(digest)).cloned();
        let error = error.or_else(|| too_small(ctx, point, next));
        complete += usize::from(all);
        let before = status.distribution_points.iter().find(|old| old.name == point.as_str());
        let state = match (&error, all) {
            (_, true) => PackagePointState::Installed,
            (Some(_), false) => PackagePointState::Failed,
            (None, false) if sent > 0 => PackagePointState::Sending,
            (None, false) => PackagePointState::Pending,
        };
        let version = if all { Some(next.content.version) } else { before.and_then(|old| old.version) };
        let mut entry = PackagePoint {
            name: point.to_string(),
            state,
            version,
            bytes_sent: Some(sent),
            changed_time: before.and_then(|old| old.changed_time.clone()),
            error: error.map(|error| patchtide_crds::conditions::clip(&error, 1024)),
        };
        if before != Some(&entry) {
            entry.changed_time = Some(time(ctx.clock.now()));
        }
        now_there.push(entry);
    }
    status.distribution_points = now_there;
    Ok(complete)
}
