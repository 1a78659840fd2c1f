//! What each client lacks of each deployment, and what that asks of it: time, bytes, a restart.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use patchtide_model::{
    LineId, UpdateId,
    catalogue::{LeafRef, RestartRule},
    deployment::Deadline,
    policy::{PolicyBody, UpdatePolicy},
    state::Detection,
};

use super::{
    classes::{Class, Side},
    outlook::Restarts,
};
use crate::{
    site::fitting,
    snapshot::{ClientReport, UpdateReport},
};

/// Whether a client lacks something of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lack {
    Something,
    /// It scanned, and it does not.
    Nothing,
    /// It has not said so.
    Unknown,
}

/// Whether a restart follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Restart {
    #[default]
    No,
    /// It would, but the machine must not be restarted.
    Suppressed,
    /// It depends on what runs on the machine then.
    Possible,
    /// A rule says so, or a kernel is among it.
    Certain,
}

/// What one deployment asks of the clients of one class.
#[derive(Default)]
pub(super) struct Duty {
    /// Positions of clients, by what they lack and the longest that one update of it needs.
    pub groups: BTreeMap<(Lack, SignedDuration), Vec<usize>>,
    pub restarts: Restarts,
    pub bytes: u64,
    /// The worst restart that one of its updates can lead to.
    pub ceiling: Restart,
}

/// What all deployments ask of all clients.
pub(super) struct Work {
    /// By class, then by position in the body's deployments.
    pub duties: Vec<Vec<Duty>>,
    /// The worst restart of each client.
    pub restarts: Vec<Restart>,
}

/// An update as a class gets it.
struct Offer<'a> {
    policy: &'a UpdatePolicy,
    /// Positions in the body's deployments.
    deployments: Vec<usize>,
    needs: SignedDuration,
    suppressed: bool,
}

impl Work {
    pub(super) fn new(side: &Side<'_>) -> Self {
        let mut restarts = vec![Restart::No; side.clients.len()];
        let duties = side.classes.iter().map(|class| of_class(side, class, &mut restarts)).collect();
        Self { duties, restarts }
    }
}

/// What a client has to do for one deployment.
#[derive(Clone, Copy, Default)]
struct Mine {
    lacks: bool,
    needs: SignedDuration,
    restart: Restart,
    bytes: u64,
}

fn of_class(side: &Side<'_>, class: &Class<'_>, restarts: &mut [Restart]) -> Vec<Duty> {
    let body = class.body.as_ref();
    let offers = offers(body, class.workstation);
    let mut duties: Vec<Duty> = body.deployments.iter().map(|_| Duty::default()).collect();
    let mut longest = vec![SignedDuration::ZERO; duties.len()];
    for offer in offers.values() {
        for at in &offer.deployments {
            if let Some(longest) = longest.get_mut(*at) {
                *longest = offer.needs.max(*longest);
            }
        }
    }
    let acts: Vec<bool> = body
        .deployments
        .iter()
        .map(|deployment| !deployment.suspend && deployment.settings.deadline != Deadline::None)
        .collect();
    for offer in offers.values() {
        for at in offer.deployments.iter().filter(|at| acts.get(**at) == Some(&true)) {
            if let Some(duty) = duties.get_mut(*at) {
                duty.ceiling = duty.ceiling.max(rule(offer));
            }
        }
    }
    let lines: Vec<BTreeSet<&LineId>> = body
        .deployments
        .iter()
        .map(|deployment| deployment.updates.iter().map(|id| &id.line).collect())
        .collect();
    let mut mine = vec![Mine::default(); duties.len()];
    for position in &class.clients {
        let report = side.clients.get(*position).and_then(|client| side.reports.get(&client.id));
        mine.fill(Mine::default());
        for (id, found) in report.iter().flat_map(|report| &report.updates) {
            if found.detection != Detection::Required {
                continue;
            }
            let Some(offer) = offers.get(id) else { continue };
            let (restart, bytes) = (restart(offer, found), bytes(offer.policy, found));
            for at in &offer.deployments {
                let (Some(mine), Some(acts)) = (mine.get_mut(*at), acts.get(*at)) else { continue };
                mine.lacks = true;
                mine.needs = mine.needs.max(offer.needs);
                if *acts {
                    mine.restart = mine.restart.max(restart);
                    mine.bytes += bytes;
                }
            }
        }
        let current =
            report.is_some_and(|report| body.lines.iter().all(|line| covers(report, body, &line.line)));
        let parts = mine.iter().zip(&mut duties).zip(&longest).zip(&lines);
        for (((mine, duty), longest), lines) in parts {
            let lack = match report {
                _ if mine.lacks => (Lack::Something, mine.needs),
                Some(report) if current || lines.iter().all(|line| covers(report, body, line)) => {
                    (Lack::Nothing, *longest)
                }
                _ => (Lack::Unknown, *longest),
            };
            duty.groups.entry(lack).or_default().push(*position);
            duty.bytes += mine.bytes;
            duty.restarts.count(mine.restart);
        }
        if let Some(worst) = restarts.get_mut(*position) {
            *worst = mine.iter().map(|mine| mine.restart).max().unwrap_or_default();
        }
    }
    duties
}

fn offers(body: &PolicyBody, workstation: bool) -> BTreeMap<&UpdateId, Offer<'_>> {
    body.updates
        .iter()
        .map(|(id, policy)| {
            let holding = || body.deployments.iter().filter(|deployment| deployment.updates.contains(id));
            let offer = Offer {
                policy,
                deployments: body
                    .deployments
                    .iter()
                    .enumerate()
                    .filter(|(_, deployment)| deployment.updates.contains(id))
                    .map(|(at, _)| at)
                    .collect(),
                needs: fitting::needs(body, policy, holding(), workstation),
                suppressed: holding().any(|deployment| deployment.settings.suppresses_restart(workstation)),
            };
            (id, offer)
        })
        .collect()
}

/// Whether the client scanned against the line as it is now: what it does not name is then not required.
fn covers(report: &ClientReport, body: &PolicyBody, line: &LineId) -> bool {
    let Some(scanned) = report.covered.get(line) else { return false };
    body.lines
        .iter()
        .find(|known| known.line == *line)
        .is_some_and(|known| known.catalogue_version <= *scanned)
}

fn restart(offer: &Offer<'_>, found: &UpdateReport) -> Restart {
    let kernel = || found.leaves.iter().any(|leaf| leaf.package.starts_with("linux-image-"));
    match rule(offer) {
        Restart::Possible if kernel() => Restart::Certain,
        known => known,
    }
}

/// What is known of a restart without asking the client.
const fn rule(offer: &Offer<'_>) -> Restart {
    match offer.policy.restart {
        RestartRule::Never => Restart::No,
        _ if offer.suppressed => Restart::Suppressed,
        RestartRule::Always => Restart::Certain,
        RestartRule::Auto => Restart::Possible,
    }
}

/// Bytes of the leaves that the client named.
pub(super) fn bytes(update: &UpdatePolicy, found: &UpdateReport) -> u64 {
    let named = |leaf: &LeafRef| {
        update.leaves.iter().find(|offered| {
            offered.package == leaf.package
                && offered.architecture == leaf.architecture
                && offered.version == leaf.version
        })
    };
    found.leaves.iter().filter_map(named).map(|leaf| leaf.file.size).sum()
}
