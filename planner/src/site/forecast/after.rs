//! What both sides of a comparison stand on: the same clients, catalogue and content.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{
    ClientId, UpdateId,
    catalogue::{LeafRef, Update},
    object::SiteObjects,
};

use crate::{
    site::SiteInput,
    snapshot::{ClientReport, Snapshot},
};

/// Of every update the leaves that clients named as missing.
pub fn known_leaves(reports: &BTreeMap<ClientId, ClientReport>) -> BTreeMap<UpdateId, BTreeSet<LeafRef>> {
    let mut leaves: BTreeMap<UpdateId, BTreeSet<LeafRef>> = BTreeMap::new();
    for (id, report) in reports.values().flat_map(|report| &report.updates) {
        if report.leaves.is_empty() {
            continue;
        }
        // Most clients lack the same leaves.
        match leaves.get_mut(id) {
            Some(known) => known.extend(
                report.leaves.iter().filter(|leaf| !known.contains(leaf)).cloned().collect::<Vec<_>>(),
            ),
            None => drop(leaves.insert(id.clone(), report.leaves.clone())),
        }
    }
    leaves
}

/// A site without its objects, with what is known of every update that some of these objects name.
#[derive(Debug, Clone)]
pub struct Tables {
    base: SiteInput,
}

impl Tables {
    /// For objects that name at most these updates.
    pub fn new<'a>(snapshot: &Snapshot, objects: impl IntoIterator<Item = &'a SiteObjects>) -> Self {
        let mut base = SiteInput { objects: SiteObjects::default(), ..snapshot.input.clone() };
        let named: BTreeSet<&UpdateId> = objects.into_iter().flat_map(updates_of).collect();
        let missing: BTreeSet<&UpdateId> =
            named.into_iter().filter(|id| !base.updates.contains_key(id)).collect();
        let catalogue = snapshot.catalogue.iter().flatten().map(|entry| &entry.update);
        let found: Vec<Update> = catalogue.filter(|update| missing.contains(&update.id)).cloned().collect();
        let leaves = known_leaves(&snapshot.reports);
        for update in found {
            if let Some(leaves) = leaves.get(&update.id) {
                base.required_leaves.entry(update.id.clone()).or_default().extend(leaves.iter().cloned());
            }
            base.updates.insert(update.id.clone(), update);
        }
        Self { base }
    }

    /// The site with these objects.
    pub fn input(&self, objects: SiteObjects) -> SiteInput {
        SiteInput { objects, ..self.base.clone() }
    }
}

/// What deployments and packages name.
fn updates_of(objects: &SiteObjects) -> impl Iterator<Item = &UpdateId> {
    let deployed = objects.deployments.values().flat_map(|deployment| &deployment.updates);
    deployed.chain(objects.packages.values().flat_map(|package| &package.updates))
}
