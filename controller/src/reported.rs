//! What clients reported of a deployment, as the planner takes it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use patchtide_model::ClientId;
use patchtide_planner::site::status::ReportedState;
use patchtide_store::answers::DeploymentClientState;

/// The reports, and when their clients were last heard of, as far as that is known.
pub(crate) fn reported(
    clients: Vec<DeploymentClientState>,
) -> (Vec<ReportedState>, BTreeMap<ClientId, Timestamp>) {
    let heard = clients.iter().filter_map(|state| Some((state.client, state.heard?))).collect();
    let states = clients.into_iter().map(|state| ReportedState {
        client: state.client,
        enforcement: Some(state.enforcement),
        compliance: Some(state.compliance),
        until: state.until,
        error: state.error,
        changed_at: state.changed_at,
    });
    (states.collect(), heard)
}
