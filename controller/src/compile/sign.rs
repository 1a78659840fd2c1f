//! Which policies are new, and their signatures.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, Digest, SiteName,
    policy::{POLICY_VERSION, PolicyBody},
};
use patchtide_planner::site::{self, SitePlan, Verdict};
use patchtide_protocol::policy::{Packed, Part, PartError, Statement, pack_orders, pack_updates};
use patchtide_signer::Signer;
use patchtide_store::clients::{PolicyParts, StoredPolicy};

use super::{
    CompileError,
    keep::{Ground, Numbers},
};

/// Policies signed before they are stored: bounds memory, not the result.
const CLIENTS: usize = 1_000;
/// Bodies of these, for the same reason.
const BODIES: usize = 100;

/// A policy to be signed.
pub(super) struct Next {
    pub(super) client: ClientId,
    pub(super) number: u64,
    body: Arc<PolicyBody>,
    pub(super) digest: Digest,
}

/// The policies of `open` clients whose body is not the one the client has.
pub(super) fn changed(plan: &SitePlan, open: &BTreeSet<ClientId>, known: &Numbers) -> Vec<Next> {
    // Clients share bodies; each is hashed once.
    let mut digests: BTreeMap<*const PolicyBody, Digest> = BTreeMap::new();
    let mut new = Vec::new();
    for client in open {
        let Some(Verdict::Policy(body)) = plan.policies.get(client) else {
            continue;
        };
        let digest = *digests.entry(Arc::as_ptr(body)).or_insert_with(|| site::body_digest(body));
        let number = match known.get(client) {
            Some((_, old)) if *old == digest => continue,
            Some((number, _)) => number + 1,
            None => 1,
        };
        new.push(Next { client: *client, number, body: Arc::clone(body), digest });
    }
    new
}

/// Policies in portions of which each is signed and stored at once. Those with the same parts are neighbours.
pub(super) fn portions(mut new: Vec<Next>) -> Vec<Vec<Next>> {
    new.sort_by_key(|next| (next.body.updates.digest(), next.digest, next.client));
    let mut portions: Vec<Vec<Next>> = Vec::new();
    let (mut bodies, mut last) = (0, None);
    for next in new {
        if last != Some(next.digest) {
            (bodies, last) = (bodies + 1, Some(next.digest));
        }
        match portions.last_mut() {
            Some(portion) if portion.len() < CLIENTS && bodies <= BODIES => portion.push(next),
            _ => {
                bodies = 1;
                portions.push(vec![next]);
            }
        }
    }
    portions
}

/// Signs policies. Every part is made here, once: what the signature stands for is never read back from the database.
pub(super) struct Signing {
    site: SiteName,
    signer: Arc<dyn Signer>,
    epoch: u64,
    now: Timestamp,
    /// By the body's digest.
    orders: BTreeMap<Digest, Made>,
    /// By the digests of updates and dependencies.
    updates: BTreeMap<(Digest, Digest), Made>,
}

/// A part, or how large it would be: its bytes, and those of its JSON.
type Made = Result<Part, (u64, u64)>;

/// A portion, signed.
#[derive(Default)]
pub(super) struct Signed {
    pub(super) policies: Vec<StoredPolicy>,
    /// Those that no portion before it had.
    pub(super) parts: PolicyParts,
    /// Clients whose policy is larger than agents take, and how large it is.
    pub(super) too_large: Vec<(ClientId, PartError)>,
}

impl Signing {
    pub(super) fn new(ground: Ground<'_>, epoch: u64, now: Timestamp) -> Self {
        let (site, signer) = (ground.site.clone(), Arc::clone(ground.signer));
        Self { site, signer, epoch, now, orders: BTreeMap::new(), updates: BTreeMap::new() }
    }

    /// Signs a portion.
    pub(super) fn sign(&mut self, portion: Vec<Next>) -> Result<Signed, CompileError> {
        let mut signed = Signed::default();
        for next in portion {
            let client = next.client;
            match self.parts(&next, &mut signed.parts) {
                Ok((orders, updates)) => signed.policies.push(self.policy(&next, orders, updates)?),
                Err(source @ PartError::TooLarge { .. }) => signed.too_large.push((client, source)),
                Err(source) => return Err(CompileError::Part { client, source }),
            }
        }
        Ok(signed)
    }

    /// The parts of a body; what is new of them is put to the others.
    fn parts(&mut self, next: &Next, new: &mut PolicyParts) -> Result<(Part, Part), PartError> {
        let body = &next.body;
        let orders = once(&mut self.orders, next.digest, new, || pack_orders(body))?;
        let key = (body.updates.digest(), body.dependencies.digest());
        let updates = once(&mut self.updates, key, new, || pack_updates(body))?;
        Ok((orders, updates))
    }

    fn policy(&self, next: &Next, orders: Part, updates: Part) -> Result<StoredPolicy, CompileError> {
        let Next { client, number, digest, .. } = *next;
        let statement = Statement {
            version: POLICY_VERSION,
            site: self.site.clone(),
            client,
            epoch: self.epoch,
            number,
            issued_at: self.now,
            orders,
            updates,
        };
        let signed = self.signer.sign_policy(&statement);
        Ok(StoredPolicy {
            client,
            epoch: self.epoch,
            number,
            body_digest: digest,
            orders: orders.digest,
            updates: updates.digest,
            statement: signed.map_err(|source| CompileError::Sign { client, source })?,
            issued_at: self.now,
        })
    }
}

fn once<K: Ord>(
    known: &mut BTreeMap<K, Made>,
    key: K,
    new: &mut PolicyParts,
    pack: impl FnOnce() -> Result<Packed, PartError>,
) -> Result<Part, PartError> {
    let made = match known.entry(key) {
        Entry::Occupied(known) => *known.get(),
        Entry::Vacant(place) => *place.insert(match pack() {
            Ok(Packed { part, bytes }) => {
                new.insert(part.digest, bytes);
                Ok(part)
            }
            Err(PartError::TooLarge { size, expanded }) => Err((size, expanded)),
            Err(error) => return Err(error),
        }),
    };
    made.map_err(|(size, expanded)| PartError::TooLarge { size, expanded })
}

#[cfg(test)]
mod tests {
    use patchtide_model::{object::ClientSettings, shared::Shared};
    use uuid::Uuid;

    use super::*;

    fn plan(clients: u128) -> SitePlan {
        let body = Arc::new(PolicyBody {
            settings: ClientSettings::default(),
            lines: Shared::default(),
            windows: vec![],
            deployments: Shared::default(),
            updates: Shared::default(),
            dependencies: Shared::default(),
            awaited: Shared::default(),
            provenance: Shared::default(),
        });
        let verdicts =
            (1..=clients).map(|n| (ClientId(Uuid::from_u128(n)), Verdict::Policy(Arc::clone(&body))));
        let mut policies: BTreeMap<_, _> = verdicts.collect();
        let held = Verdict::Withheld { reason: "MaintenanceWindow/mars".to_owned() };
        policies.insert(ClientId(Uuid::from_u128(99)), held);
        SitePlan { membership: BTreeMap::new(), targets: BTreeMap::new(), policies, notes: vec![] }
    }

    fn body(told: &str) -> Arc<PolicyBody> {
        let plan = plan(1);
        let Some(Verdict::Policy(body)) = plan.policies.values().next() else { panic!("a policy") };
        let provenance = BTreeMap::from([("told".to_owned(), told.to_owned())]).into();
        Arc::new(PolicyBody { provenance, ..body.as_ref().clone() })
    }

    fn next(client: u128, body: &Arc<PolicyBody>) -> Next {
        let digest = site::body_digest(body);
        Next { client: ClientId(Uuid::from_u128(client)), number: 1, body: Arc::clone(body), digest }
    }

    #[test]
    fn each_part_is_made_once_and_portions_are_bounded() {
        let bodies: Vec<_> = (0..BODIES * 3).map(|n| body(&n.to_string())).collect();
        let new: Vec<Next> =
            (0..4 * CLIENTS).map(|n| next(n as u128, &bodies[n * 7 % bodies.len()])).collect();
        let portions = portions(new);
        let mut signing = signing();
        let (mut clients, mut parts) = (BTreeSet::new(), BTreeSet::new());
        for portion in portions {
            let bodies: BTreeSet<Digest> = portion.iter().map(|next| next.digest).collect();
            assert!(portion.len() <= CLIENTS && bodies.len() <= BODIES);
            let signed = signing.sign(portion).unwrap();
            parts.extend(signed.parts.keys().copied());
            assert!(signed.parts.iter().all(|(digest, bytes)| Digest::of(bytes) == *digest));
            for policy in signed.policies {
                assert!(parts.contains(&policy.orders) && parts.contains(&policy.updates));
                assert!(clients.insert(policy.client));
            }
        }
        assert_eq!((clients.len(), parts.len()), (4 * CLIENTS, bodies.len() + 1), "all share their updates");
    }

    /// One policy that no agent takes keeps nobody else from theirs.
    #[test]
    fn what_no_agent_takes_is_not_signed() {
        let large = body(&"x".repeat(patchtide_protocol::limits::POLICY_PART_EXPANDED_BYTES));
        let small = body("y");
        let signed = signing().sign(vec![next(1, &large), next(2, &large), next(3, &small)]).unwrap();
        let left: Vec<ClientId> = signed.too_large.iter().map(|(client, _)| *client).collect();
        assert_eq!(left, [1, 2].map(|n| ClientId(Uuid::from_u128(n))));
        assert_eq!((signed.policies.len(), signed.parts.len()), (1, 2));
    }

    fn signing() -> Signing {
        let site: SiteName = "lab".parse().unwrap();
        let signer = Arc::new(patchtide_signer::SignerKeys::generate(&site, Timestamp::UNIX_EPOCH).unwrap());
        let (orders, updates) = (BTreeMap::new(), BTreeMap::new());
        Signing { site, signer, epoch: 1, now: Timestamp::UNIX_EPOCH, orders, updates }
    }

    #[test]
    fn only_another_body_gets_a_number_and_numbers_only_rise() {
        let plan = plan(3);
        let id = |n| ClientId(Uuid::from_u128(n));
        let all: BTreeSet<ClientId> = plan.policies.keys().copied().collect();
        let first = changed(&plan, &all, &Numbers::new());
        assert_eq!(
            first.iter().map(|next| next.number).collect::<Vec<_>>(),
            [1, 1, 1],
            "the held one gets none"
        );
        let same = first[0].digest;
        let other = Digest::of(b"another body");
        let known = Numbers::from([(id(1), (7, same)), (id(2), (7, other)), (id(3), (7, same))]);
        let next: Vec<_> =
            changed(&plan, &all, &known).iter().map(|next| (next.client, next.number)).collect();
        assert_eq!(next, [(id(2), 8)]);
        let proved = BTreeSet::from([id(1), id(3)]);
        assert!(changed(&plan, &proved, &known).is_empty(), "nobody else was proved");
    }
}
