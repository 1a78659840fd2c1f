//! Which policies are new, and their signatures.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, Digest,
    policy::{POLICY_VERSION, Policy, PolicyBody},
};
use patchtide_planner::site::{self, SitePlan, Verdict};
use patchtide_store::clients::StoredPolicy;

use super::{
    CompileError,
    keep::{Ground, Numbers},
};

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

/// Signs one.
pub(super) fn sign(
    ground: Ground<'_>,
    next: &Next,
    epoch: u64,
    now: Timestamp,
) -> Result<StoredPolicy, CompileError> {
    let policy = Policy {
        version: POLICY_VERSION,
        site: ground.site.clone(),
        client: next.client,
        epoch,
        number: next.number,
        issued_at: now,
        body: next.body.as_ref().clone(),
    };
    let envelope = ground
        .signer
        .sign_policy(&policy)
        .map_err(|source| CompileError::Sign { client: next.client, source })?;
    Ok(StoredPolicy {
        client: next.client,
        epoch,
        number: next.number,
        body_digest: next.digest,
        envelope,
        issued_at: now,
    })
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
