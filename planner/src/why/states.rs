//! States of the published sets, and by when each must move.

use jiff::Timestamp;
use patchtide_model::state::{Evaluation, LONGEST_END, LeaseKind, Leased, Scan, StateError};
use serde::{Deserialize, Serialize};

use crate::client::{ClientView, DeploymentVerdict, Lease, limits};

/// A state of a published set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Published number.
    pub id: u8,
    /// Published name.
    pub name: String,
    /// For a state that is not final: by when it must move, whatever the instant is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
}

/// By when a state must move, and what happens then, in words ([`Leased::lease_rule`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// By when.
    pub by: String,
    /// What happens then.
    pub then: String,
}

/// A state with its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateWhy {
    /// The state.
    pub state: Named,
    /// Error of a failed state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StateError>,
    /// By when it must move, where the instant is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

impl<S: Leased> From<S> for Named {
    fn from(state: S) -> Self {
        let rule = state.lease_rule().map(|rule| Rule { by: rule.by.to_owned(), then: rule.then.to_owned() });
        Self { id: state.id(), name: state.name().to_owned(), rule }
    }
}

/// How the scan stands, from the agent's books.
pub fn scan(view: &ClientView, now: Timestamp) -> StateWhy {
    let failure = view.scan.failure.as_ref();
    let state = match failure {
        _ if view.running.scan.is_some() => Scan::Running,
        Some(failure) if failure.error.symbol == "SCAN-SOURCE" => Scan::WaitingForCatalogue,
        Some(failure) if failure.count >= limits::SCAN_FAILED_AFTER => Scan::Failed,
        Some(_) => Scan::PendingRetry,
        None if view.scan.last.is_some() => Scan::Completed,
        None => Scan::Unknown,
    };
    let retry = failure.filter(|_| view.running.scan.is_none());
    let again = retry
        .and_then(|failure| failure.at.checked_add(limits::scan_retry(failure.count)).ok())
        .filter(|at| *at > now);
    StateWhy {
        state: state.into(),
        error: failure.map(|failure| failure.error.clone()),
        lease: again.map(|by| Lease::until(by, "running again")),
    }
}

/// An evaluation that goes on or failed.
pub fn evaluation(verdict: &DeploymentVerdict) -> Option<StateWhy> {
    (!matches!(verdict.evaluation, Evaluation::Succeeded | Evaluation::Unknown)).then(|| StateWhy {
        state: verdict.evaluation.into(),
        error: None,
        lease: verdict.evaluation_lease.clone(),
    })
}

/// The lease of a state that a client reported, where the site can know the instant.
pub(super) fn reported<S: Leased>(
    state: S,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Option<Lease> {
    let rule = state.lease_rule()?;
    let longest = || match rule.kind {
        LeaseKind::Ends => since?.checked_add(LONGEST_END).ok(),
        LeaseKind::Waits => None,
    };
    Some(Lease::until(until.or_else(longest)?, rule.then))
}
