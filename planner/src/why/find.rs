//! One deployment or some updates of an explanation, as people name them.

use patchtide_model::UpdateId;

use super::{Explanation, UpdateWhy};
use crate::client::{Gate, GateKind};

/// Whether somebody who says `asked` may mean this update: its identity or a part of it, its source, its slug.
pub fn names(id: &UpdateId, asked: &str) -> bool {
    is_exactly(id, asked) || (!asked.is_empty() && id.to_string().contains(asked))
}

fn is_exactly(id: &UpdateId, asked: &str) -> bool {
    id.source == asked || id.to_string() == asked || id.slug() == asked
}

/// The part of an explanation that is about `asked`: a deployment by its name, with its updates; or updates, with the
/// deployments that hold them: by source package, identity, or a package that the machine needs. What is named exactly goes before what is named in part. None: nothing is named so.
pub fn select(explanation: &Explanation, asked: &str) -> Option<Explanation> {
    let name = asked.strip_prefix("UpdateDeployment/").unwrap_or(asked);
    let mut chosen = explanation.clone();
    if explanation.deployments.iter().any(|deployment| deployment.name == name) {
        chosen.deployments.retain(|deployment| deployment.name == name);
        let held =
            |id: &UpdateId| chosen.deployments.iter().any(|deployment| deployment.updates.contains(id));
        chosen.updates.retain(|update| held(&update.id));
        return Some(chosen);
    }
    let exact = explanation.updates.iter().any(|update| is_exactly(&update.id, asked));
    let has = |update: &UpdateWhy| update.leaves.iter().any(|leaf| leaf.package == asked);
    let package = explanation.updates.iter().any(has);
    chosen.updates.retain(|update| match (exact, package) {
        (true, _) => is_exactly(&update.id, asked),
        (false, true) => has(update),
        (false, false) => names(&update.id, asked),
    });
    if chosen.updates.is_empty() {
        return None;
    }
    let held = |id: &UpdateId| chosen.updates.iter().any(|update| update.id == *id);
    chosen.deployments.retain(|deployment| deployment.updates.iter().any(held));
    Some(chosen)
}

/// The part of an explanation that reaches the client: no deployments that do not, no updates that only those name.
pub fn reaching(explanation: &Explanation) -> Explanation {
    let passes = |gates: &[Gate]| gates.iter().any(|gate| gate.kind == GateKind::Targeted && gate.is_open());
    let mut chosen = explanation.clone();
    chosen.deployments.retain(|deployment| passes(&deployment.gates));
    let held = |id: &UpdateId| chosen.deployments.iter().any(|deployment| deployment.updates.contains(id));
    chosen.updates.retain(|update| passes(&update.gates) || held(&update.id));
    chosen
}
