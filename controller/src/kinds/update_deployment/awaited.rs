//! Content that clients of a deployment wait for. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use patchtide_model::{ClientId, Digest, UpdateId, deployment::Deployment, policy::PolicyBody};
use patchtide_planner::site::{SitePlan, Verdict};

/// Says how many clients wait for which content of the deployment; none: every file is on a distribution point that
/// they reach.
pub fn message(plan: &SitePlan, targeted: &BTreeSet<ClientId>, deployment: &Deployment) -> Option<String> {
    // Clients share bodies; each is looked at once.
    let mut seen: BTreeMap<*const PolicyBody, usize> = BTreeMap::new();
    let (mut files, mut updates, mut clients) = (BTreeSet::new(), BTreeSet::new(), 0_usize);
    for client in targeted {
        let Some(Verdict::Policy(body)) = plan.policies.get(client) else { continue };
        let waits = *seen.entry(Arc::as_ptr(body)).or_insert_with(|| {
            let found = awaited(body, deployment);
            let count = found.len();
            for (update, file) in found {
                updates.insert(update.clone());
                files.insert(file);
            }
            count
        });
        clients += usize::from(waits > 0);
    }
    let first = updates.first()?;
    Some(format!(
        "{clients} clients wait for the content of {} updates, first {first}: {} files are on no distribution point that they reach yet; the status of their deployment packages says how far these are",
        updates.len(),
        files.len()
    ))
}

fn awaited<'a>(body: &'a PolicyBody, deployment: &'a Deployment) -> Vec<(&'a UpdateId, Digest)> {
    let mine = deployment.updates.iter().filter_map(|id| Some((id, body.updates.get(id)?)));
    mine.flat_map(|(id, update)| update.leaves.iter().map(move |leaf| (id, leaf.file.sha256)))
        .filter(|(_, file)| body.awaited.contains(file))
        .collect()
}
