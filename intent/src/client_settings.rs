//! Client settings in domain form. Pure.

use patchtide_crds::{ClientSettingsSpec, client_settings::OtherUpdaters as Wished, conditions::reason};
use patchtide_model::object::{ClientSettings, OtherUpdaters};

use crate::problem::{Problem, duration, object_name};

/// The domain form of `spec`, and the fields that are accepted without effect.
pub fn validate(
    name: &str,
    spec: &ClientSettingsSpec,
) -> Result<(ClientSettings, Vec<&'static str>), Problem> {
    let settings = ClientSettings {
        name: name.to_owned(),
        collection: spec.collection.as_deref().map(object_name).transpose()?,
        // The smaller number wins in YAML, the higher one in the domain.
        priority: -i32::try_from(spec.priority).unwrap_or(i32::MAX),
        policy_polling: duration("policyPollingInterval", &spec.policy_polling_interval)?,
        scan_cycle: duration("scanInterval", &spec.scan_interval)?,
        scan_ttl: duration("scanTtl", &spec.scan_ttl)?,
        reevaluation_cycle: duration("reevaluationInterval", &spec.reevaluation_interval)?,
        state_message_cycle: duration("stateMessageInterval", &spec.state_message_interval)?,
        restart_countdown: duration("restart.countdown", &spec.restart.countdown)?,
        restart_turnaround: duration("restart.turnaround", &spec.restart.turnaround)?,
        other_updaters: match spec.other_updaters {
            Wished::Report => OtherUpdaters::Report,
            Wished::Disable => OtherUpdaters::Disable,
        },
        enabled: spec.enabled,
        grace_period: duration("gracePeriod", &spec.grace_period)?,
        install_due_within: match &spec.install_due_within {
            Some(text) => Some(duration("installDueWithin", text)?),
            None => None,
        },
        no_deadline_spread: spec.disable_deadline_spread,
    };
    // A limit that would be passed over is a restriction.
    if spec.download.bandwidth.is_some() {
        return Err(Problem::stalled(
            reason::RESTRICTION_NOT_BUILT,
            "download.bandwidth is not built yet: these clients get no new policy that ignores it; take it out to let them download at full speed",
        ));
    }
    Ok((settings, without_effect(spec)?))
}

/// The fields whose value differs from the default and whose behaviour is not built.
fn without_effect(spec: &ClientSettingsSpec) -> Result<Vec<&'static str>, Problem> {
    let default: ClientSettingsSpec = serde_json::from_str("{}").map_err(|error| {
        Problem::stalled(
            reason::INVALID_SPEC,
            format!("the defaults of ClientSettings cannot be read: {error}"),
        )
    })?;
    let restart = (&spec.restart, &default.restart);
    Ok([
        ("scanOnCatalogueChange", spec.scan_on_catalogue_change != default.scan_on_catalogue_change),
        ("scanRetry", spec.scan_retry != default.scan_retry),
        ("longPoll", spec.long_poll != default.long_poll),
        ("cycleSpread", spec.cycle_spread != default.cycle_spread),
        ("reminders", spec.reminders != default.reminders),
        ("restart.finalWarning", restart.0.final_warning != restart.1.final_warning),
        ("restart.reminder", restart.0.reminder != restart.1.reminder),
        ("generalWindowsWithUpdateWindows", spec.general_windows_with_update_windows),
        ("businessHours", spec.business_hours != default.business_hours),
        ("userSchedule", spec.user_schedule.is_some()),
        ("download", spec.download != default.download),
        ("agentUpdate", spec.agent_update != default.agent_update),
    ]
    .into_iter()
    .filter_map(|(field, set)| set.then_some(field))
    .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_domain_and_need_no_remark() {
        let (settings, missing) = validate("default", &serde_saphyr::from_str("{}").unwrap()).unwrap();
        let default = ClientSettings { priority: -10_000, ..ClientSettings::default() };
        assert_eq!(settings, default);
        assert_eq!(missing, Vec::<&str>::new());
    }

    #[test]
    fn the_smaller_number_wins_and_what_is_not_built_is_named() {
        let yaml = "collection: lab\npriority: 10\ngracePeriod: 2h\nscanInterval: 1d\nenabled: false\nuserSchedule: {time: '12:00'}\n";
        let (settings, missing) = validate("lab", &serde_saphyr::from_str(yaml).unwrap()).unwrap();
        assert!(settings.priority > -10_000);
        assert_eq!((settings.enabled, settings.grace_period.as_hours()), (false, 2));
        assert_eq!(missing, ["userSchedule"]);
    }

    #[test]
    fn a_limit_that_cannot_be_honoured_is_not_passed_over() {
        let spec = serde_saphyr::from_str("download: {bandwidth: 1Mi}\n").unwrap();
        assert_eq!(validate("slow", &spec).unwrap_err().reason, reason::RESTRICTION_NOT_BUILT);
    }
}
