//! Which files a package needs, and its version. Pure.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_crds::{
    DeploymentPackage, DeploymentPackageSpec, conditions::reason, deployment_package::ContentScope,
};
pub use patchtide_model::object::PackageContent as Content;
use patchtide_model::{
    Digest, UpdateId,
    catalogue::{Leaf, Update},
};

use super::dereference::Inputs;
use crate::error::Failure;

/// A file and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Bytes.
    pub size: u64,
    /// Where it is fetched from.
    pub url: String,
    /// Path below the archive's root.
    pub path: String,
    /// The update it belongs to.
    pub update: UpdateId,
}

/// What the package is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// Its updates, sorted.
    pub updates: Vec<UpdateId>,
    /// Its files.
    pub files: BTreeMap<Digest, File>,
    /// What is kept.
    pub content: Content,
}

/// Plans the package. The same inputs give the same version.
pub fn plan(object: &DeploymentPackage, inputs: &Inputs) -> Result<Next, Failure> {
    let mut files = BTreeMap::new();
    for update in inputs.updates.values().filter(|update| !update.expired) {
        for leaf in update.leaves.iter().filter(|leaf| wanted(&object.spec, inputs, update, leaf)) {
            add(&object.spec, inputs, &update.id, leaf, &mut files)?;
        }
    }
    // What updates newly depend on is approved with them and needed with them.
    let mut dependencies = BTreeSet::new();
    if !files.is_empty() {
        for (update, leaf) in &inputs.dependencies {
            add(&object.spec, inputs, update, leaf, &mut files)?;
            dependencies.insert(leaf.reference());
        }
    }
    let updates: Vec<UpdateId> =
        inputs.updates.values().filter(|update| !update.expired).map(|update| update.id.clone()).collect();
    let sizes: BTreeMap<Digest, u64> = files.iter().map(|(digest, file)| (*digest, file.size)).collect();
    let parts = (&updates, &sizes, &inputs.starts);
    let fingerprint = Digest::of(&serde_json::to_vec(&parts).unwrap_or_default());
    let version = match &inputs.before {
        Some(before) if before.fingerprint == Some(fingerprint) => before.version,
        Some(before) => before.version + 1,
        None => 1,
    };
    let content = Content {
        version,
        points: inputs.points.clone(),
        files: sizes,
        dependencies,
        fingerprint: Some(fingerprint),
    };
    Ok(Next { updates, files, content })
}

fn wanted(spec: &DeploymentPackageSpec, inputs: &Inputs, update: &Update, leaf: &Leaf) -> bool {
    match spec.content {
        ContentScope::All => true,
        // What was required once stays as long as its update does: it heals what falls below it again, and a machine
        // that comes later needs it too.
        ContentScope::Required => {
            inputs.before.as_ref().is_some_and(|before| before.files.contains_key(&leaf.file.sha256))
                || inputs.required.get(&update.id).is_some_and(|needed| needed.contains(&leaf.reference()))
        }
    }
}

fn add(
    spec: &DeploymentPackageSpec,
    inputs: &Inputs,
    update: &UpdateId,
    leaf: &Leaf,
    files: &mut BTreeMap<Digest, File>,
) -> Result<(), Failure> {
    let source = update.line.as_str().split('/').next().unwrap_or_default();
    let root = match &spec.source_override {
        Some(mirror) => &mirror.url,
        None => inputs.archives.get(source).ok_or_else(|| {
            Failure::wait(
                reason::DEPENDENCY_NOT_READY,
                format!("{update} comes from source {source}, which no software update point has: add it or set sourceOverride"),
            )
        })?,
    };
    let root: url::Url = format!("{}/", root.trim_end_matches('/'))
        .parse()
        .map_err(|error| Failure::stalled(reason::URL_INVALID, format!("{root}: {error}")))?;
    let url = patchtide_catalog::http::join(&root, &leaf.file.path).map_err(|error| {
        Failure::retry(reason::CONTENT_FAILED, format!("{update}: {}", crate::error::chain(&error)))
    })?;
    files.entry(leaf.file.sha256).or_insert_with(|| File {
        size: leaf.file.size,
        url: url.to_string(),
        path: leaf.file.path.clone(),
        update: update.clone(),
    });
    Ok(())
}

/// The fields that are accepted without effect.
pub fn without_effect(spec: &DeploymentPackageSpec) -> Vec<&'static str> {
    let over = spec.source_override.as_ref();
    [
        ("languages", !spec.languages.is_empty()),
        ("binaryDeltaReplication", !spec.binary_delta_replication),
        ("refreshOnRemoval", !spec.refresh_on_removal),
        ("sourceOverride.secretRef", over.is_some_and(|over| over.secret_ref.is_some())),
        ("sourceOverride.fallback", over.is_some_and(|over| over.fallback)),
    ]
    .into_iter()
    .filter_map(|(field, set)| set.then_some(field))
    .collect()
}

#[cfg(test)]
mod tests {
    use patchtide_model::ObjectName;

    use super::*;
    use crate::testing::update;

    const OPENSSL: &str = "debian/bookworm-security/main:openssl@3.0.22-1";

    fn package(spec: &str) -> DeploymentPackage {
        serde_saphyr::from_str(&format!(
            "apiVersion: patchtide.dev/v1alpha1\nkind: DeploymentPackage\nmetadata: {{name: p, uid: u}}\nspec: {spec}\n"
        ))
        .unwrap()
    }

    fn inputs() -> Inputs {
        let openssl = update(OPENSSL);
        Inputs {
            required: BTreeMap::from([(
                openssl.id.clone(),
                openssl.leaves.iter().map(Leaf::reference).collect(),
            )]),
            updates: BTreeMap::from([(openssl.id.clone(), openssl)]),
            archives: BTreeMap::from([("debian".into(), "http://archive.example/debian".into())]),
            points: BTreeSet::from([ObjectName::new("dp1").unwrap()]),
            ..Inputs::default()
        }
    }

    const SPEC: &str = "{updateLists: [l], distributionPoints: [dp1]}";

    #[test]
    fn the_version_rises_with_content_and_start_times_only() {
        let mut inputs = inputs();
        let first = plan(&package(SPEC), &inputs).unwrap();
        assert_eq!((first.content.version, first.files.len()), (1, 1));
        let file = first.files.values().next().unwrap();
        assert_eq!(file.url, "http://archive.example/debian/pool/main/openssl.deb");
        inputs.before = Some(first.content.clone());
        assert_eq!(plan(&package(SPEC), &inputs).unwrap(), first, "planning again changes nothing");
        inputs.points.clear();
        assert_eq!(plan(&package(SPEC), &inputs).unwrap().content.version, 1);
        // R-PKG-23, R-DEPL-56: a start time that changes is a new version.
        inputs.starts.insert("u-1".into(), patchtide_model::deployment::Available::AsSoonAsPossible);
        assert_eq!(plan(&package(SPEC), &inputs).unwrap().content.version, 2);
    }

    #[test]
    fn what_was_required_once_stays_with_its_update() {
        let mut inputs = inputs();
        let first = plan(&package(SPEC), &inputs).unwrap();
        inputs.before = Some(first.content.clone());
        // Installed everywhere: no client requires it any more.
        inputs.required.clear();
        assert_eq!(plan(&package(SPEC), &inputs).unwrap(), first);
        inputs.updates.clear();
        assert!(plan(&package(SPEC), &inputs).unwrap().files.is_empty());
    }

    #[test]
    fn only_what_clients_require_is_fetched_unless_all_is_asked_for() {
        let mut inputs = inputs();
        inputs.required.clear();
        assert!(plan(&package(SPEC), &inputs).unwrap().files.is_empty());
        let all =
            plan(&package("{updateLists: [l], distributionPoints: [dp1], content: All}"), &inputs).unwrap();
        assert_eq!(all.files.len(), 1);
    }

    /// R-DEPL-25: from the vendor's archive, or from a mirror in the local network; the path below it is the same.
    #[test]
    fn files_come_from_the_archive_or_from_another_place() {
        let mut inputs = inputs();
        let mirror =
            "{updateLists: [l], distributionPoints: [dp1], sourceOverride: {url: 'file:///srv/mirror/'}}";
        let url = |spec: &str, inputs: &Inputs| {
            plan(&package(spec), inputs).unwrap().files.into_values().next().unwrap().url
        };
        assert_eq!(url(SPEC, &inputs), "http://archive.example/debian/pool/main/openssl.deb");
        assert_eq!(url(mirror, &inputs), "file:///srv/mirror/pool/main/openssl.deb");
        // The source itself may be gone then.
        inputs.archives.clear();
        assert_eq!(url(mirror, &inputs), "file:///srv/mirror/pool/main/openssl.deb");
    }

    #[test]
    fn a_source_that_is_gone_is_named() {
        let mut inputs = inputs();
        inputs.archives.clear();
        let failure = plan(&package(SPEC), &inputs).unwrap_err();
        assert!(failure.message.contains("source debian, which no software update point has"), "{failure}");
    }
}
