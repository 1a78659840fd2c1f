//! Searches, lists and packages.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_crds::{
    DeploymentPackage, UpdateList, conditions::reason, distribution_point::DistributionPointSpec,
    search_folder::SearchCriteria,
};
use patchtide_model::{
    ObjectName, UpdateId,
    object::{DeploymentPackage as Package, SiteObjects},
};

use super::{Ground, Resolution, Resources};
use crate::{
    Problem,
    distribution_point::is_held,
    search_folder::{Known, Query},
    update_list::{self, Members, identities, refresh_due},
};

/// What every list holds.
pub(super) fn resolve(resources: &Resources, ground: &Ground<'_>, resolution: &mut Resolution) {
    for (name, list) in &resources.lists {
        let old = ground.lists.get(name).cloned().unwrap_or_default();
        match members(resources, ground, list, &old) {
            Ok(members) => drop(resolution.lists.insert(name.clone(), members)),
            Err(problem) => {
                resolution.tell("UpdateList", name.as_str(), problem);
                if let Some(old) = ground.lists.get(name) {
                    resolution.lists.insert(name.clone(), old.clone());
                }
            }
        }
    }
}

fn members(
    resources: &Resources,
    ground: &Ground<'_>,
    list: &UpdateList,
    old: &Members,
) -> Result<Members, Problem> {
    let pinned = identities(&list.spec.pinned())?;
    let due = refresh_due(list, old, ground.now)?;
    let found = match &list.spec.search_folder {
        Some(reference) if due.now => {
            let folder = ObjectName::new(&reference.name).ok().and_then(|name| resources.folders.get(&name));
            let Some(folder) = folder else {
                return Err(Problem::missing("search folder", &reference.name));
            };
            Some(search(&folder.spec.criteria, ground)?)
        }
        _ => None,
    };
    let folder = list.spec.search_folder.as_ref().map(|folder| folder.name.clone());
    Ok(update_list::plan(old, folder, &pinned, found.as_ref(), &list.spec.exclusions, ground.known))
}

/// The updates that meet `criteria`.
pub(super) fn search(criteria: &SearchCriteria, ground: &Ground<'_>) -> Result<BTreeSet<UpdateId>, Problem> {
    let query = Query::new(criteria, ground.now)?;
    let Some(catalogue) = ground.catalogue else {
        return Err(Problem::wait(
            reason::DEPENDENCY_NOT_READY,
            "the catalogue is not here, so a search finds nothing: take a snapshot with its catalogue",
        ));
    };
    let known = Known { deployed: deployed(ground.before), present: ground.present.clone() };
    let meets = |id: &UpdateId| {
        let counts = catalogue.get(id).copied().unwrap_or_default();
        ground.known.get(id).is_some_and(|update| {
            query.coarse.matches(update, counts.required)
                && query.matches(update, counts.required, counts, &known)
        })
    };
    Ok(catalogue.keys().filter(|id| meets(id)).cloned().collect())
}

fn deployed(objects: &SiteObjects) -> BTreeSet<UpdateId> {
    objects.deployments.values().flat_map(|deployment| deployment.updates.iter().cloned()).collect()
}

/// What every package holds, and where.
pub(super) fn packages(resources: &Resources, ground: &Ground<'_>, resolution: &mut Resolution) {
    for (name, object) in &resources.packages {
        match package(resources, ground, &resolution.lists, name, object) {
            Ok(package) => drop(resolution.objects.packages.insert(name.clone(), package)),
            Err(problem) => {
                resolution.tell("DeploymentPackage", name.as_str(), problem);
                super::keep(&ground.before.packages, name, &mut resolution.objects.packages);
            }
        }
    }
}

fn package(
    resources: &Resources,
    ground: &Ground<'_>,
    lists: &BTreeMap<ObjectName, Members>,
    name: &ObjectName,
    object: &DeploymentPackage,
) -> Result<Package, Problem> {
    let spec = &object.spec;
    let mut ids = identities(&spec.pinned())?;
    for list in &spec.update_lists {
        let members = ObjectName::new(list).ok().and_then(|list| lists.get(&list));
        ids.extend(members.into_iter().flat_map(|members| members.members.iter().cloned()));
    }
    let offered = |id: &UpdateId| ground.known.get(id).is_some_and(|update| !update.expired);
    let in_service = |spec: &DistributionPointSpec| !is_held(spec);
    let points = resources.distribution_points.iter().filter(|(_, point)| in_service(&point.spec));
    let distribution_points = points
        .map(|(name, _)| name)
        .filter(|name| {
            spec.all_distribution_points
                || spec.distribution_points.iter().any(|wanted| wanted == name.as_str())
        })
        .cloned()
        .collect();
    let version = ground.before.packages.get(name).map_or(1, |before| before.version);
    Ok(Package {
        name: name.clone(),
        distribution_points,
        updates: ids.into_iter().filter(|id| offered(id)).collect(),
        version,
    })
}
