//! How the deployments in force look, for their status: the same arithmetic, from the beginning of each deployment on and
//! without what clients reported, so that nothing in it moves while nothing changes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::{Digest, ObjectName, UpdateId, client::Client, deployment::Deployment, shared::Shared};

use super::{
    classes::Side,
    outlook::{Outlook, outlook},
    work::{Restart, Work},
};
use crate::site::{SiteInput, SitePlan};

/// How a deployment in force looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Reckoned with its longest update for every client.
    pub outlook: Outlook,
    /// Clients that may be restarted because of it.
    pub may_restart: u64,
    /// Bytes that distribution points have yet to get for it.
    pub distribute_bytes: u64,
}

impl Standing {
    /// Over all of it: another one is another plan.
    pub fn hash(&self) -> Digest {
        let parts = (&self.outlook, self.may_restart, self.distribute_bytes);
        Digest::of(&serde_json::to_vec(&parts).unwrap_or_default())
    }
}

/// All deployments of a compiled site. `clients` stand in place of those of `input`.
pub fn standing(
    input: &SiteInput,
    clients: &[Shared<Client>],
    plan: &SitePlan,
) -> BTreeMap<ObjectName, Standing> {
    let unasked = BTreeMap::new();
    let side = Side::new(input, clients, plan, &unasked, Timestamp::UNIX_EPOCH);
    let work = side.work();
    let of = |deployment: &Deployment| Standing {
        outlook: outlook(&side, &work, deployment, deployment.anchor),
        may_restart: may_restart(&side, &work, deployment),
        distribute_bytes: distribute_bytes(input, deployment),
    };
    let deployments = input.objects.deployments.iter();
    deployments.map(|(name, deployment)| (name.clone(), of(deployment))).collect()
}

fn may_restart(side: &Side<'_>, work: &Work, deployment: &Deployment) -> u64 {
    let concerned = side.classes.iter().zip(&work.duties).filter(|(class, duties)| {
        let at = class.body.deployments.binary_search_by(|policy| policy.uid.cmp(&deployment.uid));
        let duty = at.ok().and_then(|at| duties.get(at));
        duty.is_some_and(|duty| duty.ceiling >= Restart::Possible)
    });
    concerned.map(|(class, _)| u64::try_from(class.clients.len()).unwrap_or(u64::MAX)).sum()
}

/// Over the points of every package that holds one of its updates.
fn distribute_bytes(input: &SiteInput, deployment: &Deployment) -> u64 {
    let mut missing: BTreeMap<(&ObjectName, Digest), u64> = BTreeMap::new();
    let mine: BTreeSet<&UpdateId> = deployment.updates.iter().collect();
    for package in input.objects.packages.values() {
        for id in package.updates.iter().filter(|id| mine.contains(id)) {
            let (Some(update), Some(required)) = (input.updates.get(id), input.required_leaves.get(id))
            else {
                continue;
            };
            for leaf in update.leaves.iter().filter(|leaf| required.contains(&leaf.reference())) {
                let file = leaf.file.sha256;
                let holders = input.holders.as_ref().and_then(|holders| holders.get(&file));
                let absent = |point: &&ObjectName| holders.is_none_or(|holders| !holders.contains(*point));
                for point in package.distribution_points.iter().filter(absent) {
                    missing.insert((point, file), leaf.file.size);
                }
            }
        }
    }
    missing.values().sum()
}
