//! Expired updates leave the catalogue after `cleanupAge`, unless something refers to them (R-LIFE-04 to R-LIFE-06).

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use patchtide_model::UpdateId;
use patchtide_store::catalogue::CleanUp;
use serde_json::Value;

use crate::{
    context::Context,
    error::Failure,
    kinds::{DEPLOYMENT_PACKAGE, LEFT_UPDATES, PINNED, UPDATE_DEPLOYMENT, UPDATE_LIST, database, duration},
};

/// Kinds of rows that name updates.
const ROWS: [&str; 5] = [UPDATE_DEPLOYMENT, UPDATE_LIST, DEPLOYMENT_PACKAGE, PINNED, LEFT_UPDATES];

/// Removes what is so old. `expired_before`: what was superseded before this instant has expired by now.
pub async fn clean_up(
    ctx: &Context,
    age: &patchtide_crds::DurationText,
    expired_before: Timestamp,
) -> Result<u64, Failure> {
    let age = duration("cleanupAge", age)?;
    let before = |instant: Timestamp| instant.checked_sub(age).unwrap_or(Timestamp::MIN);
    // The present instant counts as before: an age of 0s means those of this very run too.
    let now = ctx.clock.now().checked_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX);
    let which = CleanUp {
        gone_before: before(now),
        superseded_before: before(expired_before),
        keep: referred_to(ctx).await?,
    };
    let removed = ctx.store.clean_up_updates(&which).await.map_err(|error| database(&error))?;
    if removed > 0 {
        tracing::info!(removed, "expired updates removed");
    }
    Ok(removed)
}

/// Updates that something names: what objects were resolved to, and what their specs say now.
async fn referred_to(ctx: &Context) -> Result<BTreeSet<UpdateId>, Failure> {
    let mut named = BTreeSet::new();
    for kind in ROWS {
        for row in ctx.store.objects(kind).await.map_err(|error| database(&error))? {
            let value = serde_json::from_str(&row.json)
                .map_err(|error| Failure::of("a row of the site database cannot be read back", &error))?;
            collect(&value, &mut named);
        }
    }
    let lists = ctx.caches.update_lists.all();
    let deployments = ctx.caches.update_deployments.all();
    let packages = ctx.caches.deployment_packages.all();
    let texts = (lists.iter().flat_map(|list| list.spec.pinned()))
        .chain(deployments.iter().flat_map(|deployment| deployment.spec.pinned_updates()))
        .chain(packages.iter().flat_map(|package| package.spec.pinned()));
    named.extend(texts.filter_map(|text| text.parse::<UpdateId>().ok()));
    Ok(named)
}

/// Every text that is the identity of an update, wherever it stands: one too many only stays longer.
fn collect(value: &Value, named: &mut BTreeSet<UpdateId>) {
    match value {
        Value::String(text) => named.extend(text.parse::<UpdateId>()),
        Value::Array(values) => values.iter().for_each(|value| collect(value, named)),
        Value::Object(values) => {
            named.extend(values.keys().filter_map(|key| key.parse::<UpdateId>().ok()));
            values.values().for_each(|value| collect(value, named));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_found_wherever_they_stand() {
        let value = serde_json::json!({
            "updates": ["debian/s/main:a@1"],
            "left": {"debian/s/main:b@1:2-3": {"at": 5}},
            "deep": [{"id": "debian/s/main:c@1"}],
            "name": "security",
        });
        let mut named = BTreeSet::new();
        collect(&value, &mut named);
        let named: Vec<String> = named.iter().map(ToString::to_string).collect();
        assert_eq!(named, ["debian/s/main:a@1", "debian/s/main:b@1:2-3", "debian/s/main:c@1"]);
    }
}
