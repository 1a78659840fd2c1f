//! Client settings in domain form. Pure.

use std::collections::BTreeSet;

use patchtide_crds::{
    ClientSettingsSpec,
    client_settings::{OtherUpdaters as Wished, UserActions as Allowed},
    conditions::reason,
    recurrence::Weekday,
};
use patchtide_model::{
    object::{ClientSettings, OtherUpdaters},
    people::{BusinessHours, PeopleSettings, UserActions, UserSchedule},
};

use crate::problem::{Problem, duration, object_name, time_of_day};

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
        people: people(spec)?,
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

/// What is said for the people at the client.
fn people(spec: &ClientSettingsSpec) -> Result<PeopleSettings, Problem> {
    let hours = &spec.business_hours;
    Ok(PeopleSettings {
        remind_far: duration("reminders.moreThanADay", &spec.reminders.more_than_a_day)?,
        remind_day: duration("reminders.withinADay", &spec.reminders.within_a_day)?,
        remind_hour: duration("reminders.withinTheHour", &spec.reminders.within_the_hour)?,
        final_warning: duration("restart.finalWarning", &spec.restart.final_warning)?,
        restart_reminder: duration("restart.reminder", &spec.restart.reminder)?,
        business_hours: BusinessHours {
            from: time_of_day("businessHours.from", &hours.from)?,
            until: time_of_day("businessHours.until", &hours.until)?,
            weekdays: numbers(&hours.weekdays),
        },
        user_schedule: match &spec.user_schedule {
            None => None,
            Some(schedule) => Some(UserSchedule {
                time: time_of_day("userSchedule.time", &schedule.time)?,
                weekdays: numbers(&schedule.weekdays),
                user_may_change: schedule.user_may_change,
            }),
        },
        user_actions: match spec.user_actions {
            Allowed::Nobody => UserActions::Nobody,
            Allowed::Root => UserActions::Root,
            Allowed::Administrators => UserActions::Administrators,
            Allowed::Everybody => UserActions::Everybody,
        },
    })
}

/// ISO numbers, 1 (Monday) to 7 (Sunday).
fn numbers(weekdays: &[Weekday]) -> BTreeSet<u8> {
    weekdays.iter().map(|day| *day as u8 + 1).collect()
}

/// The fields whose value differs from the default and whose behaviour is not built.
fn without_effect(spec: &ClientSettingsSpec) -> Result<Vec<&'static str>, Problem> {
    let default: ClientSettingsSpec = serde_json::from_str("{}").map_err(|error| {
        Problem::stalled(
            reason::INVALID_SPEC,
            format!("the defaults of ClientSettings cannot be read: {error}"),
        )
    })?;
    Ok([
        ("scanOnCatalogueChange", spec.scan_on_catalogue_change != default.scan_on_catalogue_change),
        ("scanRetry", spec.scan_retry != default.scan_retry),
        ("longPoll", spec.long_poll != default.long_poll),
        ("cycleSpread", spec.cycle_spread != default.cycle_spread),
        ("generalWindowsWithUpdateWindows", spec.general_windows_with_update_windows),
        ("download", spec.download != default.download),
        ("agentUpdate", spec.agent_update != default.agent_update),
    ]
    .into_iter()
    .filter_map(|(field, set)| set.then_some(field))
    .collect())
}

#[cfg(test)]
mod tests {
    use jiff::civil;

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
        let yaml = "collection: lab\npriority: 10\ngracePeriod: 2h\nscanInterval: 1d\nenabled: false\nlongPoll: false\n";
        let (settings, missing) = validate("lab", &serde_saphyr::from_str(yaml).unwrap()).unwrap();
        assert!(settings.priority > -10_000);
        assert_eq!((settings.enabled, settings.grace_period.as_hours()), (false, 2));
        assert_eq!(missing, ["longPoll"]);
    }

    /// R-UX-07, R-UX-08, domain.md 6.4.
    #[test]
    fn what_people_see_and_may_do_reaches_the_client() {
        let yaml = "reminders: {withinTheHour: 5m}\nrestart: {finalWarning: 2m, reminder: 1h}\n\
            businessHours: {from: '08:00', until: '18:00', weekdays: [Monday, Sunday]}\n\
            userSchedule: {time: '03:00', weekdays: [Saturday], userMayChange: true}\nuserActions: Administrators\n";
        let (settings, missing) = validate("default", &serde_saphyr::from_str(yaml).unwrap()).unwrap();
        assert_eq!(missing, Vec::<&str>::new());
        let people = settings.people;
        assert_eq!((people.remind_far.as_hours(), people.remind_hour.as_mins()), (48, 5));
        assert_eq!((people.final_warning.as_mins(), people.restart_reminder.as_hours()), (2, 1));
        assert_eq!(people.business_hours.weekdays, [1, 7].into());
        assert_eq!(people.business_hours.until, civil::time(18, 0, 0, 0));
        let schedule = people.user_schedule.unwrap();
        assert_eq!((schedule.time, schedule.weekdays), (civil::time(3, 0, 0, 0), [6].into()));
        assert!(schedule.user_may_change);
        assert_eq!(people.user_actions, UserActions::Administrators);
        let wrong = serde_saphyr::from_str("userSchedule: {time: '3 Uhr'}\n").unwrap();
        assert!(validate("default", &wrong).unwrap_err().message.contains("userSchedule.time"));
    }

    #[test]
    fn a_limit_that_cannot_be_honoured_is_not_passed_over() {
        let spec = serde_saphyr::from_str("download: {bandwidth: 1Mi}\n").unwrap();
        assert_eq!(validate("slow", &spec).unwrap_err().reason, reason::RESTRICTION_NOT_BUILT);
    }
}
