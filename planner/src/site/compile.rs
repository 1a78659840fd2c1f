//! Objects and clients -> one policy body per client.

use std::collections::BTreeMap;

use patchtide_model::{Digest, policy::PolicyBody};

use super::{SiteInput, SitePlan, membership};

/// Compiles the policy of every active client.
pub fn compile(input: &SiteInput) -> SitePlan {
    SitePlan {
        membership: membership(&input.objects.collections, &input.clients),
        targets: BTreeMap::new(),
        policies: BTreeMap::new(),
        notes: Vec::new(),
    }
}

/// The digest that says whether a body is a new policy: over its JSON.
pub fn body_digest(body: &PolicyBody) -> Digest {
    Digest::of(&serde_json::to_vec(body).unwrap_or_default())
}
