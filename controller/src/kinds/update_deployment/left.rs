//! What taking an update out of a deployment cannot undo: where it was installed it stays, and status says so.

use std::collections::BTreeSet;

use kube::ResourceExt;
use patchtide_crds::{
    UpdateDeployment, UpdateDeploymentStatus,
    conditions::{LEFT_INSTALLED, reason},
};
use patchtide_model::{UpdateId, deployment::Deployment};
use patchtide_store::ObjectRow;

use crate::{
    context::Context,
    error::Failure,
    kinds::{LEFT_UPDATES, UPDATE_DEPLOYMENT, database, flag},
};

/// Updates that are remembered; a deployment that loses more tells of the first ones.
const REMEMBERED: usize = 200;
/// Updates that a message names.
const NAMED: usize = 5;

/// Adds what `deployment` loses against the row in force to what left it before. Call before the new row is kept.
pub async fn notice(
    ctx: &Context,
    object: &UpdateDeployment,
    deployment: &Deployment,
) -> Result<BTreeSet<UpdateId>, Failure> {
    let name = object.name_any();
    let mine = |row: &ObjectRow| row.uid == deployment.uid;
    let before = ctx.store.object(UPDATE_DEPLOYMENT, &name).await.map_err(|error| database(&error))?;
    let before: Option<Deployment> = before.filter(mine).and_then(|row| serde_json::from_str(&row.json).ok());
    let known = ctx.store.object(LEFT_UPDATES, &name).await.map_err(|error| database(&error))?;
    let known: BTreeSet<UpdateId> =
        known.filter(mine).and_then(|row| serde_json::from_str(&row.json).ok()).unwrap_or_default();
    let left = merge(&known, before.map(|before| before.updates).unwrap_or_default(), &deployment.updates);
    if left != known {
        let json = serde_json::to_string(&left).map_err(|error| {
            Failure::of("the updates that left the deployment cannot be written as JSON", &error)
        })?;
        let row = ObjectRow {
            kind: LEFT_UPDATES.to_owned(),
            name,
            uid: deployment.uid.clone(),
            generation: deployment.generation,
            json,
        };
        ctx.store.put_object(row).await.map_err(|error| database(&error))?;
    }
    Ok(left)
}

/// What left so far: what was known or in force before, without what is in force now.
fn merge(known: &BTreeSet<UpdateId>, before: Vec<UpdateId>, now: &[UpdateId]) -> BTreeSet<UpdateId> {
    let mut left: BTreeSet<UpdateId> = known.iter().cloned().chain(before).collect();
    for update in now {
        left.remove(update);
    }
    left.into_iter().take(REMEMBERED).collect()
}

/// Says which of them are installed somewhere.
pub async fn tell(
    ctx: &Context,
    status: &mut UpdateDeploymentStatus,
    generation: i64,
    left: &BTreeSet<UpdateId>,
) -> Result<(), Failure> {
    let ids: Vec<UpdateId> = left.iter().cloned().collect();
    let mut stay = Vec::new();
    let mut clients = 0;
    if !ids.is_empty() {
        let counts = ctx.store.required_counts(&ids).await.map_err(|error| database(&error))?;
        for (id, count) in counts.into_iter().filter(|(_, count)| count.installed > 0) {
            clients = clients.max(count.installed);
            stay.push(id.to_string());
        }
    }
    let text = message(&stay, clients);
    let told = (!stay.is_empty()).then_some((true, reason::UPDATES_LEFT, text.as_str()));
    flag(status, LEFT_INSTALLED, generation, &ctx.clock.time(), told);
    Ok(())
}

fn message(stay: &[String], clients: u64) -> String {
    let more = stay.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!(
        "what left this deployment stays installed on up to {clients} clients, because updates are not uninstalled: {}{more}",
        stay[..stay.len().min(NAMED)].join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(version: &str) -> UpdateId {
        format!("debian/bookworm/main:openssl@{version}").parse().unwrap()
    }

    #[test]
    fn an_update_that_comes_back_has_not_left() {
        let left = merge(&BTreeSet::new(), vec![id("1"), id("2")], &[id("2")]);
        assert_eq!(left, BTreeSet::from([id("1")]));
        assert_eq!(merge(&left, vec![id("2")], &[id("2")]), left, "what left is remembered");
        assert_eq!(merge(&left, vec![id("2")], &[id("1"), id("2")]), BTreeSet::new());
    }

    #[test]
    fn long_lists_are_counted() {
        let stay: Vec<String> = (0..7).map(|n| id(&n.to_string()).to_string()).collect();
        assert!(message(&stay, 3).ends_with(" and 2 more"), "{}", message(&stay, 3));
        assert!(message(&stay[..1], 3).contains("stays installed on up to 3 clients"));
    }
}
