//! How a reconcile ends, and what follows from that: conditions and the next run, decided in one function.

use std::{error::Error, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use patchtide_crds::{
    StatusContract,
    conditions::{self, reason},
};
use patchtide_intent::Problem;

/// Shortest wait after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// Longest wait after a failure. Watches wake earlier whenever something changes.
const LONGEST_RETRY: Duration = Duration::from_mins(5);
/// A waiting object is looked at this often although a watch should wake it.
const SAFETY_NET: Duration = Duration::from_mins(1);

/// How a failed reconcile goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Only a person can help: `Stalled`, and no retry until the object changes.
    Stalled,
    /// Something else must come first; a watch wakes the object when it does.
    Wait,
    /// Try again, each time a little later.
    Retry,
}

/// An error that knows how its reconcile goes on.
pub trait Classify: Error {
    /// How it goes on.
    fn disposition(&self) -> Disposition;
    /// Reason in `CamelCase`, for the condition and the event.
    fn reason(&self) -> &'static str;
}

/// A reconcile that did not reach its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How it goes on.
    pub disposition: Disposition,
    /// Reason in `CamelCase`.
    pub reason: &'static str,
    /// What happened and what to do, with every cause.
    pub message: String,
    /// Look again after this time instead of the usual back-off.
    pub again: Option<Duration>,
}

impl Failure {
    /// The same, to be looked at again after `after`.
    #[must_use]
    pub fn again(self, after: Duration) -> Self {
        Self { again: Some(after), ..self }
    }

    /// Only a person can help.
    pub fn stalled(reason: &'static str, message: impl Into<String>) -> Self {
        Self { disposition: Disposition::Stalled, reason, message: message.into(), again: None }
    }

    /// Something else must come first.
    pub fn wait(reason: &'static str, message: impl Into<String>) -> Self {
        Self { disposition: Disposition::Wait, reason, message: message.into(), again: None }
    }

    /// Try again.
    pub fn retry(reason: &'static str, message: impl Into<String>) -> Self {
        Self { disposition: Disposition::Retry, reason, message: message.into(), again: None }
    }

    /// Try again after `doing` failed with `error`; the message carries the chain of causes.
    pub fn of(doing: &str, error: &dyn Error) -> Self {
        Self::retry(reason::RECONCILIATION_FAILED, format!("{doing}: {}", chain(error)))
    }
}

impl<E: Classify> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { disposition: error.disposition(), reason: error.reason(), message: chain(&error), again: None }
    }
}

impl Classify for Problem {
    fn disposition(&self) -> Disposition {
        if self.waits { Disposition::Wait } else { Disposition::Stalled }
    }

    fn reason(&self) -> &'static str {
        self.reason
    }
}

/// An error with all its causes, as one sentence.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// A reconcile that reached its end, or is under way without a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This generation is accepted, resolved and in force.
    Ready {
        /// Reason in `CamelCase`.
        reason: &'static str,
        /// One line for people.
        message: String,
        /// Look again after this time, although nothing changed.
        again: Option<Duration>,
    },
    /// At work.
    Progressing {
        /// What is being done.
        message: String,
        /// Look again after this time.
        again: Option<Duration>,
    },
    /// Nothing can be said yet that is better than what the status says.
    Unchanged,
    /// Suspended by its spec: accepted, and nothing is done.
    Suspended {
        /// One line for people.
        message: String,
    },
}

impl Outcome {
    /// In force, with nothing to wait for.
    pub fn ready(message: impl Into<String>) -> Self {
        Self::Ready { reason: reason::RECONCILIATION_SUCCEEDED, message: message.into(), again: None }
    }

    /// The same, to be looked at again after `again`.
    #[must_use]
    pub fn again(self, after: Duration) -> Self {
        match self {
            Self::Ready { reason, message, again: old } => {
                Self::Ready { reason, message, again: Some(old.map_or(after, |old| old.min(after))) }
            }
            Self::Progressing { message, again: old } => {
                Self::Progressing { message, again: Some(old.map_or(after, |old| old.min(after))) }
            }
            other @ (Self::Suspended { .. } | Self::Unchanged) => other,
        }
    }
}

/// When an object is to be looked at again although nothing wakes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// After this time; none: only when something changes.
    pub again: Option<Duration>,
}

/// Writes the end of a reconcile into the conditions and says when to look again. `failures` counts the failed runs
/// in a row before this one.
pub fn conclude<S: StatusContract>(
    status: &mut S,
    generation: i64,
    now: &Time,
    result: &Result<Outcome, Failure>,
    failures: u32,
) -> Action {
    match result {
        Ok(Outcome::Ready { reason, message, again }) => {
            conditions::ready(status, generation, now, reason, message);
            Action { again: *again }
        }
        Ok(Outcome::Progressing { message, again }) => {
            conditions::progressing(status, generation, now, message);
            Action { again: again.or(Some(SAFETY_NET)) }
        }
        Ok(Outcome::Unchanged) => Action { again: Some(SAFETY_NET) },
        Ok(Outcome::Suspended { message }) => {
            conditions::ready(status, generation, now, reason::SUSPENDED, message);
            Action { again: None }
        }
        Err(failure) => {
            let message = &failure.message;
            match failure.disposition {
                Disposition::Stalled => {
                    conditions::stalled(status, generation, now, failure.reason, message);
                    Action { again: None }
                }
                Disposition::Wait => {
                    conditions::retrying(status, generation, now, failure.reason, message);
                    Action { again: failure.again.or(Some(SAFETY_NET)) }
                }
                Disposition::Retry => {
                    conditions::retrying(status, generation, now, failure.reason, message);
                    Action { again: failure.again.or_else(|| Some(backoff(failures))) }
                }
            }
        }
    }
}

/// Two seconds, doubled with each failure in a row, at most five minutes.
fn backoff(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1_u32 << failures.min(10)).min(LONGEST_RETRY)
}

#[cfg(test)]
mod tests {
    use patchtide_crds::{SiteStatus, conditions::violations};

    use super::*;

    #[test]
    fn every_end_keeps_the_contract_that_flux_checks() {
        let now = Time(jiff::Timestamp::from_second(1).unwrap());
        let ends: Vec<Result<Outcome, Failure>> = vec![
            Ok(Outcome::ready("in force")),
            Ok(Outcome::Suspended { message: "held".into() }),
            Err(Failure::stalled(reason::INVALID_SPEC, "no")),
            Err(Failure::wait(reason::DEPENDENCY_NOT_READY, "no collection all")),
            Err(Failure::retry(reason::RECONCILIATION_FAILED, "database is away")),
        ];
        // Every order of two ends: what one leaves behind must not break the other.
        for first in &ends {
            for second in &ends {
                let mut status = SiteStatus::default();
                conclude(&mut status, 1, &now, first, 0);
                assert_eq!(violations(&status, 1, true), Vec::<String>::new());
                conclude(&mut status, 2, &now, second, 1);
                assert_eq!(violations(&status, 2, true), Vec::<String>::new(), "{first:?} then {second:?}");
            }
        }
    }

    #[test]
    fn retries_back_off_to_a_limit_and_stalled_objects_rest() {
        let now = Time(jiff::Timestamp::UNIX_EPOCH);
        let mut status = SiteStatus::default();
        let failed = Err(Failure::retry(reason::SYNC_FAILED, "no route"));
        let again =
            |n, status: &mut SiteStatus| conclude(status, 1, &now, &failed, n).again.unwrap().as_secs();
        assert_eq!([0, 1, 2, 30].map(|n| again(n, &mut status)), [2, 4, 8, 300]);
        let stalled = Err(Failure::stalled(reason::INVALID_SPEC, "no"));
        assert_eq!(conclude(&mut status, 1, &now, &stalled, 0).again, None);
    }
}
