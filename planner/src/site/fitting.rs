//! Deployed updates that no window of some client is long enough for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use patchtide_model::{
    ObjectName, UpdateId,
    catalogue::RestartRule,
    client::Client,
    policy::{DeploymentPolicy, PolicyBody, UpdatePolicy},
    window::{AppliesTo, Calendar, NextOpening, Purpose, WindowAction, time_zone},
};

use super::{SitePlan, Verdict};
use crate::client::limits;

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
    clients: &[Client],
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
            let mut holding = body.deployments.iter().filter(|deployment| deployment.updates.contains(id));
            if holding.clone().any(|deployment| deployment.settings.install_outside_windows) {
                return None;
            }
            let restart = allowance(body, update, &mut holding, workstation);
            let run_time = limits::transaction(std::iter::once(update.maximum_run_time));
            let needs = run_time.saturating_add(restart);
            match answers.entry(needs).or_insert_with(|| calendar.next_opening(now, needs)) {
                NextOpening::Never { longest } => {
                    Some(NeverFits { update: id.clone(), needs, longest: longest.map(|span| span.length()) })
                }
                _ => None,
            }
        })
        .collect()
}

/// What has to be left for a restart; the client's own rule is in `client::context`.
fn allowance<'a>(
    body: &PolicyBody,
    update: &UpdatePolicy,
    holding: &mut (impl Iterator<Item = &'a DeploymentPolicy> + Clone),
    workstation: bool,
) -> SignedDuration {
    let own_windows = body
        .windows
        .iter()
        .any(|window| window.applies_to == AppliesTo::RestartsOnly && window.action == WindowAction::Allow);
    let none_follows = update.restart == RestartRule::Never
        || own_windows
        || holding
            .clone()
            .map(|deployment| &deployment.settings)
            .any(|settings| settings.suppresses_restart(workstation) || settings.restart_outside_windows);
    if none_follows {
        return SignedDuration::ZERO;
    }
    let usual = body.settings.restart_countdown;
    let countdown = holding.map(|deployment| deployment.settings.restart_countdown.unwrap_or(usual)).max();
    countdown.unwrap_or(usual).saturating_add(body.settings.restart_turnaround)
}
