//! What the policies of a site are compiled from, as far as the database has it: read by the controller, which compiles
//! them, and by whoever answers what the controller would do.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{
    Digest, ObjectName, UpdateId,
    catalogue::{Leaf, LeafRef, Update},
    object::{PackageContent, SiteObjects},
    policy::{LinePolicy, LineRelease},
};

use crate::{Result, SiteStore, sql::json};

/// Kind of the rows that hold what packages contain.
pub const PACKAGE_CONTENT: &str = "PackageContent";
/// Kind of the rows that say which collection a client's token put it into: named by the client, the content is the
/// collection's name.
pub const TOKEN_MEMBER: &str = "TokenMember";
/// Key of the lines that are offered.
const OFFERED: &str = "@offered";

/// Lines of the sources that clients scan against, each with who its release says it is.
pub type OfferedLines = BTreeMap<String, Option<LineRelease>>;

/// What a deployment can bring to clients.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Approvable {
    /// Lines to scan against.
    pub lines: Vec<LinePolicy>,
    /// Every update that a deployment names and the catalogue has.
    pub updates: BTreeMap<UpdateId, Update>,
    /// Leaves of these that some active client requires, or a package holds.
    pub required_leaves: BTreeMap<UpdateId, BTreeSet<LeafRef>>,
    /// Packages that these newly depend on, sorted.
    pub dependencies: Vec<Leaf>,
    /// Which distribution points have the files of all these leaves.
    pub holders: BTreeMap<Digest, BTreeSet<ObjectName>>,
}

impl SiteStore {
    /// Says which lines clients scan against. True when that changed anything.
    pub async fn set_offered_lines(&self, lines: &OfferedLines) -> Result<bool> {
        let text = json("lines", lines)?;
        if self.get_value(OFFERED).await?.as_ref() == Some(&text) {
            return Ok(false);
        }
        self.set_value(OFFERED, &text).await?;
        Ok(true)
    }

    /// The lines that clients scan against, as the controller said last.
    pub async fn offered_lines(&self) -> Result<OfferedLines> {
        let text = self.get_value(OFFERED).await?;
        let read = |text: String| {
            serde_json::from_str(&text)
                .map_err(|source| crate::StoreError::Document { what: "lines", source })
        };
        text.map_or(Ok(OfferedLines::new()), read)
    }

    /// Adds the clients that their tokens put into collections to the direct members of these.
    pub async fn add_token_members(&self, objects: &mut SiteObjects) -> Result<()> {
        for row in self.objects(TOKEN_MEMBER).await? {
            let collection =
                serde_json::from_str::<String>(&row.json).ok().and_then(|name| ObjectName::new(name).ok());
            if let Some(collection) = collection.and_then(|name| objects.collections.get_mut(&name)) {
                collection.direct_members.insert(row.name);
            }
        }
        Ok(())
    }

    /// What the deployments of `objects` can bring to clients that scan against the `offered` lines.
    pub async fn approvable(&self, objects: &SiteObjects, mut offered: OfferedLines) -> Result<Approvable> {
        let names: BTreeSet<String> = offered.keys().cloned().collect();
        let with_release = self.lines().await?.into_iter().filter_map(|line| {
            let release = offered.remove(line.line.as_str())?;
            let catalogue = line.catalogue?;
            Some(LinePolicy {
                release,
                line: line.line,
                catalogue_version: catalogue.version,
                digest: catalogue.digest,
                size: catalogue.size,
            })
        });
        let lines = with_release.collect();
        let ids: BTreeSet<UpdateId> =
            objects.deployments.values().flat_map(|deployment| deployment.updates.iter().cloned()).collect();
        let list: Vec<UpdateId> = ids.iter().cloned().collect();
        let updates = self.updates(&list).await?;
        let mut required_leaves = self.required_leaves(&ids).await?;
        let packages = self.package_contents().await?;
        // What a package holds stays approved with its update when nobody requires it any more: it heals what falls
        // below it again, and the end of an installation is no reason for another policy.
        for update in updates.values() {
            let held = |leaf: &&Leaf| is_held(&packages, &leaf.file.sha256);
            for leaf in update.leaves.iter().filter(held) {
                required_leaves.entry(update.id.clone()).or_default().insert(leaf.reference());
            }
        }
        let dependencies =
            if ids.is_empty() { Vec::new() } else { self.new_dependencies(&packages, &ids, &names).await? };
        let approved = updates.values().flat_map(|update| {
            let required = required_leaves.get(&update.id);
            let is_offered =
                move |leaf: &&Leaf| required.is_some_and(|required| required.contains(&leaf.reference()));
            update.leaves.iter().filter(is_offered)
        });
        let files: BTreeSet<Digest> = approved.chain(&dependencies).map(|leaf| leaf.file.sha256).collect();
        let holders = self.dps_with(&files.into_iter().collect::<Vec<_>>()).await?;
        Ok(Approvable { lines, updates, required_leaves, dependencies, holders })
    }

    /// What the packages hold.
    async fn package_contents(&self) -> Result<Vec<PackageContent>> {
        let rows = self.objects(PACKAGE_CONTENT).await?;
        Ok(rows.iter().filter_map(|row| serde_json::from_str(&row.json).ok()).collect())
    }

    /// Packages that updates newly depend on, as clients named them, where the catalogue knows them.
    async fn new_dependencies(
        &self,
        packages: &[PackageContent],
        deployed: &BTreeSet<UpdateId>,
        offered: &BTreeSet<String>,
    ) -> Result<Vec<Leaf>> {
        let mut needed = self.needed_leaves().await?;
        needed.extend(packages.iter().flat_map(|content| content.dependencies.iter().cloned()));
        let held = |file: &Digest| is_held(packages, file);
        let found = self.dependencies(needed, deployed, |line| offered.contains(line), held).await?;
        let leaves: BTreeSet<Leaf> = found.leaves.into_values().map(|(_, leaf)| leaf).collect();
        Ok(leaves.into_iter().collect())
    }
}

fn is_held(packages: &[PackageContent], file: &Digest) -> bool {
    packages.iter().any(|content| content.files.contains_key(file))
}
