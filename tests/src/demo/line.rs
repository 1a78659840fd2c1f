//! The ground of the demo: cluster, server, repository, hosts.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::quickstart::{self, Ground};
use crate::archive::{Archive, Upgrade, pending_upgrades};
use crate::clock::{next_minute, time_of_day, unix_now};
use crate::control_plane::ControlPlane;
use crate::git::Repository;
use crate::host::{ClientRoot, Host, HostOptions, Network};
use crate::paths;
use crate::ports::PortLease;
use crate::process::{Daemon, run, tail};
use crate::progress::Step;
use crate::wait;

/// The namespace of the site.
pub const NAMESPACE: &str = "patchtide";

/// The hosts: name, number in the network, whether it is patched in a maintenance window only.
const HOSTS: [(&str, u8, bool); 3] = [("web-1", 11, false), ("web-2", 12, false), ("db-1", 13, true)];

/// From the commit to the opening of the maintenance window at least: everybody else is at work by then, the windowed host
/// has learned that it has to wait.
const WINDOW_AFTER: u64 = 75;

/// The server's configuration and its data, in the line's folder.
const KUBECONFIG: &str = "server.kubeconfig";
const DATA: &str = "data";

/// Runs a command on a host of the running demo.
const ON: &str = r#"#!/bin/bash
# Runs a command on a host of the demo, a shell when none is given: .demo/on web-1 patchtide-agent status
set -eu
namespace=$(ip netns list | grep -o "^ptns[0-9]*-$1\b") || { echo "no host $1 is running" >&2; exit 1; }
shift
pid=$(ip netns pids "$namespace" | sort -n | sed -n 2p)
exec nsenter --target "$pid" --mount --pid --uts --net --root --wd=/ -- "${@:-bash}"
"#;

/// A running line from a repository to client hosts. Dropping it stops everything.
#[derive(Debug)]
pub struct Line {
    // Dropped in this order: clients, server, cluster.
    pub(super) hosts: Vec<LineHost>,
    pub(super) server: Daemon,
    pub(super) plane: ControlPlane,
    pub(super) network: Network,
    pub(super) archive: Archive,
    pub(super) repository: Repository,
    held_back: Option<String>,
    /// When the maintenance window opens, in seconds since 1970.
    pub(super) window: u64,
    /// What the steps before the commit took.
    pub(super) times: Vec<(&'static str, Duration)>,
    server_log: PathBuf,
    folder: PathBuf,
    ports: [PortLease; 2],
}

/// One host of the line.
#[derive(Debug)]
pub(super) struct LineHost {
    pub(super) host: Host,
    pub(super) windowed: bool,
    /// What apt itself would upgrade from the security suite, before anything happened.
    pub(super) pending: Vec<Upgrade>,
    /// The source packages of these.
    pub(super) sources: BTreeSet<String>,
    /// What is held back: misses it too, but nothing deploys it.
    pub(super) held: Vec<Upgrade>,
}

impl Line {
    /// Starts everything, up to the commit and the first boot of the hosts.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, false)
    }

    /// As [`Line::start`]; with `exclude_one` one update that the hosts miss is excluded from the list ([`Line::held_back`]).
    pub fn start_with(folder: &Path, exclude_one: bool) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut times = Vec::new();
        let archive = Archive::detect()?;
        let network = Network::create()?;

        let step = Step::start("Three client hosts from bookworm main alone, and what apt says they miss");
        let (hosts, held_back) = make_hosts(folder, &archive, &network, exclude_one)?;
        let missing = hosts.first().map_or(0, |host| host.pending.len());
        if missing == 0 {
            return Err(anyhow!(
                "nothing to show: bookworm main holds every security update today (after a point release); try again \
                 when {} has something newer",
                archive.security.suite
            ));
        }
        let named = network.gateway();
        times.push((
            "hosts made",
            step.done(format!("{missing} packages to upgrade on each; this machine is {named}")),
        ));

        let step = Step::start("kube-apiserver, etcd, kube-controller-manager; CRDs and RBAC");
        let plane = ControlPlane::start(&folder.join("control-plane"))?;
        let manifests = paths::workspace().join("manifests");
        step.detail("applying manifests/");
        run(plane.kubectl_command().args(["apply", "--server-side", "-k"]).arg(&manifests))?;
        // Before the server looks for them; the rest when it runs.
        let reports = manifests.join("reports/rbac.yaml");
        run(plane.kubectl_command().args(["apply", "--server-side", "-f"]).arg(reports))?;
        plane.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"])?;
        let token = token()?;
        plane.kubectl(&[
            "create",
            "secret",
            "generic",
            "patchtide-enrolment",
            "-n",
            NAMESPACE,
            &format!("--from-literal=token={token}"),
        ])?;
        let kubeconfig = folder.join(KUBECONFIG);
        plane.service_account_kubeconfig(NAMESPACE, "patchtide", &kubeconfig)?;
        times.push(("cluster", step.done("ready")));

        let step = Step::start("patchtide all, on SQLite, with the rights of its service account only");
        let (metrics, reports) = (PortLease::take()?, PortLease::take()?);
        let server_log = folder.join("patchtide.log");
        let server = start_server(folder, &network, &kubeconfig, [&metrics, &reports], &server_log)?;
        wait::until("the server to be ready", Duration::from_mins(1), || {
            server.check().map_err(|error| error.to_string())?;
            http_ok(metrics.port(), "/readyz")
        })
        .inspect_err(|_| eprintln!("{}", tail(&server_log, 30)))?;
        step.detail("registering the reporting point");
        plane.register_reports(reports.port())?;
        times.push(("server", step.done(format!("ready; log: {}", server_log.display()))));

        let step = Step::start("A Git repository from examples/quickstart/, committed");
        let window = next_minute(unix_now() + WINDOW_AFTER);
        let repository = Repository::init(&folder.join("repository"))?;
        for (name, text) in quickstart::files(&Ground { archive: &archive, network: &network, window })? {
            let excluded = held_back.as_ref().filter(|_| name == "update-list.yaml");
            repository.write(&name, text + &excluded.map(|source| exclusion(source)).unwrap_or_default())?;
        }
        let commit = repository.commit_all("The site, its updates, and how they are deployed")?;
        plane.apply(&git_source(&repository))?;
        times.push(("commit", step.done(format!("{} in {}", &commit[..12], repository.path().display()))));

        let mut line = Self {
            hosts,
            server,
            plane,
            network,
            archive,
            repository,
            held_back,
            window,
            times,
            server_log,
            folder: folder.to_owned(),
            ports: [metrics, reports],
        };
        line.boot(&kubeconfig)?;
        Ok(line)
    }

    /// The repository, to commit to.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The source package that is excluded from the list.
    pub fn held_back(&self) -> Option<&str> {
        self.held_back.as_deref()
    }

    /// The names of the hosts.
    pub fn host_names(&self) -> Vec<String> {
        self.hosts.iter().map(|host| host.host.name().to_owned()).collect()
    }

    /// The control plane, to ask.
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// The host of this name.
    pub fn host(&self, name: &str) -> Result<&Host> {
        let host = self.hosts.iter().find(|host| host.host.name() == name);
        host.map(|host| &host.host).with_context(|| format!("no host is called {name}"))
    }

    /// The loopback port on which the server serves its metrics.
    pub fn metrics_port(&self) -> u16 {
        self.ports[0].port()
    }

    /// Where the server keeps its data.
    pub fn data(&self) -> PathBuf {
        self.folder.join(DATA)
    }

    /// What gives the rights of the server's service account.
    pub fn server_kubeconfig(&self) -> PathBuf {
        self.folder.join(KUBECONFIG)
    }

    /// The time of day, in UTC, at which the maintenance window opens.
    pub fn window_opens(&self) -> String {
        time_of_day(self.window)
    }

    /// One more host beside those of the line, from the same root and with the same services; it is not started yet, and
    /// knows of no site. It ends with the value that is returned: drop that before the line.
    pub fn another_host(&self, name: &str, number: u8) -> Result<Host> {
        let root = ClientRoot::build(&self.archive, &[])?;
        make_host(&self.folder, &self.network, &root, name, number)
    }

    /// How many updates (source packages) the hosts miss by apt's word.
    pub(super) fn expected_updates(&self) -> usize {
        self.hosts.iter().flat_map(|host| &host.sources).collect::<BTreeSet<_>>().len()
    }

    /// The network of hosts and server.
    pub fn network(&self) -> &Network {
        &self.network
    }

    fn boot(&mut self, kubeconfig: &Path) -> Result<()> {
        let step = Step::start("The hosts boot and enrol");
        let program = paths::program("patchtide", "patchtide")?;
        let bundle = wait::until("the enrolment bundle", Duration::from_mins(1), || {
            self.server.check().map_err(|error| error.to_string())?;
            run(Command::new(&program)
                .args([
                    "bundle",
                    "--namespace",
                    NAMESPACE,
                    "--token-from-secret",
                    "patchtide-enrolment",
                    "--kubeconfig",
                ])
                .arg(kubeconfig))
            .map_err(|error| error.to_string())
        })?;
        for host in &self.hosts {
            host.host.write("/etc/patchtide/bundle.json", &bundle)?;
            host.host.start()?;
        }
        self.times.push(("boot", step.done("up")));
        Ok(())
    }

    /// The ends of all logs, for a run that failed.
    pub fn print_logs(&self) {
        eprintln!("\n---- the end of {}\n{}", self.server_log.display(), tail(&self.server_log, 40));
        for LineHost { host, .. } in &self.hosts {
            eprintln!("\n---- the end of {}\n{}", host.console().display(), host.console_tail(25));
        }
    }

    /// The commands by which a person looks further.
    pub fn print_how_to_look(&self, folder: &Path) {
        let on = folder.join("on");
        if fs::write(&on, ON).is_ok() {
            let _ = fs::set_permissions(&on, fs::Permissions::from_mode(0o755));
        }
        let kubectl = self.plane.kubectl_path().display();
        println!("\nTo look further:");
        println!("  alias k='{kubectl} --kubeconfig {} -n {NAMESPACE}'", self.plane.kubeconfig().display());
        println!("  k get patchtide                        # every object");
        println!("  k describe updatedeployment security   # counts per state, conditions, events");
        println!(
            "  git -C {} log             # commit there: it is carried out within 10 s",
            self.repository.path().display()
        );
        println!("  {} db-1 patchtide-agent why         # on a host: the chain of gates", on.display());
        println!("  {} web-1 dpkg-query -W", on.display());
        println!("  less {}", self.server_log.display());
        println!("  kubectl patchtide -n {NAMESPACE} snapshot --out site.json   # with KUBECONFIG as above");
    }
}

/// The end of the list's file that leaves a source package out.
pub fn exclusion(source: &str) -> String {
    format!("  exclusions: [{source}]\n")
}

fn make_hosts(
    folder: &Path,
    archive: &Archive,
    network: &Network,
    exclude_one: bool,
) -> Result<(Vec<LineHost>, Option<String>)> {
    let root = ClientRoot::build(archive, &[])?;
    let pending = pending_upgrades(&archive.security, root.path())?;
    let mut held_back = None;
    let hosts = HOSTS
        .iter()
        .map(|&(name, number, windowed)| {
            let host = make_host(folder, network, &root, name, number)?;
            if windowed {
                host.write("/etc/patchtide/labels.d/demo", "role=windowed\n")?;
            }
            let by_package = host.dpkg_sources()?;
            let name = |upgrade: &Upgrade| upgrade.package.split(':').next().unwrap_or_default().to_owned();
            let source = |upgrade: &Upgrade| by_package.get(&name(upgrade)).cloned().unwrap_or_default();
            let mut sources: BTreeSet<String> = pending.iter().map(source).collect();
            if exclude_one && held_back.is_none() {
                let packages =
                    |one: &String| pending.iter().filter(|upgrade| source(upgrade) == *one).count();
                held_back = sources.iter().min_by_key(|one| packages(one)).cloned();
            }
            let is_held = |upgrade: &Upgrade| Some(source(upgrade)) == held_back;
            let (held, pending) = pending.iter().cloned().partition(is_held);
            sources.retain(|one| Some(one) != held_back.as_ref());
            Ok(LineHost { host, windowed, pending, sources, held })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok((hosts, held_back))
}

fn make_host(folder: &Path, network: &Network, root: &ClientRoot, name: &str, number: u8) -> Result<Host> {
    let options = HostOptions {
        name: name.to_owned(),
        number,
        services: vec![("patchtide-agent".to_owned(), "/usr/bin/patchtide-agent run".to_owned())],
    };
    let host = Host::create(network, &folder.join("hosts"), root, &options)?;
    host.copy_in(&paths::program("patchtide-agent", "patchtide-agent")?, "/usr/bin/patchtide-agent", 0o755)?;
    Ok(host)
}

fn start_server(
    folder: &Path,
    network: &Network,
    kubeconfig: &Path,
    [metrics, reports]: [&PortLease; 2],
    log: &Path,
) -> Result<Daemon> {
    let address = network.gateway();
    let mut command = Command::new(paths::program("patchtide", "patchtide")?);
    command
        .args(["all", "--allow-local-git", "--namespace", NAMESPACE])
        .arg("--data")
        .arg(folder.join(DATA))
        .args(["--advertise", &format!("https://{address}")])
        .args(["--mp-listen", &format!("{address}:8443"), "--dp-listen", &format!("{address}:8444")])
        .args(["--sup-listen", &format!("{address}:8445")])
        .args(["--metrics-listen", &format!("127.0.0.1:{}", metrics.port())])
        .args(["--rp-listen", &format!("127.0.0.1:{}", reports.port())])
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .env_remove("KUBECONFIG");
    Daemon::spawn("patchtide", &command, log)
}

fn git_source(repository: &Repository) -> String {
    format!(
        "apiVersion: patchtide.dev/v1alpha1\nkind: GitSource\nmetadata: {{name: site, namespace: {NAMESPACE}}}\n\
         spec:\n  url: {}\n  ref: {{branch: main}}\n  interval: 10s\n  prune: true\n",
        repository.url()
    )
}

/// A secret that nobody can guess.
fn token() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0; 24];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(hex::encode(bytes))
}

/// Plain HTTP of a loopback port; the answer's status must be 200.
fn http_ok(port: u16, path: &str) -> std::result::Result<(), String> {
    use std::io::{Read, Write};
    let text = |error: std::io::Error| error.to_string();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).map_err(text)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(text)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(text)?;
    let status = answer.lines().next().unwrap_or_default().to_owned();
    if status.contains(" 200 ") { Ok(()) } else { Err(answer) }
}
