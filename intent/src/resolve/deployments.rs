//! Deployments: references pinned or followed, settings merged.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_crds::{UpdateDeployment, conditions::reason};
use patchtide_model::{ObjectName, UpdateId, catalogue::Update, deployment::Deployment};

use super::{Ground, Resolution, Resources};
use crate::{
    Problem, deployment_template,
    update_deployment::{Inputs, begun, pin, pin::Memory, validate},
    update_list::identities,
};

/// Every deployment. One that cannot be accepted stays as it was; a hold is obeyed all the same.
pub(super) fn resolve(resources: &Resources, ground: &Ground<'_>, resolution: &mut Resolution) {
    for (name, object) in &resources.deployments {
        match deployment(resources, ground, resolution, name, object) {
            Ok((deployment, memory)) => {
                resolution.objects.deployments.insert(name.clone(), deployment);
                resolution.pinned.insert(name.clone(), memory);
            }
            Err(problem) => {
                if problem.reason == reason::RESTRICTION_NOT_BUILT {
                    let target = object.spec.collection.as_ref().and_then(|name| ObjectName::new(name).ok());
                    resolution.block("UpdateDeployment", name.as_str(), &problem.message, target);
                }
                resolution.tell("UpdateDeployment", name.as_str(), problem);
                if let Some(mut old) = ground.before.deployments.get(name).cloned() {
                    old.suspend |= object.spec.suspend;
                    resolution.objects.deployments.insert(name.clone(), old);
                }
                if let Some(memory) = ground.pinned.get(name) {
                    resolution.pinned.insert(name.clone(), memory.clone());
                }
            }
        }
    }
}

fn deployment(
    resources: &Resources,
    ground: &Ground<'_>,
    resolution: &Resolution,
    name: &ObjectName,
    object: &UpdateDeployment,
) -> Result<(Deployment, Memory), Problem> {
    let spec = &object.spec;
    // One that came back under another UID is another one, with nothing remembered.
    let before = ground
        .before
        .deployments
        .get(name)
        .filter(|before| object.metadata.uid.as_ref().is_none_or(|uid| *uid == before.uid));
    let template = match &spec.template {
        None => None,
        Some(wanted) => {
            let found = ObjectName::new(wanted).ok().and_then(|name| resources.templates.get(&name));
            let template = found.ok_or_else(|| Problem::missing("deployment template", wanted))?;
            Some((deployment_template::digest(&template.spec), template.spec.clone()))
        }
    };
    let members = match &spec.update_list {
        None => None,
        Some(wanted) => {
            let list = ObjectName::new(wanted).map_err(|_| Problem::missing("update list", wanted))?;
            if !resources.lists.contains_key(&list) {
                return Err(Problem::missing("update list", wanted));
            }
            let members = resolution.lists.get(&list).ok_or_else(|| {
                Problem::wait(
                    reason::DEPENDENCY_NOT_READY,
                    format!("update list {wanted} is not resolved yet"),
                )
            })?;
            Some(members.members.clone())
        }
    };
    let memory = before.and_then(|_| ground.pinned.get(name)).cloned().unwrap_or_default();
    let own = identities(&spec.pinned_updates())?;
    let remembered = memory.list.iter().flat_map(|list| &list.members);
    let ids: BTreeSet<&UpdateId> = own.iter().chain(members.iter().flatten()).chain(remembered).collect();
    let known: BTreeMap<UpdateId, Update> =
        ids.into_iter().filter_map(|id| Some((id.clone(), ground.known.get(id)?.clone()))).collect();
    let inputs = Inputs {
        template,
        members,
        memory,
        known,
        own,
        anchor: before.map_or_else(|| begun(object, ground.now), |before| before.anchor),
        collections: resources.collections.keys().map(ToString::to_string).collect(),
    };
    let pinned = pin(spec, &inputs)?;
    let (mut deployment, ..) = validate(object, &inputs, &pinned)?;
    if deployment.uid.is_empty() {
        // Not in a cluster yet: the one it would change, or one that is going to be made.
        deployment.uid = before.map_or_else(|| format!("planned/{name}"), |before| before.uid.clone());
    }
    Ok((deployment, pinned.memory))
}
