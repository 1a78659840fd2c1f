//! From the settings of a deployment and its template to the settings in force.

use crate::{
    DurationText,
    settings::{
        AfterWake, AlertSettings, Available, Deadline, DeploymentSettings, DisplayNotifications,
        DownloadBehaviour, DownloadSettings, InstallationSettings, LegacyClientSettings, RestartEnforcement,
        RestartSettings, TimeEvaluation, WakeOnLanSettings,
    },
};

/// A contradiction between settings that may come from different objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsProblem {
    /// The field, below `settings`.
    pub field: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

/// Takes each named field from the first, else from the second.
macro_rules! first_of {
    ($type:ident { $($field:ident),+ $(,)? }) => {
        |own: &$type, template: &$type| $type { $($field: own.$field.clone().or_else(|| template.$field.clone()),)+ }
    };
}

/// Merges two optional groups of settings field by field.
fn group<T: Clone>(own: Option<&T>, template: Option<&T>, merge: impl Fn(&T, &T) -> T) -> Option<T> {
    match (own, template) {
        (Some(own), Some(template)) => Some(merge(own, template)),
        (one, other) => one.or(other).cloned(),
    }
}

impl DeploymentSettings {
    /// These settings, with what they leave out taken from the template. Groups merge field by field; `available` and
    /// `deadline` are one decision each and come whole (R-TMPL-04).
    #[must_use]
    pub fn over(&self, template: &Self) -> Self {
        Self {
            display_notifications: self.display_notifications.or(template.display_notifications),
            time_evaluation: self.time_evaluation.or(template.time_evaluation),
            available: self.available.clone().or_else(|| template.available.clone()),
            deadline: self.deadline.clone().or_else(|| template.deadline.clone()),
            deadline_spread: self.deadline_spread.clone().or_else(|| template.deadline_spread.clone()),
            restart: group(
                self.restart.as_ref(),
                template.restart.as_ref(),
                first_of!(RestartSettings {
                    suppress_servers,
                    suppress_workstations,
                    outside_windows,
                    countdown,
                    enforcement
                }),
            ),
            installation: group(
                self.installation.as_ref(),
                template.installation.as_ref(),
                first_of!(InstallationSettings {
                    outside_windows,
                    install_all_applicable,
                    install_all_within,
                    allow_removals
                }),
            ),
            alerts: group(
                self.alerts.as_ref(),
                template.alerts.as_ref(),
                first_of!(AlertSettings { off_during_installation, on_failure }),
            ),
            download: group(
                self.download.as_ref(),
                template.download.as_ref(),
                first_of!(DownloadSettings { slow_boundary, unprotected_fallback }),
            ),
            wake_on_lan: group(
                self.wake_on_lan.as_ref(),
                template.wake_on_lan.as_ref(),
                first_of!(WakeOnLanSettings { enabled, afterwards }),
            ),
            legacy_clients: group(
                self.legacy_clients.as_ref(),
                template.legacy_clients.as_ref(),
                first_of!(LegacyClientSettings {
                    deploy,
                    collect_inventory_immediately,
                    local_distribution_point,
                    slow_boundary
                }),
            ),
        }
    }

    /// The documented defaults. `restart.countdown` and `installation.installAllWithin` have none here: the first comes
    /// from the ClientSettings of each client, the second means "all".
    pub fn defaults() -> Self {
        Self {
            display_notifications: Some(DisplayNotifications::Allow),
            time_evaluation: Some(TimeEvaluation::Utc),
            available: Some(Available { as_soon_as_possible: Some(true), at: None }),
            deadline: Some(Deadline { after: Some(DurationText("14d".to_owned())), at: None, none: None }),
            deadline_spread: Some(DurationText("0s".to_owned())),
            restart: Some(RestartSettings {
                suppress_servers: Some(false),
                suppress_workstations: Some(false),
                outside_windows: Some(false),
                countdown: None,
                enforcement: Some(RestartEnforcement::Forced),
            }),
            installation: Some(InstallationSettings {
                outside_windows: Some(false),
                install_all_applicable: Some(false),
                install_all_within: None,
                allow_removals: Some(false),
            }),
            alerts: Some(AlertSettings { off_during_installation: Some(false), on_failure: Some(false) }),
            download: Some(DownloadSettings {
                slow_boundary: Some(DownloadBehaviour::DoNotInstall),
                unprotected_fallback: Some(DownloadBehaviour::DownloadAndInstall),
            }),
            wake_on_lan: Some(WakeOnLanSettings { enabled: Some(false), afterwards: Some(AfterWake::Sleep) }),
            legacy_clients: Some(LegacyClientSettings {
                deploy: Some(false),
                collect_inventory_immediately: Some(false),
                local_distribution_point: Some(DownloadBehaviour::DownloadAndInstall),
                slow_boundary: Some(DownloadBehaviour::DoNotInstall),
            }),
        }
    }

    /// The settings in force: the deployment's own, then the template's, then the defaults.
    #[must_use]
    pub fn resolved(&self, template: Option<&Self>) -> Self {
        let own = template.map_or_else(|| self.clone(), |template| self.over(template));
        own.over(&Self::defaults())
    }

    /// Contradictions of resolved settings that no single object's schema can see. Empty when there is none.
    pub fn problems(&self) -> Vec<SettingsProblem> {
        let mut problems = Vec::new();
        let mut problem = |field: &'static str, message: &str| {
            problems.push(SettingsProblem { field, message: message.to_owned() });
        };
        let utc = self.time_evaluation.unwrap_or_default() == TimeEvaluation::Utc;
        let available = self.available.as_ref().and_then(|available| available.at.as_deref());
        let deadline = self.deadline.as_ref().and_then(|deadline| deadline.at.as_deref());
        for (field, time) in [("available.at", available), ("deadline.at", deadline)] {
            match time {
                Some(time) if utc && !time.ends_with('Z') => problem(
                    field,
                    "timeEvaluation is UTC: end the time with Z, or set timeEvaluation: ClientLocal for the wall clock of \
                     each client",
                ),
                Some(time) if !utc && time.ends_with('Z') => problem(
                    field,
                    "timeEvaluation is ClientLocal: leave the Z out, or set timeEvaluation: UTC for one instant for all",
                ),
                _ => {}
            }
        }
        // Both have one form here, so the text's order is that of time.
        if let (Some(available), Some(deadline)) = (available, deadline)
            && deadline < available
        {
            problem(
                "deadline.at",
                "the deadline is before the available time: set a later deadline or an earlier available.at",
            );
        }
        let optional = self.deadline.as_ref().and_then(|deadline| deadline.none) == Some(true);
        if optional && self.wake_on_lan.as_ref().and_then(|wake| wake.enabled) == Some(true) {
            problem(
                "wakeOnLan.enabled",
                "clients are woken at the deadline and there is none: set deadline.after or deadline.at",
            );
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: serde_json::Value) -> DeploymentSettings {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn own_before_template_before_default() {
        let own = settings(serde_json::json!({
            "deadline": {"none": true}, "restart": {"suppressServers": true}
        }));
        let template = settings(serde_json::json!({
            "deadline": {"after": "1d"}, "restart": {"suppressServers": false, "countdown": "30m"},
            "download": {"slowBoundary": "DownloadAndInstall"}
        }));
        let resolved = own.resolved(Some(&template));
        assert_eq!(resolved.deadline, Some(Deadline { none: Some(true), ..Deadline::default() }));
        let restart = resolved.restart.clone().unwrap();
        assert_eq!((restart.suppress_servers, restart.suppress_workstations), (Some(true), Some(false)));
        assert_eq!(restart.countdown.unwrap().0, "30m");
        let download = resolved.download.clone().unwrap();
        assert_eq!(download.slow_boundary, Some(DownloadBehaviour::DownloadAndInstall));
        assert_eq!(download.unprotected_fallback, Some(DownloadBehaviour::DownloadAndInstall));
        assert_eq!(resolved.problems(), []);
        assert_eq!(resolved.resolved(None), resolved, "resolving again changes nothing");
    }

    #[test]
    fn the_defaults_leave_nothing_out_but_what_they_say() {
        let text = serde_json::to_string(&DeploymentSettings::default().resolved(None)).unwrap();
        assert_eq!(text, serde_json::to_string(&DeploymentSettings::defaults()).unwrap());
        assert!(text.contains(r#""after":"14d""#) && !text.contains("null"), "{text}");
    }

    #[test]
    fn contradictions_across_objects_are_found() {
        let own = settings(serde_json::json!({"deadline": {"at": "2026-12-01T02:00:00"}}));
        let template = settings(serde_json::json!({"available": {"at": "2026-12-02T02:00:00Z"}}));
        let problems = own.resolved(Some(&template)).problems();
        assert_eq!(problems.iter().map(|p| p.field).collect::<Vec<_>>(), ["deadline.at", "deadline.at"]);
        let template = settings(serde_json::json!({"wakeOnLan": {"enabled": true}}));
        let problems =
            settings(serde_json::json!({"deadline": {"none": true}})).resolved(Some(&template)).problems();
        assert_eq!(problems[0].field, "wakeOnLan.enabled");
    }
}
