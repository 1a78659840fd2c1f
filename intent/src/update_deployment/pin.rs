//! Which content of a reference is in force: what was pinned, or what is there now. Pure.

use std::collections::BTreeSet;

use patchtide_crds::{
    DeploymentTemplateSpec, UpdateDeploymentSpec, conditions::reason, reference::ReferenceMode,
};
use patchtide_model::UpdateId;
use serde::{Deserialize, Serialize};

use super::Inputs;
use crate::{problem::Problem, update_list};

/// What is pinned for a deployment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// The template.
    pub template: Option<PinnedTemplate>,
    /// The list.
    pub list: Option<PinnedList>,
}

/// A pinned template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinnedTemplate {
    /// Its name: another name is another reference.
    pub name: String,
    /// Digest of its content.
    pub digest: String,
    /// Its content.
    pub spec: DeploymentTemplateSpec,
}

/// A pinned list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedList {
    /// Its name: another name is another reference.
    pub name: String,
    /// Digest of its members.
    pub digest: String,
    /// Its members.
    pub members: BTreeSet<UpdateId>,
}

/// What is in force.
#[derive(Debug, Clone)]
pub struct Pinned {
    /// The template's content.
    pub template: Option<DeploymentTemplateSpec>,
    /// Its digest.
    pub template_digest: Option<String>,
    /// Whether the template says something else now.
    pub template_differs: bool,
    /// The list's members.
    pub members: BTreeSet<UpdateId>,
    /// Their digest.
    pub list_digest: Option<String>,
    /// Whether the list says something else now.
    pub list_differs: bool,
    /// What is to be remembered.
    pub memory: Memory,
}

impl Pinned {
    /// Expired updates among those meant.
    pub fn expired(&self, inputs: &Inputs) -> u64 {
        let all: BTreeSet<&UpdateId> = self.members.iter().chain(&inputs.own).collect();
        all.iter().filter(|id| inputs.known.get(**id).is_some_and(|update| update.expired)).count() as u64
    }
}

/// Decides for both references. To take later edits over, a person changes the reference (name, mode or digest).
pub fn pin(spec: &UpdateDeploymentSpec, inputs: &Inputs) -> Result<Pinned, Problem> {
    let template = pin_template(spec, inputs)?;
    let list = pin_list(spec, inputs)?;
    let differs = |pinned: Option<&str>, now: Option<&str>| pinned.is_some() && pinned != now;
    let now = inputs.template.as_ref().map(|(digest, _)| digest.as_str());
    let list_now = inputs.members.as_ref().map(update_list::digest);
    let template_pinned = spec.template_reference == ReferenceMode::Pinned;
    let list_pinned = spec.list_reference == ReferenceMode::Pinned;
    Ok(Pinned {
        template_differs: differs(template.as_ref().map(|t| t.digest.as_str()), now),
        template_digest: template.as_ref().map(|template| template.digest.clone()),
        template: template.as_ref().map(|template| template.spec.clone()),
        list_differs: differs(list.as_ref().map(|l| l.digest.as_str()), list_now.as_deref()),
        list_digest: list.as_ref().map(|list| list.digest.clone()),
        members: list.as_ref().map(|list| list.members.clone()).unwrap_or_default(),
        memory: Memory { template: template.filter(|_| template_pinned), list: list.filter(|_| list_pinned) },
    })
}

fn pin_template(spec: &UpdateDeploymentSpec, inputs: &Inputs) -> Result<Option<PinnedTemplate>, Problem> {
    let (Some(name), Some((digest, content))) = (&spec.template, &inputs.template) else {
        return Ok(None);
    };
    let now = PinnedTemplate { name: name.clone(), digest: digest.clone(), spec: content.clone() };
    let memory = inputs.memory.template.as_ref().filter(|memory| memory.name == *name);
    match (spec.template_reference, &spec.template_digest) {
        (ReferenceMode::Follow, _) => Ok(Some(now)),
        (ReferenceMode::Pinned, None) => Ok(Some(memory.cloned().unwrap_or(now))),
        (ReferenceMode::Pinned, Some(wanted)) => [Some(&now), memory]
            .into_iter()
            .flatten()
            .find(|known| known.digest == *wanted)
            .map(|known| Some(known.clone()))
            .ok_or_else(|| lost("template", name, "templateDigest", digest)),
    }
}

fn pin_list(spec: &UpdateDeploymentSpec, inputs: &Inputs) -> Result<Option<PinnedList>, Problem> {
    let (Some(name), Some(members)) = (&spec.update_list, &inputs.members) else {
        return Ok(None);
    };
    let now =
        PinnedList { name: name.clone(), digest: update_list::digest(members), members: members.clone() };
    let memory = inputs.memory.list.as_ref().filter(|memory| memory.name == *name);
    match (spec.list_reference, &spec.list_digest) {
        (ReferenceMode::Follow, _) => Ok(Some(now)),
        (ReferenceMode::Pinned, None) => match memory {
            Some(memory) => Ok(Some(memory.clone())),
            // Pinning nothing for ever would be a trap: the pin is made when there is something to pin.
            None if members.is_empty() => Err(Problem::wait(
                reason::DEPENDENCY_NOT_READY,
                format!(
                    "update list {name} has no members yet: they are pinned when it has; to let members come and go use listReference: Follow"
                ),
            )),
            None => Ok(Some(now)),
        },
        (ReferenceMode::Pinned, Some(wanted)) => [Some(&now), memory]
            .into_iter()
            .flatten()
            .find(|known| known.digest == *wanted)
            .map(|known| Some(known.clone()))
            .ok_or_else(|| lost("list", name, "listDigest", &now.digest)),
    }
}

fn lost(what: &str, name: &str, field: &str, now: &str) -> Problem {
    Problem::stalled(
        reason::INVALID_SPEC,
        format!(
            "{field}: {what} {name} has another content now ({now}) and the pinned one is not remembered: bring it back, or pin the present one"
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn inputs(members: &[&str], memory: Memory) -> Inputs {
        Inputs {
            template: Some(("sha256:now".to_owned(), DeploymentTemplateSpec::default())),
            members: Some(members.iter().map(|id| id.parse().unwrap()).collect()),
            memory,
            known: BTreeMap::new(),
            own: BTreeSet::new(),
            anchor: jiff::Timestamp::UNIX_EPOCH,
            collections: BTreeSet::new(),
        }
    }

    fn spec(yaml: &str) -> UpdateDeploymentSpec {
        serde_saphyr::from_str(yaml).unwrap()
    }

    const A: &str = "debian/bookworm/main:a@1";
    const B: &str = "debian/bookworm/main:b@1";

    #[test]
    fn a_pinned_list_keeps_its_members_and_says_that_they_differ() {
        let spec = spec("{updateList: l, template: t, collection: c}");
        let first = pin(&spec, &inputs(&[A], Memory::default())).unwrap();
        assert!(!first.list_differs);
        let later = pin(&spec, &inputs(&[A, B], first.memory.clone())).unwrap();
        assert_eq!(later.members.len(), 1);
        assert!(later.list_differs);
        assert_eq!(later.memory, first.memory, "pinning again on the result changes nothing");
    }

    /// R-TMPL-06: a change of a template leaves deployments that were made from it alone, and status says so.
    #[test]
    fn a_pinned_template_is_remembered_when_it_changes() {
        let spec = spec("{updateList: l, template: t, collection: c}");
        let first = pin(&spec, &inputs(&[A], Memory::default())).unwrap();
        assert!(!first.template_differs);
        let mut later = inputs(&[A], first.memory.clone());
        let edited =
            serde_saphyr::from_str("{collection: elsewhere, settings: {deadline: {none: true}}}").unwrap();
        later.template = Some(("sha256:later".to_owned(), edited));
        let second = pin(&spec, &later).unwrap();
        assert_eq!(second.template, Some(DeploymentTemplateSpec::default()));
        assert_eq!((second.template_digest.as_deref(), second.template_differs), (Some("sha256:now"), true));
        assert_eq!(second.memory, first.memory);
        // Following it, or naming its present digest, takes the edit over.
        let follow = "{updateList: l, template: t, templateReference: Follow, collection: c}";
        let followed = pin(&serde_saphyr::from_str(follow).unwrap(), &later).unwrap();
        assert_eq!(followed.template.unwrap().collection.as_deref(), Some("elsewhere"));
    }

    #[test]
    fn a_followed_list_is_as_it_is_and_nothing_is_remembered() {
        let spec = spec(
            "{updateList: l, listReference: Follow, template: t, templateReference: Follow, collection: c}",
        );
        let pinned = pin(&spec, &inputs(&[A, B], Memory::default())).unwrap();
        assert_eq!(pinned.members.len(), 2);
        assert_eq!(pinned.memory, Memory::default());
    }

    #[test]
    fn an_empty_list_is_not_pinned_for_ever() {
        let failure =
            pin(&spec("{updateList: l, collection: c}"), &inputs(&[], Memory::default())).unwrap_err();
        assert_eq!(failure.reason, reason::DEPENDENCY_NOT_READY);
    }

    #[test]
    fn a_digest_that_nobody_remembers_stalls() {
        let yaml = format!(
            "{{template: t, templateDigest: 'sha256:{}', updates: ['{A}'], collection: c}}",
            "0".repeat(64)
        );
        let failure = pin(&spec(&yaml), &inputs(&[], Memory::default())).unwrap_err();
        assert!(
            failure.message.starts_with("templateDigest: template t has another content now"),
            "{failure}"
        );
    }
}
