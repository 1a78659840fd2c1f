//! A deployment: references pinned or followed, template and own settings merged, defaults filled in. Pure.

pub mod pin;
pub mod settings;
mod validate;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::ResourceExt;
use patchtide_crds::{DeploymentTemplateSpec, UpdateDeployment, annotations};
use patchtide_model::{UpdateId, catalogue::Update};

use self::pin::Memory;
pub use self::{pin::pin, validate::validate};

/// Everything that validation needs beside the spec.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The template as it is now, with its digest.
    pub template: Option<(String, DeploymentTemplateSpec)>,
    /// The list's members as they are now.
    pub members: Option<BTreeSet<UpdateId>>,
    /// What was pinned before.
    pub memory: Memory,
    /// What the catalogue knows of every update that may be meant.
    pub known: BTreeMap<UpdateId, Update>,
    /// Updates named in the spec itself.
    pub own: BTreeSet<UpdateId>,
    /// What "as soon as possible" counts from.
    pub anchor: Timestamp,
    /// Names of the collections there are.
    pub collections: BTreeSet<String>,
}

/// When a deployment began: with the commit that introduced it, if a Git source says so, so that a rebuilt cluster keeps
/// its deadlines; never after the object was made. One that was applied by hand began when it was made.
pub fn begun(object: &UpdateDeployment, now: Timestamp) -> Timestamp {
    let created = object.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let from_git = object.labels().contains_key(annotations::OWNER_NAME);
    let introduced = object.annotations().get(annotations::INTRODUCED_AT).filter(|_| from_git);
    introduced
        .and_then(|text| text.parse::<Timestamp>().ok())
        .map_or(created, |introduced| introduced.min(created))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(metadata: &str) -> UpdateDeployment {
        let yaml = format!(
            "apiVersion: patchtide.dev/v1alpha1\nkind: UpdateDeployment\nmetadata: {{name: a, creationTimestamp: '2026-03-01T00:00:00Z', {metadata}}}\nspec: {{}}\n"
        );
        serde_saphyr::from_str(&yaml).unwrap()
    }

    #[test]
    fn a_deployment_begins_with_its_commit_and_never_after_it_was_seen() {
        let begun = |metadata: &str| begun(&deployment(metadata), Timestamp::MAX).to_string();
        let owner = "labels: {patchtide.dev/source-name: fleet}";
        let at = |time: &str| format!("annotations: {{patchtide.dev/introduced-at: '{time}'}}");
        assert_eq!(begun(&format!("{owner}, {}", at("2026-01-01T00:00:00Z"))), "2026-01-01T00:00:00Z");
        assert_eq!(begun(owner), "2026-03-01T00:00:00Z");
        // Bad input 42: later than it was seen, or no time at all.
        assert_eq!(begun(&format!("{owner}, {}", at("2099-01-01T00:00:00Z"))), "2026-03-01T00:00:00Z");
        assert_eq!(begun(&format!("{owner}, {}", at("yesterday"))), "2026-03-01T00:00:00Z");
        // Applied by hand: the annotation is nobody's word.
        assert_eq!(begun(&at("2026-01-01T00:00:00Z")), "2026-03-01T00:00:00Z");
    }
}
