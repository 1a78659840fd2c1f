//! Packages that approved updates newly depend on: which file of which source is meant. No person chose them, so of
//! sources that disagree about one none is believed (reliability.md 4 #53).

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{
    Digest, UpdateId,
    catalogue::{Leaf, LeafRef},
};

use crate::{Result, SiteStore};

/// What was found of the packages asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dependencies {
    /// Those that are approved, with the update they belong to.
    pub leaves: BTreeMap<LeafRef, (UpdateId, Leaf)>,
    /// Those that sources disagree about, with two updates that do.
    pub conflicts: BTreeMap<LeafRef, (UpdateId, UpdateId)>,
}

impl SiteStore {
    /// Finds `needed` in the catalogue. Where sources disagree, lines that are `offered` count, and what belongs to one of
    /// `updates`, for a person chose that; then a file that `held` says is in a package already.
    pub async fn dependencies(
        &self,
        needed: BTreeSet<LeafRef>,
        updates: &BTreeSet<UpdateId>,
        offered: impl Fn(&str) -> bool + Send,
        held: impl Fn(&Digest) -> bool + Send,
    ) -> Result<Dependencies> {
        let needed: Vec<LeafRef> = needed.into_iter().collect();
        let leaves = self.find_leaves(&needed).await?;
        let disagreeing = self.disagreeing(&needed).await?;
        let counts = |update: &UpdateId| updates.contains(update) || offered(update.line.as_str());
        Ok(choose(leaves, disagreeing, counts, updates, held))
    }
}

fn choose(
    leaves: BTreeMap<LeafRef, (UpdateId, Leaf)>,
    disagreeing: BTreeMap<LeafRef, Vec<(UpdateId, Leaf)>>,
    counts: impl Fn(&UpdateId) -> bool,
    updates: &BTreeSet<UpdateId>,
    held: impl Fn(&Digest) -> bool,
) -> Dependencies {
    let mut found = Dependencies { leaves, conflicts: BTreeMap::new() };
    for (name, mut holders) in disagreeing {
        holders.retain(|(update, _)| counts(update));
        let chosen = agreed(holders.iter())
            .or_else(|| agreed(holders.iter().filter(|(update, _)| updates.contains(update))))
            .or_else(|| agreed(holders.iter().filter(|(_, leaf)| held(&leaf.file.sha256))));
        if let Some(chosen) = chosen {
            found.leaves.insert(name, chosen.clone());
            continue;
        }
        found.leaves.remove(&name);
        let mut others = holders.iter();
        if let Some((one, mine)) = others.next()
            && let Some((other, _)) = others.find(|(_, leaf)| leaf.file.sha256 != mine.file.sha256)
        {
            found.conflicts.insert(name, (one.clone(), other.clone()));
        }
    }
    found
}

/// The first of `holders` when all of them mean the same file.
fn agreed<'a>(mut holders: impl Iterator<Item = &'a (UpdateId, Leaf)>) -> Option<&'a (UpdateId, Leaf)> {
    let first = holders.next()?;
    holders.all(|(_, leaf)| leaf.file.sha256 == first.1.file.sha256).then_some(first)
}

#[cfg(test)]
mod tests {
    use patchtide_model::catalogue::ContentFile;

    use super::*;

    fn holder(line: &str, file: &str) -> (UpdateId, Leaf) {
        let update: UpdateId = format!("{line}:tool@2").parse().unwrap();
        let file =
            ContentFile { sha256: Digest::of(file.as_bytes()), size: 1000, path: "pool/tool.deb".into() };
        let (package, version) = (update.source.clone(), update.version.clone());
        let leaf = Leaf { package, version, architecture: "amd64".into(), file, stanza: String::new() };
        (update, leaf)
    }

    /// reliability.md 4 #53.
    #[test]
    fn what_sources_disagree_about_is_no_dependency_until_a_person_chooses() {
        let (a, b) = (holder("a/s/main", "one"), holder("b/s/main", "two"));
        let name = a.1.reference();
        let with = |counts: &dyn Fn(&UpdateId) -> bool, updates: &BTreeSet<UpdateId>, file: &str| {
            let leaves = BTreeMap::from([(name.clone(), b.clone())]);
            let disagreeing = BTreeMap::from([(name.clone(), vec![a.clone(), b.clone()])]);
            let file = Digest::of(file.as_bytes());
            choose(leaves, disagreeing, counts, updates, |held| *held == file)
        };
        let nobody = BTreeSet::new();
        let left_out = with(&|_| true, &nobody, "none");
        assert_eq!(left_out.leaves, BTreeMap::new());
        assert_eq!(left_out.conflicts[&name], (a.0.clone(), b.0.clone()));
        // Chosen by a person; in a package before the other source came; the other source is not offered any more.
        assert_eq!(with(&|_| true, &BTreeSet::from([a.0.clone()]), "two").leaves[&name], a);
        assert_eq!(with(&|_| true, &nobody, "one").leaves[&name], a);
        assert_eq!(with(&|update| *update == a.0, &nobody, "none").leaves[&name], a);
        let both = BTreeSet::from([a.0.clone(), b.0.clone()]);
        assert_eq!(with(&|_| true, &both, "none").leaves, BTreeMap::new());
    }
}
