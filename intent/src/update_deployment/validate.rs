//! The deployment in domain form. Pure.

use std::collections::BTreeSet;

use kube::ResourceExt;
use patchtide_crds::{DeploymentSettings, UpdateDeployment, conditions::reason};
use patchtide_model::{UpdateId, deployment::Deployment};

use super::{Inputs, pin::Pinned, settings};
use crate::problem::{Problem, object_name};

/// Names shown of what is missing.
const SHOWN: usize = 5;

/// The deployment, the settings it came to in the form of the spec, and the fields without effect.
pub fn validate(
    object: &UpdateDeployment,
    inputs: &Inputs,
    pinned: &Pinned,
) -> Result<(Deployment, DeploymentSettings, Vec<&'static str>), Problem> {
    let spec = &object.spec;
    let template = pinned.template.as_ref();
    let collection =
        spec.collection.clone().or_else(|| template.and_then(|template| template.collection.clone()));
    let Some(collection) = collection else {
        return Err(Problem::stalled(
            reason::INVALID_SPEC,
            "collection: neither the deployment nor its template names one: name the collection to deploy to",
        ));
    };
    if !inputs.collections.contains(&collection) {
        return Err(Problem::missing("collection", &collection));
    }
    // No partial policy: what the spec itself names must be known.
    let unknown: Vec<String> =
        inputs.own.iter().filter(|id| !inputs.known.contains_key(id)).map(ToString::to_string).collect();
    if !unknown.is_empty() {
        let more = unknown.len().saturating_sub(SHOWN);
        let names = unknown.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return Err(Problem::wait(
            reason::REFERENCE_NOT_FOUND,
            format!(
                "updates: the catalogue does not know {names}{more}: synchronise the source that has them, or correct the identity"
            ),
        ));
    }
    let wish = settings::merge(template.map(|template| &template.settings), &spec.settings);
    let (resolved, missing) = settings::resolve(&wish)
        .map_err(|error| Problem::stalled(reason::INVALID_SPEC, error.to_string()))?;
    let updates: BTreeSet<UpdateId> = pinned
        .members
        .iter()
        .chain(&inputs.own)
        .filter(|id| inputs.known.get(id).is_some_and(|update| !update.expired))
        .cloned()
        .collect();
    let deployment = Deployment {
        name: object_name(&object.name_any())?,
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        collection: object_name(&collection)?,
        include_subcollections: spec
            .include_subcollections
            .or_else(|| template.and_then(|template| template.include_subcollections))
            .unwrap_or_default(),
        suspend: spec.suspend,
        settings: resolved,
        updates: updates.into_iter().collect(),
        anchor: inputs.anchor,
        provenance: settings::provenance(&object.name_any(), spec, pinned),
    };
    Ok((deployment, wish, missing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        testing::update,
        update_deployment::pin::{Memory, pin},
    };

    const OPENSSL: &str = "debian/bookworm-security/main:openssl@3.0.22-1";

    #[expect(clippy::unwrap_in_result, reason = "the fixture itself must be readable")]
    fn deployment(spec: &str, collections: &[&str], known: &[&str]) -> Result<Deployment, Problem> {
        let yaml = format!(
            "apiVersion: patchtide.dev/v1alpha1\nkind: UpdateDeployment\nmetadata: {{name: tuesday, namespace: prod, uid: u-1, generation: 3}}\nspec: {spec}\n"
        );
        let object: UpdateDeployment = serde_saphyr::from_str(&yaml).unwrap();
        let inputs = Inputs {
            template: None,
            members: None,
            memory: Memory::default(),
            known: known.iter().map(|id| (id.parse().unwrap(), update(id))).collect(),
            own: object.spec.updates.iter().map(|id| id.parse().unwrap()).collect(),
            anchor: jiff::Timestamp::UNIX_EPOCH,
            collections: collections.iter().map(|&name| name.to_owned()).collect(),
        };
        let pinned = pin(&object.spec, &inputs)?;
        validate(&object, &inputs, &pinned).map(|(deployment, ..)| deployment)
    }

    #[test]
    fn a_deployment_carries_its_identity_and_generation() {
        let spec = format!("{{collection: web, updates: ['{OPENSSL}'], suspend: true}}");
        let deployment = deployment(&spec, &["web"], &[OPENSSL]).unwrap();
        assert_eq!((deployment.uid.as_str(), deployment.generation, deployment.suspend), ("u-1", 3, true));
        assert_eq!(deployment.updates.len(), 1);
    }

    #[test]
    fn what_is_missing_is_named_and_waited_for() {
        // reliability.md #18: no partial policy.
        let spec = format!("{{collection: web, updates: ['{OPENSSL}']}}");
        let failure = deployment(&spec, &["web"], &[]).unwrap_err();
        assert_eq!(failure.reason, reason::REFERENCE_NOT_FOUND);
        assert!(failure.message.contains("openssl@3.0.22-1"), "{failure}");
        let failure = deployment(&spec, &[], &[OPENSSL]).unwrap_err();
        assert!(failure.message.starts_with("collection web does not exist"), "{failure}");
    }
}
