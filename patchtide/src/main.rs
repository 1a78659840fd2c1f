//! The server: arguments, configuration, starting roles, shutting down. Wiring and nothing else.

mod args;
mod commands;
mod kubernetes;
mod logging;
mod roles;
mod stop;

use std::process::ExitCode;

use args::{Arguments, Command};
use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = logging::start(arguments.log_format) {
        eprintln!("error: {error:#}");
        return ExitCode::from(2);
    }
    // One provider for everything that speaks TLS; fails only if one is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads can be started: {error}");
            return ExitCode::from(2);
        }
    };
    let ended = runtime.block_on(async {
        match arguments.command {
            Command::All(arguments) => roles::all(*arguments).await,
            Command::Controller(arguments) => roles::controller(arguments).await,
            Command::ManagementPoint(arguments) => roles::management_point(arguments).await,
            Command::DistributionPoint(arguments) => roles::distribution_point(arguments).await,
            Command::SoftwareUpdatePoint(arguments) => roles::software_update_point(arguments).await,
            Command::ReportingPoint(arguments) => roles::reporting_point(arguments).await,
            Command::Bundle(arguments) => commands::bundle(arguments).await,
            Command::ServerCertificate(arguments) => commands::server_certificate(arguments).await,
            Command::Db(arguments) => commands::database(arguments).await,
        }
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
