//! Which policies are new, and their signatures.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, Digest,
    policy::{POLICY_VERSION, Policy, PolicyBody},
};
use patchtide_planner::site::{self, SitePlan, Verdict};
use patchtide_store::clients::StoredPolicy;

use super::CompileError;
use crate::context::Context;

/// A policy to be signed.
pub(super) struct Next<'a> {
    client: ClientId,
    number: u64,
    body: &'a Arc<PolicyBody>,
    digest: Digest,
}

/// The policies whose body is not the one the client has.
pub(super) fn changed<'a>(
    plan: &'a SitePlan,
    known: &BTreeMap<ClientId, (u64, u64, Digest)>,
    epoch: u64,
) -> Vec<Next<'a>> {
    // Clients share bodies; each is hashed once.
    let mut digests: BTreeMap<*const PolicyBody, Digest> = BTreeMap::new();
    let mut new = Vec::new();
    for (client, verdict) in &plan.policies {
        let Verdict::Policy(body) = verdict else {
            continue;
        };
        let digest = *digests.entry(Arc::as_ptr(body)).or_insert_with(|| site::body_digest(body));
        let number = match known.get(client) {
            Some((of, _, old)) if *of == epoch && *old == digest => continue,
            Some((of, number, _)) if *of == epoch => number + 1,
            _ => 1,
        };
        new.push(Next { client: *client, number, body, digest });
    }
    new
}

/// Signs one.
pub(super) fn sign(
    ctx: &Context,
    next: &Next<'_>,
    epoch: u64,
    now: Timestamp,
) -> Result<StoredPolicy, CompileError> {
    let policy = Policy {
        version: POLICY_VERSION,
        site: ctx.site.clone(),
        client: next.client,
        epoch,
        number: next.number,
        issued_at: now,
        body: next.body.as_ref().clone(),
    };
    let envelope = ctx
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
        let first = changed(&plan, &BTreeMap::new(), 1);
        assert_eq!(
            first.iter().map(|next| next.number).collect::<Vec<_>>(),
            [1, 1, 1],
            "the held one gets none"
        );
        let same = first[0].digest;
        let known = BTreeMap::from([
            (id(1), (1, 7, same)),
            (id(2), (1, 7, Digest::of(b"another body"))),
            (id(3), (1, 7, same)),
        ]);
        let next: Vec<_> = changed(&plan, &known, 1).iter().map(|next| (next.client, next.number)).collect();
        assert_eq!(next, [(id(2), 8)]);
        // A restored site has another epoch: everybody is told again, from the beginning.
        let next: Vec<_> = changed(&plan, &known, 2).iter().map(|next| next.number).collect();
        assert_eq!(next, [1, 1, 1]);
    }
}
