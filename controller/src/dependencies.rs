//! Packages that approved updates newly depend on: what is found of them, and what is said about those that are not.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{Digest, UpdateId, catalogue::LeafRef};
use patchtide_store::{StoreError, catalogue::Dependencies};

use crate::{context::Context, kinds::software_update_point::active::offered_lines};

/// Finds `needed` in the catalogue, by the sources of the software update points in force. Where sources disagree, what
/// belongs to one of `updates` counts; then a file that `held` says is in a package already.
pub async fn find(
    ctx: &Context,
    needed: BTreeSet<LeafRef>,
    updates: &BTreeSet<UpdateId>,
    held: impl Fn(&Digest) -> bool + Send,
) -> Result<Dependencies, StoreError> {
    let offered = offered_lines(&ctx.caches.software_update_points.all());
    ctx.store.dependencies(needed, updates, |line| offered.contains(line), held).await
}

/// The conflicts in words, if there are any.
pub fn conflict_message(conflicts: &BTreeMap<LeafRef, (UpdateId, UpdateId)>) -> Option<String> {
    let (leaf, (one, other)) = conflicts.first_key_value()?;
    Some(format!(
        "CAT-CONFLICT: {} packages that updates newly depend on are left out, first {} {} ({}): {one} and {other} have different files of it; name the update you trust in spec.updates of a package and a deployment, or take one of the sources out",
        conflicts.len(),
        leaf.package,
        leaf.version,
        leaf.architecture
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// reliability.md 4 #53.
    #[test]
    fn a_conflict_names_the_package_and_both_sources() {
        let leaf = LeafRef { package: "tool".into(), architecture: "amd64".into(), version: "2".into() };
        let of = |line: &str| -> UpdateId { format!("{line}:tool@2").parse().unwrap() };
        let text = conflict_message(&BTreeMap::from([(leaf, (of("a/s/main"), of("b/s/main")))])).unwrap();
        assert!(text.contains("tool 2 (amd64): a/s/main:tool@2 and b/s/main:tool@2"), "{text}");
        assert_eq!(conflict_message(&BTreeMap::new()), None);
    }
}
