//! Which files of a policy its client has to wait for: those that no distribution point within its reach has yet. As in
//! Configuration Manager the deployment is known before its content is there, and the client waits for the content.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{
    Digest, ObjectName, UpdateId, catalogue::Leaf, client::Client, object::DistributionPoint,
    policy::UpdatePolicy,
};

use super::SiteInput;

type Holders = BTreeMap<Digest, BTreeSet<ObjectName>>;

/// Who reaches which distribution point, as far as that makes a difference.
pub(super) struct Reach<'a> {
    points: &'a BTreeMap<ObjectName, DistributionPoint>,
    holders: Option<&'a Holders>,
}

impl<'a> Reach<'a> {
    pub(super) fn new(input: &'a SiteInput, offers: &BTreeMap<&UpdateId, UpdatePolicy>) -> Self {
        let points = &input.objects.distribution_points;
        let files = offers.values().flat_map(|update| &update.leaves).chain(&input.dependencies);
        // Where every point has every file it is the same for all clients, and they share their policies.
        let differs = |holders: &&Holders| {
            files.clone().any(|leaf| {
                let of = holders.get(&leaf.file.sha256);
                of.is_none_or(|of| points.keys().any(|point| !of.contains(point)))
            })
        };
        Self { points, holders: input.holders.as_ref().filter(differs) }
    }

    /// The points that the client may use. One whose address is not known may turn up anywhere.
    pub(super) fn points(&self, client: &Client) -> BTreeSet<&'a ObjectName> {
        if self.holders.is_none() {
            return BTreeSet::new();
        }
        let reaches =
            |point: &DistributionPoint| client.address.is_none_or(|address| point.way(address).is_some());
        self.points.iter().filter(|(_, point)| reaches(point)).map(|(name, _)| name).collect()
    }

    /// Of `leaves` the files that none of `points` has. A client that reaches no point at all is not told to wait: it
    /// says so itself, with what to do.
    pub(super) fn awaited<'b>(
        &self,
        points: &BTreeSet<&'a ObjectName>,
        leaves: impl Iterator<Item = &'b Leaf>,
    ) -> BTreeSet<Digest> {
        let Some(holders) = self.holders.filter(|_| !points.is_empty()) else { return BTreeSet::new() };
        let here =
            |file: &Digest| holders.get(file).is_some_and(|of| of.iter().any(|point| points.contains(point)));
        leaves.map(|leaf| leaf.file.sha256).filter(|file| !here(file)).collect()
    }
}
