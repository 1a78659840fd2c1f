//! `kubectl patchtide status`: how far deployments are, on one screen, once or live.

mod follow;
mod live;
mod screen;
mod text;

use std::io::IsTerminal as _;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use patchtide_crds::UpdateDeployment;

use self::{
    follow::Followed,
    screen::{Screen, Style},
};
use crate::{action::say, clock, kind};

/// Form of the output.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Text,
    /// The statuses: one list, or with --watch a list on one line at each change
    Json,
}

/// What is asked.
#[derive(Args)]
pub(crate) struct Options {
    /// Name of an UpdateDeployment; none: all of them
    deployment: Option<String>,
    /// Stay, and show every change: a live screen on a terminal (q ends it, arrows scroll), text below text elsewhere
    #[arg(short, long)]
    watch: bool,
    /// Output
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Columns where the output is no terminal: nothing that a person needs is cut off.
const WIDE: u16 = 160;

/// Shows one deployment or all of them.
pub(crate) async fn run(client: &Client, namespace: &str, options: &Options) -> anyhow::Result<()> {
    let api: Api<UpdateDeployment> = Api::namespaced(client.clone(), namespace);
    let name = options.deployment.as_deref();
    let deployments = match name {
        Some(name) => vec![kind::get(&api, namespace, "UpdateDeployment", name).await?],
        None => api.list(&ListParams::default()).await.context("deployments cannot be listed")?.items,
    };
    if !options.watch {
        say(&told(&deployments, namespace, options)?);
        return Ok(());
    }
    let followed = Followed::start(api, name, deployments);
    if options.output == Output::Text && is_interactive() {
        return live::run(followed, namespace).await;
    }
    follow::tell(followed, |deployments| told(deployments, namespace, options)).await
}

/// Whether a person can be shown a screen.
fn is_interactive() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    std::io::stdout().is_terminal() && std::io::stdin().is_terminal() && !dumb
}

/// Whether colours are wanted (<https://no-color.org>).
fn has_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// As text or data, once.
fn told(deployments: &[UpdateDeployment], namespace: &str, options: &Options) -> anyhow::Result<String> {
    if options.output == Output::Json {
        let told: Vec<_> = deployments
            .iter()
            .map(|deployment| serde_json::json!({ "name": deployment.name_any(), "status": deployment.status }))
            .collect();
        // One line for each change is what programs read.
        let text =
            if options.watch { serde_json::to_string(&told) } else { serde_json::to_string_pretty(&told) };
        return text.context("the statuses cannot be written as JSON");
    }
    let is_terminal = std::io::stdout().is_terminal();
    let columns =
        if is_terminal { crossterm::terminal::size().map_or(80, |(columns, _)| columns) } else { WIDE };
    let screen = Screen {
        namespace,
        deployments,
        now: clock::now(),
        zone: &TimeZone::system(),
        columns: columns.into(),
        style: Style { colour: is_terminal && has_colour() },
    };
    Ok(screen.body().join("\n"))
}
