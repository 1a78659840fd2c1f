//! Status: counts, failures, prune preview, history, and the source's own conditions.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use patchtide_crds::{
    GitSource, GitSourceStatus,
    conditions::{self, FETCH_FAILED, PRUNE_BLOCKED, READY, StatusContract as _, VERIFIED, clip, reason},
    git_source::{BlockedPrune, FileFailure, HistoryEntry, Inventory},
};
use sha2::{Digest as _, Sha256};

use super::{apply::Applied, dereference::Reading, put};
use crate::{context::Context, error::Failure, git::verdict::Finding};

/// Failures and objects that a status shows.
pub(super) const SHOWN: usize = 20;
/// Changes and warnings that an event names.
const TOLD: usize = 8;
/// Reason of the event that tells what was noticed in a revision and is no failure.
const REVISION_WARNINGS: &str = "RevisionWarnings";
/// Revisions that a status remembers.
const HISTORY: usize = 5;

/// Writes the verdict on the signature.
pub(super) fn verified(
    ctx: &Context,
    source: &GitSource,
    status: &mut GitSourceStatus,
    verdict: Result<Option<&str>, &str>,
) {
    if source.spec.verify.is_none() {
        status.signer = None;
        conditions::remove_condition(&mut status.conditions, VERIFIED);
        return;
    }
    match verdict {
        Ok(signer) => {
            status.signer = signer.map(|signer| clip(signer, 400));
            let message = format!("signed by {}", signer.unwrap_or_default());
            put(ctx, source, status, VERIFIED, true, reason::SUCCEEDED, &message);
        }
        Err(why) => put(ctx, source, status, VERIFIED, false, reason::VERIFICATION_ERROR, why),
    }
}

/// A suspended source says what it did last, and nothing that reads as if it were at work or in need of somebody: what
/// stays of its own conditions is told of this generation.
pub(super) fn suspended(source: &GitSource, status: &mut GitSourceStatus) {
    for of_work in [FETCH_FAILED, PRUNE_BLOCKED] {
        conditions::remove_condition(&mut status.conditions, of_work);
    }
    status.prune = None;
    for condition in &mut status.conditions {
        condition.observed_generation = source.metadata.generation;
    }
}

/// Writes whether the repository could be read.
pub(super) fn fetched(
    ctx: &Context,
    source: &GitSource,
    status: &mut GitSourceStatus,
    failure: Option<&Failure>,
) {
    match failure {
        Some(failure) => put(ctx, source, status, FETCH_FAILED, true, failure.reason, &failure.message),
        None => {
            conditions::remove_condition(&mut status.conditions, FETCH_FAILED);
        }
    }
}

/// Tells what is news of a run and what a change of `Ready` does not tell: another revision, or drift taken back.
pub(super) async fn tell(
    ctx: &Context,
    source: &GitSource,
    before: &GitSourceStatus,
    reading: &Reading,
    applied: &Applied,
) {
    let new_revision = before.last_attempted_revision.as_deref() != Some(reading.revision.as_str());
    let failure = applied.failure(reading);
    let reason = failure.as_ref().map_or(reason::RECONCILIATION_SUCCEEDED, |failure| failure.reason);
    let told_by_ready = before.condition(READY).is_none_or(|ready| ready.reason != reason);
    if !applied.changes.is_empty() || (new_revision && !told_by_ready) {
        let changes = if applied.changes.is_empty() {
            "nothing changed".to_owned()
        } else {
            list(&applied.changes, TOLD)
        };
        let note = match &failure {
            Some(failure) => format!("{}; {changes}", failure.message),
            None => format!("applied revision {}: {changes}", reading.revision),
        };
        ctx.events.publish(source, failure.is_some(), reason, &action("Apply", reading), &note).await;
    }
    let warnings: Vec<String> =
        applied.findings.iter().filter(|finding| !finding.is_failure()).map(ToString::to_string).collect();
    if new_revision && !warnings.is_empty() {
        let note = format!("revision {}: {}", reading.revision, list(&warnings, TOLD));
        ctx.events.publish(source, true, REVISION_WARNINGS, &action("Read", reading), &note).await;
    }
}

/// Events of one action are folded into a series that keeps the first note, so each revision is an action of its own.
fn action(what: &str, reading: &Reading) -> String {
    let commit = reading.revision.rsplit(':').next().unwrap_or_default();
    format!("{what}-{}", commit.get(..12).unwrap_or(commit))
}

/// The first `most` of them, and how many more there are.
pub(super) fn list(items: &[String], most: usize) -> String {
    let shown = items.iter().take(most).cloned().collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Writes what a run did.
pub(super) fn settle(
    ctx: &Context,
    source: &GitSource,
    status: &mut GitSourceStatus,
    reading: &Reading,
    applied: &Applied,
    started: Timestamp,
) {
    let (failures, warnings): (Vec<&Finding>, Vec<&Finding>) =
        applied.findings.iter().partition(|finding| finding.is_failure());
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    status.inventory = Some(Inventory {
        files: count(reading.content.files),
        objects: count(applied.owned.len()),
        applied: count(applied.written),
        unchanged: count(applied.unchanged),
        pruned: count(applied.pruned.len()),
        failed: count(failures.len()),
        warnings: count(warnings.len()),
        kept: count(applied.kept()),
    });
    status.failures = failures.iter().take(SHOWN).map(|finding| failure(finding)).collect();
    status.prune = applied.blocked.as_ref().map(|blocked| BlockedPrune {
        revision: reading.revision.clone(),
        count: count(blocked.objects.len()),
        objects: blocked.objects.iter().take(SHOWN).map(|(kind, name)| format!("{kind}/{name}")).collect(),
    });
    match &applied.blocked {
        Some(blocked) => {
            put(ctx, source, status, PRUNE_BLOCKED, true, reason::TOO_MANY_DELETIONS, &blocked.why);
        }
        None => {
            conditions::remove_condition(&mut status.conditions, PRUNE_BLOCKED);
        }
    }
    let whole = failures.is_empty() && applied.blocked.is_none();
    if whole {
        status.last_applied_revision = Some(reading.revision.clone());
        status.last_applied_commit_time = reading.commit_time.map(Time);
    }
    let outcome = applied.failure(reading).map_or(reason::RECONCILIATION_SUCCEEDED, |failure| failure.reason);
    remember(ctx, status, reading, outcome, started, applied.written + applied.pruned.len() > 0);
}

/// Folds the run into the history. A run that changed nothing leaves it alone, so that the status is not written.
fn remember(
    ctx: &Context,
    status: &mut GitSourceStatus,
    reading: &Reading,
    outcome: &str,
    started: Timestamp,
    changed: bool,
) {
    let digest = digest(reading);
    let now = ctx.clock.time();
    let took = format!("{:.1}s", ctx.clock.now().duration_since(started).as_secs_f64());
    if let Some(entry) = status.history.first_mut()
        && entry.revision == reading.revision
        && entry.last_reconciled_status == outcome
    {
        if changed {
            entry.last_reconciled = now;
            entry.last_reconciled_duration = took;
            entry.total_reconciliations += 1;
        }
        return;
    }
    status.history.insert(
        0,
        HistoryEntry {
            revision: reading.revision.clone(),
            digest,
            first_reconciled: now.clone(),
            last_reconciled: now,
            last_reconciled_duration: took,
            last_reconciled_status: outcome.to_owned(),
            total_reconciliations: 1,
        },
    );
    status.history.truncate(HISTORY);
}

fn digest(reading: &Reading) -> String {
    let mut hasher = Sha256::new();
    for object in reading.content.objects.values() {
        hasher.update(object.json.to_string().as_bytes());
        hasher.update([0]);
    }
    format!("sha256:{}", hex::encode(hasher.finalize()))
}

fn failure(finding: &Finding) -> FileFailure {
    let number = |n: u64| (n > 0).then(|| u32::try_from(n).unwrap_or(u32::MAX));
    FileFailure {
        file: clip(&finding.place.path, 1_024),
        line: number(finding.place.line),
        column: number(finding.place.column),
        object: (!finding.object.is_empty()).then(|| clip(&finding.object, 320)),
        field: None,
        code: clip(finding.code, 63),
        message: clip(&finding.message, 1_024),
    }
}
