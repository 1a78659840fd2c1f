//! What is wrong with an object, and the few texts that every kind reads in the same way.

use jiff::{SignedDuration, civil};
use patchtide_crds::{DurationText, conditions::reason};
use patchtide_model::ObjectName;

/// Why an object cannot be brought into force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// Whether something else must come first; otherwise only a change of the object itself helps.
    pub waits: bool,
    /// Reason in `CamelCase`, as conditions name it.
    pub reason: &'static str,
    /// The field, what is wrong with it, and what to do.
    pub message: String,
}

impl Problem {
    /// Only a change of the object helps.
    pub fn stalled(reason: &'static str, message: impl Into<String>) -> Self {
        Self { waits: false, reason, message: message.into() }
    }

    /// An object that this one names is not there.
    pub fn missing(what: &str, name: &str) -> Self {
        let message = format!("{what} {name} does not exist: create it or name another one");
        Self::wait(reason::DEPENDENCY_NOT_READY, message)
    }

    /// Something else must come first.
    pub fn wait(reason: &'static str, message: impl Into<String>) -> Self {
        Self { waits: true, reason, message: message.into() }
    }
}

/// A name of a custom resource in domain form. The API server has checked it already.
pub fn object_name(name: &str) -> Result<ObjectName, Problem> {
    ObjectName::new(name).map_err(|error| Problem::stalled(reason::INVALID_SPEC, error.to_string()))
}

/// A length of time, with the field that names it.
pub fn duration(field: &str, text: &DurationText) -> Result<SignedDuration, Problem> {
    let seconds = text
        .seconds()
        .map_err(|error| Problem::stalled(reason::INVALID_SPEC, format!("{field}: {error}")))?;
    Ok(SignedDuration::from_secs(seconds))
}

/// A day `YYYY-MM-DD`, with the field that names it.
pub fn date(field: &str, text: &str) -> Result<civil::Date, Problem> {
    text.parse().map_err(|_| {
        Problem::stalled(
            reason::INVALID_SPEC,
            format!("{field}: {text} is no day of the calendar: write YYYY-MM-DD"),
        )
    })
}

/// A time of day `HH:MM`, with the field that names it.
pub fn time_of_day(field: &str, text: &str) -> Result<civil::Time, Problem> {
    let invalid = || {
        Problem::stalled(
            reason::INVALID_SPEC,
            format!("{field}: {text} is no time of day: write HH:MM, for example 02:00"),
        )
    };
    let (hour, minute) = text.split_once(':').ok_or_else(invalid)?;
    let number = |text: &str| text.parse::<i8>().map_err(|_| invalid());
    civil::Time::new(number(hour)?, number(minute)?, 0, 0).map_err(|_| invalid())
}
