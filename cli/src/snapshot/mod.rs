//! `kubectl patchtide snapshot`: the site at one moment, from the reporting point, with the custom resources of the
//! namespace: what `plan`, `why` and the simulator work on without a cluster. It names every machine with its facts.

mod fetch;
mod read;
mod resources;
mod write;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kube::Client;
use patchtide_planner::snapshot::Snapshot;

pub(crate) use fetch::NoClient;
pub(crate) use read::read;

/// What of the site is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Name or id of the one client that is told of; none: all.
    pub(crate) client: Option<String>,
    /// With the whole catalogue.
    pub(crate) catalogue: bool,
    /// With the custom resources of the namespace.
    pub(crate) resources: bool,
}

/// The site as it is now.
pub(crate) async fn live(client: &Client, namespace: &str, wanted: &Wanted) -> anyhow::Result<Snapshot> {
    let mut incoming = fetch::Incoming::open(client, namespace, wanted).await?;
    let mut text = Vec::new();
    while let Some(piece) = incoming.next().await? {
        text.extend_from_slice(&piece);
    }
    let mut snapshot = read::parse(&text).context("the reporting point's answer cannot be read")?;
    if wanted.resources {
        snapshot.resources = resources::list(client, namespace).await?;
    }
    Ok(snapshot)
}

/// Writes the site as it is now to `out`, and says so.
pub(crate) async fn save(
    client: &Client,
    namespace: &str,
    out: Option<PathBuf>,
    wanted: &Wanted,
) -> anyhow::Result<()> {
    let out = out.unwrap_or_else(|| PathBuf::from(format!("{namespace}.snapshot.json.zst")));
    let resources = if wanted.resources { resources::list(client, namespace).await? } else { Vec::new() };
    let mut incoming = fetch::Incoming::open(client, namespace, wanted).await?;
    let mut file = write::File::create(&out)?;
    while let Some(piece) = incoming.next().await? {
        file.take(&piece)?;
    }
    let bytes = file.finish(&resources)?;
    #[expect(clippy::print_stdout, reason = "what the command is for")]
    {
        println!(
            "{}: {bytes} bytes, {} objects. It names every machine with its facts: keep it confidential.",
            out.display(),
            resources.len()
        );
    }
    Ok(())
}

/// Whether a file is to be plain JSON by its name.
fn is_plain(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}
