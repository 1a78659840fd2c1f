//! Log lines on standard error.

use std::io::IsTerminal as _;

use anyhow::anyhow;
use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt, prelude::*};

use crate::args::LogFormat;

pub(crate) fn start(format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env().map_err(
        |error| anyhow!("RUST_LOG is not a filter ({error}): write for example info,patchtide=debug"),
    )?;
    let colours = std::io::stderr().is_terminal();
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            registry.with(fmt::layer().with_ansi(colours).with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
        }
    }
    .map_err(|error| anyhow!("log lines cannot be set up: {error}"))
}
