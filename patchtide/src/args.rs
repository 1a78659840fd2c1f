//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use patchtide_model::{ObjectName, SiteName};
use url::Url;

/// Patchtide: software updates for fleets, the GitOps way.
#[derive(Debug, Parser)]
#[command(name = "patchtide", version, propagate_version = true)]
pub(crate) struct Arguments {
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "PATCHTIDE_LOG_FORMAT")]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Form of log lines, written to standard error. What is logged is chosen by `RUST_LOG`; default `info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Every role in one process.
    All(Box<All>),
    /// The controller alone.
    Controller(Controller),
    /// A management point alone.
    ManagementPoint(ManagementPoint),
    /// A distribution point alone.
    DistributionPoint(DistributionPoint),
    /// A software update point (towards clients) alone.
    SoftwareUpdatePoint(SoftwareUpdatePoint),
    /// A reporting point alone: the aggregated API that kubectl reads the site database through.
    ReportingPoint(ReportingPoint),
    /// Print the enrolment bundle that machines are given before their first contact.
    Bundle(Bundle),
    /// Issue a server certificate for a role that runs apart.
    ServerCertificate(ServerCertificate),
    /// Look after the site database.
    Db(Db),
}

/// Which site.
#[derive(Debug, Clone, Args)]
pub(crate) struct Namespace {
    /// Namespace of the site.
    #[arg(long, env = "PATCHTIDE_NAMESPACE")]
    pub(crate) namespace: SiteName,
}

/// Which site, and where its state is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Site {
    #[command(flatten)]
    pub(crate) of: Namespace,
    /// Folder for the site database, content and caches.
    #[arg(long, default_value = "/var/lib/patchtide-server", env = "PATCHTIDE_DATA")]
    pub(crate) data: PathBuf,
    /// Site database: `sqlite:///absolute/path.db` or `postgres://user@host/database`. Default: `site.db` in the data folder.
    #[arg(long, env = "PATCHTIDE_DATABASE", hide_env_values = true)]
    pub(crate) database: Option<String>,
    /// The site's content library, shared by controller, software update point and distribution points. Default: `library`
    /// in the data folder.
    #[arg(long, env = "PATCHTIDE_LIBRARY")]
    pub(crate) library: Option<PathBuf>,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    #[arg(long, default_value = "127.0.0.1:8080", env = "PATCHTIDE_METRICS_LISTEN")]
    pub(crate) metrics_listen: SocketAddr,
}

/// The management point's listener.
#[derive(Debug, Clone, Args)]
pub(crate) struct MpListen {
    /// Where the management point listens.
    #[arg(long, default_value = "0.0.0.0:8443")]
    pub(crate) mp_listen: SocketAddr,
}

/// The distribution point's listener.
#[derive(Debug, Clone, Args)]
pub(crate) struct DpListen {
    /// Where the distribution point listens.
    #[arg(long, default_value = "0.0.0.0:8444")]
    pub(crate) dp_listen: SocketAddr,
}

/// The software update point's listener.
#[derive(Debug, Clone, Args)]
pub(crate) struct SupListen {
    /// Where the software update point listens.
    #[arg(long, default_value = "0.0.0.0:8445")]
    pub(crate) sup_listen: SocketAddr,
}

/// The reporting point's listener, and the Service through which the kube-apiserver reaches it.
#[derive(Debug, Clone, Args)]
pub(crate) struct RpListen {
    /// Where the reporting point listens, for the kube-apiserver.
    #[arg(long, default_value = "0.0.0.0:8446")]
    pub(crate) rp_listen: SocketAddr,
    /// The Service, in the site's namespace, that the `APIService` names: its CA is kept there.
    #[arg(long, default_value = "patchtide-reports")]
    pub(crate) rp_service: ObjectName,
}

/// Where the software update points are, for a role that tells others.
#[derive(Debug, Clone, Args)]
pub(crate) struct SoftwareUpdatePoints {
    /// Base URLs of the software update points, as clients reach them.
    #[arg(long)]
    pub(crate) software_update_point_url: Vec<Url>,
}

/// How to reach Kubernetes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Kubernetes {
    /// Kubeconfig file; without it the pod's service account. `KUBECONFIG` of the environment is not looked at.
    #[arg(long, env = "PATCHTIDE_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// What the controller needs besides.
#[derive(Debug, Clone, Args)]
pub(crate) struct Controlling {
    /// Let Git sources name repositories on this machine (`file://`): for demos and tests.
    #[arg(long)]
    pub(crate) allow_local_git: bool,
    /// Further folders in which a keyring named by path may lie.
    #[arg(long = "keyring-folder")]
    pub(crate) keyring_folders: Vec<PathBuf>,
    /// Name of this process in events and the leader's lease. Default: random.
    #[arg(long, env = "PATCHTIDE_INSTANCE")]
    pub(crate) instance: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct All {
    #[command(flatten)]
    pub(crate) site: Site,
    #[command(flatten)]
    pub(crate) kubernetes: Kubernetes,
    #[command(flatten)]
    pub(crate) controlling: Controlling,
    /// Where clients reach this process, `https://HOST`; the roles' ports are added. May be given several times.
    #[arg(long, required = true, env = "PATCHTIDE_ADVERTISE", value_delimiter = ',')]
    pub(crate) advertise: Vec<Url>,
    #[command(flatten)]
    pub(crate) mp: MpListen,
    #[command(flatten)]
    pub(crate) dp: DpListen,
    #[command(flatten)]
    pub(crate) sup: SupListen,
    #[command(flatten)]
    pub(crate) rp: RpListen,
    /// Distribution point objects that this process serves. Default: every one of the site.
    #[arg(long)]
    pub(crate) dp_name: Vec<ObjectName>,
}

#[derive(Debug, Args)]
pub(crate) struct Controller {
    #[command(flatten)]
    pub(crate) site: Site,
    #[command(flatten)]
    pub(crate) kubernetes: Kubernetes,
    #[command(flatten)]
    pub(crate) controlling: Controlling,
    /// Base URLs of the management points, as clients reach them.
    #[arg(long)]
    pub(crate) management_point_url: Vec<Url>,
    #[command(flatten)]
    pub(crate) points: SoftwareUpdatePoints,
}

/// The TLS identity of a role that runs apart; the files are read again when they change.
#[derive(Debug, Clone, Args)]
pub(crate) struct Tls {
    /// Server certificate, PEM, leaf first.
    #[arg(long = "tls-certificate")]
    pub(crate) certificate: PathBuf,
    /// Its key, PEM.
    #[arg(long = "tls-key")]
    pub(crate) key: PathBuf,
    /// The site CA's certificate, PEM: clients must have a certificate of it.
    #[arg(long)]
    pub(crate) client_ca: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ManagementPoint {
    #[command(flatten)]
    pub(crate) site: Site,
    #[command(flatten)]
    pub(crate) tls: Tls,
    #[command(flatten)]
    pub(crate) listen: MpListen,
    #[command(flatten)]
    pub(crate) points: SoftwareUpdatePoints,
}

#[derive(Debug, Args)]
pub(crate) struct DistributionPoint {
    #[command(flatten)]
    pub(crate) site: Site,
    #[command(flatten)]
    pub(crate) tls: Tls,
    #[command(flatten)]
    pub(crate) listen: DpListen,
    /// Distribution point objects that it serves.
    #[arg(long, required = true)]
    pub(crate) dp_name: Vec<ObjectName>,
}

#[derive(Debug, Args)]
pub(crate) struct SoftwareUpdatePoint {
    #[command(flatten)]
    pub(crate) site: Site,
    #[command(flatten)]
    pub(crate) tls: Tls,
    #[command(flatten)]
    pub(crate) listen: SupListen,
}

#[derive(Debug, Args)]
pub(crate) struct ReportingPoint {
    #[command(flatten)]
    pub(crate) site: Site,
    #[command(flatten)]
    pub(crate) kubernetes: Kubernetes,
    /// The client CA is not asked for anything here but to be put into the `APIService`: it must be the CA of the server
    /// certificate, which must be for SERVICE.NAMESPACE.svc.
    #[command(flatten)]
    pub(crate) tls: Tls,
    #[command(flatten)]
    pub(crate) listen: RpListen,
}

#[derive(Debug, Args)]
pub(crate) struct Bundle {
    #[command(flatten)]
    pub(crate) of: Namespace,
    #[command(flatten)]
    pub(crate) kubernetes: Kubernetes,
    /// Put the enrolment token of this Secret (key `token`) into the bundle.
    #[arg(long)]
    pub(crate) token_from_secret: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ServerCertificate {
    #[command(flatten)]
    pub(crate) of: Namespace,
    #[command(flatten)]
    pub(crate) kubernetes: Kubernetes,
    /// DNS name or address of the server, as clients reach it. May be given several times.
    #[arg(long = "name", required = true)]
    pub(crate) names: Vec<String>,
    /// Folder for `tls.crt`, `tls.key` and `ca.crt`.
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Db {
    #[command(subcommand)]
    pub(crate) command: DbCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Count everything anew and follow the history's hash chain; exit status 1 and a list when anything differs.
    Verify {
        #[command(flatten)]
        site: Site,
    },
    /// Let a PostgreSQL role read the views of reports, and nothing else; a role that does not exist is made, without a
    /// password. Repeat it after an upgrade.
    Reader {
        #[command(flatten)]
        site: Site,
        /// The role.
        #[arg(long, default_value = "patchtide_reader")]
        name: String,
    },
    /// Write the site as it is now to a file, as `kubectl patchtide snapshot` does, without the cluster's objects. It names
    /// every machine with its facts: keep it as confidential as that list.
    Snapshot {
        #[command(flatten)]
        site: Site,
        /// File, compressed with zstd unless its name ends in `.json`. It is readable by its owner alone.
        #[arg(short, long)]
        out: PathBuf,
        /// Name or id of the one client to tell of. Default: all.
        #[arg(long)]
        client: Option<String>,
        /// Leave the catalogue out.
        #[arg(long)]
        no_catalogue: bool,
    },
}
