//! A private Prometheus from the Debian package, on a temporary folder and a leased loopback port.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::ports::PortLease;
use crate::process::{Daemon, run, tail};
use crate::wait;

/// The programs of the Debian package.
const PROGRAM: &str = "/usr/bin/prometheus";
const PROMTOOL: &str = "/usr/bin/promtool";

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    port: PortLease,
    _server: Daemon,
}

impl Prometheus {
    /// Starts it with its files in `folder`: it evaluates the file `rules` every second, and every second scrapes the
    /// loopback ports `targets`, as those of the job patchtide in `namespace`.
    pub fn start(folder: &Path, rules: &Path, namespace: &str, targets: &[u16]) -> Result<Self> {
        if !Path::new(PROGRAM).is_file() {
            bail!("no {PROGRAM}: `cargo xtask setup` installs the package prometheus");
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let targets: Vec<String> = targets.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        // JSON is YAML.
        let configuration = serde_json::json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules],
            "scrape_configs": [{
                "job_name": "patchtide",
                "honor_labels": true,
                "static_configs": [{"targets": targets, "labels": {"namespace": namespace}}],
            }],
        });
        let file = folder.join("prometheus.yml");
        fs::write(&file, configuration.to_string()).context("cannot write its configuration")?;
        let port = PortLease::take()?;
        let address = format!("127.0.0.1:{}", port.port());
        let log = folder.join("log");
        let mut command = Command::new(PROGRAM);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder);
        let server = Daemon::spawn("prometheus", &command, &log)?;
        wait::until("the Prometheus to accept connections", Duration::from_secs(30), || {
            server.check().map_err(|error| error.to_string())?;
            TcpStream::connect(&address).map(|_| ()).map_err(|error| error.to_string())
        })
        .inspect_err(|_| eprintln!("{}", tail(&log, 20)))?;
        Ok(Self { port, _server: server })
    }

    /// What a PromQL expression is now.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let data = self.get("query", &[("query", expression)]);
        let data = data.with_context(|| format!("the query failed: {expression}"))?;
        Ok(match data["resultType"].as_str() {
            Some("scalar") => vec![data["result"].clone()],
            _ => data["result"].as_array().cloned().unwrap_or_default(),
        })
    }

    /// The expression as Prometheus writes it: one form for what means the same.
    pub fn format(&self, expression: &str) -> Result<String> {
        let data = self.get("format_query", &[("query", expression)]);
        let data = data.with_context(|| format!("not PromQL: {expression}"))?;
        Ok(data.as_str().unwrap_or_default().to_owned())
    }

    /// The rules that it has loaded, of all groups.
    pub fn rules(&self) -> Result<Vec<Value>> {
        let data = self.get("rules", &[])?;
        let groups = data["groups"].as_array().cloned().unwrap_or_default();
        Ok(groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect())
    }

    /// The targets that it scrapes.
    pub fn targets(&self) -> Result<Vec<Value>> {
        let data = self.get("targets", &[("state", "active")])?;
        Ok(data["activeTargets"].as_array().cloned().unwrap_or_default())
    }

    fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--noproxy", "*", "--get"]);
        for (name, value) in parameters {
            command.arg("--data-urlencode").arg(format!("{name}={value}"));
        }
        command.arg(format!("http://127.0.0.1:{}/api/v1/{path}", self.port.port()));
        let answer: Value = serde_json::from_str(&run(&mut command)?).context("the answer is no JSON")?;
        ensure!(answer["status"] == "success", "{}", answer["error"]);
        Ok(answer["data"].clone())
    }
}

/// Runs promtool, with `input` on its standard input; what it says is in the error when it complains.
pub fn promtool(folder: &Path, arguments: &[&str], input: &str) -> Result<()> {
    use std::io::Write as _;
    use std::process::Stdio;
    if !Path::new(PROMTOOL).is_file() {
        bail!("no {PROMTOOL}: `cargo xtask setup` installs the package prometheus");
    }
    let mut child = Command::new(PROMTOOL)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start promtool")?;
    child.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, warned) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "promtool {}:\n{said}{warned}", arguments.join(" "));
    Ok(())
}
