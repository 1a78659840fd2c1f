//! The books of states, as they are found when the agent starts.

use jiff::Timestamp;
use patchtide_model::state::ClosedSet;
use patchtide_planner::client::{Books, Entry};
use patchtide_protocol::state::StateBody;

use crate::report::Current;

/// The books as the messages say: those are written first, and what the site was told is what counts. The file of the
/// books adds since when, and the lease, where it speaks of the same state.
pub(super) fn told(file: &Books, current: &Current, now: Timestamp) -> Books {
    let mut books = Books::default();
    for body in current.values() {
        match body {
            StateBody::Update { update, state, .. } => {
                let known = file.updates.get(update);
                books.updates.insert(update.clone(), entry(*state, known, now));
            }
            StateBody::Enforcement { deployment, state, .. } => {
                let known = file.deployments.get(deployment).and_then(|known| known.enforcement.as_ref());
                books.deployments.entry(deployment.clone()).or_default().enforcement =
                    Some(entry(*state, known, now));
            }
            StateBody::Evaluation { deployment, state } => {
                let known = file.deployments.get(deployment).and_then(|known| known.evaluation.as_ref());
                books.deployments.entry(deployment.clone()).or_default().evaluation =
                    Some(entry(*state, known, now));
            }
            StateBody::Compliance { deployment, state } => {
                let known = file.deployments.get(deployment).and_then(|known| known.compliance.as_ref());
                books.deployments.entry(deployment.clone()).or_default().compliance =
                    Some(entry(*state, known, now));
            }
            StateBody::Facts { .. }
            | StateBody::Scan { .. }
            | StateBody::Detection(_)
            | StateBody::Heartbeat {} => {}
        }
    }
    books
}

fn entry<S: ClosedSet>(state: S, known: Option<&Entry<S>>, now: Timestamp) -> Entry<S> {
    known.filter(|known| known.state == state).cloned().unwrap_or(Entry {
        state,
        since: now,
        lease: None,
        renewals: 0,
    })
}
