//! Moving things along: reconcile now, hold, let go.

use std::time::Duration;

use anyhow::{Context as _, bail};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
};
use patchtide_crds::annotations;
use serde_json::json;

use crate::{clock, kind};

/// Field manager of what this command changes.
const MANAGER: &str = "kubectl-patchtide";

/// Asks for a reconcile and waits until the controller says that it was carried out.
pub(crate) async fn reconcile(
    client: &Client,
    namespace: &str,
    typed: &str,
    name: &str,
    sync: Option<&str>,
    wait: u64,
) -> anyhow::Result<()> {
    let (api, kind) = kind::api(client, namespace, typed)?;
    kind::get(&api, namespace, &kind, name).await?;
    let token = clock::now().to_string();
    let mut annotations = json!({ annotations::REQUESTED_AT: token });
    if let Some(sync) = sync {
        annotations[annotations::SYNC] = json!(sync);
    }
    merge(&api, &kind, name, &json!({ "metadata": { "annotations": annotations } })).await?;
    say(&format!("{kind}/{name}: asked to reconcile"));
    if wait == 0 {
        return Ok(());
    }
    for _ in 0..wait.saturating_mul(4) {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let object = api.get(name).await.with_context(|| format!("{kind} {name} cannot be read"))?;
        let status = &object.data["status"];
        if status["lastHandledReconcileAt"] != json!(token) {
            continue;
        }
        let ready = condition(status, "Ready");
        let (state, message) = (ready["status"].as_str(), ready["message"].as_str().unwrap_or_default());
        match state {
            Some("True") => {
                say(&format!("{kind}/{name}: {message}"));
                return Ok(());
            }
            Some("False") => bail!("{kind}/{name} is not ready: {message}"),
            _ => {}
        }
    }
    bail!("{kind}/{name} was not reconciled within {wait} s; is the controller running?")
}

/// Sets `spec.suspend`. What Git owns comes back with the next revision that says otherwise, so that is told.
pub(crate) async fn suspend(
    client: &Client,
    namespace: &str,
    typed: &str,
    name: &str,
    hold: bool,
) -> anyhow::Result<()> {
    let (api, kind) = kind::api(client, namespace, typed)?;
    let object = kind::get(&api, namespace, &kind, name).await?;
    if !matches!(kind.as_str(), "UpdateDeployment" | "GitSource") {
        bail!("{kind} has no spec.suspend; deployments and Git sources do");
    }
    merge(&api, &kind, name, &json!({ "spec": { "suspend": hold } })).await?;
    say(&format!("{kind}/{name}: {}", if hold { "suspended" } else { "resumed" }));
    let labels = object.metadata.labels.unwrap_or_default();
    if let Some(source) = labels.get(annotations::OWNER_NAME) {
        say(&format!(
            "it comes from GitSource/{source}: commit `suspend: {hold}` there too, or the next sync may undo this"
        ));
    }
    Ok(())
}

async fn merge(
    api: &Api<DynamicObject>,
    kind: &str,
    name: &str,
    patch: &serde_json::Value,
) -> anyhow::Result<()> {
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(name, &params, &Patch::Merge(patch))
        .await
        .with_context(|| format!("{kind} {name} cannot be changed"))?;
    Ok(())
}

/// The condition of a type, or null.
pub(crate) fn condition<'a>(status: &'a serde_json::Value, kind: &str) -> &'a serde_json::Value {
    let all = status["conditions"].as_array();
    all.and_then(|all| all.iter().find(|condition| condition["type"] == kind))
        .unwrap_or(&serde_json::Value::Null)
}

/// A line on standard output.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}
