//! `kubectl patchtide status`: how far deployments are, on one screen.

use std::fmt::Write as _;

use anyhow::Context as _;
use clap::ValueEnum;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use patchtide_crds::{UpdateDeployment, conditions::StatusContract as _};

use crate::{action::say, kind};

/// Form of the output.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Text,
    /// The statuses, one list
    Json,
}

/// Prints one deployment or all of them.
pub(crate) async fn print(
    client: &Client,
    namespace: &str,
    name: Option<&str>,
    output: Output,
) -> anyhow::Result<()> {
    let api: Api<UpdateDeployment> = Api::namespaced(client.clone(), namespace);
    let deployments = match name {
        Some(name) => {
            vec![kind::get(&api, namespace, "UpdateDeployment", name).await?]
        }
        None => api.list(&ListParams::default()).await.context("deployments cannot be listed")?.items,
    };
    match output {
        Output::Json => {
            let all: Vec<_> = deployments
                .iter()
                .map(|deployment| serde_json::json!({ "name": deployment.name_any(), "status": deployment.status }))
                .collect();
            say(&serde_json::to_string_pretty(&all).context("the statuses cannot be written as JSON")?);
        }
        Output::Text if deployments.is_empty() => say(&format!("no deployments in namespace {namespace}")),
        Output::Text => {
            for deployment in &deployments {
                say(&text(deployment));
            }
        }
    }
    Ok(())
}

fn text(deployment: &UpdateDeployment) -> String {
    let mut out = String::new();
    let Some(status) = &deployment.status else {
        return format!("{}: not reconciled yet", deployment.name_any());
    };
    let targeted = status.targeted.unwrap_or(0);
    let percent = status.compliant_percent.unwrap_or(0);
    let _ = writeln!(
        out,
        "{}  {} {}  {} updates, deadline {}",
        deployment.name_any(),
        bar(percent),
        status.compliant.as_deref().unwrap_or("-"),
        status.updates.unwrap_or(0),
        status.deadline.as_deref().unwrap_or("-"),
    );
    if let Some(ready) = status.condition("Ready")
        && ready.status != "True"
    {
        let _ = writeln!(out, "  not ready: {}: {}", ready.reason, ready.message);
    }
    if deployment.spec.suspend {
        let _ = writeln!(out, "  suspended");
    }
    for count in status.enforcement.iter().filter(|count| count.clients > 0) {
        let _ = writeln!(out, "  {:>6} of {targeted}  {}", count.clients, count.state);
    }
    if let Some(window) = &status.next_window {
        let _ = writeln!(out, "  next window {window}");
    }
    for error in &status.errors {
        let _ =
            writeln!(out, "  {:>6} failed {} {}: {}", error.clients, error.code, error.symbol, error.message);
    }
    out.trim_end().to_owned()
}

/// Twenty characters wide.
fn bar(percent: u32) -> String {
    let full = usize::try_from(percent.min(100) / 5).unwrap_or(0);
    format!("[{}{}] {percent:>3}%", "#".repeat(full), ".".repeat(20 - full))
}

#[cfg(test)]
mod tests {
    use patchtide_crds::update_deployment::{StateCount, UpdateDeploymentSpec, UpdateDeploymentStatus};

    use super::*;

    #[test]
    fn the_screen_shows_counts_that_are_not_zero() {
        let mut deployment = UpdateDeployment::new("march", UpdateDeploymentSpec::default());
        assert_eq!(text(&deployment), "march: not reconciled yet");
        let count = |id, state: &str, clients| StateCount { id, state: state.to_owned(), clients };
        deployment.status = Some(UpdateDeploymentStatus {
            targeted: Some(4),
            compliant: Some("3/4".to_owned()),
            compliant_percent: Some(75),
            updates: Some(7),
            enforcement: vec![
                count(4, "Successfully installed update(s)", 3),
                count(7, "Downloading update(s)", 0),
                count(10, "Waiting for maintenance window before installing", 1),
            ],
            ..UpdateDeploymentStatus::default()
        });
        let text = text(&deployment);
        assert!(text.starts_with("march  [###############.....]  75% 3/4  7 updates"), "{text}");
        assert!(text.contains("     1 of 4  Waiting for maintenance window"), "{text}");
        assert!(!text.contains("Downloading"), "{text}");
    }
}
