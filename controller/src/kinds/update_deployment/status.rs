//! The numbers of a deployment's status.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use patchtide_crds::{
    UpdateDeploymentStatus,
    conditions::{CONTENT_MISSING, DEGRADED, ROLLED_OUT, ROLLOUT_PROGRESSING, STATES_OVERDUE, reason},
    update_deployment::{RankedError, StateCount, WakeCounts},
};
use patchtide_model::{
    ClientId, UpdateId,
    deployment::Deployment,
    object::DeploymentPackage,
    state::{Compliance, DeploymentEnforcement, Leased as _, Overdue},
    wake::cards,
};
use patchtide_planner::site::{
    Verdict,
    status::{
        DeploymentNumbers, Moment, NextWindow, ReportedState, StatusInput, deployment_status, windows_of,
    },
};

use super::awaited;
use crate::{
    compile::Compiled,
    context::Context,
    error::Failure,
    kinds::{DEPLOYMENT_PACKAGE, database, flag, time, update_list::status::unpacked},
    reported::reported,
};

/// Windows open and leases run out without any event.
pub const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Errors shown.
const ERRORS: usize = 10;
/// Updates that a message names.
const NAMED: usize = 5;

/// Fills counts, times and the conditions that tell the roll-out.
pub async fn fill(
    ctx: &Context,
    status: &mut UpdateDeploymentStatus,
    generation: i64,
    deployment: &Deployment,
    compiled: &Compiled,
) -> Result<(), Failure> {
    let nobody = patchtide_model::shared::Shared::default();
    let targeted =
        compiled.plan.as_ref().and_then(|plan| plan.targets.get(&deployment.name)).unwrap_or(&nobody);
    let clients = ctx.store.deployment_clients(&deployment.uid).await.map_err(|error| database(&error))?;
    let requiring = requiring(ctx, deployment).await?;
    let (reports, heard) = reported(clients);
    let reports: Vec<ReportedState> = reports.into_iter().map(|state| believe(state, &requiring)).collect();
    // The next window is that of those who wait for one, if any does.
    let waiting: BTreeSet<ClientId> = reports
        .iter()
        .filter(|state| state.enforcement == Some(DeploymentEnforcement::WaitingForWindow))
        .map(|state| state.client)
        .filter(|client| targeted.contains(client))
        .collect();
    let bound = if waiting.is_empty() { targeted } else { &waiting };
    let windows =
        compiled.plan.as_ref().map(|plan| windows_of(plan, &compiled.clients, bound)).unwrap_or_default();
    let now = ctx.clock.now();
    let input = StatusInput {
        deployment,
        targeted,
        states: &reports,
        windows: &windows,
        plan: compiled.plan.as_deref(),
        clients: &compiled.clients,
        heard: &heard,
        now,
    };
    let numbers = deployment_status(&input);
    let before = counts(status);
    write(status, &numbers, &reports, targeted, compiled);
    if counts(status) != before || status.counted_time.is_none() {
        status.counted_time = Some(time(now));
    }
    status.wake_on_lan = if deployment.settings.wake_on_lan {
        let counts = ctx.store.wake_counts(&deployment.uid).await.map_err(|error| database(&error))?;
        let unable = unable(targeted, &reports, compiled);
        Some(WakeCounts { called: counts.called, answered: counts.answered, unable })
    } else {
        None
    };
    status.content_bytes = Some(content_bytes(ctx, deployment).await?);
    let missing = without_content(ctx, deployment).await?;
    let told = missing.as_ref().map(|text| (true, "NotInAPackage", text.as_str()));
    let plan = compiled.plan.as_ref();
    let awaited = plan.and_then(|plan| awaited::message(plan, targeted, deployment));
    let told = told.or_else(|| awaited.as_ref().map(|text| (true, "NotDistributed", text.as_str())));
    flag(status, CONTENT_MISSING, generation, &ctx.clock.time(), told);
    rollout(status, generation, &ctx.clock.time(), &numbers, missing.as_deref());
    let text = overdue(&numbers, |id| compiled.name_of(id));
    let told = text.as_ref().map(|text| (true, "LeaseOver", text.as_str()));
    flag(status, STATES_OVERDUE, generation, &ctx.clock.time(), told);
    Ok(())
}

/// Targeted clients that are not compliant and reported no network card that can wake them.
fn unable(targeted: &BTreeSet<ClientId>, reports: &[ReportedState], compiled: &Compiled) -> u64 {
    let compliant = reports.iter().filter(|state| state.compliance == Some(Compliance::Compliant));
    let compliant: BTreeSet<ClientId> = compliant.map(|state| state.client).collect();
    let waiting = targeted.difference(&compliant).filter_map(|id| compiled.client(*id));
    waiting.filter(|client| cards(&client.facts).is_empty()).count() as u64
}

/// Updates of the deployment that no package holds: a client that requires one waits for its content (R-PKG-11).
async fn without_content(ctx: &Context, deployment: &Deployment) -> Result<Option<String>, Failure> {
    let rows = ctx.store.objects(DEPLOYMENT_PACKAGE).await.map_err(|error| database(&error))?;
    let packages: Vec<DeploymentPackage> =
        rows.iter().filter_map(|row| serde_json::from_str(&row.json).ok()).collect();
    let updates: BTreeSet<UpdateId> = deployment.updates.iter().cloned().collect();
    let missing = unpacked(&updates, packages.iter());
    let first: Vec<String> = missing.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match missing.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Ok((!missing.is_empty()).then(|| {
        format!(
            "{} updates are in no deployment package: {}{more}; put them into one, or take them out of the deployment",
            missing.len(),
            first.join(", ")
        )
    }))
}

/// Clients whose last scan says that they require an update of the deployment.
async fn requiring(ctx: &Context, deployment: &Deployment) -> Result<BTreeSet<ClientId>, Failure> {
    // The counts are in memory: only what somebody requires is worth a query, and mostly nobody does.
    let counts = ctx.store.required_counts(&deployment.updates).await.map_err(|error| database(&error))?;
    let mut requiring = BTreeSet::new();
    for update in counts.iter().filter(|(_, count)| count.required > 0).map(|(update, _)| update) {
        requiring.extend(ctx.store.requiring_clients(update).await.map_err(|error| database(&error))?);
    }
    Ok(requiring)
}

/// A client that said *compliant* of the deployment as it was before updates were added, and whose scan says that it
/// requires one of them, is not compliant: what it will do about that it has not said yet.
fn believe(state: ReportedState, requiring: &BTreeSet<ClientId>) -> ReportedState {
    if state.compliance == Some(Compliance::Compliant) && requiring.contains(&state.client) {
        ReportedState {
            enforcement: Some(DeploymentEnforcement::Unknown),
            compliance: Some(Compliance::NonCompliant),
            until: None,
            error: None,
            ..state
        }
    } else {
        state
    }
}

/// Targeted clients that get no new policy, and why the first of them does not.
pub fn withheld(deployment: &Deployment, compiled: &Compiled) -> Option<(usize, String)> {
    let plan = compiled.plan.as_ref()?;
    let mut reasons =
        plan.targets.get(&deployment.name)?.iter().filter_map(|id| match plan.policies.get(id) {
            Some(Verdict::Withheld { reason }) => Some(reason),
            _ => None,
        });
    let first = reasons.next()?.clone();
    Some((1 + reasons.count(), first))
}

/// Counts of clients.
type Counts = (Option<u64>, Vec<StateCount>, Vec<StateCount>, [Option<u64>; 3]);

/// What a change of counts is recognised by.
fn counts(status: &UpdateDeploymentStatus) -> Counts {
    let late = [status.past_deadline, status.overdue, status.silent];
    (status.targeted, status.compliance.clone(), status.enforcement.clone(), late)
}

/// Who does not move, in words: how many, one of them, and what should have happened.
fn overdue(numbers: &DeploymentNumbers, name: impl Fn(ClientId) -> String) -> Option<String> {
    let overdue = &numbers.overdue;
    let (client, state, why) = overdue.example?;
    let then = state.lease_rule().map_or("", |rule| rule.then);
    let (name, state) = (name(client), state.name());
    let example = match why {
        Overdue::Late { by } => {
            format!("{name} is heard of and should have left {state:?} by {}: {then}", seconds(by))
        }
        Overdue::Silent { since: Some(since) } => {
            format!("{name} said {state:?} and was last heard of {}", seconds(since))
        }
        Overdue::Silent { since: None } => format!("{name} said {state:?} and was not heard of since"),
    };
    let (late, silent) = (overdue.late, overdue.silent);
    let what = match (late, silent) {
        (_, 0) => "they hang, or a message was lost: ask kubectl patchtide why",
        (0, _) => "they are off or cut off, and go on when they are back",
        _ => "those that are heard of hang, or a message was lost; the others are off or cut off",
    };
    Some(format!(
        "{} clients are in a state that should have moved by now, {silent} of them silent for a day or more; {what}. For example {example}",
        overdue.total()
    ))
}

fn write(
    status: &mut UpdateDeploymentStatus,
    numbers: &DeploymentNumbers,
    reports: &[ReportedState],
    targeted: &BTreeSet<ClientId>,
    compiled: &Compiled,
) {
    status.targeted = Some(numbers.targeted);
    status.compliant = Some(format!("{}/{}", numbers.compliant, numbers.targeted));
    status.compliant_percent = numbers.compliant_percent.map(u32::from);
    let of = |state: DeploymentEnforcement| numbers.states.get(&state).copied().unwrap_or_default();
    status.failed =
        Some(of(DeploymentEnforcement::InstallFailed) + of(DeploymentEnforcement::DownloadFailed));
    status.past_deadline = Some(numbers.past_deadline);
    status.late_clients = numbers.late.iter().map(|id| compiled.name_of(*id)).collect();
    status.overdue = Some(numbers.overdue.total());
    status.silent = Some(numbers.overdue.silent);
    status.waiting_for_window = Some(of(DeploymentEnforcement::WaitingForWindow));
    // Never reported is *unknown* to whoever reads the published states.
    status.enforcement = DeploymentEnforcement::ALL
        .iter()
        .map(|state| StateCount {
            id: u32::from(u8::from(*state)),
            state: state.name().to_owned(),
            clients: of(*state)
                + if *state == DeploymentEnforcement::Unknown { numbers.never_reported } else { 0 },
        })
        .filter(|count| count.clients > 0)
        .collect();
    let mut by_compliance: BTreeMap<Compliance, u64> = BTreeMap::new();
    for state in reports.iter().filter(|state| targeted.contains(&state.client)) {
        *by_compliance.entry(state.compliance.unwrap_or(Compliance::Unknown)).or_default() += 1;
    }
    let heard: u64 = by_compliance.values().sum();
    *by_compliance.entry(Compliance::Unknown).or_default() += numbers.targeted.saturating_sub(heard);
    status.compliance = by_compliance
        .into_iter()
        .filter(|(_, clients)| *clients > 0)
        .map(|(state, clients)| StateCount {
            id: u32::from(u8::from(state)),
            state: state.name().to_owned(),
            clients,
        })
        .collect();
    status.errors = numbers
        .errors
        .iter()
        .take(ERRORS)
        .map(|error| RankedError {
            code: format!("0x{:08X}", error.code),
            symbol: error.symbol.chars().take(63).collect(),
            message: patchtide_crds::conditions::clip(&error.message, 1024),
            clients: error.count,
            example_client: error.examples.first().map(|id| compiled.name_of(*id)),
        })
        .collect();
    status.available = moment(numbers.available);
    status.deadline = moment(numbers.deadline).or_else(|| Some("none".to_owned()));
    status.next_window = match numbers.next_window {
        NextWindow::Unrestricted => Some("not restricted".to_owned()),
        NextWindow::OpenUntil(end) => Some(format!("open until {}", seconds(end))),
        NextWindow::At(start) => Some(seconds(start).to_string()),
        NextWindow::Never => Some("never".to_owned()),
        NextWindow::Nobody => None,
    };
}

fn moment(moment: Moment) -> Option<String> {
    match moment {
        Moment::Never => None,
        Moment::At(at) => Some(seconds(at).to_string()),
        Moment::ClientLocal(at) => Some(at.to_string()),
    }
}

pub(super) fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// The conditions that tell how far the clients are.
fn rollout(
    status: &mut UpdateDeploymentStatus,
    generation: i64,
    now: &Time,
    numbers: &DeploymentNumbers,
    missing: Option<&str>,
) {
    let (compliant, targeted) = (numbers.compliant, numbers.targeted);
    let (done, why, text) = match targeted {
        0 => (false, reason::NO_CLIENTS, "no client is targeted".to_owned()),
        _ if status.updates == Some(0) => {
            (false, reason::NO_UPDATES, format!("no update is in force yet for {targeted} clients"))
        }
        // R-ENFD-15: all that can be done is done.
        _ if compliant == targeted && missing.is_some() => (
            true,
            reason::SUCCESS_WITH_ERRORS,
            format!("all {targeted} clients are compliant, with errors: {}", missing.unwrap_or_default()),
        ),
        _ if compliant == targeted => {
            (true, reason::ALL_COMPLIANT, format!("all {targeted} clients are compliant"))
        }
        _ => (false, reason::PROGRESSING, format!("{compliant} of {targeted} clients are compliant")),
    };
    flag(status, ROLLED_OUT, generation, now, Some((done, why, &text)));
    let progressing = targeted > 0 && !done;
    flag(status, ROLLOUT_PROGRESSING, generation, now, progressing.then_some((true, why, text.as_str())));
    let failed = status.failed.unwrap_or_default();
    let symbol =
        status.errors.first().map_or_else(|| "ClientsFailed".to_owned(), |error| error.symbol.clone());
    let text = format!("{failed} clients failed, most of them with {symbol}: see status.errors");
    flag(status, DEGRADED, generation, now, (failed > 0).then_some((true, "ClientsFailed", text.as_str())));
}

/// Bytes of the leaves that clients require, as far as they said.
async fn content_bytes(ctx: &Context, deployment: &Deployment) -> Result<u64, Failure> {
    let ids: BTreeSet<UpdateId> = deployment.updates.iter().cloned().collect();
    let required = ctx.store.required_leaves(&ids).await.map_err(|error| database(&error))?;
    let updates = ctx.store.updates(&deployment.updates).await.map_err(|error| database(&error))?;
    let needed = updates.values().flat_map(|update| {
        let wanted = required.get(&update.id);
        update.leaves.iter().filter(move |leaf| {
            wanted.is_some_and(|wanted| {
                wanted.iter().any(|need| {
                    need.package == leaf.package
                        && need.architecture == leaf.architecture
                        && need.version == leaf.version
                })
            })
        })
    });
    Ok(needed.map(|leaf| leaf.file.size).sum())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    /// R-PKG-11, R-ENFD-15: all that can be done is done, and an update of the deployment is in no package.
    #[test]
    fn all_compliant_with_an_update_in_no_package_is_success_with_errors() {
        let deployment: Deployment = serde_json::from_value(serde_json::json!({
            "name": "d", "uid": "u", "generation": 1, "collection": "c", "include_subcollections": false,
            "suspend": false, "updates": [], "anchor": "2026-01-01T00:00:00Z",
            "settings": {
                "display_notifications": true, "client_local_time": false, "available": "AsSoonAsPossible",
                "deadline": "None", "suppress_restart_servers": false, "suppress_restart_workstations": false,
                "install_outside_windows": false, "restart_outside_windows": false, "disable_alerts": false,
                "alert_on_failure": false, "install_on_slow_boundary": false, "fallback_to_unprotected": true,
                "install_all_applicable": false, "wake_on_lan": false, "allow_remove": false,
                "deadline_spread": "PT0S"
            }
        }))
        .unwrap();
        let client = ClientId(Uuid::from_u128(1));
        let state = ReportedState {
            client,
            enforcement: None,
            compliance: Some(Compliance::Compliant),
            until: None,
            error: None,
            changed_at: Timestamp::UNIX_EPOCH,
        };
        let numbers = deployment_status(&StatusInput {
            deployment: &deployment,
            targeted: &BTreeSet::from([client]),
            states: &[state],
            windows: &[],
            plan: None,
            clients: &[],
            heard: &BTreeMap::new(),
            now: Timestamp::UNIX_EPOCH,
        });
        let mut status = UpdateDeploymentStatus { updates: Some(1), ..UpdateDeploymentStatus::default() };
        let now = Time(Timestamp::UNIX_EPOCH);
        let rolled_out = |status: &UpdateDeploymentStatus| {
            let condition = status.conditions.iter().find(|c| c.type_ == ROLLED_OUT).unwrap();
            (condition.status.clone(), condition.reason.clone(), condition.message.clone())
        };
        rollout(&mut status, 1, &now, &numbers, None);
        assert_eq!(rolled_out(&status).1, reason::ALL_COMPLIANT);
        rollout(&mut status, 1, &now, &numbers, Some("1 updates are in no deployment package: x"));
        let (value, why, message) = rolled_out(&status);
        assert_eq!((value.as_str(), why.as_str()), ("True", reason::SUCCESS_WITH_ERRORS));
        assert!(message.contains("with errors: 1 updates are in no deployment package"), "{message}");
    }

    #[test]
    fn an_older_compliant_does_not_hide_an_update_that_is_required() {
        let client = ClientId(Uuid::from_u128(1));
        let state = ReportedState {
            client,
            enforcement: Some(DeploymentEnforcement::Installed),
            compliance: Some(Compliance::Compliant),
            until: None,
            error: None,
            changed_at: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(believe(state.clone(), &BTreeSet::new()), state);
        let now = believe(state, &BTreeSet::from([client]));
        assert_eq!(now.compliance, Some(Compliance::NonCompliant));
        assert_eq!(now.enforcement, Some(DeploymentEnforcement::Unknown));
    }
}
