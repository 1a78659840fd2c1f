//! The plan checker: does every policy of a plan keep what the objects of its site demand? It is asked of each plan before
//! anything of it is signed, and it does not follow the compiler's way: membership is not computed again but checked to be
//! the one solution of its definitions, subcollections are walked upwards, and each policy is compared with the objects.
//! It shares no code with the compiler but the list of what is wrong with references, and it looks at the whole, or at all that is said of some clients.
//! A defect of the compiler then withholds policy instead of lifting a window.

mod body;
mod claims;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{ClientId, ObjectName, client::Client, object::Collection};

use self::claims::{Claims, Table};
use crate::site::{CollectionProblem, SiteInput, SitePlan, Verdict, check_collections};

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
    let stranger = |collection: &ObjectName, client| {
        found.insert(Violation::Members { collection: collection.clone(), client });
    };
    let clients = input.clients.iter().map(|client| &**client);
    let claims = Claims::new(input, plan, clients, true, stranger);
    let with_verdict: BTreeSet<ClientId> = plan.policies.keys().copied().collect();
    let expected: BTreeSet<ClientId> = claims.active.iter().map(|client| client.id).collect();
    found.extend(with_verdict.symmetric_difference(&expected).map(|id| Violation::Clients(*id)));
    prove(input, plan, &claims, found)
}

/// [`check`] for the clients `asked` alone: everything that is wrong with what `plan` says of them; empty: their policies may
/// go out. `find` gives them as they are in `input`. What a client gets depends on the objects and on itself, so this is the
/// whole proof for it, in time that does not grow with the site. That nobody else was forgotten, [`check`] alone shows.
pub fn check_clients<'a>(
    input: &'a SiteInput,
    plan: &'a SitePlan,
    asked: &BTreeSet<ClientId>,
    find: impl Fn(ClientId) -> Option<&'a Client>,
) -> Vec<Violation> {
    let claims = Claims::new(input, plan, asked.iter().filter_map(|id| find(*id)), false, |_, _| {});
    let active: BTreeSet<ClientId> = claims.active.iter().map(|client| client.id).collect();
    let mut found = BTreeSet::new();
    for id in asked {
        if active.contains(id) != plan.policies.contains_key(id) {
            found.insert(Violation::Clients(*id));
        }
    }
    for id in asked.difference(&active) {
        let strange = plan.membership.iter().filter(|(_, members)| members.contains(id));
        found.extend(strange.map(|(name, _)| Violation::Members { collection: name.clone(), client: *id }));
        let strange = plan.targets.iter().filter(|(_, reached)| reached.contains(id));
        found.extend(strange.map(|(name, _)| Violation::Targets { deployment: name.clone() }));
    }
    prove(input, plan, &claims, found)
}

fn prove(
    input: &SiteInput,
    plan: &SitePlan,
    claims: &Claims<'_>,
    mut found: BTreeSet<Violation>,
) -> Vec<Violation> {
    let unknown = undetermined(&input.objects.collections);
    members(input, claims, &unknown, &mut found);
    targets(input, plan, claims, &unknown, &mut found);
    withheld(input, plan, claims, &unknown, &mut found);
    body::compare(input, plan, claims, &mut found);
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
    claims: &Claims<'_>,
    unknown: &BTreeSet<ObjectName>,
    found: &mut BTreeSet<Violation>,
) {
    for collection in input.objects.collections.values() {
        let claimed = claims.of(&collection.name);
        let known = !unknown.contains(&collection.name);
        let selected = claims.selected(&collection.selector);
        let named = claims.named(&collection.direct_members);
        let tables = |names: &BTreeSet<ObjectName>| names.iter().map(|name| claims.of(name)).collect();
        let (include, exclude): (Vec<&Table>, Vec<&Table>) =
            (tables(&collection.include), tables(&collection.exclude));
        let limiting = collection.limiting.as_ref().map(|name| claims.of(name));
        for (n, client) in claims.active.iter().enumerate() {
            let is = known
                && (collection.all || selected[n] || named[n] || include.iter().any(|table| table[n]))
                && !exclude.iter().any(|table| table[n])
                && limiting.is_none_or(|table| table[n]);
            if is != claimed[n] {
                found.insert(Violation::Members { collection: collection.name.clone(), client: client.id });
            }
        }
    }
}

/// From every collection up to the deployment's: the compiler goes down from there.
fn targets(
    input: &SiteInput,
    plan: &SitePlan,
    claims: &Claims<'_>,
    unknown: &BTreeSet<ObjectName>,
    found: &mut BTreeSet<Violation>,
) {
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
        let told = !unknown.contains(&deployment.collection);
        let reaching = collections.values().filter(|_| told).filter(|collection| {
            collection.name == deployment.collection
                || (deployment.include_subcollections && below(collection))
        });
        let mut expected = vec![false; claims.active.len()];
        for collection in reaching {
            for (is, member) in expected.iter_mut().zip(claims.of(&collection.name)) {
                *is |= member;
            }
        }
        let mut strange = false;
        let claimed = plan.targets.get(name).map(|set| claims.table(set, |_| strange = true));
        if strange || claimed != Some(expected) {
            found.insert(Violation::Targets { deployment: name.clone() });
        }
    }
    let gone = plan.targets.keys().filter(|name| !input.objects.deployments.contains_key(*name));
    found.extend(gone.map(|name| Violation::Targets { deployment: name.clone() }));
}

/// A policy goes to nobody of whom something is not understood.
fn withheld(
    input: &SiteInput,
    plan: &SitePlan,
    claims: &Claims<'_>,
    unknown: &BTreeSet<ObjectName>,
    found: &mut BTreeSet<Violation>,
) {
    let objects = &input.objects;
    let told = |name: &ObjectName| objects.collections.contains_key(name) && !unknown.contains(name);
    let mut by: Vec<(String, Option<&ObjectName>)> = Vec::new();
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
    for (object, collection) in by {
        let concerned = claims
            .active
            .iter()
            .enumerate()
            .filter(|(n, _)| collection.is_none_or(|collection| claims.of(collection)[*n]));
        for (_, client) in concerned {
            if matches!(plan.policies.get(&client.id), Some(Verdict::Policy(_))) {
                found.insert(Violation::NotWithheld { client: client.id, object: object.clone() });
            }
        }
    }
}
