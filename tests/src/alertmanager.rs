//! A private Alertmanager from the Debian package, on a temporary folder and a leased loopback port.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::ports::PortLease;
use crate::process::Daemon;
use crate::wait;

/// The program of the Debian package.
const PROGRAM: &str = "/usr/bin/prometheus-alertmanager";

/// It tells nobody: what it holds is asked for.
const CONFIGURATION: &str = "route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n";

/// An Alertmanager, running or not. It keeps its port and its configuration while it is stopped.
#[derive(Debug)]
pub struct Alertmanager {
    folder: PathBuf,
    port: PortLease,
    secured: bool,
    server: Option<Daemon>,
}

impl Alertmanager {
    /// One that is not running yet, with its files in `folder`. With `web_config` (exporter-toolkit's: TLS, users) it speaks
    /// https.
    pub fn new(folder: &Path, web_config: Option<&str>) -> Result<Self> {
        if !Path::new(PROGRAM).is_file() {
            bail!("no {PROGRAM}: `cargo xtask setup` installs the package prometheus-alertmanager");
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        fs::write(folder.join("alertmanager.yml"), CONFIGURATION)
            .context("cannot write its configuration")?;
        if let Some(text) = web_config {
            fs::write(folder.join("web.yml"), text).context("cannot write its web configuration")?;
        }
        let port = PortLease::take()?;
        Ok(Self { folder: folder.to_owned(), port, secured: web_config.is_some(), server: None })
    }

    /// Its address, whether it runs or not.
    pub fn url(&self) -> String {
        let scheme = if self.secured { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port.port())
    }

    /// Starts it with empty storage.
    pub fn start(&mut self) -> Result<()> {
        let storage = tempfile::Builder::new().prefix("storage-").tempdir_in(&self.folder);
        let storage = storage.context("cannot create a folder")?.keep();
        let address = format!("127.0.0.1:{}", self.port.port());
        let mut command = Command::new(PROGRAM);
        command
            .arg("--config.file=alertmanager.yml")
            .arg(format!("--storage.path={}", storage.display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .current_dir(&self.folder);
        if self.secured {
            command.arg("--web.config.file=web.yml");
        }
        let server = Daemon::spawn("alertmanager", &command, &self.folder.join("log"))?;
        wait::until("the Alertmanager to accept connections", Duration::from_secs(30), || {
            server.check().map_err(|error| error.to_string())?;
            TcpStream::connect(&address).map(|_| ()).map_err(|error| error.to_string())
        })?;
        self.server = Some(server);
        Ok(())
    }

    /// Ends it; what it held is gone.
    pub fn stop(&mut self) {
        self.server = None;
    }
}
