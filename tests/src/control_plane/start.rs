//! Starting and stopping a control plane.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::build::{Programs, programs};
use super::certificates::Certificates;
use crate::ports::PortLease;
use crate::process::{Daemon, run, run_with_input};
use crate::wait;

/// The controllers that Patchtide relies on; no workload controllers.
const CONTROLLERS: &str = "garbage-collector-controller,namespace-controller,serviceaccount-controller,\
    serviceaccount-token-controller,resourcequota-controller,clusterrole-aggregation-controller,\
    validatingadmissionpolicy-status-controller,root-ca-certificate-publisher-controller";

/// A control plane of our own, or the cluster that `PATCHTIDE_TEST_KUBECONFIG` names.
///
/// Dropping it stops our own one; several can run side by side. An ambient `KUBECONFIG` is never looked at.
#[derive(Debug)]
pub struct ControlPlane {
    folder: PathBuf,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    // Dropped in this order: the API server before the store it writes to.
    controllers: Option<Daemon>,
    apiserver: Option<Daemon>,
    etcd: Option<Daemon>,
    _ports: Vec<PortLease>,
}

impl ControlPlane {
    /// Starts a control plane with its state, logs and kubeconfig in `folder`, and waits until it is ready (about four
    /// seconds). With `PATCHTIDE_TEST_KUBECONFIG` nothing is started.
    pub fn start(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        if let Some(existing) = std::env::var_os("PATCHTIDE_TEST_KUBECONFIG").filter(|path| !path.is_empty())
        {
            return Self::existing(folder, PathBuf::from(existing));
        }
        let programs = programs()?;
        let folder = folder.canonicalize().context("cannot resolve the control plane's folder")?;
        let certificates = Certificates::create(&folder.join("certificates"))?;
        let ports = (0..3).map(|_| PortLease::take()).collect::<Result<Vec<_>>>()?;
        let [clients, peers, secure] = [ports[0].port(), ports[1].port(), ports[2].port()];
        let etcd =
            Daemon::spawn("etcd", &etcd(&programs, &folder, clients, peers), &folder.join("etcd.log"))?;
        let tokens = folder.join("tokens.csv");
        let (admin, manager) = (token(&folder, "admin"), token(&folder, "controllers"));
        let rows = format!(
            "{admin},admin,admin,\"system:masters\"\n{manager},system:kube-controller-manager,controllers\n"
        );
        fs::write(&tokens, rows).context("cannot write the token file")?;
        let apiserver = Daemon::spawn(
            "kube-apiserver",
            &apiserver(&programs, &folder, &certificates, clients, secure, &tokens),
            &folder.join("kube-apiserver.log"),
        )?;
        let kubeconfig = folder.join("kubeconfig");
        write_kubeconfig(&kubeconfig, secure, &certificates, &admin)?;
        let controllers_config = folder.join("controllers.kubeconfig");
        write_kubeconfig(&controllers_config, secure, &certificates, &manager)?;
        let mut plane = Self {
            kubectl: programs.path("kubectl"),
            folder: folder.clone(),
            kubeconfig,
            controllers: None,
            apiserver: Some(apiserver),
            etcd: Some(etcd),
            _ports: ports,
        };
        plane.wait_ready(Duration::from_mins(1))?;
        plane.controllers = Some(Daemon::spawn(
            "kube-controller-manager",
            &controllers(&programs, &certificates, &controllers_config),
            &folder.join("kube-controller-manager.log"),
        )?);
        // The controller manager is at work when the default service account is there.
        wait::until("the default service account", Duration::from_mins(1), || {
            plane.check().map_err(|error| error.to_string())?;
            let answer = plane.kubectl(&["get", "serviceaccount", "default", "-o", "name"]);
            answer.map(|_| ()).map_err(|error| error.to_string())
        })?;
        Ok(plane)
    }

    fn existing(folder: &Path, kubeconfig: PathBuf) -> Result<Self> {
        let kubectl = match crate::process::find_program("kubectl") {
            Some(path) => path,
            None => programs()?.path("kubectl"),
        };
        let plane = Self {
            folder: folder.to_owned(),
            kubeconfig,
            kubectl,
            controllers: None,
            apiserver: None,
            etcd: None,
            _ports: Vec::new(),
        };
        plane
            .wait_ready(Duration::from_secs(20))
            .context("the cluster of PATCHTIDE_TEST_KUBECONFIG does not answer")?;
        Ok(plane)
    }

    /// A kubeconfig file with an administrator's token.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The kubectl that fits this control plane.
    pub fn kubectl_path(&self) -> &Path {
        &self.kubectl
    }

    /// A kubectl command for this control plane, to add arguments to.
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(self.folder.join("kubectl-cache"))
            .env_remove("KUBECONFIG");
        command
    }

    /// Runs kubectl and returns its output.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        run(self.kubectl_command().args(args))
    }

    /// Runs kubectl with `-o json` and returns the object or list.
    pub fn get(&self, args: &[&str]) -> Result<Value> {
        let text = run(self.kubectl_command().arg("get").args(args).args(["-o", "json"]))?;
        serde_json::from_str(&text).context("kubectl printed something that is not JSON")
    }

    /// `kubectl apply --server-side -f -` of a YAML text.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        run_with_input(self.kubectl_command().args(["apply", "--server-side", "-f", "-"]), yaml)
    }

    /// Creates a namespace with a name that no other test has, beginning with `prefix`.
    pub fn create_namespace(&self, prefix: &str) -> Result<String> {
        let yaml =
            format!(r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"generateName":"{prefix}-"}}}}"#);
        let text = run_with_input(self.kubectl_command().args(["create", "-o", "name", "-f", "-"]), &yaml)?;
        Ok(text.trim().trim_start_matches("namespace/").to_owned())
    }

    /// Writes a kubeconfig with the rights of a service account to `path`: for programs that are to have no others.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str, path: &Path) -> Result<()> {
        let text = self.kubectl(&["config", "view", "--minify", "--raw", "-o", "json"])?;
        let mut config: Value =
            serde_json::from_str(&text).context("kubectl printed something that is not JSON")?;
        let token = self.kubectl(&["create", "token", name, "--namespace", namespace, "--duration=24h"])?;
        config["users"][0]["user"] = serde_json::json!({"token": token.trim()});
        fs::write(path, serde_json::to_vec_pretty(&config)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// An error with the end of its log if one of our processes has ended.
    pub fn check(&self) -> Result<()> {
        for daemon in [&self.etcd, &self.apiserver, &self.controllers].into_iter().flatten() {
            daemon.check()?;
        }
        Ok(())
    }

    /// The API server's process, to stop or kill it in the middle of something; none for an existing cluster.
    pub fn apiserver(&self) -> Option<&Daemon> {
        self.apiserver.as_ref()
    }

    fn wait_ready(&self, limit: Duration) -> Result<()> {
        wait::until("/readyz of the API server", limit, || {
            self.check().map_err(|error| error.to_string())?;
            let answer = self.kubectl(&["get", "--raw", "/readyz", "--request-timeout=5s"]);
            answer.map(|_| ()).map_err(|error| error.to_string())
        })
    }
}

/// A token that only this control plane knows: tests of the same machine must not reach each other by mistake.
fn token(folder: &Path, who: &str) -> String {
    use sha2::{Digest, Sha256};
    let key = fs::read(folder.join("certificates/service-account.key")).unwrap_or_default();
    let mut hash = Sha256::new();
    hash.update(key);
    hash.update(who);
    hex::encode(&hash.finalize()[..16])
}

fn etcd(programs: &Programs, folder: &Path, clients: u16, peers: u16) -> Command {
    let (clients, peers) = (format!("http://127.0.0.1:{clients}"), format!("http://127.0.0.1:{peers}"));
    let mut command = Command::new(programs.path("etcd"));
    command
        .arg("--data-dir")
        .arg(folder.join("etcd"))
        .args(["--name", "test", "--log-level", "warn", "--unsafe-no-fsync"])
        .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("test={peers}")]);
    command
}

fn apiserver(
    programs: &Programs,
    folder: &Path,
    certificates: &Certificates,
    store: u16,
    secure: u16,
    tokens: &Path,
) -> Command {
    let mut command = Command::new(programs.path("kube-apiserver"));
    let flags = [
        ("etcd-servers", format!("http://127.0.0.1:{store}")),
        ("secure-port", secure.to_string()),
        ("bind-address", "127.0.0.1".to_owned()),
        ("cert-dir", folder.join("certificates").display().to_string()),
        ("tls-cert-file", certificates.path("apiserver.crt")),
        ("tls-private-key-file", certificates.path("apiserver.key")),
        ("service-account-key-file", certificates.path("service-account.pub")),
        ("service-account-signing-key-file", certificates.path("service-account.key")),
        ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
        ("authorization-mode", "RBAC".to_owned()),
        ("token-auth-file", tokens.display().to_string()),
        ("service-cluster-ip-range", "10.0.0.0/24".to_owned()),
        ("endpoint-reconciler-type", "none".to_owned()),
        ("requestheader-client-ca-file", certificates.path("front-proxy-ca.crt")),
        ("requestheader-allowed-names", "front-proxy".to_owned()),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
        ("requestheader-group-headers", "X-Remote-Group".to_owned()),
        ("requestheader-username-headers", "X-Remote-User".to_owned()),
        ("proxy-client-cert-file", certificates.path("front-proxy.crt")),
        ("proxy-client-key-file", certificates.path("front-proxy.key")),
    ];
    command.args(flags.map(|(name, value)| format!("--{name}={value}")));
    command
}

fn controllers(programs: &Programs, certificates: &Certificates, kubeconfig: &Path) -> Command {
    let mut command = Command::new(programs.path("kube-controller-manager"));
    let flags = [
        ("kubeconfig", kubeconfig.display().to_string()),
        ("service-account-private-key-file", certificates.path("service-account.key")),
        ("root-ca-file", certificates.path("ca.crt")),
        ("leader-elect", "false".to_owned()),
        ("use-service-account-credentials", "true".to_owned()),
        ("secure-port", "0".to_owned()),
        ("controllers", CONTROLLERS.to_owned()),
    ];
    command.args(flags.map(|(name, value)| format!("--{name}={value}"))).env_remove("KUBECONFIG");
    command
}

fn write_kubeconfig(path: &Path, port: u16, certificates: &Certificates, token: &str) -> Result<()> {
    // JSON is YAML; the CA is embedded so that the file can be copied.
    let ca = fs::read(certificates.path("ca.crt")).context("cannot read the CA certificate")?;
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "patchtide-test", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority-data": base64(&ca),
        }}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "patchtide-test", "context": {"cluster": "patchtide-test", "user": "user"}}],
        "current-context": "patchtide-test",
    });
    fs::write(path, serde_json::to_vec_pretty(&config)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
