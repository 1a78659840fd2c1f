//! What decisions under one policy have in common, worked out once: calendars, times, which deployment names which
//! update. A decision is then only about the facts.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use patchtide_model::{
    ClientId, UpdateId,
    catalogue::{Leaf, LeafRef},
    policy::{Policy, PolicyBody},
    window::{Calendar, Purpose},
};

use super::allowance;
use crate::times;

/// What the policy says of one deployment, without a client's share of its spread.
#[derive(Debug)]
pub(super) struct Times {
    pub available: Option<Timestamp>,
    pub deadline: Option<Timestamp>,
    /// Its updates, in the order in which it names them.
    pub members: Vec<usize>,
}

/// What the policy says of one update, by positions.
#[derive(Debug)]
pub(super) struct Place {
    /// Deployments that name it.
    pub reach: Vec<usize>,
    /// Those of them that are not suspended.
    pub active: Vec<usize>,
    /// The update that supersedes it, when the policy has that one.
    pub successor: Option<usize>,
}

/// Where an approved leaf is: an update's, or a dependency.
#[derive(Debug, Clone, Copy)]
struct Approved {
    update: Option<usize>,
    leaf: usize,
}

/// What holds for every client with this policy body and this zone.
#[derive(Debug)]
pub(crate) struct Common {
    pub(super) zone: TimeZone,
    pub(super) installs: Calendar,
    pub(super) restarts: Calendar,
    /// Restarts have windows of their own.
    pub(super) restart_windows: bool,
    /// In the order of the policy's deployments.
    pub(super) deployments: Vec<Times>,
    /// In the order of the policy's updates.
    pub(super) places: Vec<Place>,
    /// By package, architecture and version.
    approved: BTreeMap<String, Vec<(LeafRef, Approved)>>,
}

impl Common {
    pub(crate) fn new(body: &PolicyBody, zone: &TimeZone) -> Self {
        let position: BTreeMap<&UpdateId, usize> =
            body.updates.keys().enumerate().map(|(index, id)| (id, index)).collect();
        let deployments = body.deployments.iter().map(|deployment| Times {
            available: times::available(&deployment.settings, deployment.anchor, zone),
            deadline: times::deadline(&deployment.settings, deployment.anchor, zone),
            members: deployment.updates.iter().filter_map(|id| position.get(id)).copied().collect(),
        });
        let places = body.updates.iter().map(|(id, update)| {
            let naming = || {
                let deployments = body.deployments.iter().enumerate();
                deployments.filter(move |(_, deployment)| deployment.updates.contains(id))
            };
            Place {
                reach: naming().map(|(index, _)| index).collect(),
                active: naming().filter(|(_, naming)| !naming.suspend).map(|(index, _)| index).collect(),
                successor: update.superseded_by.as_ref().and_then(|by| position.get(by)).copied(),
            }
        });
        let restarts = Calendar::new(&body.windows, Purpose::Restart, zone);
        let mut common = Self {
            zone: zone.clone(),
            installs: Calendar::new(&body.windows, Purpose::Install, zone),
            restart_windows: allowance::own_windows(restarts.windows()),
            restarts,
            deployments: deployments.collect(),
            places: places.collect(),
            approved: BTreeMap::new(),
        };
        for (leaf, of) in body.dependencies.iter().enumerate() {
            common.approve(of, Approved { update: None, leaf });
        }
        for (index, update) in body.updates.values().enumerate() {
            for (leaf, of) in update.leaves.iter().enumerate() {
                common.approve(of, Approved { update: Some(index), leaf });
            }
        }
        common
    }

    /// Whether it was made for this zone.
    pub(crate) fn is_for(&self, zone: &TimeZone) -> bool {
        self.zone == *zone
    }

    /// Of several that are named alike the last counts.
    fn approve(&mut self, leaf: &Leaf, place: Approved) {
        let of_package = self.approved.entry(leaf.package.clone()).or_default();
        let name = leaf.reference();
        match of_package.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = place,
            None => of_package.push((name, place)),
        }
    }

    /// The update that an approved leaf belongs to, none for a dependency, and its place there.
    pub(super) fn find(&self, leaf: &LeafRef) -> Option<(Option<usize>, usize)> {
        let (_, place) = self.approved.get(&leaf.package)?.iter().find(|(name, _)| name == leaf)?;
        Some((place.update, place.leaf))
    }
}

/// A policy made ready for one client in one zone.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(super) common: Arc<Common>,
    /// This client's share of each deployment's spread, with its grace period.
    pub(super) shares: Vec<SignedDuration>,
    /// By how much its scan and its re-evaluation cycle are longer than told.
    pub(super) scan_share: SignedDuration,
    pub(super) evaluation_share: SignedDuration,
}

impl Prepared {
    pub(crate) fn new(policy: &Policy, zone: &TimeZone) -> Self {
        Self::with(policy, Arc::new(Common::new(&policy.body, zone)))
    }

    /// `common` is that of the same body.
    pub(crate) fn with(policy: &Policy, common: Arc<Common>) -> Self {
        let (settings, client) = (&policy.body.settings, policy.client);
        let share =
            |uid: &str, spread| times::share(client, uid, spread).saturating_add(settings.grace_period);
        let deployments = policy.body.deployments.iter();
        Self {
            common,
            shares: deployments.map(|d| share(&d.uid, d.settings.deadline_spread)).collect(),
            scan_share: cycle_share(client, settings.scan_cycle, "scan-cycle"),
            evaluation_share: cycle_share(client, settings.reevaluation_cycle, "evaluation-cycle"),
        }
    }

    /// Whether it was made for this zone.
    pub(crate) fn is_for(&self, zone: &TimeZone) -> bool {
        self.common.is_for(zone)
    }
}

/// Up to two hours and at most a tenth of the cycle apart, so that clients spread (domain.md 5.3).
fn cycle_share(client: ClientId, cycle: SignedDuration, purpose: &str) -> SignedDuration {
    times::share(client, purpose, SignedDuration::from_hours(2).min(cycle / 10))
}
