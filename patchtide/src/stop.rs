//! When to stop: SIGTERM, SIGINT, or a role that ended.

use anyhow::Context as _;
use patchtide_endpoint::CancellationToken;
use tokio::signal::unix::{SignalKind, signal};

/// A token that the first SIGTERM or SIGINT cancels. A second one ends the process at once.
pub(crate) fn on_signals() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        for round in 0.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if round > 0 {
                tracing::warn!("stopping at once");
                std::process::exit(130);
            }
            tracing::info!("stopping: what was accepted is finished first; again to stop at once");
            token.cancel();
        }
    });
    Ok(stop)
}

/// As many open files as the system lets us have: every connection is one.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
