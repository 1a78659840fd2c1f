//! Deployed updates that no window of some client is long enough for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use patchtide_model::{
    ObjectName, UpdateId,
    client::Client,
    policy::{DeploymentPolicy, PolicyBody, UpdatePolicy},
    shared::Shared,
    window::{Calendar, NextOpening, Purpose, time_zone},
};

use super::{SitePlan, Verdict};
use crate::{
    client::{allowance, limits},
    times,
};

/// An update that never starts on some client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeverFits {
    /// The update.
    pub update: UpdateId,
    /// What it needs by itself: transaction, countdown and turnaround.
    pub needs: SignedDuration,
    /// The longest opening that such a client ever has; none: no window ever opens there again.
    pub longest: Option<SignedDuration>,
}

/// The updates that fit into no opening of some client that `window` selects, as that client will reckon it: all its
/// windows together, its settings, its deployments.
pub fn never_fitting(
    plan: &SitePlan,
    clients: &[Shared<Client>],
    window: &ObjectName,
    now: Timestamp,
) -> Vec<NeverFits> {
    let mut found: BTreeMap<UpdateId, NeverFits> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for client in clients {
        let Some(Verdict::Policy(body)) = plan.policies.get(&client.id) else { continue };
        if !body.windows.iter().any(|candidate| candidate.name == *window) {
            continue;
        }
        let zone = client.facts.get("timezone").map_or("UTC", String::as_str);
        if seen.insert((Arc::as_ptr(body), zone, client.is_workstation())) {
            let zone = time_zone(zone).unwrap_or(TimeZone::UTC);
            for never in of_client(body, &zone, client.is_workstation(), now) {
                found.entry(never.update.clone()).or_insert(never);
            }
        }
    }
    found.into_values().collect()
}

fn of_client(body: &PolicyBody, zone: &TimeZone, workstation: bool, now: Timestamp) -> Vec<NeverFits> {
    let calendar = Calendar::new(&body.windows, Purpose::Install, zone);
    if calendar.is_free() {
        return Vec::new();
    }
    let mut answers: BTreeMap<SignedDuration, NextOpening> = BTreeMap::new();
    body.updates
        .iter()
        .filter_map(|(id, update)| {
            let holding = body.deployments.iter().filter(|deployment| deployment.updates.contains(id));
            // As merged by the client: whatever started has to allow it, and nothing starts before the first.
            let in_force = holding.clone().filter(|deployment| !deployment.suspend);
            let first = in_force.filter_map(|deployment| {
                let (settings, anchor) = (&deployment.settings, deployment.anchor);
                Some((times::deadline(settings, anchor, zone)?, settings.install_outside_windows))
            });
            if first.min().is_some_and(|(_, outside)| outside) {
                return None;
            }
            let needs = needs(body, update, holding, workstation);
            match answers.entry(needs).or_insert_with(|| calendar.next_opening(now, needs)) {
                NextOpening::Never { longest, .. } => {
                    Some(NeverFits { update: id.clone(), needs, longest: longest.map(|span| span.length()) })
                }
                _ => None,
            }
        })
        .collect()
}

/// What an update needs by itself: its transaction, and what has to be left for a restart. `holding` are the deployments
/// that name it.
pub(super) fn needs<'a>(
    body: &PolicyBody,
    update: &UpdatePolicy,
    holding: impl Iterator<Item = &'a DeploymentPolicy> + Clone,
    workstation: bool,
) -> SignedDuration {
    let run_time = limits::transaction(std::iter::once(update.maximum_run_time));
    run_time.saturating_add(restart_time(body, update, holding, workstation))
}

/// What has to be left for a restart, as the client reckons it once its deployments are due.
fn restart_time<'a>(
    body: &PolicyBody,
    update: &UpdatePolicy,
    holding: impl Iterator<Item = &'a DeploymentPolicy> + Clone,
    workstation: bool,
) -> SignedDuration {
    let suppressed = holding.clone().any(|deployment| deployment.settings.suppresses_restart(workstation));
    // What is suspended has no say in these.
    let settings = holding.filter(|deployment| !deployment.suspend).map(|deployment| &deployment.settings);
    let outside = settings.clone().next().is_some()
        && settings.clone().all(|settings| settings.restart_outside_windows);
    if allowance::own_windows(body.windows.iter())
        || !allowance::restart_follows(update.restart, suppressed, outside)
    {
        return SignedDuration::ZERO;
    }
    allowance::countdown(&body.settings, settings).saturating_add(body.settings.restart_turnaround)
}
