//! What a package refers to.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use patchtide_crds::{DeploymentPackage, deployment_package::ContentScope};
use patchtide_intent::{distribution_point::is_held, update_list::identities};
use patchtide_model::{
    Digest, ObjectName, UpdateId,
    catalogue::{Leaf, LeafRef, Update},
    deployment::Available,
};

use super::{PACKAGE_CONTENT, plan::Content};
use crate::{
    context::Context,
    dependencies,
    error::Failure,
    kinds::{database, update_list},
};

/// Everything that the plan needs beside the spec.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Updates meant that the catalogue knows.
    pub updates: BTreeMap<UpdateId, Update>,
    /// Leaves that clients require.
    pub required: BTreeMap<UpdateId, BTreeSet<LeafRef>>,
    /// Packages that updates newly depend on, with the update they belong to.
    pub dependencies: Vec<(UpdateId, Leaf)>,
    /// Such packages that sources disagree about.
    pub conflicts: BTreeMap<LeafRef, (UpdateId, UpdateId)>,
    /// Roots of the archives by source name.
    pub archives: BTreeMap<String, String>,
    /// Distribution points that get it.
    pub points: BTreeSet<ObjectName>,
    /// Distribution points that nothing may be sent to for the time being.
    pub held_points: usize,
    /// Lists that do not exist or are not resolved.
    pub missing_lists: Vec<String>,
    /// Distribution points that do not exist.
    pub missing_points: Vec<String>,
    /// Start times of deployments that share updates with the package: a change of one is a new version.
    pub starts: BTreeMap<String, Available>,
    /// What was planned before.
    pub before: Option<Content>,
}

/// Reads what the package refers to.
pub async fn dereference(ctx: &Context, object: &DeploymentPackage) -> Result<Inputs, Failure> {
    let spec = &object.spec;
    let mut inputs = Inputs::default();
    let row =
        ctx.store.object(PACKAGE_CONTENT, &object.name_any()).await.map_err(|error| database(&error))?;
    inputs.before = row
        .filter(|row| Some(&row.uid) == object.uid().as_ref())
        .and_then(|row| serde_json::from_str(&row.json).ok());
    let mut ids = identities(&spec.pinned())?;
    for list in &spec.update_lists {
        match update_list::members(ctx, list).await? {
            Some(members) => ids.extend(members),
            None => inputs.missing_lists.push(list.clone()),
        }
    }
    let list: Vec<UpdateId> = ids.iter().cloned().collect();
    inputs.updates = ctx.store.updates(&list).await.map_err(|error| database(&error))?;
    if spec.content == ContentScope::Required && !ids.is_empty() {
        inputs.required = ctx.store.required_leaves(&ids).await.map_err(|error| database(&error))?;
        let mut needed = ctx.store.needed_leaves().await.map_err(|error| database(&error))?;
        needed.extend(inputs.before.iter().flat_map(|before| before.dependencies.iter().cloned()));
        let before = inputs.before.as_ref();
        let held = |file: &Digest| before.is_some_and(|before| before.files.contains_key(file));
        let found = dependencies::find(ctx, needed, &ids, held).await.map_err(|error| database(&error))?;
        inputs.dependencies = found.leaves.into_values().collect();
        inputs.conflicts = found.conflicts;
    }
    for point in ctx.caches.software_update_points.all() {
        for source in &point.spec.sources {
            if let Some(apt) = &source.apt {
                inputs.archives.insert(source.name.clone(), apt.url.clone());
            }
        }
    }
    let known = ctx.caches.distribution_points.names();
    let wanted: BTreeSet<String> = if spec.all_distribution_points {
        known.clone()
    } else {
        spec.distribution_points.iter().cloned().collect()
    };
    for name in wanted {
        let point = ctx.caches.distribution_points.get(&name);
        match (ObjectName::new(&name), point) {
            // Out of service: not waited for.
            (Ok(_), Some(point)) if is_held(&point.spec) => inputs.held_points += 1,
            (Ok(name), Some(_)) => {
                inputs.points.insert(name);
            }
            _ => inputs.missing_points.push(name),
        }
    }
    let objects = ctx.store.load_objects().await.map_err(|error| database(&error))?;
    for deployment in objects.deployments.values() {
        if deployment.updates.iter().any(|id| ids.contains(id)) {
            inputs.starts.insert(deployment.uid.clone(), deployment.settings.available);
        }
    }
    Ok(inputs)
}
