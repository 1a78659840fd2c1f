//! What cargo knows about the workspace.

use std::path::PathBuf;

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand};

use crate::shell::workspace;

/// The platform that is built for and whose dependencies count.
pub(crate) const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// All packages with the resolved graph, for Linux alone.
pub(crate) fn resolved() -> Result<Metadata> {
    MetadataCommand::new()
        .manifest_path(workspace().join("Cargo.toml"))
        .other_options(vec!["--filter-platform".to_owned(), PLATFORM.to_owned()])
        .exec()
        .context("`cargo metadata` failed")
}

/// Where cargo builds to, without a profile.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace().join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("`cargo metadata` failed")?;
    Ok(metadata.target_directory.into_std_path_buf())
}
