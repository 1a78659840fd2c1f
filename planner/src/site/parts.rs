//! What policies are put together from, each once: offered updates, deployments, and what those that reach the same clients
//! say together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::SignedDuration;
use patchtide_model::{
    Digest, ObjectName, UpdateId,
    catalogue::{Installer, Leaf, LeafRef, Update},
    deployment::Deployment,
    policy::{DeploymentPolicy, UpdatePolicy},
    shared::Shared,
};

use super::{SiteInput, awaited::Reach, provenance};

/// Offered updates and deployments as policies say them.
#[derive(Debug, Default)]
pub(super) struct Parts {
    offers: BTreeMap<UpdateId, Offer>,
    deployments: BTreeMap<ObjectName, Part>,
    dependencies: Shared<Vec<Leaf>>,
    sets: HashMap<SetKey, Set>,
}

/// An update that may be offered.
#[derive(Debug)]
struct Offer {
    policy: Shared<UpdatePolicy>,
    /// Deployments that name it.
    named: usize,
}

/// A deployment.
#[derive(Debug)]
struct Part {
    policy: DeploymentPolicy,
    named: Vec<UpdateId>,
    notes: Vec<String>,
}

/// Deployments by name, and whether they start at once whatever they say of a spread.
type SetKey = (Vec<ObjectName>, bool);

/// What deployments that reach the same clients say together.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) deployments: Shared<Vec<DeploymentPolicy>>,
    pub(super) updates: Shared<BTreeMap<UpdateId, Shared<UpdatePolicy>>>,
    pub(super) dependencies: Shared<Vec<Leaf>>,
    pub(super) provenance: Shared<BTreeMap<String, String>>,
    awaited: HashMap<u32, Shared<BTreeSet<Digest>>>,
}

impl Set {
    /// The files of it that none of `points` has; `number` says which points these are.
    pub(super) fn awaited(
        &mut self,
        reach: &Reach,
        input: &SiteInput,
        number: u32,
        points: &BTreeSet<ObjectName>,
    ) -> Shared<BTreeSet<Digest>> {
        let awaited = self.awaited.entry(number).or_insert_with(|| {
            let leaves = self.updates.values().flat_map(|update| &update.leaves).chain(&*self.dependencies);
            reach.awaited(input, points, leaves).into()
        });
        awaited.clone()
    }
}

/// What of the parts is other than before.
#[derive(Debug, Default)]
pub(super) struct Renewed {
    /// Deployments.
    pub(super) deployments: BTreeSet<ObjectName>,
    /// Some leaf is offered, or no longer.
    pub(super) leaves: bool,
}

impl Parts {
    /// Takes over changed deployments and updates.
    pub(super) fn update(
        &mut self,
        input: &SiteInput,
        deployments: &BTreeSet<ObjectName>,
        updates: &BTreeSet<UpdateId>,
        dependencies: bool,
    ) -> Renewed {
        let mut renewed = Renewed { deployments: deployments.clone(), leaves: dependencies };
        for name in deployments {
            if let Some(old) = self.deployments.remove(name) {
                self.leave(&old);
            }
        }
        for id in updates {
            let Some(offer) = self.offers.get_mut(id) else { continue };
            let policy = offered(input, id);
            if policy.as_ref() != Some(&*offer.policy) {
                renewed.leaves |= policy.as_ref().is_none_or(|policy| policy.leaves != offer.policy.leaves);
                if let Some(policy) = policy {
                    offer.policy = policy.into();
                } else {
                    self.offers.remove(id);
                }
            }
        }
        if !updates.is_empty() {
            // Also one that was not offered may be now, and what is said of one that is not may be something else.
            let concerned = |part: &Part| part.named.iter().any(|id| updates.contains(id));
            let names = self.deployments.iter().filter(|(_, part)| concerned(part)).map(|(name, _)| name);
            let names: Vec<ObjectName> = names.cloned().collect();
            for name in names {
                if let Some(old) = self.deployments.remove(&name) {
                    self.leave(&old);
                }
                renewed.deployments.insert(name);
            }
        }
        for name in &renewed.deployments {
            if let Some(deployment) = input.objects.deployments.get(name) {
                let part = self.part(input, deployment, &mut renewed.leaves);
                self.deployments.insert(name.clone(), part);
            }
        }
        let before = self.offers.len();
        self.offers.retain(|_, offer| offer.named > 0);
        renewed.leaves |= self.offers.len() != before;
        if dependencies {
            let mut leaves = input.dependencies.clone();
            leaves.sort();
            leaves.dedup();
            self.dependencies = leaves.into();
            self.sets.clear();
        } else if !renewed.deployments.is_empty() {
            self.sets.retain(|(names, _), _| !names.iter().any(|name| renewed.deployments.contains(name)));
        }
        renewed
    }

    fn leave(&mut self, part: &Part) {
        for id in &part.policy.updates {
            if let Some(offer) = self.offers.get_mut(id) {
                offer.named -= 1;
            }
        }
    }

    fn part(&mut self, input: &SiteInput, deployment: &Deployment, leaves: &mut bool) -> Part {
        let mut notes = Vec::new();
        let mut updates = BTreeSet::new();
        for id in &deployment.updates {
            match input.updates.get(id) {
                None => notes.push(format!("{id} is not in the catalogue: it is not offered to clients")),
                Some(update) if update.expired => {
                    let other = update.superseded_by.as_ref();
                    let other = other.map_or_else(|| "another".to_owned(), ToString::to_string);
                    notes.push(format!(
                        "{id} is expired: it is not offered to clients any more; take it out, or deploy {other}"
                    ));
                }
                Some(update) => {
                    if !updates.insert(id.clone()) {
                        continue;
                    }
                    let offer = self.offers.entry(id.clone()).or_insert_with(|| {
                        *leaves = true;
                        let policy = offer(update, input.required_leaves.get(id)).into();
                        Offer { policy, named: 0 }
                    });
                    offer.named += 1;
                }
            }
        }
        let policy = DeploymentPolicy {
            name: deployment.name.to_string(),
            uid: deployment.uid.clone(),
            generation: deployment.generation,
            suspend: deployment.suspend,
            settings: deployment.settings.clone(),
            anchor: deployment.anchor,
            updates: updates.into(),
            provenance: deployment.provenance.clone(),
        };
        Part { policy, named: deployment.updates.clone(), notes }
    }

    /// Leaves of offered updates and what these need.
    pub(super) fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.offers.values().flat_map(|offer| &offer.policy.leaves).chain(&*self.dependencies)
    }

    /// What an admin should know, with the deployment that it is about.
    pub(super) fn notes(&self) -> impl Iterator<Item = (&ObjectName, &String)> {
        self.deployments.iter().flat_map(|(name, part)| part.notes.iter().map(move |note| (name, note)))
    }

    /// What these deployments say together.
    pub(super) fn set(&mut self, names: Vec<ObjectName>, at_once: bool) -> &mut Set {
        let Self { offers, deployments, dependencies, sets } = self;
        sets.entry((names, at_once)).or_insert_with_key(|(names, at_once)| {
            let parts = names.iter().filter_map(|name| deployments.get(name));
            let mut policies: Vec<DeploymentPolicy> = parts.map(|part| part.policy.clone()).collect();
            policies.sort_by(|a, b| a.uid.cmp(&b.uid));
            if *at_once {
                for policy in &mut policies {
                    policy.settings.deadline_spread = SignedDuration::ZERO;
                }
            }
            let ids: BTreeSet<&UpdateId> = policies.iter().flat_map(|policy| &policy.updates).collect();
            let updates: BTreeMap<UpdateId, Shared<UpdatePolicy>> =
                ids.into_iter().filter_map(|id| Some((id.clone(), offers.get(id)?.policy.clone()))).collect();
            let dependencies = if updates.is_empty() { Shared::default() } else { dependencies.clone() };
            let provenance = provenance::of(&policies).into();
            Set {
                deployments: policies.into(),
                updates: updates.into(),
                dependencies,
                provenance,
                awaited: HashMap::new(),
            }
        })
    }

    /// How many sets are kept.
    pub(super) fn sets(&self) -> usize {
        self.sets.len()
    }

    /// Forgets the sets that nobody is reached by; what is in policies stays.
    pub(super) fn forget_sets(&mut self) {
        self.sets.clear();
    }

    /// Other files are on the points than before, or other points have them.
    pub(super) fn forget_awaited(&mut self) {
        self.sets.values_mut().for_each(|set| set.awaited.clear());
    }
}

/// The update as clients are offered it now; none: it is not.
fn offered(input: &SiteInput, id: &UpdateId) -> Option<UpdatePolicy> {
    let update = input.updates.get(id).filter(|update| !update.expired)?;
    Some(offer(update, input.required_leaves.get(id)))
}

fn offer(update: &Update, required: Option<&BTreeSet<LeafRef>>) -> UpdatePolicy {
    let needed = |leaf: &Leaf| required.is_some_and(|required| required.contains(&leaf.reference()));
    let mut leaves: Vec<_> = update.leaves.iter().filter(|leaf| needed(leaf)).cloned().collect();
    leaves.sort();
    leaves.dedup();
    UpdatePolicy {
        title: update.title.clone(),
        leaves,
        maximum_run_time: update.maximum_run_time,
        exclusive: update.exclusive,
        restart: update.restart,
        // What there are catalogues for so far are archives of apt.
        installer: Installer::Apt,
        superseded_by: update.superseded_by.clone(),
    }
}
