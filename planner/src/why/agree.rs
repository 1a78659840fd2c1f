//! Do the agent and the site say the same? After all messages are delivered they do, in everything that both can know.

use std::collections::BTreeMap;

use jiff::Timestamp;
use patchtide_model::{policy::Policy, state::Scan};

use super::Explanation;
use crate::{
    client::{ClientView, Decision, Gate, GateKind, GateStatus, Opens},
    site::status::ReportedState,
    snapshot::{ClientReport, UpdateReport},
};

/// Gates that both sides know.
pub const COMMON: &[GateKind] = &[
    GateKind::Targeted,
    GateKind::Applicable,
    GateKind::Available,
    GateKind::Deadline,
    GateKind::Window,
    GateKind::Restart,
];

/// Where two explanations of one client disagree about the gates that both sides know, in words; empty: nowhere. Updates
/// that `agent` does not name are not compared.
pub fn disagreements(agent: &Explanation, site: &Explanation) -> Vec<String> {
    let mut found = Vec::new();
    for update in &agent.updates {
        let Some(other) = site.updates.iter().find(|other| other.id == update.id) else {
            found.push(format!("{}: not known to the site", update.id));
            continue;
        };
        let common = |gates: &[Gate]| -> BTreeMap<GateKind, GateStatus> {
            let common = gates.iter().filter(|gate| COMMON.contains(&gate.kind));
            common.map(|gate| (gate.kind, at(&gate.status))).collect()
        };
        let (ours, theirs) = (common(&update.gates), common(&other.gates));
        if ours != theirs {
            found.push(format!("{}: {ours:?} at the agent, {theirs:?} at the site", update.id));
        }
    }
    found
}

/// A status without the opening that is named as an example when none is long enough: each side decided at its own moment.
fn at(status: &GateStatus) -> GateStatus {
    match status {
        GateStatus::Closed(Opens::Never { .. }) => GateStatus::Closed(Opens::Never { longest: None }),
        other => other.clone(),
    }
}

/// What a site has of a client after all its messages came in, as far as a decision tells: for simulators and tests.
/// `before` is what came in earlier; states that are not told again stay.
pub fn report_of(
    before: Option<&ClientReport>,
    policy: &Policy,
    view: &ClientView,
    decision: &Decision,
    now: Timestamp,
) -> ClientReport {
    let mut report = before.cloned().unwrap_or_default();
    report.policy = Some((policy.epoch, policy.number));
    report.policy_issued_at = Some(policy.issued_at);
    report.scan = view.scan.last.map(|_| Scan::Completed);
    report.last_scan = view.scan.last;
    report.covered.clone_from(&view.scan.covered);
    let known = |id: &patchtide_model::UpdateId| view.detected.contains_key(id);
    for (id, verdict) in decision.updates.iter().filter(|(id, _)| known(id)) {
        let old = report.updates.get(id);
        let repeated = view.scan.stale.is_some();
        let enforcement = verdict.state.or_else(|| old.filter(|_| repeated).and_then(|old| old.enforcement));
        let same =
            old.is_some_and(|old| old.enforcement == enforcement && old.detection == verdict.detection);
        let update = UpdateReport {
            detection: verdict.detection,
            enforcement,
            error: verdict.error.clone(),
            since: old.filter(|_| same).and_then(|old| old.since).or(Some(now)),
            leaves: view.detected.get(id).map(|found| found.leaves.clone()).unwrap_or_default(),
        };
        report.updates.insert(id.clone(), update);
    }
    for (uid, verdict) in &decision.deployments {
        let old = report.deployments.get(uid);
        let enforcement = verdict.enforcement.or_else(|| old.and_then(|old| old.enforcement));
        let changed = old.filter(|old| old.enforcement == enforcement).map_or(now, |old| old.changed_at);
        let state = ReportedState {
            client: policy.client,
            enforcement,
            compliance: verdict.compliance.or_else(|| old.and_then(|old| old.compliance)),
            until: verdict.until,
            error: verdict.error.clone(),
            changed_at: changed,
        };
        report.deployments.insert(uid.clone(), state);
    }
    report
}
