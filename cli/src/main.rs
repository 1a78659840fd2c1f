//! `kubectl patchtide`: what people ask of a site that plain kubectl answers only in several steps.

mod action;
mod clock;
mod kind;
mod plan;
mod report;
mod simulate;
mod snapshot;
mod status;
mod why;
mod windows;

use std::{process::ExitCode, sync::OnceLock};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use kube::{Client, Config, config::KubeConfigOptions};

/// Software updates the GitOps way: look at deployments and move things along.
#[derive(Parser)]
#[command(name = "kubectl patchtide", bin_name = "kubectl patchtide", version, max_term_width = 100)]
struct Arguments {
    /// Namespace of the site. Default: that of the kubectl context.
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// Context of the kubeconfig. Default: the current one.
    #[arg(long, global = true)]
    context: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// How far deployments are: states with counts, worst errors with remedy, deadline, next window, who is late;
    /// once, or with --watch live
    Status(status::Options),
    /// Write the site at this moment to a file: clients with facts and states, updates, objects. Keep it confidential
    Snapshot {
        /// File, compressed with zstd unless its name ends in .json; readable by its owner alone.
        /// Default: NAMESPACE.snapshot.json.zst
        #[arg(short, long)]
        out: Option<std::path::PathBuf>,
        /// Name or id of the one client to tell of. Default: all
        #[arg(long)]
        client: Option<String>,
        /// Leave the catalogue out: enough for `why`, not for a plan with new updates
        #[arg(long)]
        no_catalogue: bool,
    },
    /// When maintenance windows open: of a file, without a cluster, or of the site
    Windows(windows::Options),
    /// What a change of YAML would do, before it is committed or merged; exit status 0 nothing, 2 changes, 1 error
    Plan(plan::Arguments),
    /// Why a client is where it is: the gates of each deployed update, who set them, when each can open next
    Why {
        /// Client, by its name or id
        client: String,
        /// A deployment, or an update by its identity, source or slug; none: all that reaches the client
        #[arg(value_name = "UPDATE|DEPLOYMENT")]
        asked: Option<String>,
        /// Output
        #[arg(short, long, value_enum, default_value_t)]
        output: why::Output,
        /// A snapshot that was kept, instead of the site as it is; needs no cluster
        #[arg(long, value_name = "FILE")]
        snapshot: Option<std::path::PathBuf>,
    },
    /// Compliance, deployments, scans and errors of the site as a report; without a name: which reports there are
    Report(report::Options),
    /// Reconcile an object now
    Reconcile {
        /// Kind, plural or short name, for example gsrc
        kind: String,
        /// Name
        name: String,
        /// Wait until it was carried out, at most this many seconds; 0 does not wait
        #[arg(long, default_value_t = 60)]
        wait: u64,
    },
    /// Synchronise the catalogue of a SoftwareUpdatePoint now
    Sync {
        /// Name of the SoftwareUpdatePoint
        name: String,
        /// New, revised and expired updates, instead of new ones only
        #[arg(long)]
        full: bool,
        /// Wait until it was carried out, at most this many seconds; 0 does not wait
        #[arg(long, default_value_t = 600)]
        wait: u64,
    },
    /// What would happen: a scenario of machines, updates and objects under a clock of its own, without a cluster.
    /// Exit status 0 when every expectation holds, 2 when one does not, 1 when the scenario cannot be run
    Simulate {
        /// The scenario (docs/simulator.md says how it is written)
        #[arg(short, long)]
        file: std::path::PathBuf,
        /// Seed of what happens by chance
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Output
        #[arg(short, long, value_enum, default_value_t)]
        output: simulate::Output,
    },
    /// Hold an object that has spec.suspend (a deployment reaches its online clients in seconds)
    Suspend {
        /// Kind, plural or short name
        kind: String,
        /// Name
        name: String,
    },
    /// Let a held object go on
    Resume {
        /// Kind, plural or short name
        kind: String,
        /// Name
        name: String,
    },
}

/// Where the cluster is that was asked.
static CLUSTER: OnceLock<String> = OnceLock::new();

/// The cluster and the namespace of the site, for commands that need them.
async fn connect(context: Option<String>, namespace: Option<String>) -> anyhow::Result<(Client, String)> {
    // Fails only when a provider is there already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let config = match Config::from_kubeconfig(&options).await {
        Ok(config) => config,
        Err(error) => Config::incluster().map_err(|_| error).with_context(no_cluster)?,
    };
    // Set once: a run of this program asks one cluster.
    let _ = CLUSTER.set(config.cluster_url.to_string());
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("the cluster's address or certificates cannot be used")?;
    Ok((client, namespace))
}

/// Which kubeconfig was looked at, and what can be done.
fn no_cluster() -> String {
    let place = match std::env::var("KUBECONFIG") {
        Ok(path) if !path.is_empty() => format!("KUBECONFIG is {path}"),
        _ => "KUBECONFIG is not set, so it is ~/.kube/config".to_owned(),
    };
    format!("no cluster is known ({place}; set it to a kubeconfig, and --context to one of its contexts)")
}

/// An error with its causes on one line. Many of them say their cause themselves already.
fn in_words(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain() {
        // What the API server says is for people; the rest of its answer is not.
        let refused = match cause.downcast_ref() {
            Some(kube::Error::Api(status)) => Some(status.message.clone()),
            _ => None,
        };
        let last = refused.is_some();
        let text = refused.unwrap_or_else(|| cause.to_string());
        if !words.contains(&text) {
            words = if words.is_empty() { text } else { format!("{words}: {text}") };
        }
        if last {
            break;
        }
    }
    let silent = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(kube::Error::Service(_) | kube::Error::HyperError(_)))
    };
    if let Some(url) = CLUSTER.get().filter(|_| error.chain().any(silent)) {
        words = format!("{words}; the cluster is at {url}: can it be reached from here?");
    }
    words
}

/// Every failure has exit status 1, also wrong arguments: 2 is an answer of `plan` and `simulate`.
#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => {
            // Help and version were asked for: they come this way too, and go to standard output.
            let status = if told.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            return told.print().map_or(ExitCode::FAILURE, |()| status);
        }
    };
    run(arguments).await.unwrap_or_else(|error| {
        eprintln!("error: {}", in_words(&error));
        ExitCode::FAILURE
    })
}

async fn run(Arguments { namespace, context, command }: Arguments) -> anyhow::Result<ExitCode> {
    let site = namespace.clone();
    let connect = || connect(context, namespace);
    let done = match command {
        // Its exit status tells more than whether it worked.
        Command::Plan(arguments) => return plan::run(arguments, connect()).await.map(ExitCode::from),
        Command::Simulate { file, seed, output } => {
            let held = simulate::simulate(&file, seed, output)?;
            return Ok(if held { ExitCode::SUCCESS } else { ExitCode::from(2) });
        }
        Command::Status(options) => {
            let (client, namespace) = connect().await?;
            status::run(&client, &namespace, &options).await
        }
        Command::Snapshot { out, client: of, no_catalogue } => {
            let (client, namespace) = connect().await?;
            let wanted = snapshot::Wanted { client: of, catalogue: !no_catalogue, resources: true };
            snapshot::save(&client, &namespace, out, &wanted).await
        }
        Command::Windows(options) if options.is_offline() => options.run_file(site.as_deref(), clock::now()),
        Command::Windows(options) => {
            let (client, namespace) = connect().await?;
            options.run(&client, &namespace, clock::now()).await
        }
        Command::Why { client, asked, output, snapshot: Some(file) } => {
            why::from_file(&file, &client, asked.as_deref(), output)
        }
        Command::Why { client: name, asked, output, snapshot: None } => {
            let (client, namespace) = connect().await?;
            why::live(&client, &namespace, &name, asked.as_deref(), output).await
        }
        Command::Report(options) => {
            let (client, namespace) = connect().await?;
            options.run(&client, &namespace).await
        }
        Command::Reconcile { kind, name, wait } => {
            let (client, namespace) = connect().await?;
            action::reconcile(&client, &namespace, &kind, &name, None, wait).await
        }
        Command::Sync { name, full, wait } => {
            let (client, namespace) = connect().await?;
            let sync = if full { "full" } else { "delta" };
            action::reconcile(&client, &namespace, "SoftwareUpdatePoint", &name, Some(sync), wait).await
        }
        Command::Suspend { kind, name } => {
            let (client, namespace) = connect().await?;
            action::suspend(&client, &namespace, &kind, &name, true).await
        }
        Command::Resume { kind, name } => {
            let (client, namespace) = connect().await?;
            action::suspend(&client, &namespace, &kind, &name, false).await
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}
