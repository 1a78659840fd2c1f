//! One module per kind.

pub mod client_settings;
pub mod collection;
pub mod deployment_package;
pub mod deployment_template;
pub mod distribution_point;
pub mod git_source;
pub mod intact;
pub mod maintenance_window;
pub mod search_folder;
pub mod site;
pub mod software_update_point;
pub mod update_deployment;
pub mod update_list;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use patchtide_crds::{
    StatusContract,
    conditions::{self, SUPPORTED, reason},
};
pub use patchtide_intent::problem::{duration, object_name};
pub use patchtide_model::glob::glob;
use patchtide_model::{ObjectName, object::Blocked};
use patchtide_store::{ObjectRow, StoreError};
use serde::Serialize;

use crate::{
    context::Context,
    error::{Failure, chain},
    status::Object,
};

/// Kinds of rows in the site database.
pub const COLLECTION: &str = "Collection";
/// Maintenance windows.
pub const MAINTENANCE_WINDOW: &str = "MaintenanceWindow";
/// Deployments.
pub const UPDATE_DEPLOYMENT: &str = "UpdateDeployment";
/// Client settings.
pub const CLIENT_SETTINGS: &str = "ClientSettings";
/// Distribution points.
pub const DISTRIBUTION_POINT: &str = "DistributionPoint";
/// Packages.
pub const DEPLOYMENT_PACKAGE: &str = "DeploymentPackage";
/// Resolved members of update lists; not part of what policy is compiled from.
pub const UPDATE_LIST: &str = "UpdateList";
/// References of deployments that were pinned, with what was pinned; not part of what policy is compiled from.
pub const PINNED: &str = "PinnedReferences";
/// Updates that were in a deployment and are no more; not part of what policy is compiled from.
pub const LEFT_UPDATES: &str = "LeftUpdates";

/// Keeps the validated form of `object` in the site database and takes back a block of an earlier generation.
pub async fn keep<K: Object, D: Serialize + Sync>(
    ctx: &Context,
    kind: &str,
    object: &K,
    domain: &D,
) -> Result<bool, Failure> {
    let json = serde_json::to_string(domain)
        .map_err(|error| Failure::of("the object cannot be written as JSON", &error))?;
    let name = object.name_any();
    let row = ObjectRow {
        kind: kind.to_owned(),
        name: name.clone(),
        uid: object.uid().unwrap_or_default(),
        generation: object.meta().generation.unwrap_or_default(),
        json,
    };
    let put = ctx.store.put_object(row).await.map_err(|error| database(&error))?;
    let freed = ctx.store.set_blocked(kind, &name, None).await.map_err(|error| database(&error))?;
    Ok(put || freed)
}

/// Marks an object whose newest generation restricts in a way that cannot be honoured: no new policy for those it
/// concerns (`collections`; empty: everyone). Its last good row stays.
pub async fn block<K: Object>(
    ctx: &Context,
    kind: &str,
    object: &K,
    reason: String,
    collections: impl IntoIterator<Item = ObjectName> + Send,
) -> Result<(), Failure> {
    let blocked = Blocked { reason, collections: collections.into_iter().collect() };
    ctx.store.set_blocked(kind, &object.name_any(), Some(blocked)).await.map_err(|error| database(&error))?;
    Ok(())
}

/// Deletes the rows of objects that are no more.
pub async fn sweep_rows(
    ctx: &Context,
    kind: &str,
    names: &std::collections::BTreeSet<String>,
) -> Result<(), Failure> {
    for name in ctx.store.object_names(kind).await.map_err(|error| database(&error))? {
        if !names.contains(&name) {
            tracing::info!(kind, name, "object is gone, its row goes too");
            ctx.store.delete_object(kind, &name).await.map_err(|error| database(&error))?;
        }
    }
    Ok(())
}

/// A failure of the site database: tried again.
pub fn database(error: &StoreError) -> Failure {
    Failure::retry(reason::RECONCILIATION_FAILED, format!("site database: {}", chain(error)))
}

/// A time in a status: to the second, as Kubernetes writes it.
pub fn time(instant: Timestamp) -> Time {
    Time(Timestamp::from_second(instant.as_second()).unwrap_or(instant))
}

/// Says which fields are accepted but without effect, or takes that back.
pub fn supported<S: StatusContract>(status: &mut S, generation: i64, now: &Time, missing: &[&str]) {
    if missing.is_empty() {
        conditions::remove_condition(status.conditions_mut(), SUPPORTED);
    } else {
        let message = format!("accepted without effect, because it is not built yet: {}", missing.join(", "));
        conditions::put(status, SUPPORTED, "False", generation, now, reason::NOT_BUILT, &message);
    }
}

/// Sets a condition of the kind's own, or takes it out.
pub fn flag<S: StatusContract>(
    status: &mut S,
    kind: &str,
    generation: i64,
    now: &Time,
    set: Option<(bool, &str, &str)>,
) {
    match set {
        Some((value, reason, message)) => {
            let value = if value { "True" } else { "False" };
            conditions::put(status, kind, value, generation, now, reason, message);
        }
        None => {
            conditions::remove_condition(status.conditions_mut(), kind);
        }
    }
}

/// An amount of bytes for people, for example `12.4 MiB`.
#[expect(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
pub fn bytes(amount: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = amount as f64;
    let mut unit = "B";
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{amount} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_with_one_digit() {
        assert_eq!([0, 1023, 1024, 13_002_342].map(bytes), ["0 B", "1023 B", "1.0 KiB", "12.4 MiB"]);
    }
}
