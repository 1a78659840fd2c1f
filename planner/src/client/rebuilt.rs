//! What a client knows, put together again from what it reported: enough for [`decide`] to come to the same gates. What
//! is not reported is taken as it usually is; [`crate::why::site`] says to people what that is.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, tz::TimeZone};
use patchtide_model::{
    Digest, ObjectName, UpdateId,
    catalogue::RestartRule,
    client::Client,
    object::{DistributionPoint, Way},
    policy::{Policy, UpdatePolicy},
    state::{Detection, StateError, UpdateEnforcement as E},
};
use uuid::Uuid;

use super::{
    Action, Attempt, ClientView, ContentProblem, Decision, Detected, GateKind, GateStatus, InstallBatch,
    InstalledRecord, Locality, LockFact, Opens, RestartReason, RunningInstall, context::Context, decide,
    limits, prepared::Prepared, words::Words,
};
use crate::snapshot::{ClientReport, UpdateReport};

/// The boot in which everything happens that is known of.
const BOOT: Uuid = Uuid::from_u128(1);
const EARLIER: Uuid = Uuid::from_u128(2);

/// What a site knows of one client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub client: &'a Client,
    pub policy: &'a Policy,
    pub report: Option<&'a ClientReport>,
    pub points: &'a BTreeMap<ObjectName, DistributionPoint>,
    pub zone: &'a TimeZone,
    pub now: Timestamp,
}

/// The client's facts as far as they follow from its reports, and the decision that it makes from them.
pub(crate) fn rebuild(known: &Known<'_>) -> (ClientView, Decision) {
    let mut view = ClientView::new(BOOT, known.client.is_workstation());
    view.distribution_points = known
        .client
        .address
        .into_iter()
        .flat_map(|address| known.points.values().filter_map(move |point| point.way(address)))
        .map(|way| match way {
            Way::Fast => Locality::Fast,
            Way::Slow => Locality::Slow,
            Way::Outside => Locality::Fallback,
        })
        .collect();
    let Some(report) = known.report else {
        let decision = decide(known.policy, &view, known.now, known.zone);
        return (view, decision);
    };
    scanned(&mut view, known, report);
    for (id, update) in &known.policy.body.updates {
        if let Some(said) = report.updates.get(id) {
            enforced(&mut view, id, update, said, known.now);
        }
    }
    running(&mut view, known.policy, report, known.now);
    failed(&mut view, known, report);
    let first = decide(known.policy, &view, known.now, known.zone);
    if !second_look(&mut view, report, &first) {
        return (view, first);
    }
    let decision = decide(known.policy, &view, known.now, known.zone);
    (view, decision)
}

fn scanned(view: &mut ClientView, known: &Known<'_>, report: &ClientReport) {
    let scan = &mut view.scan;
    // A report of a scan without its time is as old as can be.
    let last = report.last_scan.or((!report.covered.is_empty()).then_some(Timestamp::UNIX_EPOCH));
    (scan.last, scan.last_online, scan.last_cycle, scan.last_evaluation) = (last, last, last, last);
    scan.covered.clone_from(&report.covered);
    scan.cached.clone_from(&report.covered);
    let versions: BTreeMap<_, _> =
        known.policy.body.lines.iter().map(|line| (&line.line, line.catalogue_version)).collect();
    for (id, update) in &known.policy.body.updates {
        let found = match report.updates.get(id) {
            Some(said) if said.detection != Detection::Unknown => detected(said, update),
            // Within the watermark, what is not reported is not required.
            _ if report.covered.get(&id.line) >= versions.get(&id.line)
                && report.covered.contains_key(&id.line) =>
            {
                Detected::not_required()
            }
            _ => continue,
        };
        view.detected.insert(id.clone(), found);
    }
}

fn detected(said: &UpdateReport, update: &UpdatePolicy) -> Detected {
    let leaves = match said.detection {
        Detection::Required if said.leaves.is_empty() => {
            update.leaves.iter().map(patchtide_model::catalogue::Leaf::reference).collect()
        }
        Detection::Required => said.leaves.clone(),
        _ => BTreeSet::new(),
    };
    Detected { state: said.detection, leaves, needs: BTreeSet::new() }
}

fn files(update: &UpdatePolicy) -> impl Iterator<Item = Digest> {
    update.leaves.iter().map(|leaf| leaf.file.sha256)
}

/// What a state says of the client's books.
fn enforced(
    view: &mut ClientView,
    id: &UpdateId,
    update: &UpdatePolicy,
    said: &UpdateReport,
    now: Timestamp,
) {
    let at = said.since.unwrap_or(now);
    let record =
        |boot| InstalledRecord { at, boot, restart: update.restart, basis: None, missing_since: None };
    let error = || said.error.clone().unwrap_or_else(unsaid);
    match said.enforcement.unwrap_or(E::Unknown) {
        E::Downloaded
        | E::Started
        | E::WaitingForAnother
        | E::WaitingForWindow
        | E::RestartRequiredBefore
        | E::PendingInstallation
        | E::Installing
        | E::InstallFailed => view.present.extend(files(update)),
        E::Downloading => view.running.download.extend(files(update)),
        E::DownloadFailed => {
            let problem = ContentProblem {
                at,
                count: limits::DOWNLOAD_FAILED_AFTER,
                not_offered: false,
                error: error(),
            };
            view.content_problems.extend(files(update).map(|file| (file, problem.clone())));
        }
        E::PendingRestart => {
            view.installed.insert(id.clone(), record(BOOT));
            if update.restart == RestartRule::Auto {
                view.restart_reasons.insert(RestartReason::RequiredFile);
            }
        }
        E::Installed => drop(view.installed.insert(id.clone(), record(EARLIER))),
        E::GeneralFailure => drop(view.unwell.insert(id.clone(), error())),
        E::Unknown | E::WaitingForContent => {}
    }
}

fn unsaid() -> StateError {
    StateError::told(0, String::new(), "the client named no error".to_owned())
}

/// What runs there, as its states say.
fn running(view: &mut ClientView, policy: &Policy, report: &ClientReport, now: Timestamp) {
    let of = |state: E| {
        let in_state = move |said: &&UpdateReport| said.enforcement == Some(state);
        let deployed = policy.body.updates.iter();
        deployed.filter_map(move |(id, update)| Some((id, update, report.updates.get(id).filter(in_state)?)))
    };
    let mut batch = InstallBatch {
        expected: limits::transaction(of(E::Installing).map(|(_, update, _)| update.maximum_run_time)),
        ..InstallBatch::default()
    };
    batch.updates = of(E::Installing).map(|(id, update, _)| (id.clone(), update.restart)).collect();
    if !batch.updates.is_empty() {
        let since = of(E::Installing).filter_map(|(_, _, said)| said.since).min().unwrap_or(now);
        view.running.install = Some(RunningInstall { batch, since });
    } else if of(E::WaitingForAnother).next().is_some() {
        view.lock = Some(LockFact { at: now, holder: "another installation".to_owned() });
    }
}

/// Failed attempts, of what is offered now: the client leaves them alone for as long.
fn failed(view: &mut ClientView, known: &Known<'_>, report: &ClientReport) {
    let prepared = Prepared::new(known.policy, known.zone);
    let context = Context::new(known.policy, &prepared, view, known.now, Words::NONE);
    let attempts: Vec<(UpdateId, Attempt)> = context
        .items
        .iter()
        .filter_map(|item| {
            let said = report.updates.get(item.id)?;
            (said.enforcement == Some(E::InstallFailed)).then(|| {
                let at = said.since.unwrap_or(known.now);
                let error = said.error.clone().unwrap_or_else(unsaid);
                (item.id.clone(), Attempt { at, count: 1, basis: context.basis(item), error })
            })
        })
        .collect();
    for (id, attempt) in attempts {
        // Before the scan that was reported since, or it would be tried again by now.
        view.scan.last_evaluation = view.scan.last_evaluation.map(|last| last.min(attempt.at));
        view.failed.insert(id, attempt);
    }
}

/// What only shows when the decision is compared with what was reported: a person asked for an update, a restart counts
/// down. True when something was found.
fn second_look(view: &mut ClientView, report: &ClientReport, decision: &Decision) -> bool {
    let asked: Vec<UpdateId> = decision
        .updates
        .iter()
        .filter(|(id, verdict)| {
            let under_way = matches!(
                report.updates.get(*id).and_then(|said| said.enforcement),
                Some(
                    E::Started
                        | E::PendingInstallation
                        | E::WaitingForWindow
                        | E::WaitingForAnother
                        | E::RestartRequiredBefore
                )
            );
            let early = |gate: &super::Gate| gate.kind == GateKind::Deadline && !gate.is_open();
            under_way && verdict.gates.iter().any(early)
        })
        .map(|(id, _)| id.clone())
        .collect();
    let mut found = !asked.is_empty();
    view.requested.extend(asked);
    let gate = decision.machine.iter().find(|gate| gate.kind == GateKind::Restart);
    let until = report
        .deployments
        .values()
        .filter(|said| {
            said.enforcement == Some(patchtide_model::state::DeploymentEnforcement::PendingRestart)
        })
        .find_map(|said| said.until);
    if let (Some(gate), Some(until)) = (gate, until)
        && gate.status != GateStatus::Closed(Opens::At(until))
    {
        view.running.restart_at = Some(until);
        found = true;
    }
    found
}

/// Whether a restart counts down in this decision, and until when.
pub(crate) fn counts_down(decision: &Decision) -> Option<Timestamp> {
    decision.actions.iter().find_map(|action| match action {
        Action::Restart { at, .. } => Some(*at),
        _ => None,
    })
}
