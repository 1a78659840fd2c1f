//! Sources that disagree about what is in a package.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{
    UpdateId,
    catalogue::{Leaf, LeafRef},
};

use super::find::leaf_of;
use crate::{Result, SiteStore};

impl SiteStore {
    /// Those of `leaves` that updates of the site have under the same name, architecture and version with different
    /// content: each with every update that has it, and that one's leaf. Expired updates do not count.
    pub async fn disagreeing(&self, leaves: &[LeafRef]) -> Result<BTreeMap<LeafRef, Vec<(UpdateId, Leaf)>>> {
        let mut holders: BTreeMap<LeafRef, BTreeSet<i64>> = BTreeMap::new();
        for holder in self.holders(leaves).await?.into_iter().filter(|holder| !holder.expired) {
            holders.entry(holder.leaf).or_default().insert(holder.update);
        }
        holders.retain(|_, holders| holders.len() > 1);
        let documents = self.documents(holders.values().flatten().copied().collect()).await?;
        let mut found = BTreeMap::new();
        for (name, holders) in holders {
            let all: Vec<(UpdateId, Leaf)> =
                holders.iter().filter_map(|id| leaf_of(documents.get(id)?, &name)).collect();
            let files: BTreeSet<_> = all.iter().map(|(_, leaf)| leaf.file.sha256).collect();
            if files.len() > 1 {
                found.insert(name, all);
            }
        }
        Ok(found)
    }

    /// For those of `ids` whose leaves another update of the site has under the same name, architecture and version with
    /// other content: each such leaf with that update. Expired updates do not count.
    pub async fn conflicting(
        &self,
        ids: &[UpdateId],
    ) -> Result<BTreeMap<UpdateId, Vec<(LeafRef, UpdateId)>>> {
        let asked = self.updates(ids).await?;
        let leaves: Vec<LeafRef> =
            asked.values().flat_map(|update| &update.leaves).map(Leaf::reference).collect();
        let mut found: BTreeMap<UpdateId, Vec<(LeafRef, UpdateId)>> = BTreeMap::new();
        for (name, holders) in self.disagreeing(&leaves).await? {
            for (one, mine) in holders.iter().filter(|(one, _)| asked.contains_key(one)) {
                let others = holders.iter().filter(|(_, theirs)| theirs.file.sha256 != mine.file.sha256);
                let others = others.map(|(other, _)| (name.clone(), other.clone()));
                found.entry(one.clone()).or_default().extend(others);
            }
        }
        Ok(found)
    }
}
