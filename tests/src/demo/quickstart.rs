//! The repository of the quickstart, with this machine's archive and addresses instead of the example ones.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::archive::Archive;
use crate::clock::time_of_day;
use crate::host::Network;
use crate::paths;

/// What the files are made to fit.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    pub(super) archive: &'a Archive,
    pub(super) network: &'a Network,
    /// When the maintenance window opens, in seconds since 1970.
    pub(super) window: u64,
}

/// The quickstart's files, each with its name.
pub(super) fn files(ground: &Ground<'_>) -> Result<Vec<(String, String)>> {
    let folder = paths::workspace().join("examples/quickstart");
    let mut files = Vec::new();
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push((name(&path), fs::read_to_string(&path).context("cannot read an example")?));
        }
    }
    files.sort();
    let mut left: Vec<_> = replacements(ground).into_iter().map(|(from, to)| (from, to, 0)).collect();
    for (_, text) in &mut files {
        for (from, to, count) in &mut left {
            *count += text.matches(from.as_str()).count();
            *text = text.replace(from.as_str(), to);
        }
    }
    if let Some((from, ..)) = left.iter().find(|(.., count)| *count == 0) {
        bail!("{} has no {from:?} any more: the demo does not know what to adapt", folder.display());
    }
    Ok(files)
}

/// What stands in the examples and what stands for it here; longer ones first.
fn replacements(ground: &Ground<'_>) -> Vec<(String, String)> {
    let Ground { archive, network, window } = ground;
    [
        ("http://archive.example/debian-security", archive.security.url.clone()),
        ("http://archive.example/debian", archive.main.url.clone()),
        ("/usr/share/keyrings/debian-archive-keyring.gpg", archive.main.keyring.display().to_string()),
        ("architectures: [amd64]", format!("architectures: [{}]", archive.architecture)),
        ("https://patchtide.example:", format!("https://{}:", network.gateway())),
        ("cidr: 10.0.0.0/8", format!("cidr: {}", network.cidr())),
        ("start: \"22:00\"", format!("start: \"{}\"", time_of_day(*window))),
    ]
    .map(|(from, to)| (from.to_owned(), to))
    .to_vec()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
