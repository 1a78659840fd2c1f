//! The reporting point as a process of its own, beside the server, with a certificate of its own.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use patchtide_tests::demo::{Line, NAMESPACE};
use patchtide_tests::paths;
use patchtide_tests::ports::PortLease;
use patchtide_tests::process::{Daemon, run};
use patchtide_tests::wait;

use crate::{ask, questions::told, snapshot};

const APISERVICE: &str = "apiservice/v1alpha1.reports.patchtide.dev";
const PATH: &str = "/apis/reports.patchtide.dev/v1alpha1/namespaces/patchtide/snapshots";

/// Plain HTTP of a loopback port.
fn http(port: u16, path: &str) -> Result<String> {
    run(Command::new("curl")
        .args(["--silent", "--fail", "--noproxy", "*"])
        .arg(format!("http://127.0.0.1:{port}{path}")))
}

/// Requests for snapshots that this process answered well.
fn answered(port: u16) -> Result<u64> {
    let figures = http(port, "/metrics")?;
    let of = |line: &&str| {
        line.starts_with("patchtide_http_requests_total{")
            && line.contains("namespaces/")
            && line.contains("status=\"200\"")
    };
    let counts = figures.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    Ok(counts.sum())
}

/// Without a reporting point people are told what to do; one that runs apart answers what the one in the server answered,
/// and changes nothing.
pub(crate) fn reporting_point(line: &Line, folder: &Path) -> Result<()> {
    let plane = line.plane();
    let before = snapshot(line)?;
    plane.kubectl(&["delete", APISERVICE])?;
    wait::until("the reporting point to be gone", Duration::from_mins(1), || {
        let (code, out, error) = ask(line, &["why", "web-1"]).map_err(|error| format!("{error:#}"))?;
        if code == 1 && error.contains("manifests/reports") { Ok(()) } else { Err(format!("{out}{error}")) }
    })?;
    let (_, _, error) = ask(line, &["why", "web-1"])?;
    told(&["no API service"], &error, &["no reporting point", "kubectl apply", "manifests/reports"])?;

    let program = paths::program("patchtide", "patchtide")?;
    let own = folder.join("reporting-point");
    let mut command = Command::new(&program);
    command.args([
        "server-certificate",
        "--namespace",
        NAMESPACE,
        "--name",
        "patchtide-reports.patchtide.svc",
    ]);
    run(command.arg("--out").arg(&own).arg("--kubeconfig").arg(line.server_kubeconfig()))?;
    let (listen, metrics) = (PortLease::take()?, PortLease::take()?);
    let mut command = Command::new(&program);
    command.args(["reporting-point", "--namespace", NAMESPACE, "--data"]).arg(line.data());
    command.args(["--rp-listen", &format!("127.0.0.1:{}", listen.port())]);
    command.args(["--metrics-listen", &format!("127.0.0.1:{}", metrics.port())]);
    for (option, file) in
        [("--tls-certificate", "tls.crt"), ("--tls-key", "tls.key"), ("--client-ca", "ca.crt")]
    {
        command.arg(option).arg(own.join(file));
    }
    command.arg("--kubeconfig").arg(line.server_kubeconfig()).env_remove("KUBECONFIG");
    let point = Daemon::spawn("reporting-point", &command, &folder.join("reporting-point.log"))?;
    wait::until("the reporting point to be ready", Duration::from_secs(30), || {
        point.check().map_err(|error| error.to_string())?;
        http(metrics.port(), "/readyz").map(drop).map_err(|error| format!("{error:#}"))
    })?;
    plane.register_reports(listen.port())?;
    let after = snapshot(line)?;
    ensure!(answered(metrics.port())? > 0, "another one answered");
    ensure!(after["input"]["clients"] == before["input"]["clients"], "what the site is changed");
    ensure!(after["input"]["objects"] == before["input"]["objects"], "what the site is changed");
    let (code, out, error) = ask(line, &["why", "web-1"])?;
    ensure!(code == 0, "{out}{error}");

    // Nothing can be written through it, whoever asks: this is the cluster's administrator.
    let body = folder.join("snapshot.json");
    std::fs::write(
        &body,
        format!(
            r#"{{"apiVersion":"reports.patchtide.dev/v1alpha1","kind":"Snapshot","metadata":{{"name":"current","namespace":"{NAMESPACE}"}}}}"#
        ),
    )?;
    let file = body.display().to_string();
    let current = format!("{PATH}/current");
    let attempts: [&[&str]; 3] = [
        &["create", "-f", &file],
        &["delete", "--raw", &current],
        &[
            "patch",
            "snapshots.reports.patchtide.dev",
            "current",
            "-n",
            NAMESPACE,
            "--type=merge",
            "-p",
            r#"{"metadata":{"labels":{"a":"b"}}}"#,
        ],
    ];
    for words in attempts {
        let error = plane.kubectl(words).err().with_context(|| format!("{words:?} was taken"))?;
        let error = format!("{error:#}");
        ensure!(error.contains("MethodNotAllowed") || error.contains("not allow"), "{words:?}: {error}");
    }
    let unchanged = snapshot(line)?;
    ensure!(unchanged["input"]["objects"] == before["input"]["objects"], "what the site is changed");
    // The site goes on when it goes: nothing of the database is held by it.
    point.stop(Duration::from_secs(20))?;
    line.host("web-1")?.exec(&["patchtide-agent", "scan"])?;
    let mut command = Command::new(&program);
    command.args(["db", "verify", "--namespace", NAMESPACE, "--data"]).arg(line.data());
    let verified = run(&mut command)?;
    ensure!(verified.contains("every count equals a recount"), "{verified}");
    Ok(())
}
