//! What counts when several deployments name one update. The earliest deadline counts, and of every other setting the
//! value that lets less happen: what one deployment forbids no other one permits. Every field of the settings has its
//! rule here; `docs/semantics.md` shows them as one table, and the gates name the deployment that decided.

use patchtide_model::deployment::DeploymentSettings;

use super::context::{Context, Item, Reach};

/// The rule of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeRule {
    /// Field of the domain type.
    pub field: &'static str,
    /// Where people write it.
    pub path: &'static str,
    /// What counts.
    pub rule: &'static str,
}

const fn rule(field: &'static str, path: &'static str, rule: &'static str) -> MergeRule {
    MergeRule { field, path, rule }
}

/// Rules for [`DeploymentSettings`]. *In force*: not suspended. *Started*: in force, and its start time has come.
pub const DEPLOYMENT: &[MergeRule] = &[
    rule(
        "display_notifications",
        "displayNotifications",
        "shown when one that is in force shows them: nobody is restarted unwarned",
    ),
    rule("display", "displayNotifications", "of the available ones in force the one that shows most"),
    rule("client_local_time", "timeEvaluation", "not merged: each one's times become instants first"),
    rule("available", "available", "the earliest"),
    rule("deadline", "deadline", "the earliest start: deadline plus share of the spread plus grace period"),
    rule(
        "suppress_restart_servers",
        "restart.suppressServers",
        "suppressed when one of them says so, a suspended one too",
    ),
    rule(
        "suppress_restart_workstations",
        "restart.suppressWorkstations",
        "suppressed when one of them says so, a suspended one too",
    ),
    rule(
        "install_outside_windows",
        "installation.outsideWindows",
        "outside windows only when every started one allows it",
    ),
    rule(
        "restart_outside_windows",
        "restart.outsideWindows",
        "outside windows only when every started one of every update that asks for the restart allows it",
    ),
    rule("disable_alerts", "alerts.offDuringInstallation", "not merged: an alert is about one deployment"),
    rule("alert_on_failure", "alerts.onFailure", "not merged: an alert is about one deployment"),
    rule(
        "install_on_slow_boundary",
        "download.slowBoundary",
        "from slow points only when every available one in force allows it",
    ),
    rule(
        "fallback_to_unprotected",
        "download.unprotectedFallback",
        "from points outside the boundaries only when every available one in force allows it",
    ),
    rule(
        "install_all_applicable",
        "installation.installAllApplicable",
        "not merged: each started one that says so pulls; what is pulled keeps to the windows of its own deployments",
    ),
    rule("wake_on_lan", "wakeOnLan.enabled", "woken when one of them says so"),
    rule(
        "after_wake",
        "wakeOnLan.afterwards",
        "of the started ones that wake the first of Sleep, Restart, ShutDown: what changes the machine least",
    ),
    rule(
        "allow_remove",
        "installation.allowRemovals",
        "only when every available one in force allows it, for every update of the transaction",
    ),
    rule("deadline_spread", "deadlineSpread", "not merged: each one's share is added to its own deadline"),
    rule(
        "install_all_within",
        "installation.installAllWithin",
        "not merged: goes with its own installAllApplicable",
    ),
    rule(
        "restart_countdown",
        "restart.countdown",
        "the longest of those in force; one that says nothing has that of the ClientSettings",
    ),
    rule(
        "restart_left_to_people",
        "restart.enforcement",
        "left to people when one that holds an update which asks for the restart says so",
    ),
];

/// Rules for the client settings beside deployments.
pub const CLIENT: &[MergeRule] = &[
    rule("name", "metadata.name", "the first by name among equal priorities"),
    rule("collection", "collection", "only objects that select the client take part"),
    rule(
        "priority",
        "priority",
        "the object with the highest applies as a whole; nothing is taken from another one",
    ),
    rule("policy_polling", "policyPollingInterval", "of that object"),
    rule("scan_cycle", "scanInterval", "of that object"),
    rule("scan_ttl", "scanTtl", "of that object"),
    rule("reevaluation_cycle", "reevaluationInterval", "of that object"),
    rule("state_message_cycle", "stateMessageInterval", "of that object"),
    rule("restart_countdown", "restart.countdown", "of that object, for deployments that give none"),
    rule("restart_turnaround", "restart.turnaround", "of that object"),
    rule("other_updaters", "otherUpdaters", "of that object"),
    rule("enabled", "enabled", "of that object; switched off, no deployment reaches the client"),
    rule("grace_period", "gracePeriod", "of that object, added to the deadline of every deployment"),
    rule(
        "install_due_within",
        "installDueWithin",
        "of that object, beside installAllApplicable of deployments",
    ),
    rule(
        "no_deadline_spread",
        "disableDeadlineSpread",
        "of that object; every deployment's spread is then none",
    ),
    rule(
        "people",
        "reminders, restart.reminder, restart.finalWarning, businessHours, userSchedule, userActions",
        "of that object",
    ),
];

/// What several deployments say together of something that all of them have to allow.
#[derive(Clone, Copy)]
pub(super) enum Say<'b, 'a> {
    /// None of them counts.
    Nobody,
    /// All allow it; the first.
    Allowed(&'b Reach<'a>),
    /// One forbids it; the first that does, and one that would allow it.
    Refused { by: &'b Reach<'a>, against: Option<&'b Reach<'a>> },
}

impl Say<'_, '_> {
    pub(super) const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

/// All have to allow it.
pub(super) fn all_allow<'b, 'a: 'b>(
    reaches: impl Iterator<Item = &'b Reach<'a>>,
    allows: impl Fn(&DeploymentSettings) -> bool,
) -> Say<'b, 'a> {
    let (mut allowing, mut refusing) = (None, None);
    for reach in reaches {
        let first = if allows(&reach.policy.settings) { &mut allowing } else { &mut refusing };
        first.get_or_insert(reach);
    }
    match (allowing, refusing) {
        (against, Some(by)) => Say::Refused { by, against },
        (Some(first), None) => Say::Allowed(first),
        (None, None) => Say::Nobody,
    }
}

impl<'a> Context<'a> {
    /// Deployments in force whose start has come by `at`.
    pub(super) fn started<'b>(
        &'b self,
        item: &'b Item<'a>,
        at: jiff::Timestamp,
    ) -> impl Iterator<Item = &'b Reach<'a>> {
        self.active(item).filter(move |reach| reach.start.is_some_and(|start| start <= at))
    }

    /// Deployments in force that are available now.
    pub(super) fn available<'b>(&'b self, item: &'b Item<'a>) -> impl Iterator<Item = &'b Reach<'a>> {
        self.active(item).filter(|reach| reach.is_available(self.now))
    }

    /// Whether it may be installed outside windows at `from`.
    pub(super) fn outside_windows<'b>(&'b self, item: &'b Item<'a>, from: jiff::Timestamp) -> Say<'b, 'a> {
        all_allow(self.started(item, from), |settings| settings.install_outside_windows)
    }

    /// Whether a restart because of these updates may happen outside windows at `at`.
    pub(super) fn restart_outside<'b>(
        &'b self,
        items: impl Iterator<Item = &'b Item<'a>>,
        at: jiff::Timestamp,
    ) -> Say<'b, 'a>
    where
        'a: 'b,
    {
        let started = items.flat_map(|item| self.started(item, at));
        all_allow(started, |settings| settings.restart_outside_windows)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use patchtide_model::{deployment::AfterWake, object::ClientSettings};
    use serde::Serialize;

    use super::*;
    use crate::fixtures::{minutes, settings};

    fn fields(value: impl Serialize) -> BTreeSet<String> {
        let serde_json::Value::Object(map) = serde_json::to_value(value).unwrap() else {
            panic!("no object")
        };
        map.into_iter().map(|(key, _)| key).collect()
    }

    /// Every optional field is set here, so that it is seen; the compiler asks for every other one.
    #[test]
    fn every_field_has_a_rule_and_the_table_shows_it() {
        let mut deployment = settings();
        (deployment.install_all_within, deployment.restart_countdown) = (Some(minutes(1)), Some(minutes(1)));
        (deployment.display, deployment.restart_left_to_people, deployment.after_wake) =
            (Some(patchtide_model::people::Display::Hidden), true, AfterWake::Restart);
        let client = ClientSettings {
            enabled: false,
            grace_period: minutes(1),
            install_due_within: Some(minutes(1)),
            no_deadline_spread: true,
            people: patchtide_model::people::PeopleSettings {
                final_warning: minutes(2),
                ..patchtide_model::people::PeopleSettings::default()
            },
            ..ClientSettings::default()
        };
        let document = include_str!("../../../docs/semantics.md");
        for (rules, fields) in [(DEPLOYMENT, fields(&deployment)), (CLIENT, fields(&client))] {
            let ruled: BTreeSet<String> = rules.iter().map(|rule| rule.field.to_owned()).collect();
            assert_eq!(fields, ruled, "a field without a merge rule, or a rule without a field");
            for rule in rules {
                let row = format!("| `{}` | {} |", rule.path, rule.rule);
                assert!(document.contains(&row), "docs/semantics.md lacks the row\n{row}");
            }
        }
    }
}
