//! Where a value of a policy comes from, as far as the policy itself does not tell it already.

use std::collections::BTreeMap;

use jiff::{
    Timestamp,
    tz::{self, TimeZone},
};
use patchtide_model::{UpdateId, policy::DeploymentPolicy};

use crate::times;

/// For each update that several of `deployments` name: whose deadline wins. The earliest does (R-DEPL-41); where it depends
/// on a client's zone which one that is, all that can be are named.
pub(super) fn of(deployments: &[DeploymentPolicy]) -> BTreeMap<String, String> {
    let mut naming: BTreeMap<&UpdateId, Vec<usize>> = BTreeMap::new();
    for (n, deployment) in deployments.iter().enumerate() {
        for id in &deployment.updates {
            naming.entry(id).or_default().push(n);
        }
    }
    let deadlines: Vec<[Option<Timestamp>; 2]> = deployments.iter().map(deadlines).collect();
    let mut found = BTreeMap::new();
    for (id, naming) in naming.into_iter().filter(|(_, naming)| naming.len() > 1) {
        let mut first: Vec<usize> = (0..2)
            .filter_map(|end| {
                let earliest = |n: &&usize| (deadlines[**n][end].is_none(), deadlines[**n][end], **n);
                naming.iter().min_by_key(earliest).copied()
            })
            .collect();
        first.sort_unstable();
        first.dedup();
        let names: Vec<String> =
            first.iter().map(|n| format!("UpdateDeployment/{}", deployments[*n].name)).collect();
        found.insert(format!("updates.{id}.deadline"), names.join(" or "));
    }
    found
}

/// The deadline in the most eastern and the most western zone there is.
fn deadlines(deployment: &DeploymentPolicy) -> [Option<Timestamp>; 2] {
    [14, -12].map(|hours| {
        let zone = TimeZone::fixed(tz::offset(hours));
        times::deadline(&deployment.settings, deployment.anchor, &zone)
    })
}
