//! Which files of a policy its client has to wait for: those that no distribution point within its reach has yet. As in
//! Configuration Manager the deployment is known before its content is there, and the client waits for the content.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use patchtide_model::{Digest, ObjectName, catalogue::Leaf, client::Client};

use super::{SiteInput, parts::Parts};

/// Who reaches which distribution point, as far as that makes a difference.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Not every point has every file. Where all have all it is the same for all clients, and they share their policies.
    differs: bool,
    /// Points that some client may use, by the number they are called by; number 0 is no point.
    sets: Vec<BTreeSet<ObjectName>>,
    numbers: BTreeMap<BTreeSet<ObjectName>, u32>,
    /// What was found for an address.
    by_address: HashMap<Option<IpAddr>, u32>,
}

impl Reach {
    /// Looks again; `points` says whether the distribution points themselves are other ones. True: it may be another
    /// answer for any client.
    pub(super) fn update(&mut self, input: &SiteInput, parts: &Parts, points: bool) -> bool {
        let all = &input.objects.distribution_points;
        let differs = input.holders.as_ref().is_some_and(|holders| {
            parts.leaves().any(|leaf| {
                let of = holders.get(&leaf.file.sha256);
                of.is_none_or(|of| all.keys().any(|point| !of.contains(point)))
            })
        });
        let other = points || differs != self.differs || self.sets.is_empty();
        if other {
            *self = Self { differs, ..Self::default() };
            self.number(BTreeSet::new());
        }
        other
    }

    fn number(&mut self, points: BTreeSet<ObjectName>) -> u32 {
        if let Some(number) = self.numbers.get(&points) {
            return *number;
        }
        let number = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        self.sets.push(points.clone());
        self.numbers.insert(points, number);
        number
    }

    /// The points that the client may use. One whose address is not known may turn up anywhere.
    pub(super) fn points(&mut self, input: &SiteInput, client: &Client) -> u32 {
        if !self.differs {
            return 0;
        }
        if let Some(number) = self.by_address.get(&client.address) {
            return *number;
        }
        let points = &input.objects.distribution_points;
        let reached = points
            .iter()
            .filter(|(_, point)| client.address.is_none_or(|address| point.way(address).is_some()));
        let number = self.number(reached.map(|(name, _)| name.clone()).collect());
        self.by_address.insert(client.address, number);
        number
    }

    /// Points by their number.
    pub(super) fn set(&self, number: u32) -> BTreeSet<ObjectName> {
        self.sets.get(number as usize).cloned().unwrap_or_default()
    }

    /// Of `leaves` the files that none of `points` has. A client that reaches no point at all is not told to wait: it
    /// says so itself, with what to do.
    pub(super) fn awaited<'b>(
        &self,
        input: &SiteInput,
        points: &BTreeSet<ObjectName>,
        leaves: impl Iterator<Item = &'b Leaf>,
    ) -> BTreeSet<Digest> {
        let Some(holders) = input.holders.as_ref().filter(|_| self.differs && !points.is_empty()) else {
            return BTreeSet::new();
        };
        let here =
            |file: &Digest| holders.get(file).is_some_and(|of| of.iter().any(|point| points.contains(point)));
        leaves.map(|leaf| leaf.file.sha256).filter(|file| !here(file)).collect()
    }
}
