//! One synchronisation: every source, line by line, each stored and published before the next is read.

use std::{path::PathBuf, sync::Arc};

use futures::{StreamExt as _, stream};
use jiff::{Span, Timestamp, tz::TimeZone};
use patchtide_catalog::{
    apt::{AptSource, LineResult, LineSnapshot, Mode, Run as Reading, RunOptions},
    http::{Fetcher, HttpOptions},
    progress::Progress,
};
use patchtide_crds::{annotations, software_update_point::SyncKind};
use patchtide_model::LineId;
use patchtide_store::catalogue::LineSync;

use super::{
    cleanup,
    dereference::Inputs,
    memory::{Changes, LineMemory, Memory, Reader, SourceMemory},
    publish::publish,
    rules,
};
use crate::{
    context::Context,
    error::{Failure, chain},
    kinds::database,
};

/// What one synchronisation is given.
pub struct Run {
    /// UID of the object.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Whether it may expire what is superseded: a spare one does not.
    pub expires: bool,
    /// Generation of the spec.
    pub generation: i64,
    /// Which.
    pub kind: SyncKind,
    /// Request that it answers.
    pub request: Option<String>,
    /// Sources and rules.
    pub inputs: Inputs,
    /// Progress of each source, in the order of the spec.
    pub progress: Vec<Progress>,
}

/// Sources that are read at the same time: a small one is not to wait for a large one.
const PARALLEL: usize = 3;

/// Runs it and remembers what came of it.
pub async fn run(ctx: Arc<Context>, run: Run) {
    let mut memory = match Memory::load(&ctx, &run.uid).await {
        Ok(memory) => memory,
        Err(failure) => {
            tracing::warn!(error = %failure, "synchronisation not begun");
            return;
        }
    };
    let (mut changes, mut errors) = (Changes::default(), Vec::new());
    // Made first: a closure inside of the stream would keep the whole future from being `Send`.
    let mut readings = Vec::new();
    for ((name, source), progress) in run.inputs.sources.iter().zip(&run.progress) {
        let known = memory.sources.remove(name).unwrap_or_default();
        readings.push(one_source(&ctx, &run, name, source, progress, known));
    }
    let mut results: Vec<_> = stream::iter(readings).buffered(PARALLEL).collect().await;
    for (name, source_memory, its_changes) in results.drain(..) {
        changes.add(its_changes);
        errors.extend(source_memory.error.as_ref().map(|error| format!("source {name}: {error}")));
        memory.sources.insert(name, source_memory);
    }
    let names: std::collections::BTreeSet<&String> =
        run.inputs.sources.iter().map(|(name, _)| name).collect();
    memory.sources.retain(|name, _| names.contains(name));
    match expire(&ctx, &run).await {
        Ok(expired) => changes.expired += expired,
        Err(failure) => errors.push(failure.message),
    }
    if let Err(failure) = clean_up(&ctx, &run).await {
        errors.push(failure.message);
    }
    finish(&mut memory, &run, changes, &errors, ctx.clock.now());
    if let Err(failure) = memory.save(&ctx, &run.uid).await {
        tracing::warn!(error = %failure, "end of the synchronisation not remembered: it is repeated");
    }
    ctx.sync_progress.send_modify(|version| *version += 1);
}

/// Reads one source and says what came of it.
async fn one_source(
    ctx: &Context,
    run: &Run,
    name: &str,
    source: &Result<Box<AptSource>, String>,
    progress: &Progress,
    mut memory: SourceMemory,
) -> (String, SourceMemory, Changes) {
    let mut changes = Changes::default();
    let result = match source {
        Ok(source) => one(ctx, run, source, progress, &mut memory, &mut changes).await,
        Err(problem) => Err(problem.clone()),
    };
    match result {
        Ok(()) => {
            memory.error = None;
            memory.last_success = Some(ctx.clock.now());
            memory.approved.extend(run.inputs.approved.get(name).into_iter().flatten().cloned());
        }
        Err(error) => {
            tracing::warn!(source = name, error, "source not synchronised");
            memory.error = Some(error);
        }
    }
    (name.to_owned(), memory, changes)
}

/// What is remembered after a run. Pure.
fn finish(memory: &mut Memory, run: &Run, changes: Changes, errors: &[String], now: Timestamp) {
    memory.generation = Some(run.generation);
    memory.last_run = Some(now);
    memory.request.clone_from(&run.request);
    memory.changes = changes;
    if errors.is_empty() {
        memory.failures = 0;
        memory.last_error = None;
        memory.last_success = Some(now);
        match run.kind {
            SyncKind::Full => memory.last_full = Some(now),
            SyncKind::Delta => memory.last_delta = Some(now),
        }
    } else {
        memory.failures = memory.failures.saturating_add(1);
        memory.last_error = Some(errors.join("; "));
    }
}

/// Reads one source. An error of one line is told at the end: the others are taken all the same.
async fn one(
    ctx: &Context,
    run: &Run,
    source: &AptSource,
    progress: &Progress,
    memory: &mut SourceMemory,
    changes: &mut Changes,
) -> Result<(), String> {
    let rules = rules::fingerprint(&run.inputs.update_rules);
    let mut reader = Reader::load(ctx, &source.name, rules).await.map_err(|failure| failure.message)?;
    let proxy = run.inputs.spec.proxy.as_ref().map(|proxy| proxy.url.parse());
    let proxy = proxy.transpose().map_err(|error| format!("proxy.url: {error}"))?;
    let fetcher =
        Fetcher::new(HttpOptions { proxy, ..HttpOptions::default() }).map_err(|error| chain(&error))?;
    let mode = match run.kind {
        SyncKind::Full => Mode::Full,
        SyncKind::Delta => Mode::Delta,
    };
    let options = RunOptions { scratch: scratch(ctx)?, progress: progress.clone(), ..RunOptions::default() };
    let reading = Reading::new(fetcher, source.clone(), reader.state.clone(), mode, ctx.clock.now(), options);
    let mut reading = reading.map_err(|error| error.chain())?;
    let mut errors = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    while let Some(event) = reading.next().await {
        seen.insert(event.line.to_string());
        let line_memory = memory.lines.entry(event.line.to_string()).or_default();
        let result = match event.result {
            Ok(LineResult::Changed(snapshot)) => {
                match take(ctx, run, &event.line, *snapshot, line_memory, changes).await {
                    Ok(()) => {
                        reading.accept(&event.line);
                        reader.state = reading.state().clone();
                        reader.save(ctx, &source.name).await
                    }
                    Err(failure) => Err(failure),
                }
            }
            Ok(LineResult::Unchanged { date }) => {
                line_memory.date = Some(date);
                publish(ctx, &event.line).await.map(|_| ())
            }
            Ok(LineResult::Filtered { reason }) => {
                tracing::info!(line = %event.line, reason, "line left out");
                Ok(())
            }
            Err(error) => {
                let how = how_to_approve(error.code(), &run.name, &source.name);
                errors.push(format!("{}: {}{how}", event.line, error.chain()));
                Ok(())
            }
        };
        if let Err(failure) = result {
            errors.push(format!("{}: {}", event.line, failure.message));
        }
    }
    memory.lines.retain(|line, _| seen.contains(line));
    reader.state = reading.into_state();
    reader.save(ctx, &source.name).await.map_err(|failure| failure.message)?;
    // The lines of one suite share its error.
    errors.dedup();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}

/// What a person writes to let through what is held (reliability.md #49, #57); nothing for other errors.
fn how_to_approve(code: &str, point: &str, source: &str) -> String {
    let annotation = match code {
        "CAT-SHRINK" => annotations::APPROVE_SHRINK,
        "APT-INFO-CHANGED" => annotations::APPROVE_INFO_CHANGE,
        _ => return String::new(),
    };
    let now = annotations::REQUESTED_AT;
    format!(
        ": kubectl annotate --overwrite softwareupdatepoint {point} {annotation}='{source} <date>' {now}=<date> approves it once"
    )
}

fn scratch(ctx: &Context) -> Result<PathBuf, String> {
    let folder = ctx.cache_dir.join("sync");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// Stores a line and publishes its catalogue.
async fn take(
    ctx: &Context,
    run: &Run,
    line: &LineId,
    snapshot: LineSnapshot,
    memory: &mut LineMemory,
    changes: &mut Changes,
) -> Result<(), Failure> {
    let mut updates = snapshot.updates;
    for update in &mut updates {
        rules::describe(&run.inputs.update_rules, update);
    }
    let sync = LineSync {
        line: line.clone(),
        release_date: snapshot.date,
        updates,
        full: run.kind == SyncKind::Full,
    };
    let outcome = ctx.store.apply_line_sync(sync, ctx.clock.now()).await.map_err(|error| database(&error))?;
    tracing::info!(
        %line,
        new = outcome.new,
        revised = outcome.revised,
        superseded = outcome.superseded,
        expired = outcome.expired,
        version = outcome.version,
        "line synchronised"
    );
    changes.new += outcome.new;
    changes.revised += outcome.revised;
    changes.superseded += outcome.superseded;
    changes.expired += outcome.expired;
    changes.malformed += snapshot.bad;
    *memory = LineMemory {
        date: Some(snapshot.date),
        valid_until: snapshot.valid_until,
        malformed: snapshot.bad,
        first_malformed: snapshot.bad_stanzas.first().map(|bad| {
            let text = format!("{} stanza {}: {}: {}", bad.index, bad.number, bad.code, bad.reason);
            patchtide_crds::conditions::clip(&text, 512)
        }),
    };
    publish(ctx, line).await?;
    Ok(())
}

/// Expires what is superseded by the rule of the spec; only a full synchronisation expires.
async fn expire(ctx: &Context, run: &Run) -> Result<u64, Failure> {
    if run.kind != SyncKind::Full || !run.expires {
        return Ok(0);
    }
    let before = expiry(run.inputs.spec.supersedence_rule.months, ctx.clock.now());
    ctx.store.expire_superseded(before).await.map_err(|error| database(&error))
}

/// Removes what expired long ago; after every run, for time alone decides.
async fn clean_up(ctx: &Context, run: &Run) -> Result<(), Failure> {
    if run.expires {
        let spec = &run.inputs.spec;
        let expired_before = expiry(spec.supersedence_rule.months, ctx.clock.now());
        cleanup::clean_up(ctx, &spec.cleanup_age, expired_before).await?;
    }
    Ok(())
}

/// What was superseded before this instant expires.
fn expiry(months: Option<u32>, now: Timestamp) -> Timestamp {
    let months = i64::from(months.unwrap_or_default());
    // The present instant counts as before: "immediately" means those of this very run too.
    let now = now.checked_add(Span::new().seconds(1)).unwrap_or(now);
    let ago = now.to_zoned(TimeZone::UTC).checked_sub(Span::new().months(months));
    ago.map_or(Timestamp::MIN, |zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// reliability.md #57: held, and the message says how a person lets it through.
    #[test]
    fn what_is_held_says_how_it_is_approved() {
        let text = how_to_approve("CAT-SHRINK", "archives", "debian");
        assert!(text.contains("softwareupdatepoint archives patchtide.dev/approveShrink='debian "), "{text}");
        assert!(how_to_approve("APT-INFO-CHANGED", "a", "b").contains("approveInfoChange"));
        assert_eq!(how_to_approve("APT-SIG", "a", "b"), "");
    }

    #[test]
    fn superseded_updates_expire_at_once_or_after_months() {
        let now: Timestamp = "2026-07-15T00:00:00Z".parse().unwrap();
        assert!(expiry(None, now) > now);
        assert_eq!(expiry(Some(3), now).to_string(), "2026-04-15T00:00:01Z");
    }
}
