//! Reading a snapshot: from a file, plain or compressed, or from what the reporting point answered.

use std::{
    fs::File,
    io::{BufReader, Read, Seek as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use patchtide_planner::snapshot::{SNAPSHOT_VERSION, Snapshot};
use serde::Deserialize;

/// Longest document: a site of 100,000 clients stays below it.
const LONGEST: u64 = 8 << 30;
/// How a compressed file begins.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The part of a document of any form.
#[derive(Deserialize)]
struct Form {
    version: u32,
}

/// Reads a file that `kubectl patchtide snapshot` wrote.
pub(crate) fn read(path: &Path) -> anyhow::Result<Snapshot> {
    let of = || path.display().to_string();
    let mut file = File::open(path).with_context(of)?;
    let mut start = [0; 4];
    let compressed = file.read_exact(&mut start).is_ok() && start == ZSTD;
    let mut text = || -> anyhow::Result<Box<dyn Read>> {
        file.rewind()?;
        let file = file.try_clone()?;
        Ok(if compressed {
            Box::new(BufReader::new(zstd::Decoder::new(file)?.take(LONGEST)))
        } else {
            Box::new(BufReader::new(file.take(LONGEST)))
        })
    };
    let error = match serde_json::from_reader::<_, Snapshot>(text().with_context(of)?) {
        Ok(snapshot) => return of_this_form(snapshot.version).map(|()| snapshot).with_context(of),
        Err(error) => error,
    };
    if let Ok(form) = serde_json::from_reader::<_, Form>(text().with_context(of)?) {
        of_this_form(form.version).with_context(of)?;
    }
    Err(error).context("it is no snapshot: take one with kubectl patchtide snapshot").with_context(of)
}

/// Reads a document.
pub(super) fn parse(text: &[u8]) -> anyhow::Result<Snapshot> {
    match serde_json::from_slice::<Snapshot>(text) {
        Ok(snapshot) => of_this_form(snapshot.version).map(|()| snapshot),
        Err(error) => {
            if let Ok(form) = serde_json::from_slice::<Form>(text) {
                of_this_form(form.version)?;
            }
            Err(error).context("it is no snapshot")
        }
    }
}

fn of_this_form(version: u32) -> anyhow::Result<()> {
    if version != SNAPSHOT_VERSION {
        bail!(
            "it is a snapshot of form {version} and this program reads form {SNAPSHOT_VERSION}: use the \
             kubectl-patchtide of the version that the site runs"
        );
    }
    Ok(())
}
