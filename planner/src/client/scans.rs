//! Which scan is needed now (R-SCAN-08 to R-SCAN-16).

use jiff::{SignedDuration, Timestamp};

use super::{
    context::Context,
    decision::{ScanKind, ScanPurpose, ScanRequest},
    limits,
};

/// Scans, as a decision sees them.
pub(super) struct Scans {
    /// To be started now.
    pub request: Option<ScanRequest>,
    /// What is known may be wrong until the next scan: nothing is installed, nothing reported.
    pub doubtful: bool,
    /// A scan is wanted but the last one failed: not before.
    pub retry_at: Option<Timestamp>,
    /// The scan or re-evaluation cycle is next due then.
    pub next: Option<Timestamp>,
    /// When the next re-evaluation is due: the lease of what has no better one.
    pub evaluation: Timestamp,
}

impl Scans {
    /// Asks for a scan; while the last one that failed is not to be tried again yet, for later.
    pub(super) fn ask(&mut self, context: &Context<'_>, request: ScanRequest) {
        self.retry_at = retry_at(context);
        self.request = self.retry_at.is_none().then_some(request);
    }
}

pub(super) fn scans(context: &Context<'_>) -> Scans {
    let (view, now, settings) = (context.view, context.now, &context.body.settings);
    let facts = &view.scan;
    let due = |last: Option<Timestamp>, cycle: SignedDuration, share: SignedDuration| {
        let cycle = cycle.saturating_add(share);
        last.map_or(now, |last| last.checked_add(cycle).unwrap_or(Timestamp::MAX))
    };
    let cycle = due(facts.last_cycle, settings.scan_cycle, context.prepared.scan_share);
    let evaluation =
        due(facts.last_evaluation, settings.reevaluation_cycle, context.prepared.evaluation_share);
    let uncovered =
        context.body.lines.iter().any(|line| facts.covered.get(&line.line) != Some(&line.catalogue_version));
    let unknown = context.items.iter().any(|item| item.found.is_none());

    let purpose = if facts.last.is_none() {
        Some(ScanPurpose::First)
    } else if facts.stale.is_some() {
        Some(ScanPurpose::Validation)
    } else if view.scan_requested.is_some() {
        Some(ScanPurpose::ScanRequested)
    } else if view.evaluation_requested.is_some() {
        Some(ScanPurpose::EvaluationRequested)
    } else if uncovered || unknown {
        Some(ScanPurpose::PolicyChanged)
    } else if evaluation <= now {
        Some(ScanPurpose::Evaluation)
    } else if cycle <= now {
        Some(ScanPurpose::Cycle)
    } else {
        None
    };
    let retry = retry_at(context);
    let waiting = view.running.scan.is_some() || purpose.is_none();
    let request = purpose
        .filter(|_| !waiting && retry.is_none())
        .map(|purpose| ScanRequest { kind: kind(context, purpose), purpose });
    let doubtful = facts.stale.is_some()
        || facts.last.is_none()
        || view.running.scan.is_some()
        || request.as_ref().is_some_and(|request| request.purpose == ScanPurpose::PolicyChanged);
    Scans {
        request,
        doubtful,
        retry_at: retry.filter(|_| !waiting),
        next: purpose.is_none().then_some(cycle.min(evaluation)),
        evaluation: evaluation.max(now),
    }
}

/// Which row of the seeds' table 3 a purpose comes to here and now.
fn kind(context: &Context<'_>, purpose: ScanPurpose) -> ScanKind {
    let cached = &context.view.scan.cached;
    let all_cached =
        context.body.lines.iter().all(|line| cached.get(&line.line) == Some(&line.catalogue_version));
    let offline = within_time_to_live(context);
    match purpose {
        ScanPurpose::Validation => ScanKind::ForcedOffline,
        ScanPurpose::Evaluation if offline => ScanKind::NonForcedOnline,
        ScanPurpose::BeforeInstall if offline => ScanKind::NonForcedOffline,
        ScanPurpose::PolicyChanged if offline && all_cached => ScanKind::NonForcedOnline,
        _ => ScanKind::ForcedOnline,
    }
}

/// Whether a forced online scan happened within the time to live (R-SCAN-09, R-SCAN-12).
fn within_time_to_live(context: &Context<'_>) -> bool {
    live_at(context, context.now)
}

fn live_at(context: &Context<'_>, instant: Timestamp) -> bool {
    context.view.scan.last_online.is_some_and(|at| {
        let age = instant.duration_since(at);
        // One from the future says that the clock was set back: nobody knows how old it is.
        age < context.body.settings.scan_ttl.max(limits::SCAN_BEFORE_INSTALL)
            && age >= -limits::CLOCK_TOLERANCE
    })
}

/// The one consolidated scan before a batch that starts at `start` (R-SCAN-11, R-SCAN-14); none: the last one is young
/// enough for it.
pub(super) fn before_install(context: &Context<'_>, start: Timestamp) -> Option<ScanRequest> {
    // The time to live counted when that scan began: one that began in time serves the batch.
    let fresh = context.view.scan.last.is_some_and(|at| {
        start.duration_since(at) < limits::SCAN_BEFORE_INSTALL
            && live_at(context, at.checked_sub(limits::SCAN_BEFORE_INSTALL).unwrap_or(at))
    });
    if fresh {
        return None;
    }
    let purpose = ScanPurpose::BeforeInstall;
    Some(ScanRequest { kind: kind(context, purpose), purpose })
}

/// When a failed scan may be tried again; none: now.
fn retry_at(context: &Context<'_>) -> Option<Timestamp> {
    let view = context.view;
    let failure = view.scan.failure.as_ref()?;
    let again = failure.at.checked_add(limits::scan_retry(failure.count)).ok()?;
    let asked = [view.scan_requested, view.evaluation_requested].into_iter().flatten().max();
    (again > context.now && asked.is_none_or(|asked| asked <= failure.at)).then_some(again)
}
