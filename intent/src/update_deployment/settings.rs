//! Template and deployment merged, defaults filled in, fields named whose behaviour is not built. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, civil};
use patchtide_crds::{
    DeploymentSettings as Wish, DurationText, UpdateDeploymentSpec,
    settings::{
        AfterWake as AfterWakeWish, AlertSettings, DisplayNotifications, DownloadBehaviour, DownloadSettings,
        InstallationSettings, LegacyClientSettings, RestartEnforcement, RestartSettings, TimeEvaluation,
        WakeOnLanSettings,
    },
};
use patchtide_model::{
    deployment::{AfterWake, Available, DEADLINE, Deadline, DeploymentSettings},
    people::Display,
};

use super::pin::Pinned;

/// A setting that cannot be used, with its field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidSettings {
    field: &'static str,
    problem: String,
}

/// The deployment's own settings above those of the template, field by field.
pub fn merge(template: Option<&Wish>, own: &Wish) -> Wish {
    let Some(template) = template else {
        return own.clone();
    };
    macro_rules! either {
        ($own:expr, $template:expr, $type:ident { $($field:ident),+ }) => {
            match (&$own, &$template) {
                (None, None) => None,
                (own, template) => {
                    let (own, template) = (own.clone().unwrap_or_default(), template.clone().unwrap_or_default());
                    Some($type { $($field: own.$field.or(template.$field)),+ })
                }
            }
        };
    }
    Wish {
        display_notifications: own.display_notifications.or(template.display_notifications),
        time_evaluation: own.time_evaluation.or(template.time_evaluation),
        // One of several ways: whoever names one replaces the whole.
        available: own.available.clone().or_else(|| template.available.clone()),
        deadline: own.deadline.clone().or_else(|| template.deadline.clone()),
        deadline_spread: own.deadline_spread.clone().or_else(|| template.deadline_spread.clone()),
        restart: either!(
            own.restart,
            template.restart,
            RestartSettings {
                suppress_servers,
                suppress_workstations,
                outside_windows,
                countdown,
                enforcement
            }
        ),
        installation: either!(
            own.installation,
            template.installation,
            InstallationSettings {
                outside_windows,
                install_all_applicable,
                install_all_within,
                allow_removals
            }
        ),
        alerts: either!(own.alerts, template.alerts, AlertSettings { off_during_installation, on_failure }),
        download: either!(
            own.download,
            template.download,
            DownloadSettings { slow_boundary, unprotected_fallback }
        ),
        wake_on_lan: either!(
            own.wake_on_lan,
            template.wake_on_lan,
            WakeOnLanSettings { enabled, afterwards }
        ),
        legacy_clients: either!(
            own.legacy_clients,
            template.legacy_clients,
            LegacyClientSettings {
                deploy,
                collect_inventory_immediately,
                local_distribution_point,
                slow_boundary
            }
        ),
    }
}

/// For each value that is not the default the object that sets it, by the names of
/// [`Deployment`](patchtide_model::deployment::Deployment).
pub fn provenance(name: &str, spec: &UpdateDeploymentSpec, pinned: &Pinned) -> BTreeMap<String, String> {
    let own = format!("UpdateDeployment/{name}");
    let named = |kind: &str, name: Option<&String>, digest: Option<&String>| {
        let name = name.map(String::as_str).unwrap_or_default();
        format!("{kind}/{name}{}", digest.map(|digest| format!("@{digest}")).unwrap_or_default())
    };
    let template = named("DeploymentTemplate", spec.template.as_ref(), pinned.template_digest.as_ref());
    let mut found = BTreeMap::new();
    let mut tell = |field: String, mine: bool, of_template: bool| {
        if mine || of_template {
            found.insert(field, if mine { own.clone() } else { template.clone() });
        }
    };
    let content = pinned.template.as_ref();
    tell(
        "collection".to_owned(),
        spec.collection.is_some(),
        content.is_some_and(|content| content.collection.is_some()),
    );
    tell(
        "include_subcollections".to_owned(),
        spec.include_subcollections.is_some(),
        content.is_some_and(|content| content.include_subcollections.is_some()),
    );
    let theirs = content.map(|content| &content.settings);
    for (field, set) in SETTINGS {
        tell(format!("settings.{field}"), set(&spec.settings), theirs.is_some_and(set));
    }
    if pinned.list_digest.is_some() {
        let list = named("UpdateList", spec.update_list.as_ref(), pinned.list_digest.as_ref());
        let also = if spec.updates.is_empty() { String::new() } else { format!(" and {own}") };
        found.insert("updates".to_owned(), format!("{list}{also}"));
    }
    found
}

/// Whether somebody set it.
type IsSet = fn(&Wish) -> bool;

/// Settings in force by their names in the domain, and where people set them. What people set in one field may decide two.
const SETTINGS: [(&str, IsSet); 21] = [
    ("display_notifications", |wish| wish.display_notifications.is_some()),
    ("client_local_time", |wish| wish.time_evaluation.is_some()),
    ("available", |wish| wish.available.is_some()),
    ("deadline", |wish| wish.deadline.is_some()),
    ("suppress_restart_servers", |wish| {
        wish.restart.as_ref().is_some_and(|r| r.suppress_servers.is_some() || r.enforcement.is_some())
    }),
    ("suppress_restart_workstations", |wish| {
        wish.restart.as_ref().is_some_and(|r| r.suppress_workstations.is_some() || r.enforcement.is_some())
    }),
    ("restart_left_to_people", |wish| wish.restart.as_ref().is_some_and(|r| r.enforcement.is_some())),
    ("display", |wish| wish.display_notifications.is_some()),
    ("install_outside_windows", |wish| {
        wish.installation.as_ref().is_some_and(|i| i.outside_windows.is_some())
    }),
    ("restart_outside_windows", |wish| wish.restart.as_ref().is_some_and(|r| r.outside_windows.is_some())),
    ("disable_alerts", |wish| wish.alerts.as_ref().is_some_and(|a| a.off_during_installation.is_some())),
    ("alert_on_failure", |wish| wish.alerts.as_ref().is_some_and(|a| a.on_failure.is_some())),
    ("install_on_slow_boundary", |wish| wish.download.as_ref().is_some_and(|d| d.slow_boundary.is_some())),
    ("fallback_to_unprotected", |wish| {
        wish.download.as_ref().is_some_and(|d| d.unprotected_fallback.is_some())
    }),
    ("install_all_applicable", |wish| {
        wish.installation.as_ref().is_some_and(|i| i.install_all_applicable.is_some())
    }),
    ("wake_on_lan", |wish| wish.wake_on_lan.as_ref().is_some_and(|w| w.enabled.is_some())),
    ("after_wake", |wish| wish.wake_on_lan.as_ref().is_some_and(|w| w.afterwards.is_some())),
    ("allow_remove", |wish| wish.installation.as_ref().is_some_and(|i| i.allow_removals.is_some())),
    ("deadline_spread", |wish| wish.deadline_spread.is_some()),
    ("install_all_within", |wish| wish.installation.as_ref().is_some_and(|i| i.install_all_within.is_some())),
    ("restart_countdown", |wish| wish.restart.as_ref().is_some_and(|r| r.countdown.is_some())),
];

/// Every default filled in. The second part names the fields that are accepted but whose behaviour is not built; what
/// they would restrict is restricted all the same.
pub fn resolve(wish: &Wish) -> Result<(DeploymentSettings, Vec<&'static str>), InvalidSettings> {
    let mut missing = Vec::new();
    let local = wish.time_evaluation.unwrap_or_default() == TimeEvaluation::ClientLocal;
    let display = wish.display_notifications.unwrap_or_default();
    let restart = wish.restart.clone().unwrap_or_default();
    // A countdown without a restart at its end is a restart that is left to people. It is suppressed as well, for agents that
    // do not know the difference.
    let left_to_people = restart.enforcement == Some(RestartEnforcement::CountdownOnly);
    let installation = wish.installation.clone().unwrap_or_default();
    let alerts = wish.alerts.clone().unwrap_or_default();
    let download = wish.download.clone().unwrap_or_default();
    let wake = wish.wake_on_lan.clone().unwrap_or_default();
    if wish.legacy_clients.as_ref().is_some_and(|legacy| legacy.deploy == Some(true)) {
        missing.push("legacyClients");
    }
    let takes = |behaviour: Option<DownloadBehaviour>, default: bool| {
        behaviour.map_or(default, |behaviour| behaviour == DownloadBehaviour::DownloadAndInstall)
    };
    let settings = DeploymentSettings {
        display_notifications: matches!(
            display,
            DisplayNotifications::Allow | DisplayNotifications::BalloonOnly
        ),
        client_local_time: local,
        available: available(wish, local)?,
        deadline: deadline(wish, local)?,
        suppress_restart_servers: left_to_people || restart.suppress_servers.unwrap_or_default(),
        suppress_restart_workstations: left_to_people || restart.suppress_workstations.unwrap_or_default(),
        install_outside_windows: installation.outside_windows.unwrap_or_default(),
        restart_outside_windows: restart.outside_windows.unwrap_or_default(),
        disable_alerts: alerts.off_during_installation.unwrap_or_default(),
        alert_on_failure: alerts.on_failure.unwrap_or_default(),
        install_on_slow_boundary: takes(download.slow_boundary, false),
        fallback_to_unprotected: takes(download.unprotected_fallback, true),
        install_all_applicable: installation.install_all_applicable.unwrap_or_default(),
        wake_on_lan: wake.enabled.unwrap_or_default(),
        allow_remove: installation.allow_removals.unwrap_or_default(),
        deadline_spread: match &wish.deadline_spread {
            Some(text) => duration("settings.deadlineSpread", text)?,
            None => SignedDuration::ZERO,
        },
        install_all_within: match &installation.install_all_within {
            Some(text) => Some(duration("settings.installation.installAllWithin", text)?),
            None => None,
        },
        restart_countdown: match &restart.countdown {
            Some(text) => Some(duration("settings.restart.countdown", text)?),
            None => None,
        },
        // The two others are what `display_notifications` says.
        display: match display {
            DisplayNotifications::Allow | DisplayNotifications::Suppress => None,
            DisplayNotifications::BalloonOnly => Some(Display::Balloon),
            DisplayNotifications::Silent => Some(Display::Hidden),
        },
        restart_left_to_people: left_to_people,
        after_wake: match wake.afterwards.unwrap_or_default() {
            AfterWakeWish::Sleep => AfterWake::Sleep,
            AfterWakeWish::ShutDown => AfterWake::ShutDown,
            AfterWakeWish::Restart => AfterWake::Restart,
        },
    };
    // In one object the API server refuses it; here one of the two may be the template's.
    if let (Available::At(available), Deadline::At(deadline)) = (settings.available, settings.deadline)
        && deadline < available
    {
        let problem = format!(
            "{deadline} is before available.at, {available}: nothing is installed before it is available; set a later deadline or an earlier available, here or in the template"
        );
        return Err(InvalidSettings { field: "settings.deadline.at", problem });
    }
    Ok((settings, missing))
}

fn available(wish: &Wish, local: bool) -> Result<Available, InvalidSettings> {
    match wish.available.as_ref().and_then(|available| available.at.as_deref()) {
        Some(at) => Ok(Available::At(time("settings.available.at", at, local)?)),
        None => Ok(Available::AsSoonAsPossible),
    }
}

fn deadline(wish: &Wish, local: bool) -> Result<Deadline, InvalidSettings> {
    let Some(deadline) = &wish.deadline else {
        return Ok(Deadline::After(DEADLINE));
    };
    match (&deadline.at, &deadline.after, deadline.none) {
        (Some(at), None, None) => Ok(Deadline::At(time("settings.deadline.at", at, local)?)),
        (None, Some(after), None) => Ok(Deadline::After(duration("settings.deadline.after", after)?)),
        (None, None, Some(true)) => Ok(Deadline::None),
        _ => Err(InvalidSettings {
            field: "settings.deadline",
            problem: "set exactly one of after, at and none: true".to_owned(),
        }),
    }
}

fn time(field: &'static str, text: &str, local: bool) -> Result<civil::DateTime, InvalidSettings> {
    let (civil, utc) = text.strip_suffix('Z').map_or((text, false), |civil| (civil, true));
    if utc == local {
        let problem = if local {
            format!(
                "{text} ends with Z, but times are read by each client's wall clock (timeEvaluation ClientLocal): leave the Z out"
            )
        } else {
            format!("{text} has no Z, but times are read in UTC (timeEvaluation UTC): end it with Z")
        };
        return Err(InvalidSettings { field, problem });
    }
    civil.parse().map_err(|_| InvalidSettings {
        field,
        problem: format!("{text} is not a time: write for example 2026-12-01T02:00:00Z"),
    })
}

fn duration(field: &'static str, text: &DurationText) -> Result<SignedDuration, InvalidSettings> {
    let seconds = text.seconds().map_err(|error| InvalidSettings { field, problem: error.to_string() })?;
    Ok(SignedDuration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(yaml: &str) -> Wish {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn nothing_said_means_the_seeds_defaults() {
        let (settings, missing) = resolve(&Wish::default()).unwrap();
        assert_eq!(missing, Vec::<&str>::new());
        assert_eq!(settings, DeploymentSettings::default());
        assert_eq!(settings.available, Available::AsSoonAsPossible);
        assert_eq!(settings.deadline, Deadline::After(SignedDuration::from_hours(336)));
        assert!(settings.display_notifications && settings.fallback_to_unprotected);
        assert!(
            !settings.install_on_slow_boundary && !settings.install_outside_windows && !settings.allow_remove
        );
    }

    #[test]
    fn the_deployment_goes_before_its_template_field_by_field() {
        let template =
            wish("restart: {suppressServers: true, outsideWindows: true}\ndeadline: {after: 3d}\n");
        let own = wish(
            "restart: {outsideWindows: false, countdown: 30m}\ndeadline: {none: true}\ninstallation: {installAllWithin: 2d}\n",
        );
        let (settings, missing) = resolve(&merge(Some(&template), &own)).unwrap();
        assert_eq!(missing, Vec::<&str>::new());
        assert_eq!(settings.restart_countdown, Some(SignedDuration::from_mins(30)));
        assert_eq!(settings.install_all_within, Some(SignedDuration::from_hours(48)));
        assert!(settings.suppress_restart_servers, "the template's own field stays");
        assert!(!settings.restart_outside_windows, "false is an answer too");
        assert_eq!(settings.deadline, Deadline::None);
    }

    #[test]
    fn a_template_and_a_deployment_that_disagree_about_time_are_told_how() {
        let template = wish("timeEvaluation: ClientLocal\n");
        let own = wish("deadline: {at: '2026-12-01T02:00:00Z'}\n");
        let error = resolve(&merge(Some(&template), &own)).unwrap_err().to_string();
        assert!(error.starts_with("settings.deadline.at: ") && error.contains("leave the Z out"), "{error}");
        let error = resolve(&wish("available: {at: '2026-12-01T02:00:00'}\n")).unwrap_err().to_string();
        assert!(error.contains("end it with Z"), "{error}");
        // Issue 4, bad input: what the API server cannot see, because half of it is the template's.
        let template = wish("available: {at: '2026-12-01T02:00:00Z'}\n");
        let own = |at: &str| resolve(&merge(Some(&template), &wish(&format!("deadline: {{at: '{at}'}}\n"))));
        assert!(own("2026-12-01T02:00:00Z").is_ok());
        let error = own("2026-12-01T01:59:59Z").unwrap_err().to_string();
        assert!(
            error.starts_with("settings.deadline.at: ") && error.contains("or in the template"),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_built_is_named_and_still_restricts() {
        let (settings, missing) =
            resolve(&wish("restart: {enforcement: CountdownOnly}\nlegacyClients: {deploy: true}\n")).unwrap();
        assert_eq!(missing, ["legacyClients"]);
        // For agents that know no restart which is left to people.
        assert!(settings.suppress_restart_servers && settings.suppress_restart_workstations);
        assert!(settings.restart_left_to_people);
    }

    /// R-DEPL-29, R-RST-10: on or off, field by field, and what is done afterwards.
    #[test]
    fn wake_on_lan_is_on_or_off() {
        let template = wish("wakeOnLan: {enabled: true, afterwards: ShutDown}\n");
        for (own, on, after) in [
            ("{}", true, AfterWake::ShutDown),
            ("wakeOnLan: {enabled: false}\n", false, AfterWake::ShutDown),
            ("wakeOnLan: {afterwards: Restart}\n", true, AfterWake::Restart),
            ("wakeOnLan: {afterwards: Sleep}\n", true, AfterWake::Sleep),
        ] {
            let (settings, missing) = resolve(&merge(Some(&template), &wish(own))).unwrap();
            assert_eq!((settings.wake_on_lan, settings.after_wake), (on, after), "{own}");
            assert_eq!(missing, Vec::<&str>::new());
        }
        assert!(!resolve(&wish("{}")).unwrap().0.wake_on_lan);
    }

    /// R-TMPL-11, R-UX-10: one template for each behaviour.
    #[test]
    fn each_behaviour_has_its_display() {
        for (yaml, display, older) in [
            ("{}", Display::Full, true),
            ("displayNotifications: Allow\nrestart: {countdown: 30m}\n", Display::Full, true),
            ("displayNotifications: BalloonOnly\n", Display::Balloon, true),
            ("displayNotifications: Suppress\n", Display::Listed, false),
            ("displayNotifications: Silent\n", Display::Hidden, false),
        ] {
            let (settings, missing) = resolve(&wish(yaml)).unwrap();
            assert_eq!((settings.display(), settings.display_notifications), (display, older), "{yaml}");
            assert_eq!(missing, Vec::<&str>::new());
        }
    }

    /// Every value in force has an origin: the deployment before its template, the template by the digest that is in force.
    #[test]
    fn each_setting_says_where_it_comes_from() {
        let spec: UpdateDeploymentSpec = serde_saphyr::from_str(
            "{template: monthly, updateList: fixes, settings: {deadline: {after: 3d}, restart: {outsideWindows: false}}}",
        )
        .unwrap();
        let template = serde_saphyr::from_str(
            "{collection: web, settings: {deadline: {none: true}, restart: {suppressServers: true}}}",
        )
        .unwrap();
        let pinned = Pinned {
            template: Some(template),
            template_digest: Some("sha256:t".to_owned()),
            template_differs: true,
            members: std::collections::BTreeSet::new(),
            list_digest: Some("sha256:l".to_owned()),
            list_differs: false,
            memory: crate::update_deployment::pin::Memory::default(),
        };
        let found = provenance("tuesday", &spec, &pinned);
        let found: Vec<(&str, &str)> = found.iter().map(|(field, from)| (&**field, &**from)).collect();
        assert_eq!(
            found,
            [
                ("collection", "DeploymentTemplate/monthly@sha256:t"),
                ("settings.deadline", "UpdateDeployment/tuesday"),
                ("settings.restart_outside_windows", "UpdateDeployment/tuesday"),
                ("settings.suppress_restart_servers", "DeploymentTemplate/monthly@sha256:t"),
                ("updates", "UpdateList/fixes@sha256:l"),
            ]
        );
        // What is added to the settings gets a line here too.
        let (settings, _) =
            resolve(&wish("{installation: {installAllWithin: 1d}, restart: {countdown: 5m}, wakeOnLan: {afterwards: Restart}}"))
                .unwrap();
        let json = serde_json::to_value(&settings).unwrap();
        for field in json.as_object().unwrap().keys() {
            assert!(SETTINGS.iter().any(|(known, _)| known == field), "{field} has no origin");
        }
    }
}
