//! What the deployments of one update say together, and which of them decided: for the people who ask. Decisions ask the same
//! functions, so this is no second opinion.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};
use patchtide_model::{UpdateId, deployment::DeploymentSettings, policy::Policy, state::Detection};
use serde_json::{Value, json};

use super::{
    context::{Context, Item, Reach},
    merging::{Say, all_allow},
    prepared::Prepared,
    view::ClientView,
    words::Words,
};

/// A value that several deployments decide together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Merged {
    /// Field, as [`DeploymentSettings`] names it.
    pub field: &'static str,
    /// What counts.
    pub value: Value,
    /// Uid of the deployment that decided.
    pub deployment: String,
}

/// For each required update that several deployments hold: what counts of each setting that is merged by update, and whose
/// it is ([`super::merging::DEPLOYMENT`] has the rules). What no deployment in force says anything about is left out.
pub(crate) fn merged(
    policy: &Policy,
    view: &ClientView,
    now: Timestamp,
    zone: &TimeZone,
) -> BTreeMap<UpdateId, Vec<Merged>> {
    let prepared = Prepared::new(policy, zone);
    let context = Context::new(policy, &prepared, view, now, Words::NONE);
    let several = context
        .items
        .iter()
        .filter(|item| item.detection == Detection::Required && context.reaching(item).nth(1).is_some());
    several.map(|item| (item.id.clone(), of(&context, item))).collect()
}

fn of<'a>(context: &Context<'a>, item: &Item<'a>) -> Vec<Merged> {
    let from = context.install_from(item);
    let first = |at: fn(&Reach<'_>) -> Option<Timestamp>| {
        context.active(item).filter_map(|reach| Some((reach, at(reach)?))).min_by_key(|(_, at)| *at)
    };
    let available = |allows: fn(&DeploymentSettings) -> bool| all_allow(context.available(item), allows);
    let suppressed =
        if context.view.workstation { "suppress_restart_workstations" } else { "suppress_restart_servers" };
    let countdown = context
        .active(item)
        .filter_map(|reach| Some((reach, reach.policy.settings.restart_countdown?)))
        .max_by_key(|(_, countdown)| *countdown);
    let found = [
        ("available", first(|reach| reach.available).map(|(reach, at)| (json!(at), reach))),
        ("deadline", first(|reach| reach.start).map(|(reach, at)| (json!(at), reach))),
        (
            "display",
            context
                .available(item)
                .min_by_key(|reach| reach.policy.settings.display())
                .map(|reach| (json!(reach.policy.settings.display()), reach)),
        ),
        (suppressed, says(context.reaching(item).find(|reach| context.suppresses_restart(reach)))),
        (
            "restart_left_to_people",
            says(context.reaching(item).find(|reach| reach.policy.settings.restart_left_to_people)),
        ),
        ("install_outside_windows", said(context.outside_windows(item, from))),
        ("restart_outside_windows", said(context.restart_outside(std::iter::once(item), context.now))),
        ("restart_countdown", countdown.map(|(reach, countdown)| (json!(countdown), reach))),
        ("install_on_slow_boundary", said(available(|settings| settings.install_on_slow_boundary))),
        ("fallback_to_unprotected", said(available(|settings| settings.fallback_to_unprotected))),
        ("allow_remove", said(available(|settings| settings.allow_remove))),
    ];
    let told = found.into_iter().filter_map(|(field, value)| Some((field, value?)));
    told.map(|(field, (value, reach))| Merged { field, value, deployment: reach.policy.uid.clone() })
        .collect()
}

fn says<'b, 'a>(reach: Option<&'b Reach<'a>>) -> Option<(Value, &'b Reach<'a>)> {
    reach.map(|reach| (json!(true), reach))
}

fn said<'b, 'a>(say: Say<'b, 'a>) -> Option<(Value, &'b Reach<'a>)> {
    match say {
        Say::Nobody => None,
        Say::Allowed(reach) => Some((json!(true), reach)),
        Say::Refused { by, .. } => Some((json!(false), by)),
    }
}
