//! The plan checker: does every policy of a plan keep what the objects of its site demand? It is asked of each plan before
//! anything of it is signed, and it does not follow the compiler's way: membership is not computed again but checked to be
//! the one solution of its definitions, subcollections are walked upwards, and each policy is compared with the objects.
//! A defect of the compiler then withholds policy instead of lifting a window.

mod body;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{
    ClientId, ObjectName,
    client::{Client, ClientState},
    object::Collection,
};

use crate::site::{CollectionProblem, SiteInput, SitePlan, Verdict, check_collections, selects};

/// Something that a plan must not do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Violation {
    /// An active client without verdict, or a verdict for another one.
    #[error("CHECK-CLIENTS: client {0} has a verdict although it is not active, or is active and has none")]
    Clients(ClientId),
    /// A collection with other members than its definition gives it.
    #[error(
        "CHECK-MEMBERS: Collection/{collection} and client {client} disagree with the collection's definition"
    )]
    Members {
        /// The collection.
        collection: ObjectName,
        /// The client.
        client: ClientId,
    },
    /// A deployment that reaches other clients than it should.
    #[error("CHECK-TARGETS: UpdateDeployment/{deployment} reaches other clients than its collection holds")]
    Targets {
        /// The deployment.
        deployment: ObjectName,
    },
    /// A policy that has to be withheld goes out.
    #[error("CHECK-WITHHELD: a policy goes to client {client} although {object} cannot be honoured")]
    NotWithheld {
        /// The client.
        client: ClientId,
        /// `Kind/name` of what restricts it.
        object: String,
    },
    /// A policy says something else than the objects.
    #[error("CHECK-POLICY: the policy of client {client} disagrees with {object} in {field}")]
    Policy {
        /// The client.
        client: ClientId,
        /// `Kind/name` of the object.
        object: String,
        /// What disagrees.
        field: &'static str,
    },
}

/// Everything that is wrong with `plan` as the answer to `input`; empty: it may go out.
pub fn check(input: &SiteInput, plan: &SitePlan) -> Vec<Violation> {
    let mut found = BTreeSet::new();
    let active: BTreeMap<ClientId, &Client> = input
        .clients
        .iter()
        .filter(|client| client.state == ClientState::Active)
        .map(|client| (client.id, client))
        .collect();
    let with_verdict: BTreeSet<ClientId> = plan.policies.keys().copied().collect();
    let expected: BTreeSet<ClientId> = active.keys().copied().collect();
    found.extend(with_verdict.symmetric_difference(&expected).map(|id| Violation::Clients(*id)));

    let unknown = undetermined(&input.objects.collections);
    members(input, plan, &active, &unknown, &mut found);
    targets(input, plan, &mut found);
    let held = Held::new(input, &unknown);
    let mut bodies = body::Bodies::new(input, plan);
    for (client, verdict) in &plan.policies {
        let Verdict::Policy(body) = verdict else { continue };
        if let Some(object) = held.by(plan, *client) {
            found.insert(Violation::NotWithheld { client: *client, object: object.to_owned() });
        }
        found.extend(bodies.compare(*client, body).into_iter().map(|(object, field)| Violation::Policy {
            client: *client,
            object,
            field,
        }));
    }
    found.into_iter().collect()
}

/// Collections whose members nobody can tell: the least set that holds those with a problem and what refers to one.
fn undetermined(collections: &BTreeMap<ObjectName, Collection>) -> BTreeSet<ObjectName> {
    let problems = check_collections(collections);
    let mut bad: BTreeSet<ObjectName> =
        problems.iter().flat_map(CollectionProblem::collections).cloned().collect();
    let refers = |collection: &Collection, bad: &BTreeSet<ObjectName>| {
        collection
            .include
            .iter()
            .chain(&collection.exclude)
            .chain(&collection.limiting)
            .any(|name| bad.contains(name))
    };
    loop {
        let before = bad.len();
        for collection in collections.values() {
            if refers(collection, &bad) {
                bad.insert(collection.name.clone());
            }
        }
        if bad.len() == before {
            return bad;
        }
    }
}

/// Without circles the definitions have one solution, so that agreement in every place proves the whole.
fn members(
    input: &SiteInput,
    plan: &SitePlan,
    active: &BTreeMap<ClientId, &Client>,
    unknown: &BTreeSet<ObjectName>,
    found: &mut BTreeSet<Violation>,
) {
    let nobody = BTreeSet::new();
    let of = |name: &ObjectName| plan.membership.get(name).unwrap_or(&nobody);
    for collection in input.objects.collections.values() {
        let claimed = of(&collection.name);
        let mut wrong = |client: ClientId| {
            found.insert(Violation::Members { collection: collection.name.clone(), client });
        };
        claimed.iter().filter(|id| !active.contains_key(id)).for_each(|id| wrong(*id));
        for (id, client) in active {
            let named = || {
                collection.direct_members.contains(&client.name)
                    || collection.direct_members.iter().any(|word| word.eq_ignore_ascii_case(&id.to_string()))
            };
            let is = !unknown.contains(&collection.name)
                && (collection.all
                    || selects(&collection.selector, &client.facts)
                    || (!collection.direct_members.is_empty() && named())
                    || collection.include.iter().any(|name| of(name).contains(id)))
                && !collection.exclude.iter().any(|name| of(name).contains(id))
                && collection.limiting.as_ref().is_none_or(|name| of(name).contains(id));
            if is != claimed.contains(id) {
                wrong(*id);
            }
        }
    }
}

/// From every collection up to the deployment's: the compiler goes down from there.
fn targets(input: &SiteInput, plan: &SitePlan, found: &mut BTreeSet<Violation>) {
    let collections = &input.objects.collections;
    for (name, deployment) in &input.objects.deployments {
        let below = |collection: &Collection| {
            let (mut at, mut steps) = (Some(collection), 0);
            while let Some(here) = at.filter(|_| steps <= collections.len()) {
                if here.name == deployment.collection {
                    return true;
                }
                at = here.parent.as_ref().and_then(|parent| collections.get(parent));
                steps += 1;
            }
            false
        };
        let reached: BTreeSet<ClientId> = collections
            .values()
            .filter(|collection| {
                collection.name == deployment.collection
                    || (deployment.include_subcollections && below(collection))
            })
            .filter_map(|collection| plan.membership.get(&collection.name))
            .flatten()
            .copied()
            .collect();
        if plan.targets.get(name) != Some(&reached) {
            found.insert(Violation::Targets { deployment: name.clone() });
        }
    }
}

/// What withholds policy, and from whom; no collection: from everyone.
struct Held<'a> {
    by: Vec<(String, Option<&'a ObjectName>)>,
}

impl<'a> Held<'a> {
    fn new(input: &'a SiteInput, unknown: &BTreeSet<ObjectName>) -> Self {
        let objects = &input.objects;
        let told = |name: &ObjectName| objects.collections.contains_key(name) && !unknown.contains(name);
        let mut by = Vec::new();
        for (object, blocked) in &objects.blocked {
            if blocked.collections.is_empty() || !blocked.collections.iter().all(told) {
                by.push((object.clone(), None));
            }
            by.extend(blocked.collections.iter().map(|name| (object.clone(), Some(name))));
        }
        for (name, window) in &objects.windows {
            let object = format!("MaintenanceWindow/{name}");
            if !told(&window.collection) {
                by.push((object, None));
            } else if window.validate().is_err() {
                by.push((object, Some(&window.collection)));
            }
        }
        Self { by }
    }

    fn by(&self, plan: &SitePlan, client: ClientId) -> Option<&str> {
        let concerns = |collection: Option<&ObjectName>| {
            collection.is_none_or(|name| plan.membership.get(name).is_some_and(|set| set.contains(&client)))
        };
        self.by.iter().find(|(_, collection)| concerns(*collection)).map(|(object, _)| object.as_str())
    }
}
